//! What Google tells of one-time purchases: a developer notification, as the payload of a message. Who sent it is
//! judged before, and what follows from it is decided elsewhere.
//!
//! The fields are described at "Real-time developer notifications reference guide".

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::lenient::Whole;
use crate::domain::{ProductId, PurchaseToken, StoreEvent, StoreRefund};

/// `notificationType`: it was paid.
const PURCHASED: i64 = 1;
/// The same: a pending one was cancelled.
const CANCELED: i64 = 2;
/// `productType`: a product that is bought once.
const ONE_TIME: i64 = 2;
/// `refundType`: all of it, or all that was left.
const FULL: i64 = 1;
/// Most characters of an order's id, or of the token of a review.
const TEXT_MAX_CHARS: usize = 2_048;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    package_name: Option<String>,
    event_time_millis: Option<Value>,
    one_time_product_notification: Option<OneTime>,
    voided_purchase_notification: Option<Voided>,
    pending_refund_review_notification: Option<Review>,
    subscription_notification: Option<Present>,
    test_notification: Option<Present>,
}

/// Whatever it is.
#[derive(Deserialize)]
struct Present {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OneTime {
    notification_type: Option<Whole>,
    purchase_token: Option<String>,
    sku: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Voided {
    purchase_token: Option<String>,
    order_id: Option<String>,
    product_type: Option<Whole>,
    refund_type: Option<Whole>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    pending_refund_token: Option<String>,
    order_id: Option<String>,
}

/// What a notification tells of the app with that package name.
///
/// # Errors
/// A constant sentence for the log, when it tells nothing that concerns us.
pub(super) fn read(json: &[u8], package: &str) -> Result<StoreEvent, &'static str> {
    let told: Told =
        serde_json::from_slice(json).map_err(|_| "its data is no developer notification")?;
    if told.package_name.as_deref() != Some(package) {
        return Err("it is of another app than BILLING_GOOGLE_PACKAGE");
    }
    match told {
        Told { one_time_product_notification: Some(one_time), .. } => one_time.event(),
        Told { voided_purchase_notification: Some(voided), .. } => voided.event(),
        Told { pending_refund_review_notification: Some(review), event_time_millis, .. } => {
            review.event(event_time_millis.as_ref().and_then(time))
        }
        Told { subscription_notification: Some(_), .. } => Err("it is of a subscription"),
        Told { test_notification: Some(_), .. } => Err("it is a test"),
        _ => Err("it is of a kind that does not concern us"),
    }
}

impl OneTime {
    fn event(self) -> Result<StoreEvent, &'static str> {
        match self.notification_type {
            Some(Whole(PURCHASED | CANCELED)) => {
                let product = self.sku.and_then(|sku| ProductId::new(sku).ok());
                Ok(StoreEvent::GoogleChange { token: token(self.purchase_token)?, product })
            }
            _ => Err("it is of a type that does not concern us"),
        }
    }
}

impl Voided {
    fn event(self) -> Result<StoreEvent, &'static str> {
        if self.product_type != Some(Whole(ONE_TIME)) {
            return Err("it is of a subscription");
        }
        Ok(StoreEvent::GoogleVoid {
            token: token(self.purchase_token)?,
            order: self.order_id.filter(|order| is_plain(order)),
            // How much is refunded where it is not all has to be asked, also where the type is new.
            refund: StoreRefund {
                whole: self.refund_type == Some(Whole(FULL)),
                ..StoreRefund::default()
            },
        })
    }
}

impl Review {
    fn event(self, asked_at: Option<DateTime<Utc>>) -> Result<StoreEvent, &'static str> {
        let given = |text: Option<String>| text.filter(|text| is_plain(text));
        match (given(self.order_id), given(self.pending_refund_token)) {
            (Some(order), Some(pending_refund_token)) => {
                Ok(StoreEvent::GoogleReview { order, pending_refund_token, asked_at })
            }
            (None, _) => Err("it names no order"),
            _ => Err("it has no token to answer with"),
        }
    }
}

/// When something happened. A time that can't be read is none: what happened counts all the same.
fn time(ms: &Value) -> Option<DateTime<Utc>> {
    let ms = Whole::deserialize(ms).ok()?.0;
    DateTime::from_timestamp_millis(ms).filter(|_| ms > 0)
}

fn token(text: Option<String>) -> Result<PurchaseToken, &'static str> {
    text.and_then(|text| PurchaseToken::new(text).ok()).ok_or("it names no purchase")
}

/// Databases take no control characters.
fn is_plain(text: &str) -> bool {
    (1..=TEXT_MAX_CHARS).contains(&text.len()) && !text.chars().any(char::is_control)
}
