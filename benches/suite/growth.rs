//! `cargo bench -- growth`: what an operation costs as a database grows: with transactions, with users, with
//! a user's models, with idempotency keys; and what memory users leave behind.
//!
//! All databases are served at the same time, each by a service of its own, so that rounds can be
//! interleaved. One connection: what grows is the time of an operation, not of a queue.

use std::{process::Command, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{
    CONNECTIONS, ROUNDS,
    books::{Books, Owners, verify},
    chart::{Axis, Chart, Line},
    client::Pace,
    limits::{Bound, Limits},
    requests::{Call, Order, Requests, WITH_TOKENS, key_header},
    runs::{amount, grouped, median_of},
    service::{Service, database_in, new_folder},
};

/// Transactions of the one user there is.
const TRANSACTIONS: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// Users with a purchase, an allocation and a consumption each.
const USERS: [u64; 4] = [1, 100, 10_000, 1_000_000];
/// Models of the one user there is, with a hundred transactions each.
const MODELS: [u64; 3] = [1, 10, 100];
/// Idempotency keys that are remembered.
const KEYS: [u64; 4] = [1, 10_000, 500_000, 5_000_000];
/// Users after whose requests memory is looked at.
const SEEN: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// What is measured on every database.
const OPERATIONS: [&str; 4] = ["consume", "balance", "history, newest 100", "history, middle 100"];
const NEWEST_PAGE: usize = 2;
const MIDDLE_PAGE: usize = 3;

/// A database of a size, and what its operations took.
struct Size {
    value: u64,
    requests: [Requests; 4],
    service: Service,
    /// Of each operation, a median per round, in milliseconds.
    took_ms: [Vec<f64>; 4],
    start_ms: Vec<f64>,
}

/// Sizes that differ in one number only.
struct Growth {
    name: &'static str,
    sizes: Vec<Size>,
}

pub(crate) async fn measure(duration: Duration) -> Result<()> {
    let mut limits = Limits::default();
    memory_of_users(&mut limits).await?;
    let mut all = [
        Growth::start("transactions", &TRANSACTIONS, "", |value| Books {
            blocks: value / 100,
            ..OF_ONE_USER
        })
        .await?,
        Growth::start("users", &USERS, "", of_users).await?,
        Growth::start("models", &MODELS, "", |value| Books {
            models: value,
            blocks: value,
            ..OF_ONE_USER
        })
        .await?,
        Growth::start("keys", &KEYS, &key_header(), |value| Books { keys: value, ..OF_ONE_USER })
            .await?,
    ];
    // Else the first durable commits would wait for gigabytes to be written.
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for at in 0..OPERATIONS.len() {
            for size in all.iter_mut().flat_map(|growth| &mut growth.sizes) {
                size.measure(at, duration).await?;
            }
        }
    }
    hold(&mut limits, &all[0]);
    for growth in all {
        growth.finish().await?;
    }
    limits.print();
    Ok(())
}

/// A thousand transactions.
const OF_ONE_USER: Books =
    Books { owners: Owners::Numbered(1), models: 1, blocks: 10, block_length: 100, keys: 0 };

fn of_users(users: u64) -> Books {
    Books { owners: Owners::Numbered(users), blocks: users, block_length: 3, ..OF_ONE_USER }
}

async fn written(books: &Books) -> Result<TempDir> {
    let directory = new_folder()?;
    books.write(&database_in(&directory)).await?;
    Ok(directory)
}

impl Growth {
    /// Consumptions have further `headers`.
    async fn start(
        name: &'static str,
        values: &[u64],
        headers: &str,
        books: fn(u64) -> Books,
    ) -> Result<Self> {
        let mut sizes = Vec::new();
        for value in values {
            eprintln!("making a database of {} {name}", grouped(amount(*value)));
            sizes.push(Size::start(*value, headers, &books(*value)).await?);
        }
        Ok(Self { name, sizes })
    }

    /// A figure of each size.
    fn series(&self, figure: impl Fn(&Size) -> f64) -> Vec<(f64, f64)> {
        self.sizes.iter().map(|size| (amount(size.value), figure(size))).collect()
    }

    /// Stops everything, prints and draws what was measured, and has every database audited.
    async fn finish(mut self) -> Result<()> {
        let name = self.name;
        let lines = OPERATIONS
            .iter()
            .enumerate()
            .map(|(at, operation)| Line::new(*operation, self.series(|size| size.took(at))))
            .collect();
        Chart {
            title: format!("Time per operation over {name}, one connection"),
            x: Axis::logarithmic(match name {
                "users" => "users in the database",
                "models" => "models of the user",
                "keys" => "idempotency keys in the database; every consumption has another",
                _ => "transactions in the database",
            }),
            y: Axis::linear("milliseconds, median"),
            lines,
        }
        .write(&format!("growth-{name}"))?;
        println!(
            "\n{name:<14}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
            "consume ms",
            "balance ms",
            "newest ms",
            "middle ms",
            "bytes/cons.",
            "memory MiB",
            "start ms"
        );
        for size in self.sizes.drain(..) {
            let value = size.value;
            let size = size.stop().await?;
            println!("{:<14}{size}", grouped(amount(value)));
        }
        Ok(())
    }
}

