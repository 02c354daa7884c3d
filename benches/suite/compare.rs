//! `cargo bench`: every operation, against a handler that only parses and answers, durable commits of the
//! same rows, and the naive port.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result};
use sqlx::SqliteConnection;

use crate::{
    CONNECTIONS, ROUNDS,
    books::{Books, Owners},
    chart::{Axis, Chart, Line},
    client::{Pace, load},
    commits::{Rows, commits_by_hand, open_by_hand},
    guard::guarded,
    limits::{Bound, Limits},
    requests::{Call, MODEL, Requests, WITH_TOKENS, key_header, token, token_header},
    runs::{Figures, Run, amount, grouped, median, print, print_heading},
    server::Server,
    service::{Service, database_in, new_folder},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Consume,
    Balance,
    FirstPage,
    MiddlePage,
    Allocate,
    AddCredits,
}

/// Who carries it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Candidate {
    Service,
    /// Once more, right before the two that are compared with it.
    Again,
    WithKeys,
    WithTokens,
    Bare,
    Commits,
    Naive,
}

use Candidate::{Again, Bare, Commits, Naive, WithKeys, WithTokens};
use Operation::{AddCredits, Allocate, Balance, Consume, FirstPage, MiddlePage};

const OPERATIONS: [Operation; 6] = [Consume, Balance, FirstPage, MiddlePage, Allocate, AddCredits];

/// Numbers of connections.
const COUNTS: &[usize] = &[1, 8, 32, CONNECTIONS, 512];
/// All of them but a lone one.
const MANY: &[usize] = &[8, 32, CONNECTIONS, 512];

const OVER_HTTP: &[Candidate] = &[Candidate::Service, Bare, Naive];
/// Right beside each other, what a lone caller of a write waits for.
const LONE_WRITE: &[Candidate] = &[Candidate::Service, Commits, Bare, Naive];

/// What is measured together in each round, at each of the connection counts.
const PLAN: [(Operation, &[Candidate], &[usize]); 10] = [
    (Consume, LONE_WRITE, &[1]),
    (Consume, OVER_HTTP, MANY),
    (Consume, &[Again, WithKeys, WithTokens], &[CONNECTIONS]),
    (Balance, OVER_HTTP, COUNTS),
    (FirstPage, OVER_HTTP, COUNTS),
    (MiddlePage, OVER_HTTP, COUNTS),
    (Allocate, LONE_WRITE, &[1]),
    (Allocate, OVER_HTTP, MANY),
    (AddCredits, LONE_WRITE, &[1]),
    (AddCredits, OVER_HTTP, MANY),
];

/// Percent of the most an operation reached.
const OPEN_LOOP_PERCENT: [u32; 4] = [25, 50, 70, 85];

/// Of the user whose history is read.
const HISTORY: Books =
    Books { owners: Owners::DefaultUser, models: 1, blocks: 1_000, block_length: 100, keys: 0 };

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Consume => "consume",
            Balance => "balance",
            FirstPage => "history, newest 100",
            MiddlePage => "history, middle 100",
            Allocate => "allocate",
            AddCredits => "credits/add",
        }
    }

    /// The file of its chart.
    const fn rate_chart(self) -> &'static str {
        match self {
            Consume => "consume-rate",
            Balance => "balance-rate",
            FirstPage => "history-newest-rate",
            MiddlePage => "history-middle-rate",
            Allocate => "allocate-rate",
            AddCredits => "credits-add-rate",
        }
    }

    /// What it writes, if it does.
    const fn rows(self) -> Option<Rows> {
        match self {
            Consume => Some(Rows::Consumption),
            Allocate => Some(Rows::Allocation),
            AddCredits => Some(Rows::Purchase),
            Balance | FirstPage | MiddlePage => None,
        }
    }

    fn call(self) -> Call {
        match self {
            Consume => Call::consume(MODEL),
            Balance => Call::balance(),
            FirstPage => Call::first_page(),
            MiddlePage => Call::page_before(HISTORY.transactions() / 2),
            Allocate => Call::allocate(1),
            AddCredits => Call::add_credits(300),
        }
    }
}

