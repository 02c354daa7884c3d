//! Measures the release binary against the limits it has to keep: `cargo run --release --example load`.
//!
//! A consumption over HTTP is compared with two peers on the same machine: a handler that only parses
//! and answers (this program again, as another process), and the same two writes committed durably
//! through one connection. Rounds are interleaved and medians taken, because a shared machine drifts.
//! An argument sets the seconds each measurement takes (3 unless told).

use std::{
    fmt::Display,
    future::poll_fn,
    hash::{BuildHasher, Hasher, RandomState},
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use axum::http::{StatusCode, header};
use axum::{body::Bytes, response::IntoResponse};
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::{net::TcpStream, signal::unix::SignalKind};

const ROUNDS: usize = 3;
const CONNECTIONS: usize = 128;
const CONSUME: &str = "/api/billing/tokens/consume";
const CONSUMPTION: &str =
    r#"{"model_id":"gemini-2.0-flash","input_tokens":5000,"output_tokens":2000}"#;
/// How long a start, a stop or the last answer of a measurement may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<()> {
    let argument = std::env::args().nth(1).unwrap_or_else(|| "3".to_owned());
    if argument == "bare" {
        return serve_bare().await;
    }
    let seconds = argument.parse().context("the argument is a number of seconds")?;
    ensure!((1..=60).contains(&seconds), "between 1 and 60 seconds, please");
    // Returning, instead of being ended by the signal, ends the servers and removes the databases.
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    tokio::select! {
        done = measure(Duration::from_secs(seconds)) => done,
        _ = terminate.recv() => bail!("ended by SIGTERM"),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
}

async fn measure(duration: Duration) -> Result<()> {
    let executable = std::env::current_exe().context("find this program")?;
    let release = executable.parent().and_then(Path::parent).context("find the release folder")?;
    let binary = release.join("token-billing");
    ensure!(binary.exists(), "{} is missing: run `cargo build --release` first", binary.display());
    // Below target/, not in /tmp, which may be memory: there a durable commit costs nothing.
    let directory = tempfile::tempdir_in(release).context("make a folder for the databases")?;
    let database = directory.path().join("billing.db");

    let (service, first_start) = start_service(&binary, directory.path()).await?;
    // With a database of its own, so that neither load works on what the other has left behind.
    let keyed_directory =
        tempfile::tempdir_in(release).context("make a folder for the databases")?;
    let (keyed_service, _) = start_service(&binary, keyed_directory.path()).await?;
    fill(keyed_service.address).await?;
    fill(service.address).await?;
    let bare = Server::spawn(Command::new(&executable).arg("bare"))?;
    let mut raw = open_by_hand(&directory.path().join("raw.db")).await?;

    let [
        mut consume_many,
        mut keyed_many,
        mut bare_many,
        mut consume_one,
        mut bare_one,
        mut commits,
    ] = [const { Vec::<Run>::new() }; 6];
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        consume_many.push(load(service.address, CONNECTIONS, Keys::None, duration).await?);
        bare_many.push(load(bare.address, CONNECTIONS, Keys::None, duration).await?);
        keyed_many.push(load(keyed_service.address, CONNECTIONS, Keys::Random, duration).await?);
        consume_one.push(load(service.address, 1, Keys::None, duration).await?);
        commits.push(commits_by_hand(&mut raw, duration).await?);
        bare_one.push(load(bare.address, 1, Keys::None, duration).await?);
    }
    let keyed_resident_kib = resident_kib(keyed_service.child.id())?;
    let resident_kib = resident_kib(service.child.id())?;
    keyed_service.stop()?;
    service.stop()?;

    let size = usize::try_from(std::fs::metadata(&database)?.len())?;
    let mut recorded = 0;
    let keyed_database = keyed_directory.path().join("billing.db");
    for (database, rounds) in
        [(keyed_database, vec![&keyed_many]), (database, vec![&consume_many, &consume_one])]
    {
        let answered: usize =
            rounds.iter().flat_map(|runs| runs.iter()).map(|run| run.sorted.len()).sum();
        recorded = count_consumptions(&database).await?;
        ensure!(recorded == answered, "{answered} answered with success, but {recorded} on disk");
    }
    let (_service, second_start) = start_service(&binary, directory.path()).await?;

    println!();
    let consume_many = report("consume, 128 connections", &consume_many);
    let keyed_many = report("consume with keys, 128 connections", &keyed_many);
    let bare_many = report("bare handler, 128 connections", &bare_many);
    let consume_one = report("consume, 1 connection", &consume_one);
    report("bare handler, 1 connection", &bare_one);
    let raw = report("durable commits, no HTTP", &commits);
    let (many, one) = (consume_many / bare_many, consume_one / raw);
    let keyed = keyed_many / consume_many;
    verdict("consume / bare handler, 128 connections", many, "at least 0.5", many >= 0.5);
    verdict("with keys / without, 128 connections", keyed, "at least 0.8", keyed >= 0.8);
    verdict("consume, 1 connection / durable commits", one, "at least 0.4", one >= 0.4);
    println!("{:<42} {keyed_resident_kib:>10}", "resident memory with keys, KiB");
    verdict("resident memory, KiB", resident_kib, "at most 40960", resident_kib <= 40_960);
    for (name, start) in [("new", first_start), ("filled", second_start)] {
        let name = format!("first healthy answer, {name} database, ms");
        verdict(&name, start.as_millis(), "at most 150", start.as_millis() <= 150);
    }
    println!("{:<42} {recorded:>10}", "consumptions, every one found on disk");
    println!(
        "{:<42} {:>10}",
        "database bytes per consumption",
        size.checked_div(recorded).unwrap_or(size)
    );
    Ok(())
}

