//! One batch of writes in one SQLite transaction, in one trip to SQLite's thread where what it rests on
//! is remembered, else in two: begin and read, then write and commit.
//!
//! The statements are sent as they stand, `BEGIN` and `COMMIT` included, so sqlx's own count of
//! transactions is never involved. Whenever anything but a conflict is wrong, the connection is thrown
//! away with its transaction: SQLite may or may not have rolled back by itself, and on a connection in
//! doubt later statements would commit one by one.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{
    DatabaseError, DatabaseFile, PRIMARY_CODE_MASK, SQLITE_CONSTRAINT, SQLITE_ERROR,
    cache::Recent,
    keys::Keys,
    result_code,
    save::{Changes, Expected, save},
    snapshot,
    snapshot::{Snapshot, snapshot_sql},
};
use crate::{
    database::{Loaded, Wanted, Writer, timestamp},
    domain::{Account, Replays, StoreTransactionId},
};

/// Not deferred: a transaction that first reads and then writes would fail at once, whatever the
/// busy timeout, when another process wrote in between.
const BEGIN_AND_LOAD: &str = concat!(
    "BEGIN IMMEDIATE;\n",
    snapshot_sql!(),
    " UNION ALL SELECT 'version', '', '', data_version FROM pragma_data_version"
);

/// `$1` a time, `$2` how many of the oldest keys, which have the lowest ids, to look at. The one with the
/// highest id stays, so that nobody gives that id again.
const PRUNE_KEYS: &str = "BEGIN IMMEDIATE;
    DELETE FROM idempotency_index WHERE (digest, id) IN (
        SELECT digest, id
        FROM (SELECT id, digest, created_at FROM idempotency_keys ORDER BY id LIMIT $2)
        WHERE created_at < $1 AND id < (SELECT max(id) FROM idempotency_keys));
    DELETE FROM idempotency_keys WHERE id IN (
        SELECT id FROM (SELECT id, created_at FROM idempotency_keys ORDER BY id LIMIT $2)
        WHERE created_at < $1 AND id < (SELECT max(id) FROM idempotency_keys))
    RETURNING digest, id;
    COMMIT";
/// Most idempotency keys that are forgotten at once.
const PRUNED_AT_ONCE: i64 = 256;

/// The one connection that writes.
#[derive(Debug)]
pub(crate) struct SqliteWriter {
    /// `None` after a failure, until it is needed again.
    connection: Option<SqliteConnection>,
    basis: Basis,
    recent: Recent,
    keys: Keys,
    options: SqliteConnectOptions,
    file: DatabaseFile,
}

/// What the batch at hand is decided on.
#[derive(Debug)]
enum Basis {
    /// What was read in the transaction that is open.
    Read,
    /// What was remembered, and that all these purchases and requests are new.
    Remembered { ids: Vec<StoreTransactionId>, keys: usize },
}

impl Basis {
    /// Whether the tables will tell if something was not new: they do of all that is written. Of what
    /// was refused nothing is, and after a reset they would know nothing any more.
    fn will_be_proved(&self, changes: &Changes<'_>, replays: &Replays) -> bool {
        let Self::Remembered { ids, keys } = self else { return true };
        let written: HashSet<&StoreTransactionId> =
            changes.entries.iter().filter_map(|(_, entry)| entry.store_transaction_id()).collect();
        changes.reset.is_empty()
            && ids.iter().all(|id| written.contains(id))
            // There are none but of the keys asked for, each once.
            && replays.new_ones().len() == *keys
            && (*keys == 0 || changes.are_usual())
    }
}

impl SqliteWriter {
    pub(super) fn new(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        file: DatabaseFile,
    ) -> Self {
        let (basis, recent, keys) = (Basis::Read, Recent::default(), Keys::default());
        Self { connection: Some(connection), basis, recent, keys, options, file }
    }

    /// Whether the batch rests on what was remembered, which is to be proved yet.
    const fn rests_on_memory(&self) -> bool {
        matches!(self.basis, Basis::Remembered { .. })
    }

    /// What has to be proved then.
    fn to_prove(&self, changes: &Changes<'_>) -> Option<Expected> {
        let digests = changes.replays.iter().map(|new| new.key.digest());
        self.rests_on_memory().then(|| Expected {
            version: self.recent.version(),
            not_indexed: digests.filter(|digest| self.keys.index_may_have(*digest)).collect(),
        })
    }

