//! The service on SQLite, against a handler that only parses and answers, and against durable commits of
//! the same rows.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sqlx::{
    Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tempfile::TempDir;

use crate::{
    CONNECTIONS, ROUNDS,
    client::{Requests, SECRET, fill, load, token},
    runs::{Run, report, verdict},
    server::{Server, release_folder, resident_kib, start_service},
};

/// A service with a database of its own, so that no load works on what another has left behind.
struct Service {
    server: Server,
    directory: TempDir,
    start: Duration,
    requests: Requests,
}

impl Service {
    async fn start(settings: &[(&str, &str)], headers: &str, requests: Requests) -> Result<Self> {
        let directory =
            tempfile::tempdir_in(release_folder()?).context("make a folder for the database")?;
        let (server, start) = start_service(directory.path(), settings).await?;
        fill(server.address, headers).await?;
        Ok(Self { server, directory, start, requests })
    }

    async fn load(&self, connections: usize, duration: Duration) -> Result<Run> {
        load(self.server.address, connections, &self.requests, duration).await
    }

    /// Stops it, and looks for every consumption that was answered. Returns how many, and the size of the
    /// database in bytes.
    async fn stop(self, runs: &[&[Run]]) -> Result<(TempDir, usize, usize)> {
        self.server.stop()?;
        let database = self.directory.path().join("billing.db");
        let size = usize::try_from(std::fs::metadata(&database)?.len())?;
        let answered: usize =
            runs.iter().flat_map(|runs| runs.iter()).map(|run| run.sorted.len()).sum();
        let recorded = count_consumptions(&database).await?;
        ensure!(recorded == answered, "{answered} answered with success, but {recorded} on disk");
        Ok((self.directory, recorded, size))
    }
}

pub(crate) async fn measure(duration: Duration) -> Result<()> {
    let plain = Service::start(&[], "", Requests::plain("")).await?;
    let keyed = Service::start(&[], "", Requests::keyed()).await?;
    let header = format!("authorization: Bearer {}\r\n", token("ann")?);
    let settings = [("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET)];
    let login = Service::start(&settings, &header, Requests::plain(&header)).await?;
    let bare = Server::spawn(Command::new(std::env::current_exe()?).arg("bare"))?;
    let mut raw = open_by_hand(&plain.directory.path().join("raw.db")).await?;

    let [
        mut consume_many,
        mut keyed_many,
        mut login_many,
        mut bare_many,
        mut consume_one,
        mut bare_one,
        mut commits,
    ] = [const { Vec::<Run>::new() }; 7];
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        consume_many.push(plain.load(CONNECTIONS, duration).await?);
        bare_many.push(load(bare.address, CONNECTIONS, &plain.requests, duration).await?);
        keyed_many.push(keyed.load(CONNECTIONS, duration).await?);
        login_many.push(login.load(CONNECTIONS, duration).await?);
        consume_one.push(plain.load(1, duration).await?);
        commits.push(commits_by_hand(&mut raw, duration).await?);
        bare_one.push(load(bare.address, 1, &plain.requests, duration).await?);
    }
    let keyed_resident_kib = resident_kib(keyed.server.id())?;
    let resident_kib = resident_kib(plain.server.id())?;
    let first_start = plain.start;
    keyed.stop(&[&keyed_many]).await?;
    login.stop(&[&login_many]).await?;
    let (directory, recorded, size) = plain.stop(&[&consume_many, &consume_one]).await?;
    let (_service, second_start) = start_service(directory.path(), &[]).await?;

    println!();
    let consume_many = report("consume, 128 connections", &consume_many);
    let keyed_many = report("consume with keys, 128 connections", &keyed_many);
    let login_many = report("consume with jwt, 128 connections", &login_many);
    let bare_many = report("bare handler, 128 connections", &bare_many);
    let consume_one = report("consume, 1 connection", &consume_one);
    report("bare handler, 1 connection", &bare_one);
    let raw = report("durable commits, no HTTP", &commits);
    let (many, one) = (consume_many / bare_many, consume_one / raw);
    let (keyed, login) = (keyed_many / consume_many, login_many / consume_many);
    verdict("consume / bare handler, 128 connections", many, "at least 0.5", many >= 0.5);
    verdict("with keys / without, 128 connections", keyed, "at least 0.8", keyed >= 0.8);
    verdict("with jwt / without, 128 connections", login, "at least 0.85", login >= 0.85);
    verdict("consume, 1 connection / durable commits", one, "at least 0.4", one >= 0.4);
    println!("{:<42} {keyed_resident_kib:>10}", "resident memory with keys, KiB");
    verdict("resident memory, KiB", resident_kib, "at most 40960", resident_kib <= 40_960);
    for (name, start) in [("new", first_start), ("filled", second_start)] {
        let name = format!("first healthy answer, {name} database, ms");
        verdict(&name, start.as_millis(), "at most 150", start.as_millis() <= 150);
    }
    println!("{:<42} {recorded:>10}", "consumptions, every one found on disk");
    println!(
        "{:<42} {:>10}",
        "database bytes per consumption",
        size.checked_div(recorded).unwrap_or(size)
    );
    Ok(())
}

/// A database with the service's schema and a balance, for `commits_by_hand`.
async fn open_by_hand(path: &Path) -> Result<SqliteConnection> {
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
async fn commits_by_hand(connection: &mut SqliteConnection, duration: Duration) -> Result<Run> {
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
    Ok(Run::new(started.elapsed(), latencies))
}

async fn count_consumptions(path: &Path) -> Result<usize> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let count = "SELECT COUNT(*) FROM transactions WHERE type = 'consumption'";
    let count: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await?;
    Ok(usize::try_from(count)?)
}
