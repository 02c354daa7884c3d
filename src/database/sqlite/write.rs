//! Batches of writes on the one connection that writes, each a transaction of its own.
//!
//! - *Locked*: one trip to SQLite's thread begins and reads, a second writes and commits.
//! - *Cached*: what the batch is decided on is remembered from earlier ones, and nothing has begun. One
//!   trip begins, has SQLite compare the version of the database, writes and commits. Where that fails,
//!   the batch is decided again, locked.
//!
//! Statements are sent as they stand, `BEGIN` and `COMMIT` included, so sqlx's own count of transactions
//! is never involved. Whoever works with the connection takes it out of the lane, with all that is
//! remembered, and puts it back when all went well. Otherwise both are dropped, the connection with its
//! transaction: SQLite may or may not have rolled back by itself, and on a connection in doubt later
//! statements would commit one by one.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::time::sleep;

use super::{
    DatabaseError, DatabaseFile, PRIMARY_CODE_MASK, SQLITE_CONSTRAINT, SQLITE_ERROR,
    cache::Recent,
    erasing,
    keys::Keys,
    purchases, result_code,
    save::{Expected, Save, are_usual},
    snapshot,
    snapshot::{Snapshot, hold_fact, snapshot_sql},
    summary, usage,
};
use crate::{
    database::{
        Chore, HopedNew, Lane, Progress, SummaryWrite, Transaction,
        changes::Changes,
        holds, inbox, timestamp,
        tracked::{MADE_DUE_AT_ONCE, MAKE_DUE},
    },
    domain::{Facts, FreshUsage, UserId, Wanted},
};

/// Not deferred: a transaction that first reads and then writes would fail at once, whatever the
/// busy timeout, when another process wrote in between.
const BEGIN_AND_READ: &str = concat!(
    "BEGIN IMMEDIATE;\n",
    snapshot_sql!(),
    " UNION ALL SELECT 'version', '', '', data_version FROM pragma_data_version
      UNION ALL SELECT 'newest', '', '', coalesce(max(id), 0) FROM transactions"
);

/// `$1` a time, `$2` how many of the oldest keys, which have the lowest ids, to look at. The one with the
/// highest id stays, so that nobody gives that id again.
const FORGET_KEYS: &str = "BEGIN IMMEDIATE;
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
const FORGOTTEN_AT_ONCE: i64 = 256;

/// Takes some pages and gives them back, with an id that nothing else gets. Nobody sees the row.
const TRY_WRITE: &str = "BEGIN IMMEDIATE;
    INSERT INTO idempotency_keys (id, digest, user_id, key, fingerprint, outcome, created_at)
    VALUES (9223372036854775807, 0, 'nobody', 'try', 0, hex(zeroblob(8192)), '');
    DELETE FROM idempotency_keys WHERE id = 9223372036854775807;
    COMMIT";

/// Without waiting for anybody.
const EMPTY_LOG: &str = "PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)";
/// How often the last connection is tried to be, and how long readers are left for their end in between.
const LAST_ATTEMPTS: u32 = 20;
const LAST_PAUSE: Duration = Duration::from_millis(5);

/// The one connection that writes.
#[derive(Debug)]
pub(crate) struct SqliteLane {
    /// `None` while somebody works with it, and after a failure until it is needed again.
    held: Option<Box<Held>>,
    options: SqliteConnectOptions,
    file: DatabaseFile,
}

/// A connection that is sound, and what is remembered of its database.
#[derive(Debug)]
struct Held {
    connection: SqliteConnection,
    recent: Recent,
    keys: Keys,
}

/// A batch on its way.
#[derive(Debug)]
pub(crate) struct SqliteTransaction<'lane> {
    lane: &'lane mut SqliteLane,
    held: Box<Held>,
    basis: Basis,
}

/// What the batch is decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// What is remembered, with all purchases and requests taken for new; no transaction has begun.
    Cached,
    /// What was read in the transaction that is open.
    Locked,
}

impl SqliteLane {
    pub(super) fn new(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        file: DatabaseFile,
    ) -> Self {
        Self { held: Some(Box::new(Held::new(connection))), options, file }
    }

    /// Takes the connection out, made anew where needed, if the file may be written.
    async fn take(&mut self) -> Result<Box<Held>, DatabaseError> {
        let held = self.held.take();
        self.file.check_writable()?;
        match held {
            Some(held) => Ok(held),
            None => Ok(Box::new(Held::new(self.options.connect().await?))),
        }
    }

    async fn forget_keys(&mut self, before: DateTime<Utc>) -> Result<Progress, DatabaseError> {
        // After a failure, too: what is forgotten may be just the room that a full database lacks.
        let mut held = self.take().await?;
        let query = sqlx::query_as(FORGET_KEYS).bind(timestamp(before)).bind(FORGOTTEN_AT_ONCE);
        let forgotten: Vec<(i64, i64)> = query.fetch_all(&mut held.connection).await?;
        held.keys.note_deleted(&forgotten);
        self.held = Some(held);
        Ok(if forgotten.is_empty() { Progress::Done } else { Progress::More })
    }

