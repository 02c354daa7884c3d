//! What a store tells without being asked: pushed by it, or found in its lists. What follows is a matter of what it
//! tells of: `take_back` of refunds, `tell_of` of purchases.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Environment, PaidPurchase, ProductId, PurchaseToken, Store, StoreRefund, names::hash};

/// Most bytes of a message's id that are kept as they are.
const MESSAGE_ID_MAX_BYTES: usize = 128;

/// What a message is known by, over all stores and ways. The same one, told again, has the same id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct MessageId(Arc<str>);

impl MessageId {
    /// The message that came by `way` ("google:push", "google:void", "apple") with the id it has there. A long one
    /// is known by its hash.
    pub(crate) fn new(way: &str, id: &str) -> Self {
        let whole = format!("{way}:{id}");
        if whole.len() <= MESSAGE_ID_MAX_BYTES {
            Self(whole.into())
        } else {
            Self(format!("{way}:{}", hash(id)).into())
        }
    }

    /// One that was kept.
    pub(crate) fn kept(id: &str) -> Self {
        Self(id.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Something a store tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub id: MessageId,
    pub store: Store,
    pub event: StoreEvent,
}

/// What it tells. All that decides was verified; neither a signature nor a signed text is in it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
// Tagged from outside: within a tag, numbers as keys of a map could not be read again.
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreEvent {
    /// Google: something became of a purchase that its store has to be asked about: it was paid, or a pending one
    /// was cancelled.
    GoogleChange { token: PurchaseToken, product: Option<ProductId> },
    /// Google: a purchase, or some pieces of it, were refunded.
    GoogleVoid {
        token: PurchaseToken,
        order: Option<String>,
        /// What this void alone tells: `whole`, or how many pieces at what time, or nothing where it only says that
        /// it was in part.
        refund: StoreRefund,
    },
    /// Google asks how much of an order was used, before it decides on a chargeback.
    GoogleReview {
        order: String,
        pending_refund_token: String,
        /// When, if it says so.
        #[serde(default)]
        asked_at: Option<DateTime<Utc>>,
    },
    /// Apple: what a transaction is like, as of the time of its signature: bought, refunded whole or in part, or
    /// given back after a refund.
    AppleTransaction(AppleTold),
    /// Apple asks how much of a transaction was used, before it decides on a refund.
    AppleConsumption(AppleTold),
}

/// A transaction as Apple told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppleTold {
    /// What was bought, and what of it is refunded; all of it may be.
    pub paid: Box<PaidPurchase>,
    /// When Apple signed that. What was signed later counts.
    pub signed_at: DateTime<Utc>,
    /// When Apple signed the notification that tells it, if that says so.
    #[serde(default)]
    pub notified_at: Option<DateTime<Utc>>,
}

impl AppleTold {
    pub(crate) const fn environment(&self) -> Environment {
        self.paid.environment
    }
}

/// Without tokens.
impl std::fmt::Debug for StoreEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl StoreEvent {
    /// Its name in the log.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::GoogleChange { .. } => "purchase changed",
            Self::GoogleVoid { .. } => "purchase voided",
            Self::GoogleReview { .. } => "refund under review",
            Self::AppleTransaction(_) => "transaction",
            Self::AppleConsumption(_) => "consumption asked for",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_kept_of_pieces_can_be_read_again() {
        let pieces = ProductId::new("p").expect("a name");
        let refund = StoreRefund {
            pieces: BTreeMap::from([(pieces, 2)]),
            voids: BTreeMap::from([(1_795_766_400_000, 1)]),
            ..StoreRefund::default()
        };
        let token = PurchaseToken::new("a token").expect("a token");
        let event = StoreEvent::GoogleVoid { token, order: None, refund };
        let kept = serde_json::to_string(&event).expect("it has a JSON form");
        assert!(serde_json::from_str::<StoreEvent>(&kept).expect("it can be read") == event);
    }
}
