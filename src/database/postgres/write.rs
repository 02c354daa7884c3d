//! Batches of writes on a lane's own connection, each a transaction: one trip begins, locks
//! the accounts and reads the facts, one writes, one commits.
//!
//! Whoever works with the connection takes it out of the lane, and puts it back when all went well.
//! Otherwise it is dropped, and the server undoes what was not committed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    erasing,
    lock::{Locked, LockedAccounts, lock},
    save::save,
    session::{STATEMENT_TIMEOUT, Session},
    statement::Remembered,
    summary,
    unsettled::Unsettled,
    usage,
};
use crate::{
    database::{
        Chore, DatabaseError, HopedNew, Lane, Progress, Transaction,
        changes::Changes,
        holds, inbox,
        tracked::{MADE_DUE_AT_ONCE, MAKE_DUE},
    },
    domain::{Facts, FreshUsage, UserId, Wanted},
};

/// How long a batch may take, from looking for a connection to the end of the commit. Each of its
/// statements has the same limit at the server; this one also counts where the network is lost.
const BATCH_TIMEOUT: Duration = STATEMENT_TIMEOUT;
/// How long a good-bye to the server may take.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long to leave the server alone after it could not be reached: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// `$1` a time, `$2` how many of the oldest keys, which have the lowest ids, to look at. Those that
/// another lane is just forgetting are left to it.
const FORGET_KEYS: &str = "
    DELETE FROM idempotency_keys WHERE id = ANY(ARRAY(
        SELECT id FROM idempotency_keys
        WHERE id = ANY(ARRAY(SELECT id FROM idempotency_keys ORDER BY id LIMIT $2))
            AND created_at < $1
        FOR UPDATE SKIP LOCKED))";
/// Most idempotency keys that are forgotten at once.
const FORGOTTEN_AT_ONCE: i64 = 256;

/// [`holds::FORGET`], but for those that another lane is just forgetting or closing.
const FORGET_HOLDS: &str = "
    DELETE FROM holds WHERE hold_id = ANY(ARRAY(
        SELECT hold_id FROM holds
        WHERE hold_id = ANY(ARRAY(SELECT hold_id FROM holds ORDER BY hold_id LIMIT $2))
            AND coalesce(closed_at, expires_at) < $1
        FOR UPDATE SKIP LOCKED))";

/// Under a name that no user can have; nobody sees the row.
const TRY_WRITE: &str = r"
    INSERT INTO idempotency_keys (user_id, key, fingerprint, outcome, created_at)
    VALUES (E'\x01', 'try', 0, '0', now());
    DELETE FROM idempotency_keys WHERE user_id = E'\x01'";

/// A connection that writes, made anew where needed.
#[derive(Debug)]
pub(crate) struct PostgresLane {
    session: Session,
    /// `None` while somebody works with it, and after a failure until it is needed again.
    connection: Option<PgConnection>,
    /// What the connection's session was told.
    remembered: Remembered,
    /// One whose commit is still waited for.
    unsettled: Unsettled,
    reconnecting: Reconnecting,
}

/// A batch on its way.
#[derive(Debug)]
pub(crate) struct PostgresTransaction<'lane> {
    lane: &'lane mut PostgresLane,
    connection: PgConnection,
    /// When the batch has to be done.
    deadline: Instant,
    /// The accounts that are locked by it.
    locked: LockedAccounts,
}

impl PostgresLane {
    pub(super) fn new(session: Session, connection: PgConnection) -> Self {
        let (unsettled, reconnecting) = (Unsettled::default(), Reconnecting::default());
        let remembered = Remembered::new(session.keeps_statements());
        Self { session, connection: Some(connection), remembered, unsettled, reconnecting }
    }

    /// Takes the connection out, made anew where needed.
    async fn take(&mut self) -> Result<PgConnection, DatabaseError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        self.remembered.forget();
        match self.unsettled.settle(&self.session).await? {
            Some(connection) => Ok(connection),
            None => self.reconnecting.connect(&self.session).await,
        }
    }

    async fn try_begin(
        &mut self,
        wanted: &Wanted,
    ) -> Result<(Locked, PgConnection), DatabaseError> {
        let mut connection = self.take().await?;
        let begin = self.session.begin();
        let locked = lock(&mut connection, &begin, &mut self.remembered, wanted).await?;
        Ok((locked, connection))
    }

    /// Does work that is no batch in a transaction of its own.
    async fn do_chore(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<Progress, DatabaseError>,
    ) -> Result<Progress, DatabaseError> {
        let deadline = in_time(BATCH_TIMEOUT);
        let working = async {
            let mut connection = self.take().await?;
            sqlx::raw_sql(self.session.begin()).execute(&mut connection).await?;
            let progress = work(&mut connection).await?;
            Ok((connection, progress))
        };
        let worked = timeout_at(deadline, working).await;
        let (connection, progress) = worked.unwrap_or_else(|_| Err(late()))?;
        self.commit(connection, deadline).await?;
        Ok(progress)
    }

    /// Commits, and puts the connection back.
    async fn commit(
        &mut self,
        mut connection: PgConnection,
        deadline: Instant,
    ) -> Result<(), DatabaseError> {
        let committing = sqlx::raw_sql("COMMIT").execute(&mut connection);
        match timeout_at(deadline, committing).await {
            Ok(Ok(_)) => {
                self.connection = Some(connection);
                Ok(())
            }
            Ok(Err(error)) => Err(in_doubt(error.into())),
            Err(_) => {
                self.unsettled.keep(connection);
                Err(late())
            }
        }
    }
}