    async fn try_write(&mut self) -> Result<Progress, DatabaseError> {
        let mut held = self.take().await?;
        sqlx::query(TRY_WRITE).execute(&mut held.connection).await?;
        self.held = Some(held);
        Ok(Progress::Done)
    }

    async fn forget_messages(&mut self, before: DateTime<Utc>) -> Result<Progress, DatabaseError> {
        let mut held = self.take().await?;
        let query =
            sqlx::query(inbox::FORGET).bind(timestamp(before)).bind(inbox::FORGOTTEN_AT_ONCE);
        let forgotten = query.execute(&mut held.connection).await?.rows_affected();
        self.held = Some(held);
        Ok(if forgotten == 0 { Progress::Done } else { Progress::More })
    }

    async fn forget_holds(&mut self, before: DateTime<Utc>) -> Result<Progress, DatabaseError> {
        let mut held = self.take().await?;
        let query =
            sqlx::query(holds::FORGET).bind(timestamp(before)).bind(holds::FORGOTTEN_AT_ONCE);
        let forgotten = query.execute(&mut held.connection).await?.rows_affected();
        self.held = Some(held);
        Ok(if forgotten == 0 { Progress::Done } else { Progress::More })
    }

    async fn make_due(&mut self, now: DateTime<Utc>) -> Result<Progress, DatabaseError> {
        let mut held = self.take().await?;
        let query = sqlx::query(MAKE_DUE).bind(timestamp(now)).bind(MADE_DUE_AT_ONCE);
        let made = query.execute(&mut held.connection).await?.rows_affected();
        let query = sqlx::query(inbox::MAKE_DUE).bind(timestamp(now)).bind(MADE_DUE_AT_ONCE);
        let told = query.execute(&mut held.connection).await?.rows_affected();
        self.held = Some(held);
        Ok(if made == 0 && told == 0 { Progress::Done } else { Progress::More })
    }

    async fn add_to_summary(&mut self, write: &SummaryWrite) -> Result<Progress, DatabaseError> {
        let mut held = self.take().await?;
        let progress = summary::save(&mut held.connection, write).await?;
        self.held = Some(held);
        Ok(progress)
    }

    async fn erase(&mut self) -> Result<Progress, DatabaseError> {
        let mut held = self.take().await?;
        let erased = erasing::piece(&mut held.connection).await?;
        held.keys.note_deleted(&erased.keys);
        if let Some(user) = &erased.ended {
            held.recent.forget(user);
        }
        self.held = Some(held);
        Ok(Progress::Done)
    }

    async fn keep_up(&mut self) -> Result<Progress, DatabaseError> {
        let Some(mut held) = self.held.take() else { return Ok(Progress::Done) };
        let Held { connection, keys, .. } = &mut *held;
        let progress = keys.keep_up(connection).await?;
        self.held = Some(held);
        Ok(progress)
    }
}

impl Held {
    fn new(connection: SqliteConnection) -> Self {
        Self { connection, recent: Recent::default(), keys: Keys::default() }
    }

    /// The facts wanted, if nothing has to be read for them.
    fn remembered(&mut self, wanted: &Wanted) -> Option<Facts> {
        if wanted.is_about_stores() || wanted.by_operator {
            return None;
        }
        let all_new = self.keys.has_none_of(&wanted.keys, self.recent.version());
        if all_new { self.recent.take(wanted) } else { None }
    }

    /// Begins a transaction and reads the facts wanted in it.
    async fn begin(&mut self, wanted: &Wanted) -> Result<Facts, DatabaseError> {
        let Self { connection, recent, keys } = self;
        let Snapshot { mut facts, data_version, newest_entry } =
            snapshot::read(connection, BEGIN_AND_READ, wanted).await?;
        let version = data_version.expect("the statement asks for the version");
        if wanted.is_about_stores() {
            purchases::read(connection, wanted).await?.add_to(&mut facts, &wanted.lots_of);
        }
        if !wanted.keys.is_empty() {
            facts.replays = keys.find(connection, &wanted.keys, version).await?;
        }
        recent.renew(version, wanted, &facts);
        facts.accounts = facts.accounts.with_ids(recent.ids_after(newest_entry));
        Ok(facts)
    }

    /// What a batch decided on what is remembered expects to be so still.
    fn expected(&self, changes: &Changes<'_>) -> Expected {
        let digests = changes.replays.iter().map(|(key, _)| key.digest());
        Expected {
            version: self.recent.version(),
            not_indexed: digests.filter(|digest| self.keys.index_may_have(*digest)).collect(),
        }
    }

