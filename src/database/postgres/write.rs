//! One lane: batches of writes, each in one transaction on a connection of the lane's own.
//!
//! Whenever the connection is in doubt it is thrown away, and the server undoes what was not committed.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    lock::{Locked, lock},
    save::{Changes, save},
    session::{STATEMENT_TIMEOUT, Session},
};
use crate::{
    database::{DatabaseError, Loaded, Wanted, Writer},
    domain::{Account, Replays},
};

/// How long a batch may take, from looking for a connection to the end of the commit. Each of its
/// statements has the same limit at the server; this one also counts where the network is lost.
const BATCH_TIMEOUT: Duration = STATEMENT_TIMEOUT;
/// How long a good-bye to the server may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long to leave the server alone after it could not be reached: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// A database may have another default, but a locked row must be seen as it is then. Where the default is
/// to write nothing, that is somebody's wish.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// `$1` a time, `$2` how many of the oldest keys, which have the lowest ids, to look at. Those that
/// another lane is just forgetting are left to it.
const PRUNE_KEYS: &str = "
    DELETE FROM idempotency_keys WHERE id IN (
        SELECT id FROM idempotency_keys
        WHERE id IN (SELECT id FROM idempotency_keys ORDER BY id LIMIT $2) AND created_at < $1
        FOR UPDATE SKIP LOCKED)";
/// Most idempotency keys that are forgotten at once.
const PRUNED_AT_ONCE: i64 = 256;

/// A connection that writes, made anew where needed.
#[derive(Debug)]
pub(crate) struct PostgresWriter {
    session: Session,
    /// `None` after a failure, until it is needed again.
    connection: Option<PgConnection>,
    /// When the batch at hand has to be done.
    deadline: Instant,
    /// Whose accounts are locked by it.
    locked: HashSet<String>,
    reconnecting: Reconnecting,
}

impl PostgresWriter {
    pub(super) fn new(session: Session, connection: PgConnection) -> Self {
        Self {
            session,
            connection: Some(connection),
            deadline: Instant::now(),
            locked: HashSet::new(),
            reconnecting: Reconnecting::default(),
        }
    }

    async fn connected(&mut self) -> Result<&mut PgConnection, DatabaseError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reconnecting.connect(&self.session).await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn try_load(&mut self, wanted: &Wanted) -> Result<Loaded, DatabaseError> {
        let connection = self.connected().await?;
        sqlx::raw_sql(BEGIN).execute(&mut *connection).await?;
        let Locked { loaded, users } = lock(connection, wanted).await?;
        self.locked = users.into_iter().collect();
        Ok(loaded)
    }

    /// Up to the commit.
    async fn try_write(
        &mut self,
        changes: &Changes<'_>,
        now: DateTime<Utc>,
    ) -> Result<(), DatabaseError> {
        save(self.open()?, changes, now).await
    }

    async fn try_commit(&mut self) -> Result<(), DatabaseError> {
        sqlx::raw_sql("COMMIT").execute(self.open()?).await?;
        Ok(())
    }

    /// Returns how many keys were forgotten.
    async fn try_prune(&mut self, before: DateTime<Utc>) -> Result<u64, DatabaseError> {
        let query = sqlx::query(PRUNE_KEYS).bind(before).bind(PRUNED_AT_ONCE);
        Ok(query.execute(self.connected().await?).await?.rows_affected())
    }

    fn open(&mut self) -> Result<&mut PgConnection, DatabaseError> {
        let lost = || DatabaseError::Unavailable("no transaction is open".to_owned());
        self.connection.as_mut().ok_or_else(lost)
    }

    /// Undoes what was done. A connection that does not say that it did is thrown away.
    async fn roll_back(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let rolling_back = sqlx::raw_sql("ROLLBACK").execute(&mut connection);
        if let Ok(Ok(_)) = timeout_at(self.deadline, rolling_back).await {
            self.connection = Some(connection);
        }
    }
}

impl Writer for PostgresWriter {
    async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, DatabaseError> {
        self.deadline = in_time(BATCH_TIMEOUT);
        let loaded = timeout_at(self.deadline, self.try_load(wanted)).await;
        let loaded = loaded.unwrap_or_else(|_| Err(late()));
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
        let locked = std::mem::take(&mut self.locked);
        let changes = Changes::of(&accounts, replays, |user| locked.contains(user));
        if changes.is_empty() {
            self.roll_back().await;
            return Ok(());
        }
        let written = timeout_at(self.deadline, self.try_write(&changes, now)).await;
        match written.unwrap_or_else(|_| Err(late())) {
            Ok(()) => {}
            Err(error @ DatabaseError::Retry(_)) => {
                self.roll_back().await;
                return Err(error);
            }
            Err(error) => {
                self.abandon().await;
                return Err(error);
            }
        }
        let committed = timeout_at(self.deadline, self.try_commit()).await;
        let committed = committed.unwrap_or_else(|_| Err(late()));
        if committed.is_err() {
            self.abandon().await;
        }
        committed.map_err(in_doubt)
    }

    async fn abandon(&mut self) {
        self.locked.clear();
        if let Some(connection) = self.connection.take() {
            // Not waited for: it may be in the middle of a statement, or lead nowhere.
            drop(connection);
        }
    }

    async fn tidy(&mut self, before: Option<DateTime<Utc>>) -> Result<bool, DatabaseError> {
        let Some(before) = before else { return Ok(false) };
        let pruned = timeout(BATCH_TIMEOUT, self.try_prune(before)).await;
        let pruned = pruned.unwrap_or_else(|_| Err(late()));
        if pruned.is_err() {
            self.abandon().await;
        }
        Ok(pruned? > 0)
    }

    async fn close(self) {
        let Some(connection) = self.connection else { return };
        // The server finds out by itself, too.
        if let Ok(Err(error)) = timeout(CLOSE_TIMEOUT, connection.close()).await {
            tracing::debug!(%error, "a connection to the database did not close cleanly");
        }
    }
}

/// A moment from now on.
fn in_time(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now)
}

fn late() -> DatabaseError {
    DatabaseError::Unavailable("the server takes too long".to_owned())
}

/// What failed during the commit may have happened, so it is not tried again.
fn in_doubt(error: DatabaseError) -> DatabaseError {
    match error {
        DatabaseError::Retry(reason) => {
            DatabaseError::Unavailable(format!("whether it was committed is not known: {reason}"))
        }
        other => other,
    }
}

/// When to look again for a server that could not be reached. Meanwhile nobody waits for it.
#[derive(Debug, Default)]
struct Reconnecting {
    not_before: Option<Instant>,
    pause: Duration,
}

impl Reconnecting {
    async fn connect(&mut self, session: &Session) -> Result<PgConnection, DatabaseError> {
        if self.not_before.is_some_and(|not_before| Instant::now() < not_before) {
            return Err(DatabaseError::Unavailable("the server could not be reached".to_owned()));
        }
        let (first, most) = PAUSE;
        self.pause = self.pause.saturating_mul(2).clamp(first, most);
        // Also when this is given up before it comes to an end.
        self.not_before = Some(in_time(self.pause));
        let connection = session.connect().await.map_err(|error| {
            DatabaseError::Unavailable(format!("the server can't be reached: {error}"))
        })?;
        *self = Self::default();
        Ok(connection)
    }
}
