//! What a browser sends of a form, and how a field comes back: with its value, and a sentence beside it where it is
//! wrong.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::header,
};
use http_body_util::{BodyExt, Limited};
use tokio::time::timeout;
use uuid::Uuid;

use super::{failure::Failure, words::Words};
use crate::{
    domain::ENTRY_REASON_MAX_CHARS,
    http::{BODY_LIMIT_BYTES, BODY_READ_TIMEOUT},
};

/// The field by which a form that is sent twice is known.
pub(super) const KEY: &str = "key";

/// The fields of a form, or of a query.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Those of a query.
    pub(super) fn of_query(query: Option<&str>) -> Self {
        Self::read(query.unwrap_or_default().as_bytes())
    }

    fn read(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// A field's value without the white space around it; empty where there is no such field.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(field, _)| field == name);
        found.map_or("", |(_, value)| value.trim())
    }

    /// Whether there is such a field, be it empty.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(field, _)| field == name)
    }

    /// Whether a box is ticked.
    pub(super) fn ticked(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// The form's idempotency key: the one it came with, or a new one.
    pub(super) fn key(&self) -> String {
        match self.get(KEY) {
            "" => Uuid::now_v7().to_string(),
            key => key.to_owned(),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = Failure;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Failure> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let is_form = kind.and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
            let essence = kind.split(';').next().unwrap_or_default();
            essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        if !is_form {
            return Err(Failure::NoForm);
        }
        let collecting = Limited::new(request.into_body(), BODY_LIMIT_BYTES).collect();
        match timeout(BODY_READ_TIMEOUT, collecting).await {
            Ok(Ok(body)) => Ok(Self::read(&body.to_bytes())),
            Ok(Err(_)) | Err(_) => Err(Failure::NoForm),
        }
    }
}

/// A field that somebody fills in.
#[derive(Debug, Default)]
pub(super) struct Field {
    pub(super) value: String,
    /// What is wrong with it.
    pub(super) problem: Option<String>,
}

impl Field {
    /// One with a value.
    pub(super) fn of(value: impl Into<String>) -> Self {
        Self { value: value.into(), problem: None }
    }

    /// Notes what is wrong; the first sentence counts.
    pub(super) fn wrong(&mut self, sentence: impl Into<String>) {
        self.problem.get_or_insert_with(|| sentence.into());
    }

    /// The whole number in it. Commas between digits, and Japanese digits, are what people type.
    pub(super) fn number(&self) -> Option<i64> {
        let plain = self.value.chars().filter(|letter| !matches!(letter, ',' | '，' | ' ' | '_'));
        let plain: String = plain
            .map(|letter| match letter {
                '−' | '－' => '-',
                '＋' => '+',
                '０'..='９' => u32::from(letter)
                    .checked_sub(u32::from('０'))
                    .and_then(|digit| char::from_digit(digit, 10))
                    .unwrap_or(letter),
                _ => letter,
            })
            .collect();
        plain.parse().ok()
    }
}

/// Finds a reason that the API would not take.
pub(super) fn reason(field: &mut Field, words: &'static Words) {
    if !(1..=ENTRY_REASON_MAX_CHARS).contains(&field.value.chars().count()) {
        field.wrong(words.reason_missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_people_type_them() {
        for (text, number) in [
            ("12", Some(12)),
            ("1,200", Some(1_200)),
            ("-5", Some(-5)),
            ("−5", Some(-5)),
            ("+5", Some(5)),
            ("１，２３４", Some(1_234)),
            ("", None),
            ("1.5", None),
            ("ten", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(Field::of(text).number(), number, "{text}");
        }
    }

    #[test]
    fn fields_are_known_by_their_names() {
        let fields = Fields::of_query(Some("a=1+2&b=%E3%83%A6&a=3&c=%20x%20"));
        assert_eq!(
            [fields.get("a"), fields.get("b"), fields.get("c"), fields.get("d")],
            ["1 2", "ユ", "x", ""]
        );
    }
}
