//! The peer without HTTP: durable commits of the rows of an operation, one after the other.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sqlx::{
    Connection, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{books::MIGRATIONS, requests::Random, runs::Run};

/// A database with the service's schema, credits and a balance.
pub(crate) async fn open_by_hand(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    Migrator::new(Path::new(MIGRATIONS)).await?.run(&mut connection).await?;
    let balance = "INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
        VALUES ('default_user', 'gemini-2.0-flash', 8000000000000, '')";
    sqlx::query(balance).execute(&mut connection).await?;
    let credits = "UPDATE credits SET credits = 8000000000000";
    sqlx::query(credits).execute(&mut connection).await?;
    Ok(connection)
}

/// Whose rows are written. One query each, because each one sent to the connection's thread costs a good
/// part of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rows {
    Consumption,
    Allocation,
    Purchase,
}

impl Rows {
    /// `$1` the time, `$2` what no other purchase is called.
    const fn sql(self) -> &'static str {
        match self {
            Self::Consumption => {
                "BEGIN IMMEDIATE;
                 UPDATE token_balances SET allocated_tokens = allocated_tokens - 7000, updated_at = $1
                 WHERE user_id = 'default_user' AND model_id = 'gemini-2.0-flash'
                     AND allocated_tokens >= 7000;
                 INSERT INTO transactions (user_id, type, amount, model_id, input_tokens,
                     output_tokens, credits_delta, tokens_delta, created_at)
                 VALUES ('default_user', 'consumption', 7000, 'gemini-2.0-flash', 5000, 2000, 0,
                     -7000, $1);
                 COMMIT"
            }
            Self::Allocation => {
                "BEGIN IMMEDIATE;
                 UPDATE credits SET credits = credits - 1, updated_at = $1
                 WHERE user_id = 'default_user' AND credits >= 1;
                 UPDATE token_balances SET allocated_tokens = allocated_tokens + 13333, updated_at = $1
                 WHERE user_id = 'default_user' AND model_id = 'gemini-2.0-flash';
                 INSERT INTO transactions (user_id, type, amount, model_id, price_per_m_token,
                     credits_delta, tokens_delta, created_at)
                 VALUES ('default_user', 'allocation', 1, 'gemini-2.0-flash', 75, -1, 13333, $1);
                 COMMIT"
            }
            Self::Purchase => {
                "BEGIN IMMEDIATE;
                 UPDATE credits SET credits = credits + 300, updated_at = $1
                 WHERE user_id = 'default_user';
                 INSERT INTO transactions (user_id, type, amount, transaction_id, metadata,
                     credits_delta, tokens_delta, created_at)
                 VALUES ('default_user', 'purchase', 300, $2,
                     '{\"productId\":\"noteapp.credits.medium\",\"transactionId\":\"' || $2 || '\"}', 300, 0, $1);
                 COMMIT"
            }
        }
    }
}

/// Writes them, each time durable before the next.
pub(crate) async fn commits_by_hand(
    connection: &mut SqliteConnection,
    rows: Rows,
    duration: Duration,
) -> Result<Run> {
    let mut random = Random::new();
    let started = Instant::now();
    let mut latencies = Vec::new();
    while started.elapsed() < duration {
        let sent = Instant::now();
        let mut query = sqlx::query(rows.sql()).bind("2026-11-23T13:14:14.900672Z");
        if rows == Rows::Purchase {
            query = query.bind(random.store_transaction_id());
        }
        let done = query.execute(&mut *connection).await?;
        ensure!(done.rows_affected() >= 2, "a write by hand changed nothing");
        latencies.push(sent.elapsed());
    }
    let commits = u64::try_from(latencies.len())?;
    Ok(Run::new(started.elapsed(), latencies, commits))
}