impl Size {
    async fn start(value: u64, headers: &str, books: &Books) -> Result<Self> {
        let users = match books.owners {
            Owners::DefaultUser => 1,
            Owners::Numbered(users) => users,
        };
        let requests = |call: Call, headers: &str| Requests::Users {
            call: Arc::new(call),
            users,
            order: Order::Random,
            headers: headers.to_owned(),
        };
        let middle = books.transactions() / 2;
        let requests = [
            requests(Call::consume("model-0"), headers),
            requests(Call::balance(), ""),
            requests(Call::first_page(), ""),
            requests(Call::page_before(middle), ""),
        ];
        let mut directory = written(books).await?;
        let mut start_ms = Vec::new();
        for _ in 1..ROUNDS {
            let service = Service::start(directory, &WITH_TOKENS).await?;
            start_ms.push(service.start.as_secs_f64() * 1000.0);
            directory = service.stop().await?.directory;
        }
        let mut service = Service::start(directory, &WITH_TOKENS).await?;
        start_ms.push(service.start.as_secs_f64() * 1000.0);
        // What it learns of the keys there are, it learns after its start, some with every batch.
        let learning = Pace::Exactly((books.keys / 1_000).max(1));
        service.load(1, &requests[0], learning).await?;
        let took_ms = [const { Vec::new() }; 4];
        Ok(Self { value, requests, service, took_ms, start_ms })
    }

    async fn measure(&mut self, at: usize, duration: Duration) -> Result<()> {
        let run = self.service.load(1, &self.requests[at], Pace::AtOnce(duration)).await?;
        self.took_ms[at].push(run.figures.p50_ms);
        Ok(())
    }

    fn took(&self, at: usize) -> f64 {
        self.took_ms.get(at).map_or(0.0, |took| median_of(took.clone()))
    }

    /// Stops it, has its database audited, and gives its line of the table.
    async fn stop(self) -> Result<String> {
        let resident_mib = self.service.server.resident_mib()?;
        let [consume, balance, newest, middle] = [0, 1, 2, 3].map(|at| self.took(at));
        let start_ms = median_of(self.start_ms.clone());
        let left = self.service.stop().await?;
        verify(&database_in(&left.directory))?;
        let bytes = left.bytes_per_transaction;
        Ok(format!(
            "{consume:>12.3}{balance:>12.3}{newest:>12.3}{middle:>12.3}\
             {bytes:>12.0}{resident_mib:>12.1}{start_ms:>12.0}"
        ))
    }
}

fn hold(limits: &mut Limits, transactions: &Growth) {
    let [first, .., last] = &transactions.sizes[..] else { return };
    let ratio = last.took(MIDDLE_PAGE) / first.took(MIDDLE_PAGE);
    limits.hold("history, middle, of 10,000,000 / of 1,000", ratio, Bound::AtMost(1.2));
    let ratio = last.took(NEWEST_PAGE) / first.took(NEWEST_PAGE);
    limits.hold("history, newest, of 10,000,000 / of 1,000", ratio, Bound::AtMost(1.2));
    let start_ms = median_of(last.start_ms.clone());
    limits.hold("start to first healthy answer, 10,000,000, ms", start_ms, Bound::AtMost(150.0));
}

/// A consumption of each of a million users, all different, and the memory of the service meanwhile.
async fn memory_of_users(limits: &mut Limits) -> Result<()> {
    let most = SEEN.into_iter().max().unwrap_or_default();
    eprintln!("a request of each of {} users", grouped(amount(most)));
    let mut service = Service::start(written(&of_users(most)).await?, &WITH_TOKENS).await?;
    let (mut points, mut seen) = (Vec::new(), 0);
    println!("\n{:<14}{:>12}", "users seen", "memory MiB");
    for users in SEEN {
        let requests = Requests::Users {
            call: Arc::new(Call::consume("model-0")),
            users: most,
            order: Order::InTurnFrom(seen),
            headers: String::new(),
        };
        let pace = Pace::Exactly(users.saturating_sub(seen));
        service.load(CONNECTIONS, &requests, pace).await?;
        seen = users;
        let resident_mib = service.server.resident_mib()?;
        println!("{:<14}{resident_mib:>12.1}", grouped(amount(users)));
        points.push((amount(users), resident_mib));
    }
    limits.hold(
        "memory after 1,000,000 users were seen, MiB",
        service.server.resident_mib()?,
        Bound::AtMost(60.0),
    );
    let left = service.stop().await?;
    verify(&database_in(&left.directory))?;
    Chart {
        title: "Resident memory over users that were served".to_owned(),
        x: Axis::logarithmic("users that sent a consumption"),
        y: Axis::linear("MiB"),
        lines: vec![Line::new("token-billing", points)],
    }
    .write("growth-memory")
}
