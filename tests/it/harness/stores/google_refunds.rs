//! What Google Play gives back: its list of voided purchases, and its question how much of an order was used, before
//! it decides on a chargeback. What a purchase itself says does not belong here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    Answer, Call,
    asked::{Asked, Target},
    desk::Desk,
};

/// Most entries of a page that may be asked for.
const PAGE_ENTRIES_MOST: usize = 1_000;
/// How far back the list goes, in milliseconds.
const LISTED_MS: u64 = 30 * 86_400_000;
/// A whole, in thousandths of a percent.
const WHOLE_MILLIUNITS: u64 = 100_000;

/// What was given back, and what is under review.
#[derive(Debug)]
pub(crate) struct GoogleRefunds {
    desk: Arc<Desk>,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    voids: Vec<Value>,
    /// Most entries of a page, if a test wants fewer than are asked for.
    page_entries: Option<usize>,
    /// From when, and from which place, each page that was named goes on.
    pages: Vec<(u64, usize)>,
    /// The token of each order's review.
    reviews: BTreeMap<String, String>,
}

/// What the list says of a purchase that was given back whole, which a test may change.
pub(crate) fn voided(token: &str, order: &str, voided_ms: u64) -> Value {
    json!({
        "kind": "androidpublisher#voidedPurchase",
        "purchaseToken": token,
        "purchaseTimeMillis": (voided_ms - 60_000).to_string(),
        "voidedTimeMillis": voided_ms.to_string(),
        "orderId": order,
        "voidedSource": 0,
        "voidedReason": 1,
    })
}

impl GoogleRefunds {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        Self { desk, records: Mutex::default() }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry on the list, such as [`voided`] makes.
    pub(crate) fn void(&self, entry: &Value) {
        self.records().voids.push(entry.clone());
    }

    /// Has a page hold so many entries at most.
    pub(crate) fn a_page_holds(&self, entries: usize) {
        self.records().page_entries = Some(entries);
    }

    /// Begins a review of an order, under this token.
    pub(crate) fn review(&self, order: &str, token: &str) {
        self.records().reviews.insert(order.to_owned(), token.to_owned());
    }

    /// What is asked for behind the package.
    pub(super) fn target(&self, asked: &Asked, segments: &[&str]) -> Option<Target> {
        match segments {
            ["purchases", "voidedpurchases"] if asked.method == Method::GET => {
                Some(Target::plain(Call::Voided))
            }
            ["orders", last] if asked.method == Method::POST => {
                let subject = asked.segment(last.strip_suffix(":reviewrefund")?, &self.desk);
                Some(Target { call: Call::Review, subject, product: None })
            }
            _ => None,
        }
    }

    /// What is wrong with how it is asked for.
    pub(super) fn problem(&self, asked: &Asked, call: Call) -> Option<String> {
        if call == Call::Review {
            return review_problem(asked);
        }
        let query = asked.fields();
        let text = |name: &str| query.get(name).map(String::as_str);
        let entries = text("maxResults").and_then(|entries| entries.parse().ok());
        let place = match (text("startTime"), text("token")) {
            (Some(start), None) => start.parse::<u64>().is_ok(),
            (None, Some(token)) => self.page(token).is_some(),
            _ => false,
        };
        let fits = query.len() == 4
            && text("type") == Some("0")
            && text("includeQuantityBasedPartialRefund") == Some("true")
            && entries.is_some_and(|entries| (1..=PAGE_ENTRIES_MOST).contains(&entries))
            && place
            && asked.body.is_empty();
        (!fits).then(|| format!("the query is {:?}", asked.query))
    }

    pub(super) fn carry_out(&self, asked: &Asked, target: &Target) -> Answer {
        if target.call == Call::Review { self.answered(asked, target) } else { self.list(asked) }
    }

    fn answered(&self, asked: &Asked, target: &Target) -> Answer {
        match self.records().reviews.get(&target.subject) {
            None => Answer::google(404, "global", "notFound", "The order was not found."),
            Some(token) if asked.json()["pendingRefundToken"] != json!(token) => {
                Answer::google(400, "global", "invalid", "Invalid value.")
            }
            // The first counts, and all later ones are as welcome.
            Some(_) => Answer::empty(200),
        }
    }

    fn page(&self, token: &str) -> Option<(u64, usize)> {
        let number: usize = token.strip_prefix("CAAS+/")?.strip_suffix("==")?.parse().ok()?;
        self.records().pages.get(number).copied()
    }

    fn list(&self, asked: &Asked) -> Answer {
        let query = asked.fields();
        let invalid = || Answer::google(400, "global", "invalid", "Invalid value.");
        let number = |name: &str| query.get(name)?.parse::<u64>().ok();
        let place = match (number("startTime"), query.get("token")) {
            (Some(start), _) => Some((start, 0)),
            (None, token) => token.and_then(|token| self.page(token)),
        };
        let Some((start_ms, skipped)) = place else { return invalid() };
        let now_ms = self.desk.now() * 1_000 + 999;
        if skipped == 0 && !(now_ms.saturating_sub(LISTED_MS)..=now_ms).contains(&start_ms) {
            return invalid();
        }
        let wanted = number("maxResults").and_then(|most| usize::try_from(most).ok()).unwrap_or(1);
        let mut records = self.records();
        let entries = wanted.min(records.page_entries.unwrap_or(wanted));
        let mut listed: Vec<_> =
            records.voids.iter().filter(|entry| voided_ms(entry) >= start_ms).cloned().collect();
        listed.sort_by_key(voided_ms);
        let ends_at = (skipped + entries).min(listed.len());
        let mut body = json!({});
        if let Some(page) = listed.get(skipped..ends_at).filter(|page| !page.is_empty()) {
            body["voidedPurchases"] = json!(page);
        }
        if ends_at < listed.len() {
            let next = format!("CAAS+/{}==", records.pages.len());
            records.pages.push((start_ms, ends_at));
            body["tokenPagination"] = json!({"nextPageToken": next});
        }
        Answer::json(200, &body)
    }
}

/// When an entry was voided; one that does not say so is the last.
fn voided_ms(entry: &Value) -> u64 {
    let time = &entry["voidedTimeMillis"];
    let text = time.as_str().and_then(|text| text.parse().ok());
    time.as_u64().or(text).unwrap_or(u64::MAX)
}

fn review_problem(asked: &Asked) -> Option<String> {
    let body = asked.json();
    let used = body["consumptionPercentageMilliunits"].as_u64();
    let fits = asked.is_json()
        && body.as_object().is_some_and(|fields| fields.len() == 4)
        && body["pendingRefundToken"].as_str().is_some_and(|token| !token.is_empty())
        && body["sampleContentProvided"].is_boolean()
        && ["DECLINE", "APPROVE", "NEUTRAL"].iter().any(|known| body["refundPreference"] == *known)
        && used.is_some_and(|used| used <= WHOLE_MILLIUNITS);
    (!fits).then(|| format!("the body is {body}, sent as {:?}", asked.content_type))
}
