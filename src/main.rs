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
mod ledger;
mod metrics;
mod outgoing;
mod program;
mod service;

use std::{env, num::NonZero, path::Path, process::ExitCode, thread};

use tokio::runtime::{Builder, Runtime};

use database::{Database, postgres::PostgresDatabase};
use program::{
    env_file, log,
    settings::{Config, ConfigError, Task},
};

/// Every request allocates dozens of small pieces, which the system's allocator is slower at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit status for settings that can't be used.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    if let Err(line) = env_file::load(Path::new(".env")) {
        return usage(&line);
    }
    let config = match Config::read(env::args_os()) {
        Ok(config) => config,
        Err(ConfigError::Answer(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(ConfigError::Invalid(line)) => return usage(&line),
    };
    let database = match Database::from_url(&config.database_url, config.engine_settings()) {
        Ok(database) => database,
        Err(error) => return usage(&error.to_string()),
    };
    let ran = match &config.task {
        None | Some(Task::Serve) => {
            let authentication = match config.authentication() {
                Ok(authentication) => authentication,
                Err(line) => return usage(&line),
            };
            let _logs = match log::start(&config.log, config.log_format) {
                Ok(guard) => guard,
                Err(reason) => return usage(&format!("BILLING_LOG: {reason}")),
            };
            let serving = program::serve(&config, authentication, &database);
            runtime().and_then(|runtime| runtime.block_on(serving))
        }
        Some(Task::Verify) => {
            runtime().and_then(|runtime| runtime.block_on(program::verify(&database)))
        }
        Some(Task::Backup { file }) => {
            runtime().and_then(|runtime| runtime.block_on(program::backup(&database, file)))
        }
        Some(Task::MigrateTo { url }) => {
            let target = match migration_target(url, &config) {
                Ok(target) => target,
                Err(line) => return usage(&line),
            };
            let migrating = program::migrate_to(&database, &target);
            runtime().and_then(|runtime| runtime.block_on(migrating))
        }
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("token-billing: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The database to migrate to, or what is wrong with its URL.
fn migration_target(url: &str, config: &Config) -> Result<PostgresDatabase, String> {
    match Database::from_url(url, config.engine_settings()) {
        Ok(Database::Postgres(target)) => Ok(target),
        Ok(Database::Sqlite(_)) => Err("migrate-to: must begin with postgres://".to_owned()),
        Err(error) => Err(error.to_string().replace("DATABASE_URL", "migrate-to")),
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
    eprintln!("token-billing: {line}");
    ExitCode::from(EXIT_USAGE)
}