/// A process of ours that listens on `address`, ended with this value.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts it and waits for the line that says where it listens.
    fn spawn(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let stdout = child.stdout.take().context("the server's output")?;
        let mut server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let (sender, receiver) = mpsc::channel();
        // The thread goes on reading: a full pipe would stop the server.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let mut words = line.split_whitespace();
                let address = words.find_map(|word| word.strip_prefix("address=")?.parse().ok());
                let _ = address.map(|address| sender.send(address));
            }
        });
        let named = receiver.recv_timeout(PATIENCE);
        server.address = named.context("the server named no address=127.0.0.1:PORT")?;
        ensure!(server.address.ip().is_loopback(), "{} is not this machine", server.address);
        Ok(server)
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        ensure!(asked.success(), "kill failed");
        let asked_at = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(asked_at.elapsed() < PATIENCE, "the service did not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "the service ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the service in `directory`; the time is that from the spawn to the first healthy answer.
async fn start_service(binary: &Path, directory: &Path) -> Result<(Server, Duration)> {
    let database = format!("sqlite://{}", directory.join("billing.db").display());
    let mut command = Command::new(binary);
    command
        .current_dir(directory)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
        .env("BILLING_LISTEN", "127.0.0.1:0")
        .env("DATABASE_URL", database)
        .env("BILLING_CAPACITY_QUICK", "9000000000000")
        .env("NO_COLOR", "1");
    let started = Instant::now();
    let server = Server::spawn(&mut command)?;
    let health = request("GET", "/api/billing/health", "", "");
    while send(server.address, &health).await.is_err() {
        ensure!(started.elapsed() < PATIENCE, "the service never became healthy");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((server, started.elapsed()))
}

/// Buys and allocates what a billion of the consumptions measured need.
async fn fill(address: SocketAddr) -> Result<()> {
    let purchase = r#"{"credits":600000000,"purchase_record":{"transactionId":"load"}}"#;
    send(address, &request("POST", "/api/billing/credits/add", "", purchase)).await?;
    let allocation = r#"{"allocations":[{"model_id":"gemini-2.0-flash","credits":600000000}]}"#;
    send(address, &request("POST", "/api/billing/credits/allocate", "", allocation)).await
}

async fn send(address: SocketAddr, request: &[u8]) -> Result<()> {
    HttpConnection::open(address).await?.exchange(request).await
}

#[derive(Deserialize)]
struct Consumption {
    model_id: String,
    input_tokens: u64,
    output_tokens: u64,
}

#[derive(Serialize)]
struct Consumed {
    success: bool,
    remaining_tokens: u64,
}

/// The peer: as little as a handler with this body and this answer can do.
async fn serve_bare() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("address={}", listener.local_addr()?);
    // Our input closes when the program that started us ends, however it ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let routes = axum::Router::new().route(CONSUME, axum::routing::post(consume_bare));
    Ok(axum::serve(listener, routes).await?)
}

async fn consume_bare(body: Bytes) -> Result<impl IntoResponse, StatusCode> {
    let consumption: Consumption =
        serde_json::from_slice(&body).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
    let amount = consumption.input_tokens.saturating_add(consumption.output_tokens);
    let remaining_tokens = 8_000_000_000_000_u64.saturating_sub(amount);
    let answer = Consumed { success: !consumption.model_id.is_empty(), remaining_tokens };
    let body = serde_json::to_vec(&answer).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body))
}