impl Candidate {
    const fn name(self) -> &'static str {
        match self {
            Self::Service => "",
            Again => ", again",
            WithKeys => ", with keys",
            WithTokens => ", with jwt",
            Bare => ", bare handler",
            Commits => ", durable commits, no HTTP",
            Naive => ", naive port",
        }
    }
}

/// All that is running.
struct Field {
    plain: Service,
    with_keys: Service,
    with_tokens: Service,
    /// Has a history, and is bought from.
    shop: Service,
    bare: Server,
    naive: Service,
    naive_shop: Service,
    commits: SqliteConnection,
    /// Of the one user with a token.
    header: String,
}

type Case = (Operation, Candidate, usize);
type Medians = BTreeMap<Case, Figures>;
/// At fixed times, by percent of the most that was reached.
type OpenMedians = BTreeMap<(Operation, u32), Figures>;

pub(crate) async fn measure(duration: Duration) -> Result<()> {
    let mut field = Field::start().await?;
    let mut runs = BTreeMap::<Case, Vec<Run>>::new();
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for (operation, candidates, counts) in PLAN {
            for connections in counts {
                for candidate in candidates {
                    let case = (operation, *candidate, *connections);
                    let run = field.run(case, Pace::AtOnce(duration)).await?;
                    runs.entry(case).or_default().push(run);
                }
            }
        }
    }
    let medians: Medians = runs.iter().map(|(case, runs)| (*case, median(runs))).collect();
    let open = field.open_loops(&medians, duration).await?;

    print_heading();
    for ((operation, candidate, connections), figures) in &medians {
        let name = format!("{}{}", operation.name(), candidate.name());
        print(&name, *connections, figures);
    }
    println!(
        "\nat fixed times, counted from when each was due, in percent of the most that was reached"
    );
    print_heading();
    for ((operation, percent), figures) in &open {
        print(&format!("{}, {percent} %", operation.name()), CONNECTIONS, figures);
    }
    print_ratios(&medians);
    let mut limits = Limits::default();
    hold_ratios(&mut limits, &medians);
    field.finish(&mut limits).await?;
    limits.print();
    draw(&medians, &open)
}

impl Field {
    async fn start() -> Result<Self> {
        eprintln!("starting");
        let header = token_header(&token("ann")?);
        let history = new_folder()?;
        HISTORY.write(&database_in(&history)).await?;
        let naive_history = new_folder()?;
        fs::copy(database_in(&history), database_in(&naive_history))?;
        let mut shop = Service::start(history, &[]).await?;
        let mut naive_shop = Service::start_naive(naive_history).await?;
        let credits = Requests::one(&Call::add_credits(1_000_000_000), "");
        for shop in [&mut shop, &mut naive_shop] {
            shop.load(1, &credits, Pace::Exactly(10)).await?;
        }
        // The service makes the naive port's tables, and its balance.
        let filled = Service::start_filled(&[], "").await?.stop().await?.directory;
        let plain = Service::start_filled(&[], "").await?;
        let commits = open_by_hand(&plain.directory().join("by_hand.db")).await?;
        Ok(Self {
            plain,
            with_keys: Service::start_filled(&[], "").await?,
            with_tokens: Service::start_filled(&WITH_TOKENS, &header).await?,
            shop,
            bare: Server::spawn(guarded(std::env::current_exe()?)?.arg("bare"))?,
            naive: Service::start_naive(filled).await?,
            naive_shop,
            commits,
            header,
        })
    }

