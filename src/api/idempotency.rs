//! Repeated requests: the `Idempotency-Key` header, the fingerprint of what came with it, and the mark
//! on an answer that was given before.

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderValue, Method, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{description::Body, error::ApiError, fields::read_object};
use crate::domain::{Applied, Fingerprint, IdempotencyKey, Keyed};

pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
pub(super) const REPLAYED: &str = "idempotency-replayed";

/// The key of a request, if its client gave it one, with the request's path.
#[derive(Debug)]
pub(super) struct RequestKey(Option<RequestName>);

#[derive(Debug)]
struct RequestName {
    key: IdempotencyKey,
    /// The path, and before it the method where it is not POST.
    called: String,
    by_operator: bool,
}

impl RequestName {
    fn of(key: IdempotencyKey, parts: &Parts) -> Self {
        let path = parts.uri.path();
        let called = match &parts.method {
            &Method::POST => path.to_owned(),
            method => format!("{method} {path}"),
        };
        Self { key, called, by_operator: false }
    }

    fn with_body(self, canonical: &str) -> Keyed {
        let Self { key, called, by_operator } = self;
        Keyed { key, fingerprint: Fingerprint::of(&called, canonical), by_operator }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let key = value.to_str().ok().and_then(|text| IdempotencyKey::new(text).ok());
        match (key, values.next()) {
            (Some(key), None) => Ok(Self(Some(RequestName::of(key, parts)))),
            _ => Err(ApiError::InvalidIdempotencyKey),
        }
    }
}

impl RequestKey {
    /// Reads a whole body, and gives with it the key and the request's fingerprint.
    pub(super) fn read<T: Body>(self, body: &str) -> Result<(T, Option<Keyed>), ApiError> {
        read_object(body, |object| {
            let canonical = object.canonical().expect("the body was read to its end");
            Some(self.0?.with_body(&canonical))
        })
    }

    /// The same for a request whose body does not matter.
    pub(super) fn of_no_body(self) -> Option<Keyed> {
        Some(self.0?.with_body(""))
    }

    /// The same key as one of the operators' own, whatever account the request is about.
    pub(super) fn of_operators(self) -> Self {
        Self(self.0.map(|name| RequestName { by_operator: true, ..name }))
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
