//! The peer without HTTP: durable commits of the rows of a consumption, one after the other.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use sqlx::{
    Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::runs::Run;

/// A database with the service's schema and a balance.
pub(crate) async fn open_by_hand(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    sqlx::migrate!("migrations/sqlite").run(&mut connection).await?;
    let balance = "INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
        VALUES ('default_user', 'gemini-2.0-flash', 8000000000000, '')";
    sqlx::query(balance).execute(&mut connection).await?;
    Ok(connection)
}

/// The writes of a consumption, each durable before the next.
pub(crate) async fn commits_by_hand(
    connection: &mut SqliteConnection,
    duration: Duration,
) -> Result<Run> {
    let started = Instant::now();
    let mut latencies = Vec::new();
    while started.elapsed() < duration {
        let sent = Instant::now();
        // One query: each one sent to the connection's thread costs a good part of a commit.
        let done = sqlx::query(
            "BEGIN IMMEDIATE;
             UPDATE token_balances SET allocated_tokens = allocated_tokens - $1, updated_at = $4
             WHERE user_id = 'default_user' AND model_id = 'gemini-2.0-flash'
                 AND allocated_tokens >= $1;
             INSERT INTO transactions (user_id, type, amount, model_id, input_tokens,
                 output_tokens, credits_delta, tokens_delta, created_at)
             VALUES ('default_user', 'consumption', $1, 'gemini-2.0-flash', $2, $3, 0, -$1, $4);
             COMMIT",
        );
        let done = done.bind(7000_i64).bind(5000_i64).bind(2000_i64);
        let done = done.bind("2026-11-23T13:14:14.900672Z").execute(&mut *connection).await?;
        ensure!(done.rows_affected() >= 2, "a write by hand changed nothing");
        latencies.push(sent.elapsed());
    }
    let commits = u64::try_from(latencies.len())?;
    Ok(Run::new(started.elapsed(), latencies, commits))
}
