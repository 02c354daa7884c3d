//! `cargo bench -- backend`: what a backend needs, beside what was there before it: holds and their settlement beside
//! consumptions, the lists and the wallet beside the balance, and a long book summed up and told.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};

use crate::{
    CONNECTIONS, ROUNDS,
    books::{BOOKS_MONTH, Books, Owners},
    client::{HttpConnection, PATIENCE, Pace},
    limits::{Bound, Limits},
    requests::{Call, MODEL, Requests},
    runs::{Run, amount, grouped, median, median_of, print, print_heading},
    service::{Service, database_in, new_folder},
};

/// Connections by which is read.
const READERS: usize = 32;
/// How often what is compared has its turn; holds and consumptions as often first as second.
const TURNS: usize = 14;
/// How often usage is asked for, one after the other.
const ASKED: usize = 20;
/// As many transactions as one user may come to.
const LONG: Books =
    Books { owners: Owners::DefaultUser, models: 5, blocks: 10_000, block_length: 100, keys: 0 };
/// Where the sums stand, and where they have to be.
const NOT_SUMMED: &str = "SELECT (SELECT max(id) FROM transactions)
    - coalesce((SELECT max(summed_until) FROM usage_state), 0)";

pub(crate) async fn measure(duration: Duration) -> Result<()> {
    let mut limits = Limits::default();
    holds(duration, &mut limits).await?;
    reads(duration, &mut limits).await?;
    long_book(&mut limits).await?;
    limits.print();
    Ok(())
}