/// A keep-alive connection. Only as much of HTTP as both servers need, so that the client costs little.
struct HttpConnection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl HttpConnection {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends the request and reads the whole answer, which has to be a 200.
    async fn exchange(&mut self, request: &[u8]) -> Result<()> {
        let Self { stream, buffer } = self;
        // A request is far smaller than the socket's buffer, which is empty now.
        let mut stream = Pin::new(stream);
        let written = poll_fn(|context| stream.as_mut().poll_write(context, request)).await?;
        ensure!(written == request.len(), "the request was not written at once");
        buffer.clear();
        while answer_length(buffer)?.is_none_or(|length| buffer.len() < length) {
            let mut space = [0; 4096];
            let mut space = ReadBuf::new(&mut space);
            poll_fn(|context| stream.as_mut().poll_read(context, &mut space)).await?;
            ensure!(!space.filled().is_empty(), "the connection was closed");
            buffer.extend_from_slice(space.filled());
        }
        let text = String::from_utf8_lossy(buffer);
        ensure!(text.starts_with("HTTP/1.1 200 "), "not a 200: {text}");
        Ok(())
    }
}

/// The length of head and body, once the head is there.
fn answer_length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(answer.get(..end).unwrap_or_default())?;
    let length = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("an answer without content-length")?;
    let body: usize = length.1.trim().parse()?;
    Ok(Some(end.saturating_add(4).saturating_add(body)))
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         {headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What idempotency keys a load gives its requests.
#[derive(Clone, Copy)]
enum Keys {
    None,
    /// Each its own, without any order, as clients make them.
    Random,
}

/// Where a request has its idempotency key: 36 characters, as a UUID has.
const KEY_PLACE: &str = "000000000000000000000000000000000000";

/// Writes a random key into its place, in hexadecimal. Cheap, because it is the client's work.
fn write_random_key(place: &mut [u8], state: &mut u64) {
    for digits in place.chunks_mut(16) {
        // SplitMix64: no order, and none comes twice.
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        for digit in digits {
            *digit = HEX_DIGITS[usize::try_from(bits & 15).unwrap_or_default()];
            bits >>= 4;
        }
    }
}

const HEX_DIGITS: [u8; 16] = *b"0123456789abcdef";

/// Consumes over `connections` connections at once, each sending as soon as it was answered.
async fn load(
    address: SocketAddr,
    connections: usize,
    keys: Keys,
    duration: Duration,
) -> Result<Run> {
    let started = Instant::now();
    let connect_and_consume = || async move {
        let mut connection = HttpConnection::open(address).await?;
        let header = match keys {
            Keys::None => String::new(),
            Keys::Random => format!("idempotency-key: {KEY_PLACE}\r\n"),
        };
        let mut request = request("POST", CONSUME, &header, CONSUMPTION);
        let place = request.windows(KEY_PLACE.len()).position(|text| text == KEY_PLACE.as_bytes());
        // Every hasher of the standard library starts from other random keys.
        let mut state = RandomState::new().build_hasher().finish();
        let mut latencies = Vec::new();
        while started.elapsed() < duration {
            if let Some(place) = place {
                let end = place.saturating_add(KEY_PLACE.len());
                write_random_key(&mut request[place..end], &mut state);
            }
            let sent = Instant::now();
            connection.exchange(&request).await?;
            latencies.push(sent.elapsed());
        }
        anyhow::Ok(latencies)
    };
    let tasks: Vec<_> = (0..connections).map(|_| tokio::spawn(connect_and_consume())).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        let finished = tokio::time::timeout(duration.saturating_add(PATIENCE), task).await;
        latencies.extend(finished.context("an answer never came")???);
    }
    Ok(Run::new(started.elapsed(), latencies))
}

