//! The operator's log: who did what to whom, when and why. It can only be read.

use askama::Template;
use axum::extract::RawQuery;
use serde::Deserialize;
use serde_json::Value;

use super::{
    answer::Page,
    calls::Call,
    failure::Failure,
    forms::Fields,
    frame::{Frame, Section},
    links, numbers,
    visitor::Visitor,
};

/// Lines of a page.
const LINES: &str = "50";
/// Longest text of a value that is shown.
const VALUE_MAX_CHARS: usize = 120;
/// Most values of a line that are shown.
const CHANGES_MAX: usize = 12;

/// A line of the log, as the API tells it.
#[derive(Debug, Deserialize)]
struct LogLine {
    at: String,
    actor: String,
    action: String,
    user_id: Option<String>,
    #[serde(default)]
    before: Value,
    #[serde(default)]
    after: Value,
    #[serde(default)]
    reason: String,
}

/// A value that an act changed, or by which what it changed is known.
#[derive(Debug, PartialEq)]
struct Changed {
    name: String,
    /// The value, or what it was and what it is.
    text: String,
}

impl LogLine {
    /// What became another value; what did not is left out, unless it is an id.
    fn changes(&self) -> Vec<Changed> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        flatten("", &self.before, &mut before);
        flatten("", &self.after, &mut after);
        let mut names: Vec<&String> = after.iter().map(|(name, _)| name).collect();
        names.extend(before.iter().map(|(name, _)| name).filter(|name| of(&after, name).is_none()));
        let changes = names.into_iter().filter_map(|name| {
            let text = match (of(&before, name), of(&after, name)) {
                (Some(same), Some(value)) if same == value => {
                    name.ends_with("_id").then(|| value.to_owned())?
                }
                (None, Some(value)) => value.to_owned(),
                (was, is) => format!("{} → {}", was.unwrap_or("–"), is.unwrap_or("–")),
            };
            Some(Changed { name: name.clone(), text })
        });
        changes.take(CHANGES_MAX).collect()
    }
}

/// A value by its name.
fn of<'a>(members: &'a [(String, String)], name: &str) -> Option<&'a str> {
    members.iter().find(|(other, _)| other == name).map(|(_, text)| text.as_str())
}

/// JSON as people read it: a name and a text for each value, with the names of what they are in before theirs.
fn flatten(name: &str, value: &Value, members: &mut Vec<(String, String)>) {
    let text = match value {
        Value::Object(inner) => {
            for (part, value) in inner {
                let whole = if name.is_empty() { part.clone() } else { format!("{name} {part}") };
                flatten(&whole, value, members);
            }
            return;
        }
        Value::Null if name.is_empty() => return,
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if !name.ends_with("_id") => {
            number.as_i64().map_or_else(|| number.to_string(), numbers::grouped)
        }
        other => other.to_string(),
    };
    let text = match text.char_indices().nth(VALUE_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    members.push((name.to_owned(), text));
}

#[derive(Template)]
#[template(path = "log.html")]
struct LogPage {
    frame: Frame,
    user: String,
    log: Vec<LogLine>,
    older: Option<String>,
}

/// The page: all of it, or what was done to one user.
pub(super) async fn page(
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Page<impl Template>, Failure> {
    let query = Fields::of_query(query.as_deref());
    let (user, before) = (query.get("user_id"), query.get("before"));
    let asked = [("limit", LINES), ("user_id", user), ("before", before)];
    let call = Call::get(links::with("/api/billing/operator/log", &asked));
    let (log, next) = visitor.list(call).await?;
    let older = next.map(|next| links::with("/log", &[("user_id", user), ("before", &next)]));
    let frame = Frame::new(&visitor, Section::Log, visitor.words.log);
    Ok(Page(LogPage { frame, user: user.to_owned(), log, older }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_shows_what_became_another_value() {
        let line = |before: Value, after: Value| {
            let line = json!({"at": "", "actor": "", "action": "", "user_id": null, "before": before, "after": after});
            let line = serde_json::from_value::<LogLine>(line).expect("a line");
            let texts =
                line.changes().into_iter().map(|Changed { name, text }| format!("{name}: {text}"));
            texts.collect::<Vec<_>>()
        };
        let price = json!({"model_id": "m", "price": 7_500, "category": "quick"});
        let dearer = json!({"model_id": "m", "price": 8_000, "category": "quick"});
        assert_eq!(line(price.clone(), dearer), ["model_id: m", "price: 7,500 → 8,000"]);
        let none = json!({"model_id": "m", "price": null, "category": null});
        assert_eq!(line(price, none), ["model_id: m", "price: 7,500 → –", "category: quick → –"]);
        let tokens = |left: i64| json!({"tokens": {"a": left, "b": 2}});
        assert_eq!(line(tokens(1), tokens(0)), ["tokens a: 1 → 0"]);
        assert_eq!(line(tokens(1), json!({"tokens": {}})), ["tokens a: 1 → –", "tokens b: 2 → –"]);
        assert_eq!(line(Value::Null, json!({"credits": 5})), ["credits: 5"]);
        assert!(line(Value::Null, Value::Null).is_empty());
        let long = line(Value::Null, json!({"name": "ユ".repeat(500)}));
        assert!(long[0].chars().count() < 200, "{long:?}");
    }
}