    async fn try_load(&mut self, wanted: &Wanted) -> Result<Loaded, DatabaseError> {
        self.file.check_writable()?;
        if self.keys.has_none_of(&wanted.keys, self.recent.version())
            && let Some(loaded) = self.recent.take(wanted)
        {
            let ids = wanted.store_transaction_ids.clone();
            self.basis = Basis::Remembered { ids, keys: wanted.keys.len() };
            return Ok(loaded);
        }
        let connection = opened(&mut self.connection, &self.options).await?;
        let Snapshot { mut loaded, data_version } =
            snapshot::load(connection, BEGIN_AND_LOAD, wanted).await?;
        let version = data_version.unwrap_or_default();
        if !wanted.keys.is_empty() {
            loaded.replays = self.keys.find(connection, &wanted.keys, version).await?;
        }
        self.basis = Basis::Read;
        self.recent.renew(version, wanted, &loaded);
        Ok(loaded)
    }

    async fn try_save(&mut self, changes: &Changes<'_>, now: &str) -> Result<(), sqlx::Error> {
        let expected = self.to_prove(changes);
        let connection = self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        save(connection, changes, expected, now).await
    }

    async fn try_tidy(&mut self, before: Option<DateTime<Utc>>) -> Result<bool, DatabaseError> {
        if let Some(connection) = self.connection.as_mut() {
            self.keys.read_some(connection).await?;
            self.keys.move_some(connection).await?;
        }
        let Some(before) = before else { return Ok(false) };
        self.file.check_writable()?;
        // After a failure, too: what is forgotten may be just the room that a full database lacks.
        let connection = opened(&mut self.connection, &self.options).await?;
        let query = sqlx::query_as(PRUNE_KEYS).bind(timestamp(before)).bind(PRUNED_AT_ONCE);
        let pruned: Vec<(i64, i64)> = query.fetch_all(connection).await?;
        self.keys.note_deleted(&pruned);
        Ok(!pruned.is_empty())
    }

    /// What an error of `try_save` means, and the transaction's end.
    async fn saving_failed(&mut self, error: sqlx::Error) -> DatabaseError {
        let code = result_code(&error).map(|code| code & PRIMARY_CODE_MASK);
        // Of what was read under the lock nothing can have changed.
        let conflict =
            self.rests_on_memory() && matches!(code, Some(SQLITE_ERROR | SQLITE_CONSTRAINT));
        if conflict && self.roll_back().await.is_ok() {
            return another_writer();
        }
        self.abandon().await;
        if conflict { another_writer() } else { error.into() }
    }

    async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        self.recent.clear();
        let connection = self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        sqlx::query("ROLLBACK").execute(connection).await?;
        Ok(())
    }
}

async fn opened<'a>(
    connection: &'a mut Option<SqliteConnection>,
    options: &SqliteConnectOptions,
) -> Result<&'a mut SqliteConnection, sqlx::Error> {
    let open = match connection.take() {
        Some(open) => open,
        None => options.connect().await?,
    };
    Ok(connection.insert(open))
}

/// What was decided rests on what is not so any more. The second time it is read under the lock.
fn another_writer() -> DatabaseError {
    DatabaseError::Retry("another writer came in between".to_owned())
}

impl Writer for SqliteWriter {
    async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, DatabaseError> {
        let loaded = self.try_load(wanted).await;
        if loaded.is_err() {
            self.abandon().await;
        }
        loaded
    }

    async fn save(
        &mut self,
        accounts: Vec<Account>,
        replays: &Replays,
        now: DateTime<Utc>,
    ) -> Result<(), DatabaseError> {
        let changes = Changes::of(&accounts, replays, self.keys.next_id());
        if !self.basis.will_be_proved(&changes, replays) {
            // Nothing has begun; the accounts taken from memory are not given back, and read next.
            return Err(another_writer());
        }
        match self.try_save(&changes, &timestamp(now)).await {
            Ok(()) => {
                if !changes.reset.is_empty() {
                    self.keys.note_all_indexed();
                }
                self.keys.note_saved(changes.replays.iter().map(|new| new.key.digest()));
                self.recent.keep(accounts);
                Ok(())
            }
            Err(error) => Err(self.saving_failed(error).await),
        }
    }

    async fn abandon(&mut self) {
        self.recent.clear();
        self.keys = Keys::default();
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close_hard().await
        {
            tracing::warn!(%error, "a failed database connection did not close cleanly");
        }
    }

    async fn tidy(&mut self, before: Option<DateTime<Utc>>) -> Result<bool, DatabaseError> {
        let tidied = self.try_tidy(before).await;
        if tidied.is_err() {
            self.abandon().await;
        }
        tidied
    }

    async fn close(self) {
        let Some(mut connection) = self.connection else { return };
        if let Err(error) = sqlx::query("PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut connection)
            .await
        {
            tracing::warn!(%error, "the write-ahead log stays for the next start");
        }
        if let Err(error) = connection.close().await {
            tracing::warn!(%error, "the database connection did not close cleanly");
        }
    }
}
