//! The benchmark suite: the release binary against the limits it has to keep, and against peers on the same
//! machine. `cargo bench` compares; `cargo bench -- growth`, `instructions`, `soak`, `postgres`, `receipts`, `backend`
//! and `beside` look at one thing each.
//!
//! Rounds are interleaved and medians taken, because a shared machine drifts. What is measured belongs to
//! a file per command; this one only tells them apart.

mod backend;
mod bare;
mod beside;
mod bodies;
mod books;
mod chart;
mod client;
mod cluster;
mod commits;
mod compare;
mod growth;
mod guard;
mod instructions;
mod limits;
mod machine;
mod naive;
mod peer;
mod postgres;
mod receipts;
mod requests;
mod runs;
mod server;
mod service;
mod soak;
mod stores;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::SignalKind;

/// How often everything is measured; the medians are told.
const ROUNDS: usize = 5;
/// Connections where one number has to do.
const CONNECTIONS: usize = 128;

/// Measures token-billing against its limits and its peers.
#[derive(Parser)]
#[command(name = "cargo bench --", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Seconds that each measurement takes.
    #[arg(long, global = true, default_value = "1", value_parser = seconds)]
    seconds: Duration,

    /// What cargo passes on to every benchmark.
    #[arg(long, global = true, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// All operations, against a bare handler, durable commits and the naive port; some ten minutes.
    Compare,
    /// How cost grows with users, transactions, models and keys; some eight minutes and 3.5 GB of disk.
    Growth,
    /// Instructions per request, counted by valgrind.
    Instructions,
    /// A mixed load at 70 % of the maximum: whether memory and latency stay flat.
    Soak {
        /// How long.
        #[arg(default_value = "10", value_parser = clap::value_parser!(u64).range(4..=10_000))]
        minutes: u64,
    },
    /// The service on PostgreSQL, beside pgbench.
    Postgres,
    /// Purchases that the stores confirm, beside those that are believed; and a store that hangs.
    Receipts,
    /// What a backend needs: holds, the wallet, lists, usage, and the ledger as CSV; a minute and 0.2 GB of disk.
    Backend,
    /// Consumptions in turn with another binary of the service.
    Beside {
        /// Where that is.
        binary: PathBuf,
    },
    /// A process of the suite: the bare handler.
    #[command(hide = true)]
    Bare,
    /// A process of the suite: the naive port.
    #[command(hide = true)]
    Naive { database: PathBuf },
    /// A process of the suite: becomes another one that ends with the suite.
    #[command(hide = true)]
    Guard {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Guard { command }) = &arguments.command {
        return guard::become_program(command);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(arguments))
}

async fn run(Arguments { command, seconds, .. }: Arguments) -> Result<()> {
    let measuring = match command.unwrap_or(Command::Compare) {
        // These stop in their own way.
        Command::Bare => return bare::serve().await,
        Command::Naive { database } => return naive::serve(&database).await,
        command => measure(command, seconds),
    };
    // Returning, instead of being ended by the signal, ends the servers and removes the databases.
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    tokio::select! {
        done = measuring => done,
        _ = terminate.recv() => bail!("ended by SIGTERM"),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn measure(command: Command, seconds: Duration) -> Result<()> {
    match command {
        Command::Compare => compare::measure(seconds).await,
        Command::Growth => growth::measure(seconds).await,
        Command::Instructions => instructions::measure().await,
        Command::Soak { minutes } => soak::measure(seconds, minutes).await,
        Command::Postgres => postgres::measure(seconds).await,
        Command::Receipts => receipts::measure(seconds).await,
        Command::Backend => backend::measure(seconds).await,
        Command::Beside { binary } => beside::measure(&binary, seconds).await,
        Command::Bare | Command::Naive { .. } | Command::Guard { .. } => {
            bail!("a process of the suite, and no measurement")
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if !(0.1..=60.0).contains(&seconds) {
        return Err("must be between 0.1 and 60".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}
