//! The query of the history: filters in, problems or a filter out.

use std::borrow::Cow;

use super::{
    error::ApiError,
    fields::{identifier_problem, noted},
    problem::{Location, Lowest, Problem, Range, Step},
};
use crate::domain::{EntryKind, HistoryFilter, ModelId};

pub(super) const DEFAULT_LIMIT: u16 = 100;
pub(super) const LIMIT: Range = Range { lowest: Lowest::From(1), highest: 1_000 };
pub(super) const BEFORE: Range = Range { lowest: Lowest::From(1), highest: i64::MAX };

/// Reads the filters of a history page. Of a parameter given twice the last counts, unknown ones are
/// ignored.
pub(super) fn history_filter(query: &str) -> Result<HistoryFilter, ApiError> {
    let mut problems = Vec::new();
    let limit = last(query, "limit")
        .and_then(|text| noted(integer(&text, LIMIT, &location("limit")), &mut problems))
        .and_then(|limit| u16::try_from(limit).ok());
    let before = last(query, "before")
        .and_then(|text| noted(integer(&text, BEFORE, &location("before")), &mut problems));
    let kind = last(query, "type").and_then(|text| noted(kind(&text), &mut problems));
    let model = last(query, "model_id").and_then(|text| {
        let model =
            ModelId::new(text).map_err(|error| identifier_problem(error, location("model_id")));
        noted(model, &mut problems)
    });
    if problems.is_empty() {
        Ok(HistoryFilter { limit: limit.unwrap_or(DEFAULT_LIMIT), before, kind, model })
    } else {
        Err(ApiError::Unprocessable(problems))
    }
}

/// The query that leads to the page after one that ended with `last_id`.
pub(super) fn next_page(filter: &HistoryFilter, last_id: i64) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &filter.limit.to_string());
    if let Some(kind) = filter.kind {
        query.append_pair("type", kind.name());
    }
    if let Some(model) = &filter.model {
        query.append_pair("model_id", model.as_str());
    }
    query.append_pair("before", &last_id.to_string());
    query.finish()
}

fn last<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name).last().map(|(_, v)| v)
}

fn location(name: &'static str) -> Location {
    vec![Step::from("query"), Step::from(name)]
}

fn integer(text: &str, range: Range, loc: &Location) -> Result<i64, Problem> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::int_parsing(loc.clone()));
    }
    range.check_digits(text, || loc.clone())
}

fn kind(text: &str) -> Result<EntryKind, Problem> {
    EntryKind::from_name(text).ok_or_else(|| {
        Problem::new(
            "literal_error",
            location("type"),
            "Input should be 'purchase', 'allocation' or 'consumption'",
        )
    })
}
