//! What the App Store tells of money that goes back: the list of the notifications that it has sent, and its question
//! how much of a transaction was used. What is signed does not matter here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::Method;
use serde_json::{Value, json};

use super::{
    Answer, Call, Market,
    asked::{Asked, Target},
    desk::Desk,
};

const HISTORY: &str = "/inApps/v1/notifications/history";
const CONSUMPTION: &str = "/inApps/v2/transactions/consumption/";
/// Most entries of a page.
const PAGE_ENTRIES: usize = 20;
/// How far back the list goes, in milliseconds.
const LISTED_MS: u64 = 180 * 86_400_000;
/// A whole, in thousandths of a percent.
const WHOLE_MILLIUNITS: u64 = 100_000;
/// What may be said of a delivery.
const PREFERENCES: [&str; 3] = ["DECLINE", "GRANT_FULL", "GRANT_PRORATED"];
const DELIVERIES: [&str; 5] = [
    "DELIVERED",
    "UNDELIVERED_QUALITY_ISSUE",
    "UNDELIVERED_WRONG_ITEM",
    "UNDELIVERED_SERVER_OUTAGE",
    "UNDELIVERED_OTHER",
];
/// What is asked for by whoever wants what it did not take.
const MISSED: &str = "missed";

/// A notification that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Notification {
    /// Its type, such as `REFUND`.
    pub(crate) kind: &'static str,
    pub(crate) sent_ms: u64,
    /// Whether the service did not take it.
    pub(crate) missed: bool,
    /// As the store signed it.
    pub(crate) signed: String,
}

/// What was sent.
#[derive(Debug)]
pub(crate) struct AppleRefunds {
    desk: Arc<Desk>,
    records: Mutex<Records>,
}

#[derive(Debug)]
struct Records {
    notifications: Vec<(Market, Notification)>,
    page_entries: usize,
    /// What was asked, and the place to go on from, of each page that was named.
    pages: Vec<(Value, usize)>,
}

