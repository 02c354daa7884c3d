//! Repeated requests: the `Idempotency-Key` header, the fingerprint of what came with it, and the mark
//! on an answer that was given before.

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderValue, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{description::Body, error::ApiError, fields::read_object};
use crate::domain::{Applied, Fingerprint, IdempotencyKey, Keyed};

pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
pub(super) const REPLAYED: &str = "idempotency-replayed";

/// The key of a request, if its client gave it one, with the request's path.
#[derive(Debug)]
pub(super) struct RequestKey(Option<(IdempotencyKey, String)>);

impl<S: Send + Sync> FromRequestParts<S> for RequestKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let key = value.to_str().ok().and_then(|text| IdempotencyKey::new(text).ok());
        match (key, values.next()) {
            (Some(key), None) => Ok(Self(Some((key, parts.uri.path().to_owned())))),
            _ => Err(ApiError::InvalidIdempotencyKey),
        }
    }
}

impl RequestKey {
    /// Reads a whole body, and gives with it the key and the request's fingerprint.
    pub(super) fn read<T: Body>(self, body: &str) -> Result<(T, Option<Keyed>), ApiError> {
        read_object(body, |object| {
            let (key, path) = self.0?;
            let canonical = object.canonical().expect("the body was read to its end");
            Some(Keyed { key, fingerprint: Fingerprint::of(&path, &canonical) })
        })
    }

    /// The same for a request whose body does not matter.
    pub(super) fn of_no_body(self) -> Option<Keyed> {
        let (key, path) = self.0?;
        Some(Keyed { key, fingerprint: Fingerprint::of(&path, "") })
    }
}

/// Answers with the body that the outcome makes, whether it is told for the first time or again.
pub(super) fn answer<T, B: Serialize>(applied: Applied<T>, body: impl FnOnce(T) -> B) -> Response {
    let Applied { outcome, replayed } = applied;
    let mut response = Json(body(outcome)).into_response();
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}