    /// Takes note of changes that were saved.
    fn note_saved(&mut self, changes: &Changes<'_>) {
        if !changes.resets.is_empty() {
            self.keys.note_all_indexed();
        }
        if changes.operators.change_prices() {
            self.recent.forget_prices();
        }
        self.keys.note_saved(changes.replays.iter().map(|(key, _)| key.digest()));
    }

    /// Undoes what began on what is not so any more.
    async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        self.recent.clear();
        sqlx::query("ROLLBACK").execute(&mut self.connection).await?;
        Ok(())
    }
}

impl Transaction for SqliteTransaction<'_> {
    async fn save(self, facts: Facts, hoped_new: HopedNew) -> Result<(), DatabaseError> {
        let Self { lane, mut held, basis } = self;
        let changes = Changes::of(&facts);
        let now = facts.now;
        if basis == Basis::Cached && !will_be_proved(&changes, hoped_new) {
            // The accounts are not remembered any more, so they are read next.
            lane.held = Some(held);
            return Err(another_writer());
        }
        let save = Save {
            changes: &changes,
            first_key_id: held.keys.next_id(),
            expected: (basis == Basis::Cached).then(|| held.expected(&changes)),
            now: timestamp(facts.now).into(),
        };
        if !changes.resets.is_empty() {
            let users: Vec<_> = changes.resets.iter().map(|user| user.as_str()).collect();
            summary::forget(&mut held.connection, &users).await?;
        }
        let saved = save.run(&mut held.connection).await;
        let Err(error) = saved else {
            held.note_saved(&changes);
            held.recent.keep(facts.accounts, now);
            lane.held = Some(held);
            return Ok(());
        };
        let code = result_code(&error).map(|code| code & PRIMARY_CODE_MASK);
        // Of what was read under the lock nothing can have changed.
        if basis == Basis::Cached && matches!(code, Some(SQLITE_ERROR | SQLITE_CONSTRAINT)) {
            if held.roll_back().await.is_ok() {
                lane.held = Some(held);
            }
            return Err(another_writer());
        }
        Err(error.into())
    }
}

/// Whether the tables will tell if a purchase or a request was not new: they do of all that are written.
/// After a reset they would know nothing any more, and of requests only the usual statement asks.
fn will_be_proved(changes: &Changes<'_>, hoped_new: HopedNew) -> bool {
    hoped_new == HopedNew::AllSaved
        && changes.resets.is_empty()
        && (changes.replays.is_empty() || are_usual(changes))
}

/// What was decided rests on what may not be so any more. The second time it is read under the lock.
fn another_writer() -> DatabaseError {
    DatabaseError::Retry("another writer came in between".to_owned())
}

impl Lane for SqliteLane {
    type Transaction<'lane> = SqliteTransaction<'lane>;

    async fn begin(
        &mut self,
        wanted: &Wanted,
    ) -> Result<(Facts, SqliteTransaction<'_>), DatabaseError> {
        let mut held = self.take().await?;
        let (facts, basis) = match held.remembered(wanted) {
            Some(facts) => (facts, Basis::Cached),
            None => (held.begin(wanted).await?, Basis::Locked),
        };
        Ok((facts, SqliteTransaction { lane: self, held, basis }))
    }

    async fn slice(&mut self, chore: &Chore) -> Result<Progress, DatabaseError> {
        match chore {
            Chore::ForgetKeys { before } => self.forget_keys(*before).await,
            Chore::Upkeep => self.keep_up().await,
            Chore::MakeDue { now } => self.make_due(*now).await,
            Chore::ForgetMessages { before } => self.forget_messages(*before).await,
            Chore::ForgetHolds { before } => self.forget_holds(*before).await,
            Chore::Erase => self.erase().await,
            Chore::TryWrite => self.try_write().await,
            Chore::AddToSummary(write) => self.add_to_summary(write).await,
        }
    }

    async fn sum_usage(
        &mut self,
        user: &UserId,
        known: &FreshUsage,
    ) -> Result<Progress, DatabaseError> {
        let mut held = self.take().await?;
        let progress = usage::sum(&mut held.connection, user, known).await?;
        self.held = Some(held);
        Ok(progress)
    }

    async fn close(self) {
        let Some(held) = self.held else { return };
        let mut connection = held.connection;
        for attempt in 1..=LAST_ATTEMPTS {
            let emptied = sqlx::query(EMPTY_LOG).execute(&mut connection).await;
            let closed = connection.close().await;
            if let Err(error) = emptied.and(closed) {
                tracing::warn!(%error, "the write-ahead log stays for the next start");
                return;
            }
            // Of another file in its place the log is not ours.
            let is_last = !self.file.has_log() || self.file.check_present().is_err();
            if is_last || attempt == LAST_ATTEMPTS {
                return;
            }
            // A reader's thread was still at it, so ours was not the last connection, which takes the log away.
            sleep(LAST_PAUSE).await;
            connection = match self.options.connect().await {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(%error, "an empty write-ahead log stays for the next start");
                    return;
                }
            };
        }
    }
}
