//! Idempotency keys: those not yet in the index, held in memory; finding one; and moving many into the
//! index at once, in its order.
//!
//! A key is new if its digest is neither here nor in the index. Here are all keys above the id up to
//! which the table `idempotency_indexed` says the index is complete, as of a version of the database.

use std::{collections::BTreeSet, sync::LazyLock};

use sqlx::{Row, SqliteConnection};

use super::{
    SQLITE_ERROR, StoreError, result_code,
    save::{BEGIN_IF_CURRENT, SqliteQuery},
    snapshot::json,
};
use crate::{
    domain::{Fingerprint, IdempotencyKey, Receipt, Receipts, UserId, UserKey},
    store::found::possible,
};

/// How many keys are gathered before they go into the index. Each takes some 30 bytes of memory.
const GATHERED: usize = 65_536;
/// How many of them go into the index at once.
const SLICE: usize = 2_048;

/// Rows whose digest may be in the index or not.
const NEWER: &str = "SELECT id, digest FROM idempotency_keys
    WHERE id > max(?, (SELECT id FROM idempotency_indexed))";

/// The highest id that was given. Whoever deletes keys sees to it that it is still found here.
const LAST_ID: &str = "SELECT max(
    (SELECT id FROM idempotency_indexed), (SELECT coalesce(max(id), 0) FROM idempotency_keys))";

/// `$1` digests, `$2` ids, both JSON arrays. A key may be found both ways.
const FIND: &str = "
    SELECT k.user_id, k.key, k.fingerprint, k.outcome
    FROM json_each($1) AS wanted
    CROSS JOIN idempotency_index AS i ON i.digest = wanted.value
    CROSS JOIN idempotency_keys AS k ON k.id = i.id
    UNION ALL
    SELECT k.user_id, k.key, k.fingerprint, k.outcome
    FROM json_each($2) AS wanted CROSS JOIN idempotency_keys AS k ON k.id = wanted.value";

/// The version of the database of which all keys at hand are known to exist, the id up to which the index
/// is complete then, and places for pairs of digest and id. Places left over have no digest, which the
/// schema refuses, and are ignored like what is in the index already.
static INDEX: LazyLock<String> = LazyLock::new(|| {
    let places = vec!["(?,?)"; SLICE].join(",");
    format!(
        "{BEGIN_IF_CURRENT}
        UPDATE idempotency_indexed SET id = max(id, ?);
        INSERT OR IGNORE INTO idempotency_index (digest, id) VALUES {places};
        COMMIT"
    )
});

/// The same without a version, for keys of which others may have deleted some: each is looked for, which
/// takes half as long again. Of those that are gone nothing is saved.
static INDEX_EXISTING: LazyLock<String> = LazyLock::new(|| {
    let places = vec!["(?,?)"; SLICE].join(",");
    format!(
        "BEGIN IMMEDIATE;
        UPDATE idempotency_indexed SET id = max(id, ?);
        INSERT OR IGNORE INTO idempotency_index (digest, id)
        SELECT * FROM (VALUES {places})
        WHERE EXISTS (SELECT * FROM idempotency_keys WHERE id = column2);
        COMMIT"
    )
});

/// The keys that may not be in the index yet.
#[derive(Debug, Default)]
pub(super) struct YoungKeys {
    /// The version of the database up to which all are known; `None` when none is known yet.
    version: Option<i64>,
    by_digest: BTreeSet<(i64, i64)>,
    last_id: i64,
    /// Of those up to this id some may have been deleted; those above it are all there.
    doubtful_up_to: i64,
    moving: Option<Moving>,
}

/// On the way into the index: all keys up to an id, of which those up to a digest are there.
#[derive(Debug, Clone, Copy)]
struct Moving {
    up_to_id: i64,
    after: (i64, i64),
}

impl YoungKeys {
    /// Whether all these keys are certainly not among the young ones, as of `version`.
    pub(super) fn has_none_of(&self, keys: &[UserKey], version: i64) -> bool {
        keys.is_empty()
            || self.version == Some(version)
                && keys.iter().all(|key| self.ids(key.digest()).next().is_none())
    }

    /// The id after all that are known.
    pub(super) const fn next_id(&self) -> i64 {
        self.last_id.saturating_add(1)
    }

    /// Takes note of keys just saved, which got the ids from [`Self::next_id`] on.
    pub(super) fn saved(&mut self, digests: impl IntoIterator<Item = i64>) {
        for digest in digests {
            self.last_id = self.next_id();
            self.by_digest.insert((digest, self.last_id));
        }
    }