    async fn run(&mut self, case: Case, pace: Pace) -> Result<Run> {
        let (operation, candidate, connections) = case;
        let headers = match candidate {
            WithKeys => key_header(),
            WithTokens => self.header.clone(),
            _ => String::new(),
        };
        let requests = Requests::one(&operation.call(), &headers);
        let on_empty = matches!(operation, Consume | Balance);
        let loaded = match candidate {
            Commits => {
                let rows = operation.rows().context("nothing to write")?;
                return commits_by_hand(&mut self.commits, rows, pace.duration()).await;
            }
            Bare => return load(self.bare.address, connections, &requests, pace).await,
            Candidate::Service | Again if on_empty => &mut self.plain,
            Candidate::Service | Again => &mut self.shop,
            Naive if on_empty => &mut self.naive,
            Naive => &mut self.naive_shop,
            WithKeys => &mut self.with_keys,
            WithTokens => &mut self.with_tokens,
        };
        let run = loaded.load(connections, &requests, pace).await;
        run.with_context(|| format!("{}{}", operation.name(), candidate.name()))
    }

    /// Every operation at fixed times, at each share of the most that it reached.
    async fn open_loops(&mut self, medians: &Medians, duration: Duration) -> Result<OpenMedians> {
        let mut runs = BTreeMap::<(Operation, u32), Vec<Run>>::new();
        for round in 1..=ROUNDS {
            eprintln!("round {round} of {ROUNDS} at fixed times");
            for operation in OPERATIONS {
                let most = most_per_second(medians, operation);
                for percent in OPEN_LOOP_PERCENT {
                    let pace = Pace::fixed(most * f64::from(percent) / 100.0, duration);
                    let run = self.run((operation, Candidate::Service, CONNECTIONS), pace).await?;
                    runs.entry((operation, percent)).or_default().push(run);
                }
            }
        }
        Ok(runs.into_iter().map(|(case, runs)| (case, median(&runs))).collect())
    }

    /// Stops everything, with what can only be told then.
    async fn finish(self, limits: &mut Limits) -> Result<()> {
        let memory = self.plain.server.resident_mib()?;
        limits.hold("resident memory after the load, MiB", memory, Bound::AtMost(30.0));
        let memory_with_keys = self.with_keys.server.resident_mib()?;
        let start_ms = self.plain.start.as_secs_f64() * 1000.0;
        limits.hold("start to first healthy answer, empty, ms", start_ms, Bound::AtMost(100.0));
        let plain = self.plain.stop().await?;
        let bytes = plain.bytes_per_transaction;
        limits.hold("database bytes per consumption", bytes, Bound::AtMost(200.0));
        let mut recorded = plain.recorded;
        let with_keys = self.with_keys.stop().await?;
        recorded = recorded.saturating_add(with_keys.recorded);
        let others = [self.with_tokens, self.shop, self.naive, self.naive_shop];
        for service in others {
            recorded = recorded.saturating_add(service.stop().await?.recorded);
        }
        println!("\nresident memory after the load with keys: {memory_with_keys:.1} MiB");
        let bytes = with_keys.bytes_per_transaction;
        println!("database bytes per consumption with a key: {bytes:.0}");
        println!(
            "transactions acknowledged, every one found on disk: {}",
            grouped(amount(recorded))
        );
        Ok(())
    }
}

/// Of the service, at whatever number of connections.
fn most_per_second(medians: &Medians, operation: Operation) -> f64 {
    series(medians, operation, Candidate::Service, |figures| figures.per_second)
        .into_iter()
        .map(|(_, per_second)| per_second)
        .fold(0.0, f64::max)
}

/// How many requests each operation has answered for one of a peer's.
fn print_ratios(medians: &Medians) {
    let ratio = |operation, peer, connections| {
        let of = |candidate| medians.get(&(operation, candidate, connections));
        match (of(Candidate::Service), of(peer)) {
            (Some(service), Some(peer)) => format!("{:.2}", service.per_second / peer.per_second),
            _ => "-".to_owned(),
        }
    };
    println!(
        "\n{:<24}{:>20}{:>20}{:>20}",
        "requests for one of", "bare handler, 128", "naive port, 128", "commits, 1"
    );
    for operation in OPERATIONS {
        let bare = ratio(operation, Bare, CONNECTIONS);
        let naive = ratio(operation, Naive, CONNECTIONS);
        let commits = ratio(operation, Commits, 1);
        println!("{:<24}{bare:>20}{naive:>20}{commits:>20}", operation.name());
    }
}

