//! The load: connections that send requests, at once or at fixed times, and how long each took.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Semaphore,
};

use crate::{
    requests::{Random, Requests, Text},
    runs::Run,
};

/// How long a start, a stop or the last answer of a measurement may take.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn send(address: SocketAddr, request: &Text) -> Result<()> {
    HttpConnection::open(address).await?.exchange(request.bytes(), OK).await?;
    Ok(())
}

/// Sends the requests from a number on, one after the other and without an end. Each has to be answered with this
/// status.
pub(crate) async fn send_for_good(
    address: SocketAddr,
    requests: Requests,
    numbers: &AtomicU64,
    status: &str,
) -> Result<()> {
    let mut connection = HttpConnection::open(address).await?;
    let (mut random, mut text) = (Random::new(), Text::default());
    loop {
        requests.write(numbers.fetch_add(1, Ordering::Relaxed), &mut random, &mut text)?;
        connection.exchange(text.bytes(), status).await?;
    }
}

const OK: &str = "200";

/// Room for a page of 100 transactions.
const ANSWER_BYTES: usize = 32 * 1024;

/// A keep-alive connection. Only as much of HTTP as the servers need, so that the client costs little.
pub(crate) struct HttpConnection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl HttpConnection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; ANSWER_BYTES] })
    }

    /// Sends the request and reads the whole answer, which has to be of this status. Returns its body.
    pub(crate) async fn exchange(&mut self, request: &[u8], status: &str) -> Result<&[u8]> {
        let Self { stream, buffer } = self;
        // A request is far smaller than the socket's buffer, which is empty now.
        let mut stream = Pin::new(stream);
        let written = poll_fn(|context| stream.as_mut().poll_write(context, request)).await?;
        ensure!(written == request.len(), "the request was not written at once");
        let mut answer = ReadBuf::new(buffer);
        let mut lengths = None;
        while lengths.is_none_or(|(_, length)| answer.filled().len() < length) {
            let before = answer.filled().len();
            poll_fn(|context| stream.as_mut().poll_read(context, &mut answer)).await?;
            ensure!(answer.filled().len() > before, "the connection was closed, or told too much");
            if lengths.is_none() {
                lengths = answer_lengths(answer.filled())?;
            }
        }
        let length = answer.filled().len();
        let answer = buffer.get(..length).unwrap_or_default();
        let told = answer.strip_prefix(b"HTTP/1.1 ").unwrap_or_default();
        let is_right = told.starts_with(status.as_bytes());
        ensure!(is_right, "not a {status}: {}", String::from_utf8_lossy(answer));
        let (head, _) = lengths.unwrap_or_default();
        Ok(answer.get(head..).unwrap_or_default())
    }
}

/// The length of the head, and that of head and body, once the head is there.
fn answer_lengths(answer: &[u8]) -> Result<Option<(usize, usize)>> {
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
    let head = end.saturating_add(4);
    Ok(Some((head, head.saturating_add(body))))
}

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as the one before was answered, for so long.
    AtOnce(Duration),
    /// The same, so many in all.
    Exactly(u64),
    /// At fixed times, whether answers come or not; how long each took counts from when it was due, so that
    /// waiting for those before it shows.
    Every { interval: Duration, duration: Duration },
}

impl Pace {
    pub(crate) fn fixed(per_second: f64, duration: Duration) -> Self {
        Self::Every { interval: Duration::from_secs_f64(1.0 / per_second), duration }
    }

    pub(crate) const fn duration(self) -> Duration {
        match self {
            Self::AtOnce(duration) | Self::Every { duration, .. } => duration,
            Self::Exactly(_) => Duration::from_mins(10),
        }
    }
}

/// What the connections of a load share.
struct Schedule {
    pace: Pace,
    started: Instant,
    next: AtomicU64,
    /// Lets a request pass when it is due.
    due: Semaphore,
}

impl Schedule {
    fn start(pace: Pace) -> Arc<Self> {
        let (next, due) = (AtomicU64::new(0), Semaphore::new(0));
        let schedule = Arc::new(Self { pace, started: Instant::now(), next, due });
        if let Pace::Every { interval, duration } = pace {
            let schedule = Arc::clone(&schedule);
            // A thread, because the runtime's timers are late by up to a millisecond.
            std::thread::spawn(move || schedule.let_pass(interval, duration));
        }
        schedule
    }

    fn let_pass(&self, interval: Duration, duration: Duration) {
        const TICK: Duration = Duration::from_micros(200);
        let (mut passed, last) = (0, multiples(interval, duration));
        while passed < last {
            std::thread::sleep(TICK);
            let due = multiples(interval, self.started.elapsed()).min(last);
            self.due.add_permits(due.saturating_sub(passed));
            passed = due;
        }
    }

    /// The next request's number, and the time from which it counts. `None` when the load is over.
    async fn next(&self) -> Result<Option<(u64, Instant)>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let go_on = match self.pace {
            Pace::AtOnce(duration) => self.started.elapsed() < duration,
            Pace::Exactly(count) => number < count,
            Pace::Every { interval, duration } => {
                usize::try_from(number)? < multiples(interval, duration)
            }
        };
        let Pace::Every { interval, .. } = self.pace else {
            return Ok(go_on.then(|| (number, Instant::now())));
        };
        if !go_on {
            return Ok(None);
        }
        self.due.acquire().await?.forget();
        let since_start = interval.saturating_mul(u32::try_from(number)?);
        let due = self.started.checked_add(since_start).context("a load of many years")?;
        Ok(Some((number, due)))
    }
}

/// How often a time fits into another.
fn multiples(interval: Duration, duration: Duration) -> usize {
    let times = duration.as_nanos().checked_div(interval.as_nanos()).unwrap_or_default();
    usize::try_from(times).unwrap_or(usize::MAX)
}

/// Sends over so many connections at once, each of which has one request under way at most.
pub(crate) async fn load(
    address: SocketAddr,
    connections: usize,
    requests: &Requests,
    pace: Pace,
) -> Result<Run> {
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(HttpConnection::open(address).await?);
    }
    let schedule = Schedule::start(pace);
    let sending = |connection| send_all(connection, requests.clone(), Arc::clone(&schedule));
    let tasks: Vec<_> =
        open.into_iter().map(|connection| tokio::spawn(sending(connection))).collect();
    let (mut latencies, mut recorded) = (Vec::new(), 0_u64);
    for task in tasks {
        let patience = pace.duration().saturating_add(PATIENCE);
        let finished = tokio::time::timeout(patience, task).await;
        let (more, written) = finished.context("an answer never came")???;
        latencies.extend(more);
        recorded = recorded.saturating_add(written);
    }
    Ok(Run::new(schedule.started.elapsed(), latencies, recorded))
}

/// How long each request took, and how many of them wrote.
async fn send_all(
    mut connection: HttpConnection,
    requests: Requests,
    schedule: Arc<Schedule>,
) -> Result<(Vec<Duration>, u64)> {
    let (mut random, mut text) = (Random::new(), Text::default());
    let (mut latencies, mut written) = (Vec::new(), 0_u64);
    while let Some((number, due)) = schedule.next().await? {
        requests.write(number, &mut random, &mut text)?;
        // What it took to make a request is not the server's time.
        let counts_from =
            if matches!(schedule.pace, Pace::Every { .. }) { due } else { Instant::now() };
        connection.exchange(text.bytes(), OK).await?;
        latencies.push(counts_from.elapsed());
        written = written.saturating_add(u64::from(text.writes));
    }
    Ok((latencies, written))
}