    /// Forgets keys that were deleted, each with its digest and id.
    pub(super) fn deleted(&mut self, keys: &[(i64, i64)]) {
        for key in keys {
            self.by_digest.remove(key);
        }
    }

    /// Takes note that all there are went into the index.
    pub(super) fn all_indexed(&mut self) {
        self.by_digest.clear();
        self.moving = None;
    }

    /// Takes note that any keys may have been deleted.
    const fn some_deleted(&mut self) {
        self.doubtful_up_to = self.last_id;
    }

    /// Finds the receipts of keys, in the transaction open on `connection`, which sees `version`.
    pub(super) async fn find(
        &mut self,
        connection: &mut SqliteConnection,
        keys: &[UserKey],
        version: i64,
    ) -> Result<Receipts, StoreError> {
        self.catch_up(connection, version).await?;
        let digests: Vec<i64> = keys.iter().map(UserKey::digest).collect();
        let ids: Vec<i64> = digests.iter().flat_map(|digest| self.ids(*digest)).collect();
        let rows = sqlx::query(FIND).bind(json(&digests)).bind(json(&ids));
        let mut receipts = Receipts::default();
        for row in rows.fetch_all(connection).await? {
            let (user, key): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            let key = possible(IdempotencyKey::new(key), "idempotency_keys.key", user)?;
            let user = possible(UserId::new(user), "idempotency_keys.user_id", user)?;
            let fingerprint = Fingerprint::kept(row.try_get(2)?);
            let receipt = Receipt { fingerprint, outcome: row.try_get(3)? };
            receipts.insert_kept(UserKey::new(user, key), receipt);
        }
        Ok(receipts)
    }

    /// Learns of the keys that others have saved, or of all at first.
    async fn catch_up(
        &mut self,
        connection: &mut SqliteConnection,
        version: i64,
    ) -> Result<(), StoreError> {
        if self.version == Some(version) {
            return Ok(());
        }
        // Others have written since.
        self.some_deleted();
        for row in sqlx::query(NEWER).bind(self.last_id).fetch_all(&mut *connection).await? {
            self.by_digest.insert((row.try_get(1)?, row.try_get(0)?));
        }
        let last_id: i64 = sqlx::query_scalar(LAST_ID).fetch_one(connection).await?;
        self.last_id = self.last_id.max(last_id);
        self.version = Some(version);
        Ok(())
    }

    /// Moves some keys into the index, when there are many. No transaction may be open.
    pub(super) async fn move_some(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let start = Moving { up_to_id: self.last_id, after: (i64::MIN, i64::MIN) };
        let moving = match self.moving {
            Some(moving) => moving,
            None if self.by_digest.len() < GATHERED => return Ok(()),
            None => start,
        };
        let slice: Vec<(i64, i64)> = self
            .by_digest
            .range(moving.after..)
            .filter(|young| **young != moving.after && young.1 <= moving.up_to_id)
            .take(SLICE)
            .copied()
            .collect();
        let done = slice.len() < SLICE;
        let complete_up_to = if done { moving.up_to_id } else { 0 };
        if !self.index(connection, &slice, complete_up_to).await? {
            return Ok(());
        }
        if done {
            self.by_digest.retain(|young| young.1 > moving.up_to_id);
            self.moving = None;
        } else {
            let after = slice.last().copied().unwrap_or(moving.after);
            self.moving = Some(Moving { after, ..moving });
        }
        Ok(())
    }

    /// Saves a slice into the index, or finds that others have written and it has to be done again.
    async fn index(
        &mut self,
        connection: &mut SqliteConnection,
        slice: &[(i64, i64)],
        complete_up_to: i64,
    ) -> Result<bool, sqlx::Error> {
        let all_there = slice.iter().all(|(_, id)| *id > self.doubtful_up_to);
        let version = self.version.filter(|_| all_there);
        let query = match version {
            Some(version) => sqlx::query(INDEX.as_str()).bind(version),
            None => sqlx::query(INDEX_EXISTING.as_str()),
        };
        let bind = |query: SqliteQuery, (digest, id): &(i64, i64)| query.bind(*digest).bind(*id);
        let query = slice.iter().fold(query.bind(complete_up_to), bind);
        match query.execute(&mut *connection).await {
            Ok(_) => Ok(true),
            Err(error) if version.is_some() && result_code(&error) == Some(SQLITE_ERROR) => {
                sqlx::query("ROLLBACK").execute(connection).await?;
                self.some_deleted();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn ids(&self, digest: i64) -> impl Iterator<Item = i64> {
        // Open at the end: each end of a range is searched for.
        let from_there = self.by_digest.range((digest, i64::MIN)..);
        from_there.take_while(move |young| young.0 == digest).map(|(_, id)| *id)
    }
}
