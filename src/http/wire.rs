//! One connection below HTTP: the bytes that come and go, what they tell about what it waits for, and its
//! end in good order. What a request is, is not known here.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
    time::{Instant, Sleep, sleep},
};

use super::HEADER_READ_TIMEOUT;

/// How long a client that still sends is listened to after it was answered. A connection closed on it would
/// be reset, and the reset would overtake the answer: a proxy makes a 502 of that.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes that are thrown away meanwhile.
const LINGER_MAX_BYTES: usize = 16 * 1_024 * 1_024;

/// How long a client may take none of its last answer; longer than it is listened to after that.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// What a connection waits for, and since when. Shared by its socket, its requests and the server.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    /// A [`Waiting`] in the lowest two bits, above it the milliseconds from `opened` to its beginning.
    state: AtomicU64,
    lingers: AtomicBool,
    unwanted: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// For the first byte of a request.
    Idle,
    /// For the rest of a request's head.
    Head,
    /// For us.
    Answer,
    /// For what was answered to arrive; then it ends.
    End,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            state: AtomicU64::new(0),
            lingers: AtomicBool::new(false),
            unwanted: Notify::new(),
        })
    }

    /// A request's head is complete.
    pub(super) fn asked(&self) {
        self.set(Waiting::Answer);
    }

    /// It is answered; `body_read` says whether all of it has been read. If not the connection ends, and what
    /// still arrives is thrown away.
    pub(super) fn answered(&self, body_read: bool) {
        if body_read {
            self.set(Waiting::Idle);
        } else {
            self.lingers.store(true, Ordering::Release);
            self.set(Waiting::End);
        }
    }

    /// Has it closed.
    pub(super) fn close(&self) {
        self.unwanted.notify_one();
    }

    /// Since when nothing more has to be done on it, where that is so.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let (waiting, since) = self.get();
        matches!(waiting, Waiting::Idle | Waiting::End).then_some(since)
    }

    /// Ready once it has waited for its client for too long, or was asked to close.
    pub(super) async fn over(&self, keep_alive: Duration) {
        tokio::select! {
            () = self.unwanted.notified() => {}
            () = self.expired(keep_alive) => {}
        }
    }

    async fn expired(&self, keep_alive: Duration) {
        // No deadline begins and passes between two looks. So requests need not set a timer each.
        let look = HEADER_READ_TIMEOUT.min(keep_alive);
        loop {
            let (waiting, since) = self.get();
            let wait = match waiting {
                Waiting::Idle => keep_alive.saturating_sub(since.elapsed()),
                Waiting::Head => HEADER_READ_TIMEOUT.saturating_sub(since.elapsed()),
                Waiting::Answer => look,
                Waiting::End => END_TIMEOUT.saturating_sub(since.elapsed()),
            };
            if wait.is_zero() {
                return;
            }
            sleep(wait.min(look)).await;
        }
    }

    fn get(&self) -> (Waiting, Instant) {
        let state = self.state.load(Ordering::Acquire);
        let waiting = match state & 3 {
            0 => Waiting::Idle,
            1 => Waiting::Head,
            2 => Waiting::Answer,
            _ => Waiting::End,
        };
        let since = self.opened.checked_add(Duration::from_millis(state >> 2));
        (waiting, since.unwrap_or(self.opened))
    }

    fn set(&self, waiting: Waiting) {
        let waiting = match waiting {
            Waiting::Idle => 0,
            Waiting::Head => 1,
            Waiting::Answer => 2,
            Waiting::End => 3,
        };
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state.store((since << 2) | waiting, Ordering::Release);
    }

    fn received(&self) {
        if self.get().0 == Waiting::Idle {
            self.set(Waiting::Head);
        }
    }

    /// Bytes of an answer have gone out.
    fn sent(&self) {
        if self.get().0 == Waiting::End {
            self.set(Waiting::End);
        }
    }

    fn sending(&self) {
        if self.get().0 == Waiting::Idle {
            self.set(Waiting::Idle);
        }
    }
}

/// The socket of a connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    activity: Arc<Activity>,
    lingering: Option<Lingering>,
}

#[derive(Debug)]
struct Lingering {
    over: Pin<Box<Sleep>>,
    bytes: usize,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        // Answers are small and written whole; waiting for more to send only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's algorithm");
        }
        Self { stream, activity, lingering: None }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.activity.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let ours = match automatic_refusal(bytes) {
            Some(0) => return Poll::Ready(Ok(bytes.len())),
            Some(start) => bytes.get(..start).unwrap_or(bytes),
            None => bytes,
        };
        // Ahead of it: whoever has the answer may go by it.
        self.activity.sending();
        let sent = ready!(Pin::new(&mut self.stream).poll_write(context, ours));
        self.activity.sent();
        Poll::Ready(sent)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, activity, lingering } = &mut *self;
        if lingering.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        if !activity.lingers.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let Lingering { over, bytes } = lingering
            .get_or_insert_with(|| Lingering { over: Box::pin(sleep(LINGER_TIMEOUT)), bytes: 0 });
        let mut room = [0; 8_192];
        while *bytes < LINGER_MAX_BYTES && over.as_mut().poll(context).is_pending() {
            let mut piece = ReadBuf::new(&mut room);
            // Whether the client hangs up or resets it, the end has come.
            if ready!(Pin::new(&mut *stream).poll_read(context, &mut piece)).is_err()
                || piece.filled().is_empty()
            {
                break;
            }
            *bytes = bytes.saturating_add(piece.filled().len());
        }
        Poll::Ready(Ok(()))
    }
}

/// Where an answer begins that hyper gives by itself: with a status and no body, to a head that it can't
/// parse. Clients take a bare 400 for our judgement of a purchase, so it must not go out. It is the last that
/// a connection sends, and alone in having no request id.
fn automatic_refusal(bytes: &[u8]) -> Option<usize> {
    const START: &[u8] = b"HTTP/1.";
    const ID: &[u8] = b"\r\nx-request-id: ";
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let start = bytes.windows(START.len()).rposition(|window| window == START)?;
    let head = bytes.get(start..)?;
    let refuses = head.get(START.len()..)?.get(1..3) == Some(b" 4");
    (refuses && !head.windows(ID.len()).any(|window| window == ID)).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_only_has_to_end_makes_room_for_others() {
        let activity = Activity::new();
        assert!(activity.idle_since().is_some());
        activity.asked();
        assert_eq!(activity.idle_since(), None);
        activity.answered(false);
        activity.sending();
        activity.sent();
        assert!(activity.idle_since().is_some());
        assert_eq!(activity.get().0, Waiting::End);
    }

    #[test]
    fn what_hyper_says_by_itself_is_told_apart() {
        let automatic =
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let ours = "HTTP/1.1 404 Not Found\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n";
        let whole = format!("{ours}{automatic}");
        for (bytes, start) in [
            (automatic, Some(0)),
            (&whole, Some(ours.len())),
            (ours, None),
            ("HTTP/1.1 100 Continue\r\n\r\n", None),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None),
            ("\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(automatic_refusal(bytes.as_bytes()), start, "{bytes:?}");
        }
    }
}
