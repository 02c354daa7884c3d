//! `cargo bench -- instructions`: what a request costs the process, counted by valgrind, which no other
//! program on the machine changes.
//!
//! So many requests and twice as many, in a new process each: the difference is what they cost without
//! the start. One connection has every consumption committed alone; many have them share commits.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{
    client::{Pace, load},
    guard::guarded,
    requests::{Call, MODEL, Requests},
    runs::{amount, grouped},
    server::{BINARY, Server, configured},
    service::Service,
};

const REQUESTS: u64 = 1_000;

pub(crate) async fn measure() -> Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("!!! SKIPPED: valgrind can't be run; instructions were NOT counted !!!");
        return Ok(());
    }
    println!("{:<34}{:>5}{:>16}{:>16}", "", "conn.", "instructions", "bare handler");
    for call in [Call::consume(MODEL), Call::balance()] {
        for connections in [1, 32] {
            let mut per_request = Vec::new();
            for process in [Process::Service, Process::Bare] {
                let once = process.count(&call, connections, REQUESTS).await?;
                let twice = process.count(&call, connections, REQUESTS.saturating_mul(2)).await?;
                per_request.push(amount(twice.saturating_sub(once)) / amount(REQUESTS));
            }
            let [service, bare] = per_request[..] else { continue };
            let (service, bare) = (grouped(service), grouped(bare));
            println!("{:<34}{connections:>5}{service:>16}{bare:>16}", call.path());
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Process {
    Service,
    Bare,
}

impl Process {
    /// The instructions of a process that answers so many requests.
    async fn count(self, call: &Call, connections: usize, requests: u64) -> Result<u64> {
        let filled = Service::start_filled(&[], "").await?.stop().await?.directory;
        let counted = filled.path().join("callgrind.out");
        let server = self.start(filled.path(), &counted)?;
        let all = Requests::one(call, "");
        load(server.address, connections, &all, Pace::Exactly(requests)).await?;
        server.stop()?;
        let text = fs::read_to_string(&counted).context("read what valgrind counted")?;
        let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(totals.context("valgrind counted nothing")?.trim().parse()?)
    }

    fn start(self, directory: &Path, counted: &Path) -> Result<Server> {
        let mut command = guarded("valgrind")?;
        command.args(["--tool=callgrind", "--quiet"]);
        command.arg(format!("--callgrind-out-file={}", counted.display()));
        match self {
            Self::Service => configured(command.arg(BINARY), directory, &[]),
            Self::Bare => Server::spawn(command.arg(std::env::current_exe()?).arg("bare")),
        }
    }
}
