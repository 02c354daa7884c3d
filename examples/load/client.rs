//! The load: connections that each send a request as soon as the one before was answered.

use std::{
    future::poll_fn,
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::{runs::Run, server::PATIENCE};

pub(crate) const CONSUME: &str = "/api/billing/tokens/consume";
pub(crate) const CONSUMPTION: &str =
    r#"{"model_id":"gemini-2.0-flash","input_tokens":5000,"output_tokens":2000}"#;

/// Buys and allocates what a billion of the consumptions measured need.
pub(crate) async fn fill(address: SocketAddr, headers: &str) -> Result<()> {
    let purchase = r#"{"credits":600000000,"purchase_record":{"transactionId":"load"}}"#;
    send(address, &request("POST", "/api/billing/credits/add", headers, purchase)).await?;
    let allocation = r#"{"allocations":[{"model_id":"gemini-2.0-flash","credits":600000000}]}"#;
    send(address, &request("POST", "/api/billing/credits/allocate", headers, allocation)).await
}

pub(crate) async fn send(address: SocketAddr, request: &[u8]) -> Result<()> {
    HttpConnection::open(address).await?.exchange(request).await
}

/// A keep-alive connection. Only as much of HTTP as both servers need, so that the client costs little.
pub(crate) struct HttpConnection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl HttpConnection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends the request and reads the whole answer, which has to be a 200.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<()> {
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
pub(crate) fn answer_length(answer: &[u8]) -> Result<Option<usize>> {
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

pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         {headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The requests of a load.
#[derive(Clone)]
pub(crate) struct Requests {
    /// Each is sent as often as any other.
    texts: Arc<[Vec<u8>]>,
}

impl Requests {
    /// Consumptions of the default user, with these headers.
    pub(crate) fn plain(headers: &str) -> Self {
        Self { texts: [request("POST", CONSUME, headers, CONSUMPTION)].into() }
    }

    /// The same, each with an idempotency key of its own, without any order, as clients make them.
    pub(crate) fn keyed() -> Self {
        Self::plain(&format!("idempotency-key: {KEY_PLACE}\r\n"))
    }

    /// Consumptions of the users with these tokens.
    pub(crate) fn of(tokens: &[String]) -> Self {
        let text = |token: &String| {
            request("POST", CONSUME, &format!("authorization: Bearer {token}\r\n"), CONSUMPTION)
        };
        Self { texts: tokens.iter().map(text).collect() }
    }
}

/// What the tokens are signed with that the load sends.
pub(crate) const SECRET: &str = "a secret of more than 32 bytes for a load only";

/// A token of `user` that lasts longer than a measurement.
pub(crate) fn token(user: &str) -> Result<String> {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({"sub": user, "type": "access", "exp": 4_000_000_000_u64});
    Ok(encode(&Header::default(), &claims, &key)?)
}

/// Where a request has its idempotency key: 36 characters, as a UUID has.
const KEY_PLACE: &str = "000000000000000000000000000000000000";

/// `SplitMix64`: numbers without order, of which none comes twice. Cheap, because it is the client's work.
struct Random(u64);

impl Random {
    /// Every hasher of the standard library starts from other random keys.
    fn new() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Fills a place with hexadecimal digits.
    fn write_key(&mut self, place: &mut [u8]) {
        for digits in place.chunks_mut(16) {
            let mut bits = self.next();
            for digit in digits {
                *digit = HEX_DIGITS[usize::try_from(bits & 15).unwrap_or_default()];
                bits >>= 4;
            }
        }
    }
}

const HEX_DIGITS: [u8; 16] = *b"0123456789abcdef";

/// Sends over `connections` connections at once, each as soon as it was answered.
pub(crate) async fn load(
    address: SocketAddr,
    connections: usize,
    requests: &Requests,
    duration: Duration,
) -> Result<Run> {
    let started = Instant::now();
    let requesting = || send_until(address, requests.clone(), move || started.elapsed() < duration);
    let tasks: Vec<_> = (0..connections).map(|_| tokio::spawn(requesting())).collect();
    let mut latencies = Vec::new();
    for task in tasks {
        let finished = tokio::time::timeout(duration.saturating_add(PATIENCE), task).await;
        latencies.extend(finished.context("an answer never came")???);
    }
    Ok(Run::new(started.elapsed(), latencies))
}

async fn send_until(
    address: SocketAddr,
    requests: Requests,
    go_on: impl Fn() -> bool,
) -> Result<Vec<Duration>> {
    let mut connection = HttpConnection::open(address).await?;
    let mut random = Random::new();
    let first = requests.texts.first().context("nothing to send")?;
    let mut keyed = first.clone();
    let place = first.windows(KEY_PLACE.len()).position(|text| text == KEY_PLACE.as_bytes());
    let count = u64::try_from(requests.texts.len())?;
    let mut latencies = Vec::new();
    while go_on() {
        let request = if let Some(place) = place {
            random.write_key(&mut keyed[place..place.saturating_add(KEY_PLACE.len())]);
            &keyed
        } else {
            let at = random.next().checked_rem(count).unwrap_or_default();
            requests.texts.get(usize::try_from(at)?).unwrap_or(first)
        };
        let sent = Instant::now();
        connection.exchange(request).await?;
        latencies.push(sent.elapsed());
    }
    Ok(latencies)
}
