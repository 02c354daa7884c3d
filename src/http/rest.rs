//! What is left of a request's body when its answer is there already. Reading it is what keeps a connection
//! usable, and what keeps a reset from overtaking the answer.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use super::BODY_LIMIT_BYTES;

/// How long an answer waits for the rest of a body.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// A body that comes back from whoever drops it before its end.
#[derive(Debug)]
pub(super) struct Lent {
    /// There until it is dropped.
    body: Option<Incoming>,
    asked_for: bool,
    ended: bool,
    back: Back,
}

type Back = Arc<Mutex<Option<Unread>>>;

/// A body that was not read to its end.
#[derive(Debug)]
struct Unread {
    body: Incoming,
    asked_for: bool,
}

/// Where the rest of a body is to be found.
#[derive(Debug)]
pub(super) struct Rest {
    back: Back,
    expects_continue: bool,
}

impl Lent {
    /// The body, and where it comes back to.
    pub(super) fn new(body: Incoming, expects_continue: bool) -> (Self, Rest) {
        let (back, ended) = (Back::default(), body.is_end_stream());
        let rest = Rest { back: Arc::clone(&back), expects_continue };
        (Self { body: Some(body), asked_for: false, ended, back }, rest)
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.asked_for = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        self.ended |= !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !self.ended && !body.is_end_stream()) {
            let unread = Unread { body, asked_for: self.asked_for };
            *self.back.lock().unwrap_or_else(PoisonError::into_inner) = Some(unread);
        }
    }
}

impl Rest {
    /// Throws away what still arrives of a body that is within the limit, for a moment. Returns whether all
    /// of the body has been read then.
    pub(super) async fn thrown_away(self) -> bool {
        let unread = self.back.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Unread { mut body, asked_for }) = unread else { return true };
        // A client that waits to be asked for its body need not send it.
        let waits = self.expects_continue && !asked_for;
        let limit = u64::try_from(BODY_LIMIT_BYTES).unwrap_or(u64::MAX);
        if waits || body.size_hint().lower() > limit {
            return false;
        }
        let reading = async {
            let mut left = BODY_LIMIT_BYTES;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let Some(rest) = left.checked_sub(bytes) else { return false };
                left = rest;
            }
            true
        };
        timeout(DRAIN_TIMEOUT, reading).await.unwrap_or(false)
    }
}
