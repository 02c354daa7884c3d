//! A request's body: whether it may be read at all, and its text. What the text says is read in `json`,
//! `fields` and `description`.

use axum::{
    body::Body,
    http::{HeaderMap, Request, header},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use super::{
    error::ApiError,
    problem::{Problem, Step},
};
use crate::http::{BODY_LIMIT_BYTES, BODY_READ_TIMEOUT, Refusal};

/// Reads a body that says it is JSON, and is not empty.
pub(super) async fn read_json(request: Request<Body>) -> Result<String, ApiError> {
    let media_type = MediaType::of(request.headers());
    if media_type == MediaType::Other {
        return Err(ApiError::UnsupportedMediaType);
    }
    let bytes = read(request.into_body(), BODY_LIMIT_BYTES).await?;
    if bytes.is_empty() {
        return Err(ApiError::Unprocessable(Problem::missing(vec![Step::from("body")]).into()));
    }
    if media_type == MediaType::None {
        return Err(ApiError::UnsupportedMediaType);
    }
    String::from_utf8(bytes.into()).map_err(|_| ApiError::json_invalid())
}

/// Reads a body of at most so many bytes, whatever it says that it is.
pub(super) async fn read(body: Body, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let mut collecting = Box::pin(Limited::new(body, limit_bytes).collect());
    // Most bodies came with their headers and need no timer, nor the room for one.
    let collected = match (&mut collecting).now_or_never() {
        Some(collected) => collected,
        None => Box::pin(timeout(BODY_READ_TIMEOUT, collecting))
            .await
            .map_err(|_| ApiError::BodyTooSlow)?,
    };
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::BodyTooLarge.into()),
        // Cut short: whoever still listens learns that it was no JSON.
        Err(_) => Err(ApiError::json_invalid()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MediaType {
    Json,
    Other,
    None,
}

impl MediaType {
    fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Self::None };
        let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        if essence.trim().eq_ignore_ascii_case("application/json") {
            Self::Json
        } else {
            Self::Other
        }
    }
}