impl AppleRefunds {
    pub(super) fn new(desk: Arc<Desk>) -> Self {
        let (notifications, pages) = (Vec::new(), Vec::new());
        let records = Records { notifications, page_entries: PAGE_ENTRIES, pages };
        Self { desk, records: Mutex::new(records) }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a server list a notification. It is not sent.
    pub(crate) fn list(&self, market: Market, notification: Notification) {
        self.records().notifications.push((market, notification));
    }

    /// Has a page hold so many entries at most.
    pub(crate) fn a_page_holds(&self, entries: usize) {
        self.records().page_entries = entries;
    }

    /// What is asked for: a list, by its type or as `missed`, or a transaction.
    pub(super) fn target(&self, market: Market, asked: &Asked) -> Option<Target> {
        let production = market == Market::Production;
        if asked.method == Method::POST && asked.path == HISTORY {
            let call = if production { Call::History } else { Call::SandboxHistory };
            let body = asked.json();
            let subject = body["notificationType"].as_str().unwrap_or(MISSED).to_owned();
            return Some(Target { call, subject, product: None });
        }
        let id = asked.path.strip_prefix(CONSUMPTION)?;
        if asked.method != Method::PUT || id.contains('/') {
            return None;
        }
        let call = if production { Call::Consumption } else { Call::SandboxConsumption };
        Some(Target { call, subject: asked.segment(id, &self.desk), product: None })
    }

    /// What is wrong with how it is asked for.
    pub(super) fn problem(&self, asked: &Asked, call: Call) -> Option<String> {
        let body = asked.json();
        let fits = if is_history(call) {
            is_span(&body) && self.goes_on(asked, &body)
        } else {
            is_answer(&body)
        };
        let fits = fits && asked.is_json();
        (!fits).then(|| {
            let Asked { query, content_type, .. } = asked;
            format!("the query is {query:?}, the body {body}, sent as {content_type:?}")
        })
    }

    /// Whether it is asked for a first page, or one that was named to whoever asked the same.
    fn goes_on(&self, asked: &Asked, body: &Value) -> bool {
        let query = asked.fields();
        match query.get("paginationToken") {
            Some(token) => query.len() == 1 && self.page(token).is_some_and(|(of, _)| of == *body),
            None => query.is_empty(),
        }
    }

    fn page(&self, token: &str) -> Option<(Value, usize)> {
        let number: usize = token.strip_prefix("a+/")?.strip_suffix("==")?.parse().ok()?;
        self.records().pages.get(number).cloned()
    }

    /// What is answered about a transaction that this server knows, or does not; or a list.
    pub(super) fn carry_out(
        &self,
        market: Market,
        asked: &Asked,
        target: &Target,
        is_known: bool,
    ) -> Answer {
        if is_history(target.call) {
            return self.history(market, asked);
        }
        if is_known {
            Answer::empty(202)
        } else {
            Answer::apple(404, 4_040_010, "Transaction id not found.")
        }
    }

    fn history(&self, market: Market, asked: &Asked) -> Answer {
        let body = asked.json();
        let time = |name: &str| body[name].as_u64();
        let (Some(start_ms), Some(end_ms)) = (time("startDate"), time("endDate")) else {
            return Answer::apple(400, 4_000_015, "Invalid request. The start date is invalid.");
        };
        if start_ms < (self.desk.now() * 1_000).saturating_sub(LISTED_MS) {
            let message = "Invalid request. The start date is earlier than the allowed start date.";
            return Answer::apple(400, 4_000_012, message);
        }
        let skipped = asked.fields().get("paginationToken").and_then(|token| self.page(token));
        let skipped = skipped.map_or(0, |(_, place)| place);
        let mut records = self.records();
        let fits = |(of, sent): &&(Market, Notification)| {
            let kind = body["notificationType"].as_str();
            *of == market
                && (start_ms..end_ms).contains(&sent.sent_ms)
                && kind.map_or(sent.missed, |kind| kind == sent.kind)
        };
        let listed: Vec<_> = records.notifications.iter().filter(fits).map(entry).collect();
        let ends_at = (skipped + records.page_entries).min(listed.len());
        let mut answer = json!({
            "notificationHistory": listed.get(skipped..ends_at).unwrap_or_default(),
            "hasMore": ends_at < listed.len(),
        });
        if ends_at < listed.len() {
            answer["paginationToken"] = json!(format!("a+/{}==", records.pages.len()));
            records.pages.push((body, ends_at));
        }
        Answer::json(200, &answer)
    }
}

fn is_history(call: Call) -> bool {
    matches!(call, Call::History | Call::SandboxHistory)
}

fn entry((_, sent): &(Market, Notification)) -> Value {
    let result = if sent.missed { "TIMED_OUT" } else { "SUCCESS" };
    let attempt = json!({"attemptDate": sent.sent_ms, "sendAttemptResult": result});
    json!({"signedPayload": sent.signed, "sendAttempts": [attempt]})
}

/// Whether a list is asked for over some time: of what was missed, or of one type.
fn is_span(body: &Value) -> bool {
    let (start, end) = (body["startDate"].as_u64(), body["endDate"].as_u64());
    let filters = [
        body["onlyFailures"] == json!(true),
        body["notificationType"] == "REFUND",
        body["notificationType"] == "REFUND_REVERSED",
    ];
    body.as_object().is_some_and(|fields| fields.len() == 3)
        && start.zip(end).is_some_and(|(start, end)| start < end)
        && filters.contains(&true)
}

/// Whether it is an answer of a user's who consented.
fn is_answer(body: &Value) -> bool {
    let delivery = body["deliveryStatus"].as_str();
    let used = body["consumptionPercentage"].as_u64();
    let preference = body.get("refundPreference").map(Value::as_str);
    let fields = if preference.is_some() { 5 } else { 4 };
    body.as_object().is_some_and(|all| all.len() == fields)
        && preference.is_none_or(|name| PREFERENCES.contains(&name.unwrap_or_default()))
        && body["customerConsented"] == json!(true)
        && body["sampleContentProvided"].is_boolean()
        && delivery.is_some_and(|delivery| DELIVERIES.contains(&delivery))
        && used.is_some_and(|used| used <= WHOLE_MILLIUNITS)
        && (delivery == Some("DELIVERED") || used == Some(0))
}
