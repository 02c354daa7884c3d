//! A server with a database of its own, so that no load works on what another has left behind; and
//! whether everything it acknowledged is there in the end.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use crate::{
    client::{Pace, load, send},
    guard::guarded,
    requests::{Call, Requests},
    runs::{Run, amount},
    server::{BINARY, FOLDER, Server, start_service},
};

/// Buys as much as a billion of the consumptions measured need.
const CREDITS: u64 = 600_000_000;

pub(crate) struct Service {
    pub(crate) server: Server,
    directory: TempDir,
    /// From the spawn to the first healthy answer.
    pub(crate) start: Duration,
    before: Contents,
    /// Transactions acknowledged since.
    recorded: u64,
}

/// What is in a database.
#[derive(Debug, Clone, Copy)]
struct Contents {
    transactions: u64,
    bytes: u64,
}

/// What a stopped server has left behind.
pub(crate) struct Left {
    pub(crate) directory: TempDir,
    /// Transactions acknowledged, every one of which was found.
    pub(crate) recorded: u64,
    /// By which each has made the database larger.
    pub(crate) bytes_per_transaction: f64,
}

pub(crate) fn new_folder() -> Result<TempDir> {
    tempfile::tempdir_in(FOLDER).context("make a folder for the database")
}

pub(crate) fn database_in(directory: &TempDir) -> PathBuf {
    directory.path().join("billing.db")
}

impl Service {
    /// The service on the database in `directory`; a new one if there is none.
    pub(crate) async fn start(directory: TempDir, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_program(Path::new(BINARY), directory, settings).await
    }

    /// Another binary of it.
    async fn start_program(
        program: &Path,
        directory: TempDir,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let (server, start) = start_service(program, directory.path(), settings).await?;
        let before = contents(&database_in(&directory)).await?;
        Ok(Self { server, directory, start, before, recorded: 0 })
    }

    /// The same on a new database, in which the user of these headers has bought enough tokens.
    pub(crate) async fn start_filled(settings: &[(&str, &str)], headers: &str) -> Result<Self> {
        Self::start_filled_with(Path::new(BINARY), settings, headers).await
    }

    /// The same of another binary.
    pub(crate) async fn start_filled_with(
        program: &Path,
        settings: &[(&str, &str)],
        headers: &str,
    ) -> Result<Self> {
        let mut service = Self::start_program(program, new_folder()?, settings).await?;
        for call in [Call::add_credits(CREDITS), Call::allocate(CREDITS)] {
            service.load(1, &Requests::one(&call, headers), Pace::Exactly(1)).await?;
        }
        Ok(service)
    }

    /// The naive port on the database in `directory`.
    pub(crate) async fn start_naive(directory: TempDir) -> Result<Self> {
        let database = database_in(&directory);
        let mut command = guarded(std::env::current_exe()?)?;
        let server = Server::spawn(command.arg("naive").arg(&database))?;
        send(server.address, &Call::balance().with("")).await?;
        let before = contents(&database).await?;
        Ok(Self { server, directory, start: Duration::ZERO, before, recorded: 0 })
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Loads it, and remembers what it acknowledged.
    pub(crate) async fn load(
        &mut self,
        connections: usize,
        requests: &Requests,
        pace: Pace,
    ) -> Result<Run> {
        let run = load(self.server.address, connections, requests, pace).await?;
        self.note(&run);
        Ok(run)
    }

    /// Remembers what it acknowledged to another load.
    pub(crate) fn note(&mut self, run: &Run) {
        self.recorded = self.recorded.saturating_add(run.recorded);
    }

    /// Stops it, and looks for every transaction that was acknowledged.
    pub(crate) async fn stop(self) -> Result<Left> {
        let Self { server, directory, before, recorded, .. } = self;
        server.stop()?;
        let after = contents(&database_in(&directory)).await?;
        let found = after.transactions.saturating_sub(before.transactions);
        ensure!(found == recorded, "{recorded} acknowledged, but {found} in the database");
        let grown = after.bytes.saturating_sub(before.bytes);
        let bytes_per_transaction = amount(grown) / amount(recorded.max(1));
        Ok(Left { directory, recorded, bytes_per_transaction })
    }
}

async fn contents(database: &Path) -> Result<Contents> {
    let options = SqliteConnectOptions::new().filename(database).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let count = "SELECT count(*) FROM transactions";
    let count: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(Contents { transactions: u64::try_from(count)?, bytes: fs::metadata(database)?.len() })
}
