//! Why a request gets no success, and how that is answered. What each error says is in `code`.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    code::Entry,
    language::Language,
    problem::{Problem, Problems},
};
use crate::{
    database::DatabaseError,
    http::{self, AsIfUnknown, Cause, Finish},
    ledger::LedgerError,
    service::ServiceError,
};

/// What `Retry-After` tells clients, in seconds, unless there is a reason to wait longer.
pub(super) const RETRY_AFTER_SECONDS: u16 = 1;

/// Why a request gets no success.
#[derive(Debug)]
pub(super) enum ApiError {
    Unprocessable(Problems),
    InvalidCategory,
    NotFound,
    MethodNotAllowed,
    BodyTooSlow,
    UnsupportedMediaType,
    InvalidIdempotencyKey,
    DatabaseUnavailable,
    /// The same, as `health` says it.
    Unhealthy,
    Internal(String),
    Transport(http::Refusal),
    Service(ServiceError),
}

impl ApiError {
    /// The body is no JSON.
    pub(super) fn json_invalid() -> Self {
        Self::Unprocessable(Problem::json_invalid().into())
    }

    /// What the log says of it.
    fn cause(&self) -> Option<Cause> {
        let cause = match self {
            Self::Internal(cause)
            | Self::Transport(http::Refusal::Panicked(cause))
            | Self::Service(
                ServiceError::Ledger(LedgerError::Failed(cause))
                | ServiceError::Database(DatabaseError::Unavailable(cause)),
            ) => cause.clone(),
            Self::Service(ServiceError::Ledger(LedgerError::Unavailable)) => {
                "the ledger says why".to_owned()
            }
            Self::Service(ServiceError::Database(error)) => error.to_string(),
            _ => return None,
        };
        Some(Cause(cause))
    }

    /// Whether the connection ends, because the rest of the request is not read.
    const fn closes(&self) -> bool {
        matches!(
            self,
            Self::UnsupportedMediaType
                | Self::BodyTooSlow
                | Self::Transport(http::Refusal::BodyTooLarge | http::Refusal::HeadersTooLarge)
        )
    }
}

impl From<Problems> for ApiError {
    fn from(problems: Problems) -> Self {
        Self::Unprocessable(problems)
    }
}

impl From<http::Refusal> for ApiError {
    fn from(refusal: http::Refusal) -> Self {
        Self::Transport(refusal)
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

/// An answer without its body: which language the client reads is known where [`finishing`] writes it.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (cause, closes) = (self.cause(), self.closes());
        let entry = Entry::from(self);
        let mut response = entry.status.into_response();
        let headers = response.headers_mut();
        if closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if entry.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = entry.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(cause) = cause {
            response.extensions_mut().insert(cause);
        }
        response.extensions_mut().insert(entry);
        response
    }
}

/// How the transport's refusals are answered.
pub(super) fn worded(refusal: http::Refusal) -> Response {
    ApiError::Transport(refusal).into_response()
}

/// Writes what errors say, in the language of the client or else in this one. Successes pass untouched.
pub(super) fn finishing(default: Language) -> Finish {
    match default {
        Language::Japanese => |accepted, response| written(accepted, response, Language::Japanese),
        Language::English => |accepted, response| written(accepted, response, Language::English),
    }
}

fn written(accepted: Option<&HeaderValue>, mut response: Response, default: Language) -> Response {
    let Some(entry) = response.extensions_mut().remove::<Entry>() else { return response };
    let language = Language::asked_for(accepted, default);
    let is_unknown = response.extensions().get::<AsIfUnknown>().is_some();
    let headers = response.headers_mut();
    if is_unknown {
        // The router tells of the path's methods.
        headers.remove(header::ALLOW);
    }
    if entry.is_translated() {
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        headers.append(header::VARY, HeaderValue::from_static("accept-language"));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = entry.body(language).to_string();
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    // In answer to HEAD only its length is sent.
    *response.body_mut() = Body::from(body);
    response
}
