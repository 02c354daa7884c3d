//! What every request gets: an id, a deadline, and one line in the log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::time::timeout;
use tracing::{Instrument, error, info, info_span};
use uuid::Uuid;

use super::{
    HEADER_LIMIT_BYTES, REQUEST_DEADLINE,
    body::announces_too_much,
    error::{ApiError, Cause},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Most characters of a request id that is taken over from the client.
const REQUEST_ID_MAX_CHARS: usize = 128;

/// How many requests are being answered.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn enter(self) -> Entered {
        self.0.fetch_add(1, Ordering::AcqRel);
        Entered(self)
    }
}

/// Counts as in flight until dropped.
struct Entered(InFlight);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Runs one request.
pub(super) async fn handle(
    State(in_flight): State<InFlight>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let _in_flight = in_flight.enter();
    let started = Instant::now();
    let id = request_id(&request);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let span = info_span!("request", id = id.to_str().unwrap_or_default());

    let mut response = answer(request, next).instrument(span.clone()).await;
    let _entered = span.entered();
    if let Some(Cause(cause)) = response.extensions_mut().remove::<Cause>() {
        error!(status = response.status().as_u16(), cause, "the request failed");
    }
    let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    info!(%method, path, status = response.status().as_u16(), duration_us, "answered");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

async fn answer(request: Request<Body>, next: Next) -> Response {
    if header_bytes(&request) > HEADER_LIMIT_BYTES {
        return ApiError::HeadersTooLarge.into_response();
    }
    if announces_too_much(request.headers()) {
        return ApiError::BodyTooLarge.into_response();
    }
    match timeout(REQUEST_DEADLINE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::DeadlinePassed.into_response(),
    }
}

/// How long the request's head is; hyper's own limit is one of its buffer, and only nearly this.
fn header_bytes(request: &Request<Body>) -> usize {
    const SEPARATORS_BYTES: usize = ": \r\n".len();
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    request.headers().iter().fold(path, |sum, (name, value)| {
        sum.saturating_add(name.as_str().len())
            .saturating_add(value.len())
            .saturating_add(SEPARATORS_BYTES)
    })
}

/// The client's id when it is harmless in a log and a header, else a new one.
fn request_id(request: &Request<Body>) -> HeaderValue {
    let harmless = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=REQUEST_ID_MAX_CHARS).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    request.headers().get(REQUEST_ID).filter(harmless).cloned().unwrap_or_else(|| {
        let id = Uuid::now_v7().hyphenated().to_string();
        HeaderValue::from_str(&id).expect("hexadecimal digits and hyphens fit into a header")
    })
}
