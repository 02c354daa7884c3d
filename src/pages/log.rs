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
/// Longest text of a change that is shown.
const CHANGE_MAX_CHARS: usize = 160;

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

impl LogLine {
    /// What it was before, and after.
    fn change(&self) -> String {
        let (before, after) = (plain(&self.before), plain(&self.after));
        let whole = match (before.is_empty(), after.is_empty()) {
            (true, true) => String::new(),
            (true, false) => after,
            (false, true) => format!("{before} →"),
            (false, false) => format!("{before} → {after}"),
        };
        match whole.char_indices().nth(CHANGE_MAX_CHARS) {
            Some((end, _)) => format!("{}…", &whole[..end]),
            None => whole,
        }
    }
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

/// JSON as people read it: names and values, without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| match value {
                Value::Object(_) => format!("{name} ({})", plain(value)),
                Value::Null => format!("{name} –"),
                value => format!("{name} {}", plain(value)),
            });
            members.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_reads_as_before_and_after() {
        let line = |before: Value, after: Value| {
            let line = json!({"at": "", "actor": "", "action": "", "user_id": null, "before": before, "after": after});
            serde_json::from_value::<LogLine>(line).expect("a line").change()
        };
        let (price, dearer) =
            (json!({"price": 75, "category": "quick"}), json!({"price": 80, "category": null}));
        assert_eq!(line(price.clone(), dearer), "price 75, category quick → price 80, category –");
        assert_eq!(line(Value::Null, json!({"credits": 5})), "credits 5");
        assert_eq!(line(price, Value::Null), "price 75, category quick →");
        assert_eq!(line(Value::Null, Value::Null), "");
        assert!(line(Value::Null, json!("ユ".repeat(500))).chars().count() < 200);
    }
}
