//! Apple's list of the notifications that it has sent, one page at a time. What is signed in them is verified, and
//! read, elsewhere.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use super::api::{AppleApi, Refusal};
use crate::{domain::Environment, metrics::StoreCall, outgoing::Request, stores::StoreError};

const CALL: StoreCall = StoreCall::AppleHistory;
const PATH: &str = "/inApps/v1/notifications/history";
/// How far back Apple lists, which is 180 days, less one for the time until the last page.
const LISTED_SPAN: TimeDelta = TimeDelta::days(179);

/// What a list is of. It is the same for all pages of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Sent at this time or later; of a span of more than 179 days only the last 179 are asked for.
    pub(crate) from: DateTime<Utc>,
    /// Sent before this time.
    pub(crate) to: DateTime<Utc>,
    pub(crate) which: Sweep,
}

/// Which notifications a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// All that we did not take.
    Missed,
    /// Refunds.
    Refunds,
    /// Refunds that were reversed.
    Reversals,
}

/// A page: 20 at most, of some 5 to 19 kB each.
#[derive(PartialEq, Eq)]
pub(crate) struct HistoryPage {
    /// The signed notifications, still to be verified.
    pub(crate) payloads: Vec<String>,
    /// What to ask for the next page with, if there is one.
    pub(crate) next: Option<String>,
}

/// Without what is signed.
impl std::fmt::Debug for HistoryPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (payloads, is_last) = (self.payloads.len(), self.next.is_none());
        f.debug_struct("HistoryPage")
            .field("payloads", &payloads)
            .field("is_last", &is_last)
            .finish()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    pagination_token: Option<String>,
    has_more: Option<bool>,
    notification_history: Option<Vec<Value>>,
}

impl Span {
    /// What is asked, in milliseconds. It depends on nothing else, for it must be the same for each page.
    fn body(&self) -> String {
        let oldest = self.to.checked_sub_signed(LISTED_SPAN).unwrap_or(self.from);
        let from = self.from.max(oldest);
        let mut body = json!({
            "startDate": from.timestamp_millis(),
            "endDate": self.to.timestamp_millis(),
        });
        match self.which {
            Sweep::Missed => body["onlyFailures"] = json!(true),
            Sweep::Refunds => body["notificationType"] = json!("REFUND"),
            Sweep::Reversals => body["notificationType"] = json!("REFUND_REVERSED"),
        }
        body.to_string()
    }
}

impl AppleApi {
    /// One page of what Apple told in this environment: the first, or the one that was named as the `next` of a page
    /// of the same span. An app that has no address for notifications was told nothing.
    ///
    /// # Errors
    /// [`StoreError`] when there is no page; [`StoreError::Unreleased`] where production knows neither the app nor the
    /// key, and the sandbox does, unless the list `was_read` before.
    pub(crate) async fn history_page(
        &self,
        environment: Environment,
        span: &Span,
        page: Option<String>,
        was_read: bool,
    ) -> Result<HistoryPage, StoreError> {
        let post = |mut url: reqwest::Url| {
            if let Some(page) = &page {
                url.query_pairs_mut().append_pair("paginationToken", page);
            }
            Request::post(url, span.body()).of_type("application/json")
        };
        let asked_at = Instant::now();
        let asked = self.send(CALL, environment, PATH, post, read).await;
        let may_be_unreleased = matches!(asked, Err(Refusal::Unidentified | Refusal::NoApp))
            && environment == Environment::Production
            && !was_read;
        if may_be_unreleased && self.sandbox_takes_the_key(span).await {
            self.count(CALL, StoreError::Unreleased.name(), asked_at);
            return Err(StoreError::Unreleased);
        }
        self.count(CALL, asked.as_ref().err().map_or("ok", Refusal::name), asked_at);
        match asked {
            Ok(page) => Ok(page),
            Err(Refusal::NoNotifications) => Ok(HistoryPage { payloads: Vec::new(), next: None }),
            Err(refusal) => Err(refusal.into_error()),
        }
    }

    /// Until an app's first release only the sandbox takes its key.
    async fn sandbox_takes_the_key(&self, span: &Span) -> bool {
        let post = |url| Request::post(url, span.body()).of_type("application/json");
        let asked = self.ask(CALL, Environment::Sandbox, PATH, post, read).await;
        matches!(asked, Ok(_) | Err(Refusal::NoNotifications))
    }
}

/// The page that a body holds. There is none where it says that there are more, but not how to ask for them.
fn read(body: &[u8]) -> Option<HistoryPage> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Some(HistoryPage { payloads: Vec::new(), next: None });
    }
    // An array would else be taken for a struct.
    let answer: Answer =
        body.starts_with(b"{").then(|| serde_json::from_slice(body).ok()).flatten()?;
    let next = match answer.has_more {
        Some(true) => Some(answer.pagination_token.filter(|token| !token.is_empty())?),
        _ => None,
    };
    let entries = answer.notification_history.unwrap_or_default();
    let payloads = entries.into_iter().filter_map(|mut entry| {
        let signed = entry.get_mut("signedPayload").map(Value::take);
        let Some(Value::String(signed)) = signed else {
            warn!("an entry of Apple's list of notifications can't be read, and is left out");
            return None;
        };
        Some(signed)
    });
    Some(HistoryPage { payloads: payloads.collect(), next })
}
