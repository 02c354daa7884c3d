//! Every error a client can see, and the one place that turns it into an answer.
//!
//! Each is JSON with a `detail`; nothing of the inside leaks. Texts of `credits/add` hold no digits or
//! ids: the app decides by certain digits in them whether a purchase is over.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::problem::{Problem, Problems};
use crate::{
    database::DatabaseError,
    domain::Refusal,
    http::{self, Cause, Subject},
    ledger::LedgerError,
    service::ServiceError,
};

/// What `Retry-After` tells clients, in seconds.
pub(super) const RETRY_AFTER_SECONDS: &str = "1";

/// Why a request gets no success.
#[derive(Debug)]
pub(super) enum ApiError {
    Unprocessable(Problems),
    InvalidCategory,
    NotFound,
    MethodNotAllowed,
    BodyTooLarge,
    BodyTooSlow,
    UnsupportedMediaType,
    InvalidIdempotencyKey,
    Internal(String),
    Transport(http::Refusal),
    Service(ServiceError),
}

impl ApiError {
    /// The body is no JSON.
    pub(super) fn json_invalid() -> Self {
        Self::Unprocessable(Problem::json_invalid().into())
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

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Unprocessable(problems) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "detail": problems })))
                    .into_response()
            }
            Self::InvalidCategory => coded(
                StatusCode::BAD_REQUEST,
                "invalid_category",
                "カテゴリーは 'quick' または 'think' である必要があります",
            ),
            Self::NotFound => plain(StatusCode::NOT_FOUND, "Not Found"),
            Self::MethodNotAllowed => plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed"),
            Self::BodyTooLarge => body_too_large(),
            Self::UnsupportedMediaType => closing(plain(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type, send Content-Type: application/json",
            )),
            Self::BodyTooSlow => closing(unavailable(
                "request_timeout",
                "The request body did not arrive in time, please try again",
            )),
            Self::InvalidIdempotencyKey => coded(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_idempotency_key",
                "The Idempotency-Key header must be given once, with 1 to 255 visible ASCII characters",
            ),
            Self::Internal(cause) => internal(cause),
            Self::Transport(refusal) => worded(refusal),
            Self::Service(error) => service_error(error),
        }
    }
}

/// How the transport's refusals read.
pub(super) fn worded(refusal: http::Refusal) -> Response {
    match refusal {
        http::Refusal::BodyTooLarge => body_too_large(),
        http::Refusal::HeadersTooLarge => {
            closing(plain(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Request headers too large"))
        }
        http::Refusal::Unauthorized => unauthorized(),
        http::Refusal::TooManyRequests(subject) => coded(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            match subject {
                Subject::User => "Too many requests, please wait a moment and try again",
                Subject::Address => {
                    "Too many requests without a valid token, please wait a moment or login again"
                }
            },
        ),
        http::Refusal::DeadlinePassed => unavailable(
            "deadline_exceeded",
            "The request took too long, please check the balance and try again",
        ),
        http::Refusal::Panicked(cause) => internal(cause),
    }
}

fn body_too_large() -> Response {
    closing(plain(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large"))
}

fn service_error(error: ServiceError) -> Response {
    match error {
        ServiceError::Ledger(LedgerError::Refused(refusal)) => refused(&refusal),
        ServiceError::Ledger(LedgerError::KeyReused) => coded(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request; send a new key",
        ),
        ServiceError::Ledger(LedgerError::Overloaded) => {
            unavailable("overloaded", "The service is busy, please try again")
        }
        ServiceError::Ledger(LedgerError::Stopping) => {
            unavailable("shutting_down", "The service is restarting, please try again")
        }
        ServiceError::Ledger(LedgerError::Unavailable) => {
            with_cause(database_unavailable(), "the ledger says why".to_owned())
        }
        ServiceError::Database(DatabaseError::Unavailable(cause)) => {
            with_cause(database_unavailable(), cause)
        }
        ServiceError::Database(error) => internal(error.to_string()),
        ServiceError::Ledger(LedgerError::Failed(cause)) => internal(cause),
        ServiceError::ResetDisabled => coded(
            StatusCode::FORBIDDEN,
            "reset_disabled",
            "This endpoint is not available in production environment",
        ),
    }
}

/// The sentences the app shows as they are.
fn refused(refusal: &Refusal) -> Response {
    let (detail, numbers) = match refusal {
        Refusal::PurchaseAlreadyProcessed => {
            return coded(StatusCode::CONFLICT, refusal.code(), "Purchase already processed");
        }
        Refusal::BalanceOverflow => {
            return unavailable(
                refusal.code(),
                "クレジット残高が上限に達するため、今は追加できません。残高を使ってからもう一度お試しください",
            );
        }
        Refusal::InsufficientCredits { required, available } => (
            format!("クレジット不足: 必要={required}, 残高={available}"),
            // At most 50 items of 10^9 credits each.
            json!({ "required": i64::try_from(*required).unwrap_or(i64::MAX), "available": available }),
        ),
        Refusal::ModelNotPriced { model } => {
            (format!("モデル {model} の価格情報が見つかりません"), json!({ "model_id": model }))
        }
        Refusal::CapacityExceeded { category, limit, available, max_credits } => (
            format!("容量制限超過: {category}カテゴリーの上限は{limit}トークンです"),
            json!({
                "category": category, "limit": limit, "available": available,
                "max_credits": max_credits,
            }),
        ),
        Refusal::AllocationTooSmall { model } => (
            format!(
                "モデル {model} に割り当てるクレジットが少なすぎます。1トークンも購入できません"
            ),
            json!({ "model_id": model }),
        ),
        Refusal::NoTokenBalance { model } => {
            (format!("モデル {model} のトークン残高がありません"), json!({ "model_id": model }))
        }
        Refusal::InsufficientTokens { required, available } => (
            format!("トークン不足: 必要={required}, 残高={available}"),
            json!({ "required": required, "available": available }),
        ),
    };
    let mut body = Map::new();
    body.insert("detail".to_owned(), detail.into());
    body.insert("code".to_owned(), refusal.code().into());
    if let Value::Object(numbers) = numbers {
        body.extend(numbers);
    }
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

fn plain(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}

fn coded(status: StatusCode, code: &str, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail, "code": code }))).into_response()
}

/// Always the same: whoever guesses tokens learns nothing from it.
fn unauthorized() -> Response {
    let mut response = coded(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "Invalid or expired token. Please login again.",
    );
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Tells the client that the connection ends, because the rest of its request is not read.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// 503: it may pass later.
fn unavailable(code: &str, detail: &str) -> Response {
    retry_later(coded(StatusCode::SERVICE_UNAVAILABLE, code, detail))
}

/// 503: the database can't be read or written.
pub(super) fn database_unavailable() -> Response {
    unavailable("database_unavailable", "The database is not available, please try again")
}

/// Tells the client when to come back.
pub(super) fn retry_later(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
    response
}

fn internal(cause: String) -> Response {
    with_cause(plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"), cause)
}

fn with_cause(mut response: Response, cause: String) -> Response {
    response.extensions_mut().insert(Cause(cause));
    response
}
