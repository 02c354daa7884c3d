//! Purchases that were granted on a client's word, before their store was asked: once their store tells of one, its
//! entry is what was granted for it, and what is refunded is booked as of any other.
//!
//! A client said how many credits it is worth, and not how many pieces it has. So a share of it can be counted, and
//! all of it; single pieces only where its store says how many there were. They are worth the same then, and what can't
//! be divided is the last one's.

use chrono::{DateTime, Utc};

use super::{
    Credits, EntryKind, KeptEntries, ProductId, PurchaseState, PurchasedItem, Store,
    TrackedPurchase, UserId, store_refund::GrantedItem,
};

/// What a product is called that nobody has named.
const UNNAMED: &str = "unnamed";

/// A purchase that was believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Believed {
    /// The entry that granted it.
    pub entry: i64,
    pub granted_at: DateTime<Utc>,
    /// The store's id, where its news have it.
    pub store_id: Option<String>,
    /// Of how many pieces of what it is, where its store says so.
    pub pieces: Option<PurchasedItem>,
}

impl TrackedPurchase {
    /// Whether it may have been granted on a client's word: nobody has brought it since, or somebody who had it.
    pub(super) fn may_be_believed(&self) -> bool {
        !self.is_granted() && (self.user.is_none() || self.is_duplicate())
    }

    /// Has it granted by what was believed, if that can be counted. Returns whether it is.
    pub(super) fn take_over(
        &mut self,
        believed: &Believed,
        user: &UserId,
        entries: &mut KeptEntries,
    ) -> bool {
        let entry = entries.of(user, believed.entry);
        let entry = entry.filter(|entry| entry.kind == EntryKind::Purchase && entry.reversed == 0);
        let credits = entry.and_then(|entry| Credits::new(entry.amount).ok());
        let (Some(credits), Some(bought)) = (credits, self.bought_of(believed)) else {
            return false;
        };
        self.product_id.get_or_insert_with(|| bought.product.as_str().to_owned());
        self.quantity = Some(i64::from(bought.quantity));
        self.items = Some(GrantedItem::keep(&GrantedItem::all_alike(&[bought], credits)));
        if self.store_id.is_none() {
            self.store_id.clone_from(&believed.store_id);
        }
        self.state = PurchaseState::Granted;
        self.reason = None;
        self.user = Some(user.clone());
        self.credits = Some(credits);
        self.entry_id = Some(believed.entry);
        self.granted_at = Some(believed.granted_at);
        // While its store was not asked, its app saw to that.
        self.acknowledged_at = Some(believed.granted_at);
        self.consumed_at = Some(believed.granted_at);
        (self.token, self.record, self.due_at) = (None, None, None);
        true
    }

    /// What it is taken to be.
    fn bought_of(&self, believed: &Believed) -> Option<PurchasedItem> {
        let refund = self.store_refund();
        let known = self.product_id.as_deref().and_then(|name| ProductId::new(name).ok());
        let product = known.or_else(|| ProductId::new(UNNAMED).ok())?;
        let whole = PurchasedItem { product, quantity: 1 };
        match (self.store, &believed.pieces) {
            (Store::Apple, _) => Some(whole),
            // Nothing is gained by following it before something is refunded.
            (Store::Google, _) if refund.is_nothing() => None,
            (Store::Google, None) => refund.whole.then_some(whole),
            (Store::Google, Some(bought)) => Some(bought.clone()),
        }
    }
}