/// Has the stores of purchases that wait asked, and messages worked on.
async fn make_due(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
) -> Result<Progress, DatabaseError> {
    let query = sqlx::query(MAKE_DUE).bind(now).bind(MADE_DUE_AT_ONCE);
    let made = query.execute(&mut *connection).await?.rows_affected();
    let query = sqlx::query(inbox::MAKE_DUE).bind(now).bind(MADE_DUE_AT_ONCE);
    let told = query.execute(connection).await?.rows_affected();
    Ok(progress(made.saturating_add(told)))
}

/// Forgets what is older, by a statement that takes a time and a number of rows to look at.
async fn forget(
    connection: &mut PgConnection,
    sql: &'static str,
    before: DateTime<Utc>,
    at_once: i64,
) -> Result<Progress, DatabaseError> {
    let query = sqlx::query(sql).bind(before).bind(at_once);
    Ok(progress(query.execute(connection).await?.rows_affected()))
}

/// Where nothing was left to do, nothing is.
fn progress(rows: u64) -> Progress {
    if rows == 0 { Progress::Done } else { Progress::More }
}

impl PostgresTransaction<'_> {
    /// Undoes what was done. A connection that does not say that it did is dropped.
    async fn roll_back(mut self) {
        let rolling_back = sqlx::raw_sql("ROLLBACK").execute(&mut self.connection);
        if let Ok(Ok(_)) = timeout_at(self.deadline, rolling_back).await {
            self.lane.connection = Some(self.connection);
        }
    }
}

impl Transaction for PostgresTransaction<'_> {
    async fn save(mut self, facts: Facts, _: HopedNew) -> Result<(), DatabaseError> {
        let changes = Changes::of(&facts);
        if changes.is_empty() {
            self.roll_back().await;
            return Ok(());
        }
        let remembered = &self.lane.remembered;
        let writing = save(&mut self.connection, remembered, &changes, &self.locked, facts.now);
        match timeout_at(self.deadline, writing).await.unwrap_or_else(|_| Err(late())) {
            Ok(()) => {}
            Err(error @ DatabaseError::Retry(_)) => {
                self.roll_back().await;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
        self.lane.commit(self.connection, self.deadline).await
    }
}

impl Lane for PostgresLane {
    type Transaction<'lane> = PostgresTransaction<'lane>;

    async fn begin(
        &mut self,
        wanted: &Wanted,
    ) -> Result<(Facts, PostgresTransaction<'_>), DatabaseError> {
        let deadline = in_time(BATCH_TIMEOUT);
        let begun = timeout_at(deadline, self.try_begin(wanted)).await;
        let (locked, connection) = begun.unwrap_or_else(|_| Err(late()))?;
        let Locked { facts, accounts: locked } = locked;
        Ok((facts, PostgresTransaction { lane: self, connection, deadline, locked }))
    }

    async fn slice(&mut self, chore: &Chore) -> Result<Progress, DatabaseError> {
        match chore {
            Chore::Upkeep => Ok(Progress::Done),
            Chore::AddToSummary(write) => {
                self.do_chore(async |on| summary::save(on, write).await).await
            }
            &Chore::ForgetKeys { before } => {
                let at_once = FORGOTTEN_AT_ONCE;
                self.do_chore(async |on| forget(on, FORGET_KEYS, before, at_once).await).await
            }
            &Chore::ForgetMessages { before } => {
                let at_once = inbox::FORGOTTEN_AT_ONCE;
                self.do_chore(async |on| forget(on, inbox::FORGET, before, at_once).await).await
            }
            &Chore::ForgetHolds { before } => {
                let at_once = holds::FORGOTTEN_AT_ONCE;
                self.do_chore(async |on| forget(on, FORGET_HOLDS, before, at_once).await).await
            }
            &Chore::MakeDue { now } => self.do_chore(async |on| make_due(on, now).await).await,
            Chore::Erase => self.do_chore(async |on| erasing::piece(on).await).await,
            Chore::TryWrite => {
                let try_it = async |on: &mut PgConnection| {
                    sqlx::raw_sql(TRY_WRITE).execute(on).await?;
                    Ok(Progress::Done)
                };
                self.do_chore(try_it).await
            }
        }
    }

    async fn sum_usage(
        &mut self,
        user: &UserId,
        // Other instances may have written in between, what nobody here knows.
        _: &FreshUsage,
    ) -> Result<Progress, DatabaseError> {
        self.do_chore(async |on| usage::sum(on, user).await).await
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
