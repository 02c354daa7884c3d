//! A billing backend for LLM apps: users buy credits, turn them into a model's tokens, and every chat
//! uses tokens up.
//!
//! This file has the allocator, the runtime and the exit status. `ARCHITECTURE.md` has the map of the rest.

#![cfg_attr(
    test,
    expect(
        clippy::arithmetic_side_effects,
        reason = "tests compute with small numbers, and an overflow fails them"
    )
)]

mod api;
mod caught;
mod database;
mod domain;
mod http;
mod key_sets;
mod ledger;
mod metrics;
mod outgoing;
mod pages;
mod program;
mod service;
mod stores;

use std::{
    env,
    io::{self, Write},
    num::NonZero,
    path::Path,
    process::ExitCode,
    thread,
};

use tokio::runtime::{Builder, Runtime};

use database::{Database, OpenError, postgres::PostgresDatabase};
use domain::ReportDay;
use program::{
    Differs, env_file, log,
    settings::{Config, ConfigError, PurchasesTask, ReportTask, Task},
};

/// Every request allocates dozens of small pieces, which the system's allocator is slower at. It is the second
/// version, without huge pages: of these each is kept for whatever piece is left on it, and the third version
/// keeps what a burst of connections needed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit status for settings that can't be used.
const EXIT_USAGE: u8 = 2;
/// The exit status of a command that could not be carried out; 1 says that books differ.
const EXIT_NOT_DONE: u8 = 3;

fn main() -> ExitCode {
    if let Err(line) = env_file::load(Path::new(".env")) {
        return usage(&line);
    }
    let config = match Config::read(env::args_os()) {
        Ok(config) => config,
        Err(ConfigError::Answer(text)) => {
            return answer(&text);
        }
        Err(ConfigError::Invalid(line)) => return usage(&line),
    };
    match carry_out(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::Usage(line)) => usage(&line),
        Err(Ended::Failed(error)) => failure(&config, &error),
    }
}

/// Why something was not carried out.
enum Ended {
    /// Its settings can't be used: a line that names one.
    Usage(String),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Ended {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Does what was asked for.
fn carry_out(config: &Config) -> Result<(), Ended> {
    let database = || {
        let database = Database::from_url(&config.database_url, config.engine_settings());
        database.map_err(anyhow::Error::from)
    };
    match &config.task {
        None | Some(Task::Serve) => {
            let database = database()?;
            let authentication = config.authentication().map_err(Ended::Usage)?;
            let receipts = config.receipts().map_err(Ended::Usage)?;
            let _logs = log::start(&config.log, config.log_format)
                .map_err(|reason| Ended::Usage(format!("BILLING_LOG: {reason}")))?;
            runtime()?.block_on(program::serve(config, authentication, receipts, &database))?;
        }
        Some(Task::Verify) => runtime()?.block_on(program::verify(&database()?))?,
        Some(Task::Backup { file }) => runtime()?.block_on(program::backup(&database()?, file))?,
        Some(Task::MigrateTo { url }) => {
            let database = database()?;
            let target = migration_target(url, config).map_err(Ended::Usage)?;
            runtime()?.block_on(program::migrate_to(&database, &target))?;
        }
        Some(Task::Report(ReportTask::UnusedBalance { at, timezone, format })) => {
            let day = ReportDay { at: *at, zone: *timezone };
            if let Some(line) = program::not_over(day, now()) {
                return Err(Ended::Usage(line));
            }
            runtime()?.block_on(program::unused_balance(&database()?, day, *format))?;
        }
        Some(Task::Purchases(PurchasesTask::Check)) => {
            let receipts = config.receipts().map_err(Ended::Usage)?;
            runtime()?.block_on(program::purchases_check(receipts))?;
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "whether a day is over is told as of now")]
fn now() -> chrono::DateTime<chrono::Utc> {
    chrono::Utc::now()
}

/// Prints what was asked for. A reader who has seen enough is no failure.
fn answer(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            program::complain(&format!("cannot print: {error}"));
            ExitCode::from(EXIT_NOT_DONE)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Says why something was not done.
fn failure(config: &Config, error: &anyhow::Error) -> ExitCode {
    program::complain(&format!("{error:#}"));
    match &config.task {
        _ if matches!(
            error.downcast_ref(),
            Some(OpenError::Url(_) | OpenError::MigrationUrl(_))
        ) =>
        {
            ExitCode::from(EXIT_USAGE)
        }
        None | Some(Task::Serve) => ExitCode::FAILURE,
        Some(_) if error.is::<Differs>() => ExitCode::FAILURE,
        Some(_) => ExitCode::from(EXIT_NOT_DONE),
    }
}

/// The database to migrate to, or what is wrong with its URL.
fn migration_target(url: &str, config: &Config) -> Result<PostgresDatabase, String> {
    match Database::from_url(url, config.engine_settings()) {
        Ok(Database::Postgres(target)) => Ok(target),
        Ok(Database::Sqlite(_)) => Err("migrate-to: must begin with postgres://".to_owned()),
        Err(OpenError::Url(reason)) => Err(format!("migrate-to: {reason}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Threads for everything but SQLite, which has its own: one core is left to it, because every write
/// passes through it, and two threads on one core only take turns.
fn runtime() -> anyhow::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = Builder::new_multi_thread()
        .worker_threads(cores.saturating_sub(1).max(1))
        .enable_all()
        .build()?;
    Ok(runtime)
}

fn usage(line: &str) -> ExitCode {
    program::complain(line);
    ExitCode::from(EXIT_USAGE)
}
