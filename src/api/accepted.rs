//! Which of two kinds of answer a client would rather have. What is in them is the resource's business.

use axum::http::{HeaderMap, header};

/// The weight of a range that names none, and the highest.
const WHOLE: u16 = 1_000;

/// Whether an `Accept` wants CSV more than JSON. Without one, and where both are as welcome, JSON it is.
pub(super) fn wants_csv(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<(&str, u16)> = values.flat_map(|text| text.split(',')).map(range).collect();
    quality(&ranges, "text", "csv") > quality(&ranges, "application", "json")
}

/// A range of media types, with its weight in thousandths. Parameters besides the weight are not looked at.
fn range(text: &str) -> (&str, u16) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| thousandths(value.trim()))
    });
    (range, weight.unwrap_or(WHOLE))
}

/// The thousandths of `0.5`; none of what is no weight.
fn thousandths(text: &str) -> u16 {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let value = format!("{whole}{decimals:0<3}").parse();
    value.ok().filter(|value| digits && *value <= WHOLE).unwrap_or(0)
}

/// What the range says that names the type most closely.
fn quality(ranges: &[(&str, u16)], kind: &str, subtype: &str) -> u16 {
    let closeness = |range: &str| {
        let (of_range, subtype_of_range) = range.split_once('/')?;
        let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
        match (of_range, subtype_of_range) {
            ("*", "*") => Some(0),
            (one, "*") if same(one, kind) => Some(1),
            (one, other) if same(one, kind) && same(other, subtype) => Some(2),
            _ => None,
        }
    };
    let close = ranges.iter().filter_map(|(range, weight)| Some((closeness(range)?, *weight)));
    close.max().map_or(0, |(_, weight)| weight)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn csv_is_sent_to_those_who_like_it_better() {
        for (accepted, csv) in [
            ("text/csv", true),
            ("TEXT/CSV; charset=utf-8", true),
            ("text/csv, application/json;q=0.9", true),
            ("text/csv;q=0.5, */*;q=0.1", true),
            ("text/*", true),
            ("text/csv;q=0.001", true),
            ("", false),
            ("*/*", false),
            ("application/json", false),
            ("text/csv, application/json", false),
            ("text/csv;q=0.5, application/json", false),
            ("text/csv;q=0.5, */*", false),
            ("text/csv;q=0", false),
            ("text/csv;q=0, text/*", false),
            ("text/csv;q=x", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
        ] {
            let value = HeaderValue::from_static(accepted);
            let headers = HeaderMap::from_iter([(header::ACCEPT, value)]);
            assert_eq!(wants_csv(&headers), csv, "{accepted:?}");
        }
        assert!(!wants_csv(&HeaderMap::new()));
    }
}
