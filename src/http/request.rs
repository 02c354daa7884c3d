//! What every request gets: an id, a deadline, and one line in the log.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header},
    response::Response,
};
use futures_util::{FutureExt, future::BoxFuture};
use hyper::body::Incoming;
use tokio::time::timeout;
use tower_http::cors::Cors;
use tower_service::Service;
use tracing::{error, info};

use super::{
    BODY_LIMIT_BYTES, HEADER_LIMIT_BYTES, REQUEST_DEADLINE,
    admission::Peer,
    cors::{ApiHeaders, Origin, shared_with},
    rate_limit::Subject,
    refusals::{Finish, Refusal, Wording},
    request_id::{REQUEST_ID, RequestId, request_id},
    rest::Lent,
    wire::Activity,
};
use crate::{caught::panic_message, metrics::Metrics};

/// The cause of an answer, for the log; travels in the response's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Cause(pub(crate) String);

/// An answer that must not tell that its path is there, not to who reads metrics either; travels in the response's
/// extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AsIfUnknown;

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

/// An API to be served.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// What answers its requests.
    pub(crate) router: Router,
    /// How the transport's refusals read in it.
    pub(crate) wording: Wording,
    /// What becomes of every answer, the transport's too.
    pub(crate) finish: Finish,
    /// What web pages may send to it and read from it, besides what they may of any.
    pub(crate) headers: ApiHeaders,
    /// Where bodies may be longer than [`BODY_LIMIT_BYTES`].
    pub(crate) long_bodies: LongBodies,
}

/// Where bodies may be longer than elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LongBodies {
    /// The paths.
    pub(crate) paths: &'static [&'static str],
    /// Most bytes of a body there.
    pub(crate) limit_bytes: usize,
}

impl LongBodies {
    fn limit_bytes(self, path: &str) -> usize {
        if self.paths.contains(&path) { self.limit_bytes } else { BODY_LIMIT_BYTES }
    }
}

/// The API, with what may go wrong before and around it.
#[derive(Debug, Clone)]
pub(super) struct Guarded(Api);

impl Service<Request<Lent>> for Guarded {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Lent>) -> Self::Future {
        Box::pin(answer(self.0.clone(), request).map(Ok))
    }
}

/// What answers requests.
#[derive(Debug, Clone)]
pub(super) enum App {
    /// Nothing around the API, which costs nothing.
    Plain(Api),
    /// Web pages may call it too; errors from before the router tell them so as well.
    Shared(Box<Cors<Guarded>>),
}

impl App {
    /// The API, for the web pages of these origins too.
    pub(super) fn new(api: Api, origins: &[Origin]) -> Self {
        if origins.is_empty() {
            return Self::Plain(api);
        }
        Self::Shared(Box::new(shared_with(origins, api.headers, Guarded(api))))
    }

    async fn answer(self, request: Request<Lent>) -> Response {
        match self {
            Self::Plain(api) => answer(api, request).await,
            // The layer would answer every OPTIONS, also one that no browser sent ahead of a call.
            Self::Shared(cors)
                if request.method() == Method::OPTIONS
                    && !request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) =>
            {
                let Guarded(api) = cors.get_ref().clone();
                answer(api, request).await
            }
            Self::Shared(mut cors) => match cors.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        }
    }
}

/// Runs one request. Around the whole router, because each layer inside costs every request a copy.
pub(super) async fn handle(
    app: App,
    request: Request<Incoming>,
    peer: Option<Peer>,
    activity: Arc<Activity>,
    in_flight: InFlight,
    metrics: Option<Arc<Metrics>>,
) -> Result<Response, Infallible> {
    let _in_flight = in_flight.enter();
    activity.asked();
    let (head, body) = request.into_parts();
    let (body, rest) = Lent::new(body, head.headers.contains_key(header::EXPECT));
    let mut request = Request::from_parts(head, body);
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let uri = request.uri().clone();

    let text: Arc<str> = Arc::from(id.to_str().unwrap_or_default());
    request.extensions_mut().insert(RequestId(Arc::clone(&text)));
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }

    let mut response = app.answer(request).await;
    let body_read = rest.thrown_away().await;
    if body_read {
        response.headers_mut().remove(header::CONNECTION);
    } else {
        // Else the client sends its next request down a connection that is being closed.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status().as_u16();
    if let Some(Cause(cause)) = response.extensions_mut().remove::<Cause>() {
        error!(id = &*text, status, cause, "the request failed");
    }
    let took = started.elapsed();
    if let Some(metrics) = metrics {
        let is_unknown = response.extensions().get::<AsIfUnknown>().is_some();
        let path = if is_unknown { "" } else { uri.path() };
        metrics.requests.answered(path, method.as_str(), status, took);
        if response.status() == StatusCode::TOO_MANY_REQUESTS
            && let Some(subject) = response.extensions().get::<Subject>()
        {
            metrics.requests.over_limit(subject.policy());
        }
    }
    let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    info!(method = method.as_str(), path = uri.path(), status, duration_us, id = &*text, "request");
    response.headers_mut().insert(REQUEST_ID, id);
    activity.answered(body_read);
    Ok(response)
}

async fn answer(api: Api, request: Request<Lent>) -> Response {
    let Api { mut router, wording, finish, long_bodies, .. } = api;
    let accepted = accepted_languages(request.headers());
    let response = if header_bytes(&request) > HEADER_LIMIT_BYTES {
        wording(Refusal::HeadersTooLarge)
    } else if announces_too_much(request.headers(), long_bodies.limit_bytes(request.uri().path())) {
        wording(Refusal::BodyTooLarge)
    } else {
        // What a panic leaves behind is dropped with the request; the ledger's state is not in here.
        let answered = AssertUnwindSafe(router.call(request)).catch_unwind();
        match timeout(REQUEST_DEADLINE, answered).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(never))) => match never {},
            Ok(Err(panic)) => wording(Refusal::Panicked(panic_message(&*panic))),
            Err(_) => wording(Refusal::DeadlinePassed),
        }
    };
    finish(accepted.as_ref(), response)
}

/// The `Accept-Language` of a request; several are one list.
fn accepted_languages(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(header::ACCEPT_LANGUAGE).iter();
    let first = values.next()?.clone();
    values.try_fold(first, |all, next| {
        HeaderValue::from_bytes(&[all.as_bytes(), b",", next.as_bytes()].concat()).ok()
    })
}

/// Whether the headers announce a body that is longer than it may be.
fn announces_too_much(headers: &HeaderMap, limit_bytes: usize) -> bool {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok())
        .is_some_and(|length| usize::try_from(length).map_or(true, |bytes| bytes > limit_bytes))
}

/// How long the request's head is; hyper's own limit is one of its buffer, and only nearly this.
fn header_bytes(request: &Request<Lent>) -> usize {
    const SEPARATORS_BYTES: usize = ": \r\n".len();
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    request.headers().iter().fold(path, |sum, (name, value)| {
        sum.saturating_add(name.as_str().len())
            .saturating_add(value.len())
            .saturating_add(SEPARATORS_BYTES)
    })
}
