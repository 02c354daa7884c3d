//! What the app stores push. They call these addresses, not clients: nobody logs in, for each message proves itself,
//! and the document does not describe them.

use std::sync::{Arc, LazyLock};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Request, StatusCode, header},
    routing::post,
};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::{body, error::ApiError};
use crate::{
    domain::Store,
    http::{BODY_LIMIT_BYTES, LongBodies, Refusal},
    ledger::LedgerError,
    service::{NotTaken, Notifications, ServiceError},
    stores::Unreadable,
};

/// Most bytes of a message. Apple's have some 20 KB, Google's one.
const MESSAGE_LIMIT_BYTES: usize = 262_144;
/// Most messages at a time that are longer than any other request's body may be. They hold memory before they have
/// proved anything.
const LONG_MESSAGES_MAX: usize = 32;

const GOOGLE: &str = "/api/billing/notifications/google";
const APPLE: &str = "/api/billing/notifications/apple";
/// Both, so that each is a part of it.
const PATHS: [&str; 2] = [GOOGLE, APPLE];

/// The empty answer to Apple.
#[derive(Serialize)]
struct Taken {}

/// The addresses of the stores that push. The others are none.
pub(super) fn routes(notifications: Option<Arc<Notifications>>) -> Router {
    let Some(notifications) = notifications else { return Router::new() };
    let mut router = Router::new();
    for store in Store::ALL.into_iter().filter(|store| notifications.hear(*store)) {
        router = match store {
            Store::Google => router.route(GOOGLE, post(google)),
            Store::Apple => router.route(APPLE, post(apple)),
        };
    }
    router.with_state(notifications)
}

/// Where bodies may be longer than elsewhere.
pub(super) fn long_bodies(notifications: Option<&Notifications>) -> LongBodies {
    let heard = |store| notifications.is_some_and(|notifications| notifications.hear(store));
    let paths: &[_] = match (heard(Store::Google), heard(Store::Apple)) {
        (false, false) => &[],
        (true, false) => &[GOOGLE],
        (false, true) => &[APPLE],
        (true, true) => &PATHS,
    };
    LongBodies { paths, limit_bytes: MESSAGE_LIMIT_BYTES }
}

/// The paths, for those who tell them apart.
pub(super) fn paths() -> impl Iterator<Item = String> {
    PATHS.into_iter().map(str::to_owned)
}

async fn google(
    State(notifications): State<Arc<Notifications>>,
    request: Request<Body>,
) -> Result<StatusCode, ApiError> {
    let (head, body) = request.into_parts();
    let authorization = authorization(&head.headers);
    // Who has nothing to show need not be listened to.
    let message = if authorization.is_some() { read(body).await? } else { bytes::Bytes::new() };
    notifications.take_google(authorization, &message).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn apple(
    State(notifications): State<Arc<Notifications>>,
    request: Request<Body>,
) -> Result<Json<Taken>, ApiError> {
    let message = read(request.into_body()).await?;
    notifications.take_apple(&message).await?;
    Ok(Json(Taken {}))
}

/// The bytes of a message, whatever it says that it is.
async fn read(body: Body) -> Result<bytes::Bytes, ApiError> {
    static LONG_MESSAGES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(LONG_MESSAGES_MAX));
    let limit = u64::try_from(BODY_LIMIT_BYTES).unwrap_or(u64::MAX);
    let is_short = hyper::body::Body::size_hint(&body).upper().is_some_and(|most| most <= limit);
    let _held = if is_short {
        None
    } else {
        let held = LONG_MESSAGES.try_acquire();
        Some(held.map_err(|_| ServiceError::from(LedgerError::Overloaded))?)
    };
    body::read(body, MESSAGE_LIMIT_BYTES).await
}

/// The value of the one `Authorization` header.
fn authorization(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

impl From<NotTaken> for ApiError {
    fn from(error: NotTaken) -> Self {
        match error {
            NotTaken::Unreadable(Unreadable::Unproven(_)) => Refusal::Unauthorized.into(),
            NotTaken::Unreadable(Unreadable::KeysUnavailable) => Refusal::LoginUnavailable.into(),
            NotTaken::Unreadable(Unreadable::NotSetUp) => Self::NotFound,
            NotTaken::Crowded => ServiceError::from(LedgerError::Overloaded).into(),
            NotTaken::NotKept(error) => ServiceError::from(error).into(),
        }
    }
}