/// Pairs of a hold and its settlement, in turn with consumptions. The ratio is that of each turn: a machine may do
/// twice as much in one second as in the next.
async fn holds(duration: Duration, limits: &mut Limits) -> Result<()> {
    let mut consuming = Service::start_filled(&[], "").await?;
    let mut holding = Service::start_filled(&[("BILLING_MAX_HOLDS", "10000")], "").await?;
    let consume = Requests::one(&Call::consume(MODEL), "");
    let pace = Pace::AtOnce(duration);
    let (mut consumed, mut settled, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 1..=TURNS {
        eprintln!("turn {turn} of {TURNS} of holds");
        let (used, both) = if turn.is_multiple_of(2) {
            let used = consuming.load(CONNECTIONS, &consume, pace).await?;
            (used, pairs(&holding, duration).await?)
        } else {
            let both = pairs(&holding, duration).await?;
            (consuming.load(CONNECTIONS, &consume, pace).await?, both)
        };
        holding.note(&both);
        ratios.push(both.figures.per_second / used.figures.per_second);
        consumed.push(used);
        settled.push(both);
    }
    consuming.stop().await?;
    holding.stop().await?;
    print_heading();
    print("consume", CONNECTIONS, &median(&consumed));
    print("hold and settle, both together", CONNECTIONS, &median(&settled));
    let what = "hold and settle / consume, 128 connections";
    limits.hold(what, median_of(ratios), Bound::AtLeast(0.4));
    Ok(())
}

/// Each connection makes a hold and settles it, again and again. How long both take counts.
async fn pairs(service: &Service, duration: Duration) -> Result<Run> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut connection = HttpConnection::open(service.server.address).await?;
        tasks.spawn(async move {
            let (hold, mut settle) = (Call::hold(MODEL).with(""), Call::settle().with(""));
            let mut latencies = Vec::new();
            while started.elapsed() < duration {
                let begun = Instant::now();
                let answer = connection.exchange(hold.bytes(), "200").await?;
                settle.take_id(r#""hold_id":""#, answer)?;
                connection.exchange(settle.bytes(), "200").await?;
                latencies.push(begun.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(finished) = tasks.join_next().await {
        latencies.append(&mut finished??);
    }
    let recorded = u64::try_from(latencies.len())?;
    Ok(Run::new(started.elapsed(), latencies, recorded))
}

/// The wallet, the prices and the products beside the balance of the same turn.
async fn reads(duration: Duration, limits: &mut Limits) -> Result<()> {
    let mut service = Service::start_filled(&[], "").await?;
    let calls = [
        ("balance", Call::balance(), None),
        ("wallet", Call::wallet(), Some(0.9)),
        ("pricing", Call::pricing(), Some(0.8)),
        ("products", Call::products(), Some(0.8)),
    ];
    let mut runs = vec![Vec::new(); calls.len()];
    for turn in 1..=TURNS {
        eprintln!("turn {turn} of {TURNS} of reads");
        for ((_, call, _), runs) in calls.iter().zip(&mut runs) {
            let requests = Requests::one(call, "");
            runs.push(service.load(READERS, &requests, Pace::AtOnce(duration)).await?);
        }
    }
    service.stop().await?;
    print_heading();
    let balance = runs.first().cloned().unwrap_or_default();
    for ((name, _, least), runs) in calls.iter().zip(&runs) {
        print(name, READERS, &median(runs));
        if let Some(least) = least {
            let rounds = runs.iter().zip(&balance);
            let ratios = rounds.map(|(run, of)| run.figures.per_second / of.figures.per_second);
            let what = format!("{name} / balance, {READERS} connections");
            limits.hold(&what, median_of(ratios.collect()), Bound::AtLeast(*least));
        }
    }
    Ok(())
}

/// A month's usage of a user with a million transactions, and all of them as CSV.
async fn long_book(limits: &mut Limits) -> Result<()> {
    eprintln!("writing a million transactions");
    let folder = new_folder()?;
    LONG.write(&database_in(&folder)).await?;
    let service = Service::start(folder, &[]).await?;
    let summed_in = all_summed(&service).await?;
    println!("\na million transactions summed up after {:.1} s", summed_in.as_secs_f64());
    let (first, last) = BOOKS_MONTH;
    let mut connection = HttpConnection::open(service.server.address).await?;
    for by in ["day", "month", "model"] {
        let usage = Call::usage(first, last, by).with("");
        let mut times = Vec::new();
        for _ in 0..ASKED {
            let asked = Instant::now();
            connection.exchange(usage.bytes(), "200").await?;
            times.push(asked.elapsed().as_secs_f64() * 1000.0);
        }
        let what = format!("usage of a month by {by}, 1,000,000 transactions, ms");
        limits.hold(&what, median_of(times), Bound::AtMost(50.0));
    }
    let before = service.server.resident_mib()?;
    let (mut rates, mut most) = (Vec::new(), before);
    for _ in 0..ROUNDS {
        let (rate, memory) = download(&service).await?;
        rates.push(rate);
        most = most.max(memory);
    }
    let rate = median_of(rates);
    println!("ledger as CSV: {} rows/s; memory {before:.1} -> {most:.1} MiB", grouped(rate));
    limits.hold("ledger as CSV, rows per second", rate, Bound::AtLeast(200_000.0));
    limits.hold("memory that a download takes, MiB", most - before, Bound::AtMost(10.0));
    service.stop().await?;
    Ok(())
}

/// How long it took until the sums were those of all transactions.
async fn all_summed(service: &Service) -> Result<Duration> {
    let started = Instant::now();
    let database = service.directory().join("billing.db");
    let options = SqliteConnectOptions::new().filename(database).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    // What was written before the service looked is summed up when somebody asks.
    let (first, last) = BOOKS_MONTH;
    let usage = Call::usage(first, last, "day").with("");
    HttpConnection::open(service.server.address).await?.exchange(usage.bytes(), "200").await?;
    while sqlx::query_scalar::<_, i64>(NOT_SUMMED).fetch_one(&mut connection).await? > 0 {
        ensure!(started.elapsed() < PATIENCE, "usage was not summed up");
        sleep(Duration::from_millis(20)).await;
    }
    connection.close().await?;
    Ok(started.elapsed())
}

/// Rows per second of a whole download, and the most memory that the service had meanwhile, in MiB.
async fn download(service: &Service) -> Result<(f64, f64)> {
    const READ_BYTES: usize = 1 << 16;
    /// Reads after which memory is looked at.
    const LOOK_EVERY: usize = 64;
    let mut stream = TcpStream::connect(service.server.address).await?;
    let started = Instant::now();
    stream
        .write_all(Call::ledger().with("accept: text/csv\r\nconnection: close\r\n").bytes())
        .await?;
    let (mut rows, mut most, mut end) = (0, 0.0_f64, Vec::new());
    let mut buffer = vec![0; READ_BYTES];
    for number in 1_usize.. {
        let count = stream.read(&mut buffer).await?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
        let lines = read.split(|byte| *byte == b'\n').skip(1).count();
        rows = lines.saturating_add(rows);
        end.extend_from_slice(read);
        end.drain(..end.len().saturating_sub(END.len()));
        if number.is_multiple_of(LOOK_EVERY) {
            most = most.max(service.server.resident_mib()?);
        }
    }
    let elapsed = started.elapsed();
    ensure!(end == END, "the download was cut off");
    ensure!(u64::try_from(rows)? > LONG.transactions(), "{rows} rows");
    Ok((amount(LONG.transactions()) / elapsed.as_secs_f64(), most))
}

/// What a whole download ends with.
const END: &[u8] = b"\r\n0\r\n\r\n";
