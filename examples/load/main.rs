//! Measures the release binary against the limits it has to keep, and against peers on the same machine:
//! `cargo run --release --example load`, and `… --example load postgres` for the service on PostgreSQL
//! beside `pgbench`.
//!
//! Rounds are interleaved and medians taken, because a shared machine drifts. A number sets the seconds
//! each measurement takes (3 unless told).

mod bare;
mod client;
mod cluster;
mod postgres;
mod runs;
mod server;
mod sqlite;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::signal::unix::SignalKind;

const ROUNDS: usize = 3;
const CONNECTIONS: usize = 128;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "bare") {
        return bare::serve_bare().await;
    }
    let on_postgres = arguments.first().is_some_and(|argument| argument == "postgres");
    let seconds = arguments.drain(usize::from(on_postgres)..).next();
    let seconds = seconds.as_deref().unwrap_or("3");
    let seconds = seconds.parse().context("the argument is a number of seconds")?;
    ensure!((1..=60).contains(&seconds), "between 1 and 60 seconds, please");
    let duration = Duration::from_secs(seconds);
    // Returning, instead of being ended by the signal, ends the servers and removes the databases.
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    tokio::select! {
        done = sqlite::measure(duration), if !on_postgres => done,
        done = postgres::measure(duration), if on_postgres => done,
        _ = terminate.recv() => bail!("ended by SIGTERM"),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}
