//! What a store's purchase is known by. How far the purchase has come is in `tracked`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Environment, PaidPurchase, PurchaseName, PurchaseToken, Store, names::hash};

/// What a purchase is known by to its store. Of one purchase all keys lead to the same row, and no two purchases
/// share one.
///
/// A [`PurchaseName`] is what an entry of the history is known by, also one that was believed on a client's word. A
/// grant makes both: the keys see to it that it is the only one, the names that it stays so while the stores are not
/// asked, and that what was believed before is not granted again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PurchaseKey(Arc<str>);

impl PurchaseKey {
    /// Google's token, which is secret.
    pub(crate) fn google_token(token: &PurchaseToken) -> Self {
        Self::new("google:token:", &hash(token.as_str()))
    }

    /// Google's order.
    pub(crate) fn google_order(order: &str) -> Self {
        Self::new("google:order:", order)
    }

    /// Apple's transaction.
    pub(crate) fn apple_transaction(environment: Environment, id: &str) -> Self {
        Self::new(&format!("apple:{}:", environment.name()), id)
    }

    /// Apple's original transaction. Of a consumable it has one purchase; its id may differ from the transaction's.
    pub(crate) fn apple_original(environment: Environment, id: &str) -> Self {
        Self::new(&format!("apple:{}:original:", environment.name()), id)
    }

    /// Apple's id as a client brings it, which does not tell the environment.
    pub(crate) fn apple_id(id: &str) -> Self {
        Self::new("apple:id:", id)
    }

    /// All keys of a purchase that its store tells.
    pub(crate) fn all_of(paid: &PaidPurchase) -> Vec<Self> {
        let (id, environment) = (paid.store_id.as_deref(), paid.environment);
        match paid.store {
            Store::Google => id.map(Self::google_order).into_iter().collect(),
            Store::Apple => {
                let transaction = id.map(|id| Self::apple_transaction(environment, id));
                let original =
                    paid.original_id.as_deref().map(|id| Self::apple_original(environment, id));
                let brought = id.map(Self::apple_id);
                transaction.into_iter().chain(original).chain(brought).collect()
            }
        }
    }

    /// A proof that tells no id. Nothing is kept under it.
    pub(crate) fn of_unknown(token: &PurchaseToken) -> Self {
        Self::new("unknown:", token.as_str())
    }

    /// One that was kept.
    pub(crate) fn kept(key: &str) -> Self {
        Self(key.into())
    }

    /// A long id is known by its hash.
    fn new(kind: &str, id: &str) -> Self {
        Self(format!("{kind}{}", PurchaseName::of(id).as_str()).into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Twelve hexadecimal digits by which the log tells purchases apart.
    pub(crate) fn short_hash(&self) -> String {
        let hash = match self.0.strip_prefix("google:token:") {
            Some(hash) => hash.to_owned(),
            None => hash(&self.0),
        };
        hash.chars().skip("sha256:".len()).take(12).collect()
    }
}
