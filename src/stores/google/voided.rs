//! Google's list of purchases that were taken back, one page at a time, read into our messages. When it is asked
//! for, and what follows from it, does not belong here.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tracing::warn;

use super::{Google, Refusal, lenient::Whole, purchases::object};
use crate::{
    domain::{
        Message, MessageId, PurchaseToken, Store, StoreEvent, StoreRefund, StoreTransactionId, hash,
    },
    metrics::StoreCall,
    outgoing::Request,
    stores::StoreError,
};

/// How far back Google lists, which is 30 days, less an hour for clocks that differ and for our request's time.
const LISTED_SPAN: TimeDelta = TimeDelta::hours(30 * 24 - 1);
/// Entries of a page, of which Google allows 1,000. An answer may have 1 MiB, so an entry 2,621 bytes: enough for
/// the longest token there is (2,048 characters) and all else. A page that is too large could never be read.
const PAGE_ENTRIES: &str = "400";
/// What messages from here are known by, before their own id.
const WAY: &str = "google:void";

/// A page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VoidedPage {
    /// What it tells, in its order: the oldest first.
    pub(crate) messages: Vec<Message>,
    /// What to ask for the next page with, if there is one.
    pub(crate) next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    token_pagination: Option<Pagination>,
    voided_purchases: Option<Vec<Box<RawValue>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    next_page_token: Option<String>,
}

/// A `VoidedPurchase`, as far as it matters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    purchase_token: Option<String>,
    order_id: Option<String>,
    /// Only tells apart voids of the same purchase.
    voided_time_millis: Option<Value>,
    /// Missing where all of it, or all that was left, is void.
    voided_quantity: Option<Value>,
}

impl Google {
    /// One page of what was taken back since `from`: the first, or the one that was named as the `next` of a page.
    /// What can't be read of it is left out, with a warning.
    ///
    /// # Errors
    /// [`StoreError`] when there is no page. An app that Google does not know may be [`StoreError::Unreleased`], unless
    /// the list `was_read` before.
    pub(crate) async fn voided_page(
        &self,
        from: DateTime<Utc>,
        page: Option<String>,
        was_read: bool,
    ) -> Result<VoidedPage, StoreError> {
        let now = (self.clock)();
        let oldest = now.checked_sub_signed(LISTED_SPAN).unwrap_or(now);
        let (place, value) = match page {
            // The times do not count then.
            Some(page) => ("token", page),
            None => ("startTime", from.max(oldest).min(now).timestamp_millis().to_string()),
        };
        let mut url = self.url("/purchases/voidedpurchases")?;
        url.query_pairs_mut()
            .append_pair(place, &value)
            // Of products that are bought once, without subscriptions.
            .append_pair("type", "0")
            .append_pair("includeQuantityBasedPartialRefund", "true")
            .append_pair("maxResults", PAGE_ENTRIES);
        let request = || Request::get(url.clone());
        let name = if was_read { Refusal::name } else { Refusal::name_before_release };
        match self.ask_naming(StoreCall::GoogleVoided, request, read, name).await {
            Err(Refusal::NoApp) if !was_read => Err(StoreError::Unreleased),
            asked => asked.map_err(Refusal::into_error),
        }
    }
}

fn read(body: &[u8]) -> Result<VoidedPage, StoreError> {
    let answer: Answer = object(body)?;
    let entries = answer.voided_purchases.unwrap_or_default();
    let messages = entries.iter().filter_map(|entry| {
        let message = object::<Entry>(entry.get().as_bytes()).ok().and_then(Entry::told);
        if message.is_none() {
            warn!("an entry of Google's list of voided purchases can't be read, and is left out");
        }
        message
    });
    let next = answer.token_pagination.and_then(|pagination| pagination.next_page_token);
    Ok(VoidedPage { messages: messages.collect(), next: next.filter(|next| !next.is_empty()) })
}

impl Entry {
    fn told(self) -> Option<Message> {
        let token = PurchaseToken::new(self.purchase_token?).ok()?;
        let number = |value: Value| Whole::deserialize(value).ok().map(|whole| whole.0);
        let time = self.voided_time_millis.unwrap_or(Value::Null);
        let voided_ms = number(time.clone());
        let pieces = self
            .voided_quantity
            .map(|quantity| number(quantity).and_then(|pieces| u32::try_from(pieces).ok()));
        let (refund, quantity) = match (pieces, voided_ms) {
            (None, _) => (StoreRefund { whole: true, ..StoreRefund::default() }, "0".to_owned()),
            (Some(Some(quantity)), Some(voided_ms)) if quantity > 0 => {
                let voids = BTreeMap::from([(voided_ms, quantity)]);
                (StoreRefund { voids, ..StoreRefund::default() }, quantity.to_string())
            }
            // That it was in part says so much: its purchase has to be read.
            (Some(_), _) => (StoreRefund::default(), "part".to_owned()),
        };
        // Times that can't be read are as different as their texts.
        let time = voided_ms.map_or_else(|| time.to_string(), |ms| ms.to_string());
        let id = format!("{}:{time}:{quantity}", hash(token.as_str()));
        // What can't be an order's id names none.
        let order = self.order_id.filter(|id| StoreTransactionId::new(id.as_str()).is_ok());
        Some(Message {
            id: MessageId::new(WAY, &id),
            store: Store::Google,
            event: StoreEvent::GoogleVoid { token, order, refund },
        })
    }
}
