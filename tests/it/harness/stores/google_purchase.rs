//! A one-time purchase as Google Play knows it, and what it says of it.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// A purchase as the store knows it.
#[derive(Debug, Clone)]
pub(crate) struct GooglePurchase {
    pub(super) token: String,
    pub(super) state: &'static str,
    pub(super) items: Vec<(String, u32)>,
    order: Option<String>,
    account: Option<String>,
    test: bool,
    refunded: u32,
    pub(super) acknowledged: bool,
    pub(super) consumed: bool,
}

/// A token in the form of Google's, made from a name.
pub(crate) fn google_token(name: &str) -> String {
    format!("abcdefghijklmnopqrstuvwx.AO-J1O{name:_<113}")
}

impl GooglePurchase {
    /// One of a product, paid, with an order id of its own.
    pub(crate) fn paid(token: &str, product: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        Self {
            token: token.to_owned(),
            state: "PURCHASED",
            items: vec![(product.to_owned(), 1)],
            order: Some(format!("GPA.3301-1111-2222-{number:05}")),
            account: None,
            test: false,
            refunded: 0,
            acknowledged: false,
            consumed: false,
        }
    }

    /// One of a product that is not paid yet; there is no order id before.
    pub(crate) fn pending(token: &str, product: &str) -> Self {
        Self { state: "PENDING", order: None, ..Self::paid(token, product) }
    }

    /// The same, cancelled.
    pub(crate) fn cancelled(self) -> Self {
        Self { state: "CANCELLED", ..self }
    }

    /// The same, so many of each product.
    pub(crate) fn times(mut self, quantity: u32) -> Self {
        for (_, count) in &mut self.items {
            *count = quantity;
        }
        self
    }

    /// The same with another product in it.
    pub(crate) fn and(mut self, product: &str, quantity: u32) -> Self {
        self.items.push((product.to_owned(), quantity));
        self
    }

    /// The same under this order id, or none.
    pub(crate) fn ordered_as(self, order: Option<&str>) -> Self {
        Self { order: order.map(str::to_owned), ..self }
    }

    /// The same, sold to this account of the app's.
    pub(crate) fn sold_to(self, account: &str) -> Self {
        Self { account: Some(account.to_owned()), ..self }
    }

    /// The same by a licence tester, who pays nothing.
    pub(crate) fn by_a_tester(self) -> Self {
        Self { test: true, ..self }
    }

    /// The same, so many pieces of each product given back.
    pub(crate) fn refunded(self, pieces: u32) -> Self {
        Self { refunded: pieces, ..self }
    }

    /// The same, acknowledged by the app.
    pub(crate) fn acknowledged(self) -> Self {
        Self { acknowledged: true, ..self }
    }

    /// The same, consumed by the app.
    pub(crate) fn consumed(self) -> Self {
        Self { acknowledged: true, consumed: true, ..self }
    }

    /// What it is asked for with.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Its order id.
    pub(crate) fn order(&self) -> &str {
        self.order.as_deref().expect("it has one")
    }

    /// What the store says of it.
    pub(crate) fn word(&self) -> Value {
        let consumption = if self.consumed { "CONSUMED" } else { "YET_TO_BE_CONSUMED" };
        let acknowledgement = if self.acknowledged { "ACKNOWLEDGED" } else { "PENDING" };
        let paid = self.state == "PURCHASED";
        let item = |(product, quantity): &(String, u32)| {
            json!({"productId": product, "productOfferDetails": {
                "purchaseOptionId": "legacy-base",
                "quantity": quantity,
                "refundableQuantity": if paid { quantity - self.refunded } else { 0 },
                "consumptionState": format!("CONSUMPTION_STATE_{consumption}"),
            }})
        };
        let mut word = json!({
            "kind": "androidpublisher#productPurchaseV2",
            "productLineItem": self.items.iter().map(item).collect::<Vec<_>>(),
            "purchaseStateContext": {"purchaseState": self.state},
            "regionCode": "JP",
            "acknowledgementState": format!("ACKNOWLEDGEMENT_STATE_{acknowledgement}"),
        });
        if self.test {
            word["testPurchaseContext"] = json!({"fopType": "TEST"});
        }
        if let Some(order) = &self.order {
            word["orderId"] = json!(order);
        }
        if let Some(account) = &self.account {
            word["obfuscatedExternalAccountId"] = json!(account);
        }
        if paid {
            word["purchaseCompletionTime"] = json!("2026-11-27T09:00:00.123Z");
        }
        word
    }
}
