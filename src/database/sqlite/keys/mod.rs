//! Idempotency keys: is one new, and if not, what did its request come to?
//!
//! A small LSM tree, because keys are random and a B-tree that takes each as it comes rewrites a page for
//! every one of them:
//! - Rows are appended to the table `idempotency_keys`, and go into no index.
//! - The *memtable* holds the digest and the id of each key since the last merge. A restart reads them
//!   from the table's end, above the id that `idempotency_indexed` tells.
//! - The *sorted merge* moves them into `idempotency_index` when there are many, in the index's order and
//!   a slice at a time, so that keys side by side share the write of their page.
//! - The *Bloom filter* holds the digests of the index. A key of which neither it nor the memtable knows
//!   is new, and no page is read to tell.
//!
//! All of it is as of a version of the database, which another writer's commit ends.

mod filter;
mod memtable;

use std::sync::LazyLock;

use sqlx::{FromRow, SqliteConnection};

use super::{
    DatabaseError, SQLITE_ERROR, result_code,
    save::{BEGIN_IF_CURRENT, SqliteQuery},
    snapshot::json,
};
use filter::{IndexFilter, READ_AT_ONCE};
pub(super) use memtable::DigestAndId;
use memtable::Memtable;

use crate::{
    database::{Progress, rows::ReplayRow},
    domain::{Replays, UserKey},
};

/// How many keys are gathered before they go into the index: as many as leave room for those that come
/// meanwhile, at 512 for each slice, before their table doubles its 65,536 places, of which an eighth stays
/// free. Each takes 17 bytes, and 16 on its way.
const GATHERED: usize = 45_056;
/// How many of them go into the index at once.
const SLICE: usize = 2_048;

/// Rows whose digest may be in the index or not.
const NEWER: &str = "SELECT digest, id FROM idempotency_keys
    WHERE id > max(?, (SELECT id FROM idempotency_indexed))";

/// The highest id that was given. Whoever deletes keys sees to it that it is still found here.
const LAST_ID: &str = "SELECT max(
    (SELECT id FROM idempotency_indexed), (SELECT coalesce(max(id), 0) FROM idempotency_keys))";

/// The digests from one on, and how many: as one JSON array, because a row of its own costs each more than
/// finding it.
const INDEXED: &str = "SELECT json_group_array(digest)
    FROM (SELECT digest FROM idempotency_index WHERE digest >= ? ORDER BY digest LIMIT ?)";

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

/// What is known of the keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The version of the database as of which it is; `None` when nothing is known yet.
    version: Option<i64>,
    memtable: Memtable,
    filter: IndexFilter,
    last_id: i64,
    /// Of those up to this id some may have been deleted; those above it are all there.
    doubtful_up_to: i64,
    moving: Option<Moving>,
}

/// On the way into the index: all keys up to an id, of which the first so many are there.
#[derive(Debug)]
struct Moving {
    up_to_id: i64,
    keys: Vec<DigestAndId>,
    moved: usize,
}

impl Keys {
    /// Whether all these keys are certainly not in the memtable, as of `version`.
    pub(super) fn has_none_of(&self, keys: &[UserKey], version: i64) -> bool {
        keys.is_empty()
            || self.version == Some(version)
                && keys.iter().all(|key| self.memtable.ids(key.digest()).next().is_none())
    }

    /// Whether the index may have a key with this digest, as of the same version.
    pub(super) fn index_may_have(&self, digest: i64) -> bool {
        self.filter.may_have(digest)
    }

    /// The id after all that are known.
    pub(super) const fn next_id(&self) -> i64 {
        self.last_id.saturating_add(1)
    }

    /// Takes note of keys just saved, which got the ids from [`Self::next_id`] on.
    pub(super) fn note_saved(&mut self, digests: impl IntoIterator<Item = i64>) {
        for digest in digests {
            self.last_id = self.next_id();
            self.memtable.insert((digest, self.last_id));
        }
    }

    /// Forgets keys that were deleted.
    pub(super) fn note_deleted(&mut self, keys: &[DigestAndId]) {
        for key in keys {
            self.memtable.remove(*key);
        }
        self.filter.note_deleted(keys.len());
    }

    /// Takes note that all there are went into the index.
    pub(super) fn note_all_indexed(&mut self) {
        self.memtable.clear();
        self.filter.restart();
        self.moving = None;
    }

    /// Takes note that any keys may have been deleted.
    const fn note_some_deleted(&mut self) {
        self.doubtful_up_to = self.last_id;
    }

