//! The test harness: a real server in a directory of its own, and ways to talk to it.
//!
//! [`on_both_engines`] stamps a test onto SQLite and PostgreSQL; where there is no PostgreSQL, its half is
//! skipped. [`Server`] starts the binary and, when it is dropped, stops it and checks that the books balance.
//! [`Client`] is the well-behaved client, [`RawConnection`] the other kind. [`Database`] opens the database
//! behind the server's back, [`Load`] keeps many clients busy and remembers what they were told, and
//! [`clock::Clock`] is the time of day the service is made to see, [`token`] signs who is asking.
//! [`Cluster`] is a PostgreSQL of our own, [`Pooler`] and [`Network`] stand before one, and [`stores::StandIn`] both app stores.
//!
//! Nothing here sleeps: whoever waits, waits for the thing itself, with [`PATIENCE`] as the limit.

pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod cluster;
mod connection;
pub(crate) mod database;
mod engine;
mod home;
pub(crate) mod load;
mod log;
pub(crate) mod network;
pub(crate) mod pooler;
mod process;
pub(crate) mod raw;
mod server;
pub(crate) mod sessions;
pub(crate) mod stores;
pub(crate) mod token;

use std::{
    panic::resume_unwind,
    thread,
    time::{Duration, Instant},
};

pub(crate) use browser::Browser;
pub(crate) use client::{Client, Reply, begun, reached, settled};
pub(crate) use cluster::Cluster;
pub(crate) use connection::Connection;
pub(crate) use database::Database;
pub(crate) use engine::{Engine, on_both_engines, on_postgres};
pub(crate) use home::Home;
pub(crate) use load::Load;
pub(crate) use network::Network;
pub(crate) use pooler::Pooler;
pub(crate) use process::{FailedStart, Finished, Launch, Running, closed, full};
pub(crate) use raw::RawConnection;
pub(crate) use server::Server;
pub(crate) use sessions::Sessions;

/// How long anything may take before a test gives up on it. Never a measure of speed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Tries again and again until `attempt` gives a value.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < deadline, "it never happened that {what}");
        tokio::task::yield_now().await;
    }
}

/// Runs what `start` starts to its end where nothing can be awaited. A runtime can't be entered from within
/// another one, and every test is in one, so on a thread.
fn to_the_end<F: Future<Output: Send>>(start: impl FnOnce() -> F + Send) -> F::Output {
    let run = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be made")
            .block_on(start())
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| resume_unwind(panic))
}
