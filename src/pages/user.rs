//! One user: what there is, how it adds up, and how it came to be.

use std::collections::BTreeMap;

use askama::Template;
use axum::{
    extract::RawQuery,
    http::{HeaderValue, header},
    response::Response,
};
use chrono::{Days, NaiveDate};
use serde::Deserialize;

use super::{
    answer::Page,
    calls::Call,
    charts::Chart,
    failure::Failure,
    forms::Fields,
    frame::{Frame, Section},
    ledger::Line,
    links, numbers,
    purchases::Purchase,
    visitor::Visitor,
};
use crate::domain::UserId;

/// The kinds of entries, as the API names them.
const KINDS: [&str; 8] = [
    "purchase",
    "grant",
    "allocation",
    "consumption",
    "return",
    "reversal",
    "refund",
    "adjustment",
];
/// Lines of the ledger that are shown at once.
const LINES: &str = "50";
/// Lines of it that come along with a user.
const NEWEST: usize = 20;
/// Days of a chart, with today.
const DAYS: u64 = 30;

/// A user, as the API tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Account {
    pub(super) user_id: String,
    pub(super) wallet: Wallet,
    pub(super) frozen: bool,
    pub(super) holds: Vec<OpenHold>,
    purchases: Vec<Purchase>,
    ledger: Vec<Line>,
    usage: Vec<Used>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wallet {
    pub(super) credits: Credits,
    pub(super) tokens: BTreeMap<String, Tokens>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Credits {
    pub(super) total: i64,
    pub(super) bonus: i64,
}

impl Credits {
    /// What was bought of them.
    pub(super) const fn paid(&self) -> i64 {
        self.total.saturating_sub(self.bonus)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Tokens {
    pub(super) allocated: i64,
    held: i64,
    available: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct OpenHold {
    pub(super) hold_id: String,
    pub(super) model_id: String,
    pub(super) held_tokens: i64,
    expires_at: String,
}

#[derive(Debug, Deserialize)]
struct Used {
    day: NaiveDate,
    model_id: String,
    total_tokens: i64,
}

/// Every one of the last days, also those on which nothing was used.
fn by_day(used: &[Used], today: NaiveDate) -> Vec<(String, BTreeMap<String, i64>)> {
    let days = (0..DAYS).rev().filter_map(|ago| today.checked_sub_days(Days::new(ago)));
    let mut by_day: BTreeMap<NaiveDate, BTreeMap<String, i64>> =
        days.map(|day| (day, BTreeMap::new())).collect();
    for used in used {
        if let Some(models) = by_day.get_mut(&used.day) {
            models.insert(used.model_id.clone(), used.total_tokens);
        }
    }
    by_day.into_iter().map(|(day, models)| (day.to_string(), models)).collect()
}

#[derive(Template)]
#[template(path = "user.html")]
struct UserPage {
    frame: Frame,
    account: Account,
    models: Vec<String>,
    used: Chart,
    kinds: [&'static str; 8],
    kind: String,
    model: String,
    lines: Vec<Line>,
    older: Option<String>,
    csv: String,
}

impl UserPage {
    /// Whether it is what is left of somebody.
    fn is_erased(&self) -> bool {
        UserId::new(self.account.user_id.as_str()).is_ok_and(|user| user.is_erased())
    }

    /// A form about this user.
    fn act(&self, act: &str) -> String {
        self.act_about(act, "")
    }

    /// A form about one thing of this user's.
    fn act_about(&self, act: &str, about: impl AsRef<str>) -> String {
        let query = [("id", self.account.user_id.as_str()), ("about", about.as_ref())];
        links::with(&format!("/user/{act}"), &query)
    }
}

/// The user of a name.
pub(super) async fn account(visitor: &Visitor, user: &str) -> Result<Account, Failure> {
    if user.is_empty() {
        return Err(Failure::NotFound);
    }
    let path = format!("/api/billing/operator/users/{}", links::segment(user));
    visitor.tell(Call::get(path)).await
}

/// The page.
pub(super) async fn page(
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Page<impl Template>, Failure> {
    let query = Fields::of_query(query.as_deref());
    let (user, kind, model) = (query.get("id"), query.get("type"), query.get("model_id"));
    let asked =
        [("limit", LINES), ("type", kind), ("model_id", model), ("before", query.get("before"))];
    let mut account = account(&visitor, user).await?;
    let newest = std::mem::take(&mut account.ledger);
    // Of all kinds the newest have come along.
    let (lines, next) = if [kind, model, query.get("before")] == [""; 3] {
        let last = newest.last().filter(|_| newest.len() >= NEWEST).map(|line| line.id.to_string());
        (newest, last)
    } else {
        let ledger = Call::get(links::with("/api/billing/ledger", &asked)).about(user);
        visitor.list(ledger).await?
    };
    let here = |path: &str, before: &str| {
        links::with(path, &[("id", user), ("type", kind), ("model_id", model), ("before", before)])
    };
    let words = visitor.words;
    let today = visitor.room.now().date_naive();
    Ok(Page(UserPage {
        frame: Frame::new(&visitor, Section::Users, user),
        models: account.wallet.tokens.keys().cloned().collect(),
        used: Chart::by_name(words.chart_usage, words.others, &by_day(&account.usage, today)),
        kinds: KINDS,
        older: next.map(|before| here("/user", &before)),
        csv: here("/user/ledger.csv", ""),
        kind: kind.to_owned(),
        model: model.to_owned(),
        lines,
        account,
    }))
}

/// The ledger as the API gives it, to be kept as a file.
pub(super) async fn csv(visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let query = Fields::of_query(query.as_deref());
    let asked = [("type", query.get("type")), ("model_id", query.get("model_id"))];
    let call = Call::get(links::with("/api/billing/ledger", &asked));
    let mut response = visitor.answer(call.about(query.get("id")).for_csv()).await?;
    if !response.status().is_success() {
        return Err(Failure::NotFound);
    }
    let kept = HeaderValue::from_static("attachment; filename=\"ledger.csv\"");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, kept);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_is_drawn() {
        let day = |text: &str| text.parse::<NaiveDate>().expect("a day");
        let used = Used { day: day("2026-11-02"), model_id: "a".to_owned(), total_tokens: 5 };
        let days = by_day(&[used], day("2026-11-03"));
        assert_eq!(days.len(), 30);
        assert_eq!(days[0], ("2026-10-05".to_owned(), BTreeMap::new()));
        assert_eq!(days[28].1, BTreeMap::from([("a".to_owned(), 5)]));
    }
}