    /// Finds the replays of keys, in the transaction open on `connection`, which sees `version`.
    pub(super) async fn find(
        &mut self,
        connection: &mut SqliteConnection,
        keys: &[UserKey],
        version: i64,
    ) -> Result<Replays, DatabaseError> {
        self.catch_up(connection, version).await?;
        let digests: Vec<i64> = keys.iter().map(UserKey::digest).collect();
        let ids: Vec<i64> = digests.iter().flat_map(|digest| self.memtable.ids(*digest)).collect();
        let rows = sqlx::query(FIND).bind(json(&digests)).bind(json(&ids));
        let mut replays = Replays::default();
        for row in rows.fetch_all(connection).await? {
            let (key, replay) = ReplayRow::from_row(&row)?.into_replay()?;
            replays.insert_kept(key, replay);
        }
        Ok(replays)
    }

    /// Learns of the keys that others have saved, or of all at first.
    async fn catch_up(
        &mut self,
        connection: &mut SqliteConnection,
        version: i64,
    ) -> Result<(), DatabaseError> {
        if self.version == Some(version) {
            return Ok(());
        }
        // Others have written since.
        self.note_some_deleted();
        self.filter.restart();
        let newer = sqlx::query_as(NEWER).bind(self.last_id);
        let newer: Vec<DigestAndId> = newer.fetch_all(&mut *connection).await?;
        for key in newer {
            self.memtable.insert(key);
        }
        let last_id: i64 = sqlx::query_scalar(LAST_ID).fetch_one(connection).await?;
        self.last_id = self.last_id.max(last_id);
        self.version = Some(version);
        Ok(())
    }

    /// Reads some of the index and merges some of the memtable. No transaction may be open.
    pub(super) async fn keep_up(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<Progress, sqlx::Error> {
        self.read_some(connection).await?;
        self.move_some(connection).await?;
        let reading = self.version.is_some() && self.filter.reads_from().is_some();
        let done = !reading && self.moving.is_none() && self.memtable.len() < GATHERED;
        Ok(if done { Progress::Done } else { Progress::More })
    }

    /// Reads a part of the index, unless no key was asked for yet or all of it was read. What others write
    /// into the parts already read makes a new version, as of which nothing is known.
    async fn read_some(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let Some(from) = self.filter.reads_from().filter(|_| self.version.is_some()) else {
            return Ok(());
        };
        let count = i64::try_from(READ_AT_ONCE).unwrap_or(i64::MAX);
        let digests = sqlx::query_scalar(INDEXED).bind(from).bind(count);
        let digests: String = digests.fetch_one(connection).await?;
        let mut digests: Vec<i64> =
            serde_json::from_str(&digests).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        // SQLite gathers them in this order, but does not say that it always will.
        digests.sort_unstable();
        self.filter.take_in(&digests);
        Ok(())
    }

    /// Moves some keys into the index, when there are many.
    async fn move_some(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let mut moving = match self.moving.take() {
            Some(moving) => moving,
            None if self.memtable.len() < GATHERED => return Ok(()),
            None => Moving { up_to_id: self.last_id, keys: self.memtable.sorted(), moved: 0 },
        };
        let next = moving.moved.saturating_add(SLICE).min(moving.keys.len());
        let slice = moving.keys.get(moving.moved..next).unwrap_or_default();
        let slice: Vec<DigestAndId> =
            slice.iter().copied().filter(|key| self.memtable.contains(*key)).collect();
        let done = next == moving.keys.len();
        let complete_up_to = if done { moving.up_to_id } else { 0 };
        if self.index(connection, &slice, complete_up_to).await? {
            moving.moved = next;
            if done {
                self.memtable.forget_up_to(moving.up_to_id);
                return Ok(());
            }
        }
        self.moving = Some(moving);
        Ok(())
    }

    /// Saves a slice into the index, or finds that others have written and it has to be done again.
    async fn index(
        &mut self,
        connection: &mut SqliteConnection,
        slice: &[DigestAndId],
        complete_up_to: i64,
    ) -> Result<bool, sqlx::Error> {
        self.filter.add(slice.iter().map(|(digest, _)| *digest));
        let all_there = slice.iter().all(|(_, id)| *id > self.doubtful_up_to);
        let version = self.version.filter(|_| all_there);
        let query = match version {
            Some(version) => sqlx::query(INDEX.as_str()).bind(version),
            None => sqlx::query(INDEX_EXISTING.as_str()),
        };
        let bind = |query: SqliteQuery, (digest, id): &DigestAndId| query.bind(*digest).bind(*id);
        let query = slice.iter().fold(query.bind(complete_up_to), bind);
        match query.execute(&mut *connection).await {
            Ok(_) => Ok(true),
            Err(error) if version.is_some() && result_code(&error) == Some(SQLITE_ERROR) => {
                sqlx::query("ROLLBACK").execute(connection).await?;
                self.note_some_deleted();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