fn hold_ratios(limits: &mut Limits, medians: &Medians) {
    let at = |operation, candidate, connections| {
        medians.get(&(operation, candidate, connections)).copied().unwrap_or_default()
    };
    let rate = |operation, candidate, connections| at(operation, candidate, connections).per_second;
    let many = rate(Consume, Candidate::Service, CONNECTIONS);
    let mut hold = |what, value, least| limits.hold(what, value, Bound::AtLeast(least));
    hold("consume / bare handler, 128 connections", many / rate(Consume, Bare, CONNECTIONS), 0.65);
    hold("consume / naive port, 128 connections", many / rate(Consume, Naive, CONNECTIONS), 15.0);
    let one = rate(Consume, Candidate::Service, 1);
    hold("consume / durable commits, 1 connection", one / rate(Consume, Commits, 1), 0.6);
    let balance = rate(Balance, Candidate::Service, 32);
    hold("balance / bare handler, 32 connections", balance / rate(Balance, Bare, 32), 0.5);
    let again = rate(Consume, Again, CONNECTIONS);
    let with = |candidate| rate(Consume, candidate, CONNECTIONS) / again;
    hold("with keys / without, 128 connections", with(WithKeys), 0.8);
    hold("with jwt / without, 128 connections", with(WithTokens), 0.85);
    let p99_ms = at(Consume, Candidate::Service, CONNECTIONS).p99_ms;
    limits.hold("consume p99, 128 connections, ms", p99_ms, Bound::AtMost(10.0));
}

/// A figure over the number of connections.
fn series(
    medians: &Medians,
    operation: Operation,
    candidate: Candidate,
    figure: fn(&Figures) -> f64,
) -> Vec<(f64, f64)> {
    medians
        .iter()
        .filter(|((measured, by, _), _)| (*measured, *by) == (operation, candidate))
        .map(|((_, _, connections), figures)| (amount(*connections), figure(figures)))
        .collect()
}

fn draw(medians: &Medians, open: &OpenMedians) -> Result<()> {
    let connections = Axis::logarithmic("connections");
    for operation in OPERATIONS {
        let line = |name, candidate| {
            Line::new(name, series(medians, operation, candidate, |figures| figures.per_second))
        };
        Chart {
            title: format!("{}: requests per second", operation.name()),
            x: connections,
            y: Axis::linear("requests/s"),
            lines: vec![
                line("token-billing", Candidate::Service),
                line("bare handler", Bare),
                line("naive port", Naive),
            ],
        }
        .write(operation.rate_chart())?;
    }
    let line =
        |name, candidate, figure| Line::new(name, series(medians, Consume, candidate, figure));
    Chart {
        title: "consume: time per request".to_owned(),
        x: connections,
        y: Axis::logarithmic("milliseconds"),
        lines: vec![
            line("token-billing, p50", Candidate::Service, |figures| figures.p50_ms),
            line("token-billing, p99", Candidate::Service, |figures| figures.p99_ms),
            line("token-billing, p99.9", Candidate::Service, |figures| figures.p999_ms),
            line("naive port, p99", Naive, |figures| figures.p99_ms),
        ],
    }
    .write("consume-latency")?;
    let line = |name, figure: fn(&Figures) -> f64| {
        let consumptions = open.iter().filter(|((operation, _), _)| *operation == Consume);
        let points = consumptions.map(|((_, percent), of)| (f64::from(*percent), figure(of)));
        Line::new(name, points.collect())
    };
    Chart {
        title: "consume at fixed times: time per request, waiting included".to_owned(),
        x: Axis::linear("requests per second, in percent of the most that was reached"),
        y: Axis::logarithmic("milliseconds"),
        lines: vec![
            line("p50", |figures| figures.p50_ms),
            line("p99", |figures| figures.p99_ms),
            line("p99.9", |figures| figures.p999_ms),
        ],
    }
    .write("consume-open-loop")
}