/// A database with the service's schema and a balance, for `commits_by_hand`.
async fn open_by_hand(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    sqlx::migrate!("migrations/sqlite").run(&mut connection).await?;
    let balance = "INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
        VALUES ('default_user', 'gemini-2.0-flash', 8000000000000, '')";
    sqlx::query(balance).execute(&mut connection).await?;
    Ok(connection)
}

/// The writes of a consumption, each durable before the next.
async fn commits_by_hand(connection: &mut SqliteConnection, duration: Duration) -> Result<Run> {
    let started = Instant::now();
    let mut latencies = Vec::new();
    while started.elapsed() < duration {
        let sent = Instant::now();
        // One query: each one sent to the connection's thread costs a good part of a commit.
        let done = sqlx::query(
            "BEGIN IMMEDIATE;
             UPDATE token_balances SET allocated_tokens = allocated_tokens - $1, updated_at = $4
             WHERE user_id = 'default_user' AND model_id = 'gemini-2.0-flash'
                 AND allocated_tokens >= $1;
             INSERT INTO transactions (user_id, type, amount, model_id, input_tokens,
                 output_tokens, credits_delta, tokens_delta, created_at)
             VALUES ('default_user', 'consumption', $1, 'gemini-2.0-flash', $2, $3, 0, -$1, $4);
             COMMIT",
        );
        let done = done.bind(7000_i64).bind(5000_i64).bind(2000_i64);
        let done = done.bind("2026-11-23T13:14:14.900672Z").execute(&mut *connection).await?;
        ensure!(done.rows_affected() >= 2, "a write by hand changed nothing");
        latencies.push(sent.elapsed());
    }
    Ok(Run::new(started.elapsed(), latencies))
}

struct Run {
    per_second: f64,
    sorted: Vec<Duration>,
}

impl Run {
    fn new(elapsed: Duration, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let count = u32::try_from(latencies.len()).unwrap_or(u32::MAX);
        Self { per_second: f64::from(count) / elapsed.as_secs_f64(), sorted: latencies }
    }

    fn percentile_ms(&self, percent: usize) -> f64 {
        let at = self.sorted.len().saturating_sub(1).saturating_mul(percent) / 100;
        self.sorted.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}

/// Prints the medians of a series and gives back its rate.
fn report(name: &str, runs: &[Run]) -> f64 {
    let rate = median(runs, |run| run.per_second);
    let p50 = median(runs, |run| run.percentile_ms(50));
    let p99 = median(runs, |run| run.percentile_ms(99));
    println!("{name:<32} {rate:>8.0} /s   p50 {p50:>7.3} ms   p99 {p99:>7.3} ms");
    rate
}

fn median(runs: &[Run], value: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn verdict(name: &str, value: impl Display, limit: &str, kept: bool) {
    println!("{name:<42} {value:>10.2}   {limit}: {}", if kept { "ok" } else { "MISSED" });
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

async fn count_consumptions(path: &Path) -> Result<usize> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let count = "SELECT COUNT(*) FROM transactions WHERE type = 'consumption'";
    let count: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await?;
    Ok(usize::try_from(count)?)
}
