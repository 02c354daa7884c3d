//! A request's body: whether it may be read at all, its JSON, and what is wrong with that as a whole.
//! Single fields are read in `fields`.

use std::{borrow::Cow, collections::HashSet, fmt};

use axum::{
    body::Body,
    http::{HeaderMap, Request, header},
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use tokio::time::timeout;

use super::{
    BODY_LIMIT_BYTES, BODY_READ_TIMEOUT,
    error::ApiError,
    problem::{Location, Problem, Step},
};

/// Most duplicate keys that are listed; it bounds the answer to a hostile body.
const DUPLICATES_LISTED: usize = 20;

/// Reads a JSON body and returns its text: valid UTF-8, valid JSON, not empty.
pub(super) async fn read_json(request: Request<Body>) -> Result<JsonText, ApiError> {
    let media_type = MediaType::of(request.headers());
    if media_type == MediaType::Other {
        return Err(ApiError::UnsupportedMediaType);
    }
    let bytes = read(request.into_body()).await?;
    if bytes.is_empty() {
        return Err(ApiError::Unprocessable(vec![Problem::missing(vec![Step::from("body")])]));
    }
    if media_type == MediaType::None {
        return Err(ApiError::UnsupportedMediaType);
    }
    JsonText::parse(&bytes)
}

/// Whether the headers announce a body that is longer than any may be.
pub(super) fn announces_too_much(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok())
        .is_some_and(|length| {
            usize::try_from(length).map_or(true, |bytes| bytes > BODY_LIMIT_BYTES)
        })
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    let collected = timeout(BODY_READ_TIMEOUT, Limited::new(body, BODY_LIMIT_BYTES).collect())
        .await
        .map_err(|_| ApiError::BodyTooSlow)?;
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::BodyTooLarge),
        // Cut short: whoever still listens learns that it was no JSON.
        Err(_) => Err(ApiError::Unprocessable(vec![Problem::json_invalid()])),
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

/// The text of a JSON value, checked as a whole.
#[derive(Debug)]
pub(super) struct JsonText {
    text: String,
    duplicates: Vec<Problem>,
}

impl JsonText {
    fn parse(bytes: &[u8]) -> Result<Self, ApiError> {
        let invalid = || ApiError::Unprocessable(vec![Problem::json_invalid()]);
        let text = std::str::from_utf8(bytes).map_err(|_| invalid())?;
        let mut scan = Scan { path: vec![Step::from("body")], duplicates: Vec::new() };
        let mut parser = serde_json::Deserializer::from_str(text);
        scan.deserialize(&mut parser).and_then(|()| parser.end()).map_err(|_| invalid())?;
        Ok(Self { text: text.to_owned(), duplicates: scan.duplicates })
    }

    /// The text as it was sent.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The keys given twice in one object.
    pub(super) fn duplicates(&self) -> &[Problem] {
        &self.duplicates
    }
}

/// Walks through a JSON value as deep as the parser goes, looking for keys given twice.
struct Scan {
    path: Location,
    duplicates: Vec<Problem>,
}

impl<'de> DeserializeSeed<'de> for &mut Scan {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Scan {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0_usize;
        loop {
            self.path.push(Step::Index(index));
            let item = items.next_element_seed(&mut *self)?;
            self.path.pop();
            if item.is_none() {
                return Ok(());
            }
            index = index.saturating_add(1);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            self.path.push(Step::Key(Cow::Owned(key.clone())));
            if !seen.insert(key) && self.duplicates.len() < DUPLICATES_LISTED {
                self.duplicates.push(Problem::duplicate_key(self.path.clone()));
            }
            fields.next_value_seed(&mut *self)?;
            self.path.pop();
        }
        Ok(())
    }
}
