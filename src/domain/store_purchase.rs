//! What an app store says of a purchase. How it is asked is the stores' business, what follows for an account
//! is in `grant`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{IdentifierError, ProductId, StoreRefund, UserId};

/// Who sells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Store {
    /// Google Play.
    Google,
    /// The App Store.
    Apple,
}

impl Store {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Google, Self::Apple];

    /// Its name in settings, in the database and in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Google => "google",
            Self::Apple => "apple",
        }
    }

    /// The store called `name`, if there is one.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|store| store.name() == name)
    }
}

/// Whether money was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Environment {
    /// It was.
    Production,
    /// It is a test purchase: Apple's sandbox, Google's licence testers.
    Sandbox,
}

impl Environment {
    /// Its name in the database and in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Sandbox => "sandbox",
        }
    }
}

/// Who gets credits for a test purchase, for which no money was paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SandboxRule {
    /// Nobody.
    Refuse,
    /// Everybody.
    Grant,
    /// These.
    Users(BTreeSet<UserId>),
}

impl SandboxRule {
    /// Whether this user does.
    pub(crate) fn grants(&self, user: &UserId) -> bool {
        match self {
            Self::Refuse => false,
            Self::Grant => true,
            Self::Users(users) => users.contains(user),
        }
    }
}

/// What a store says of a purchase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreWord {
    /// It is paid.
    Paid(Box<PaidPurchase>),
    /// It is not paid yet, and may be: a slow card.
    Unpaid,
    /// It can never become valid; a constant sentence for the log says why.
    Never(&'static str),
}

/// A purchase of which its store says that it was paid. Some of it may be refunded, or, at Apple, all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PaidPurchase {
    /// Who sold it.
    pub store: Store,
    /// Whether money was paid.
    pub environment: Environment,
    /// The store's own id: Google's order id, which promotions lack, or Apple's transaction id.
    pub store_id: Option<String>,
    /// Apple's original transaction id.
    pub original_id: Option<String>,
    /// What was bought, never nothing.
    pub items: Vec<PurchasedItem>,
    /// The account that the app named to the store when it sold.
    pub account: Option<String>,
    /// When it was paid, where the store says so.
    pub purchased_at: Option<DateTime<Utc>>,
    /// The price of all of it in thousandths, with its currency, where the store says so.
    pub price_milliunits: Option<i64>,
    /// ISO 4217, of three letters.
    pub currency: Option<String>,
    /// Whether Google was told that it was delivered. Apple needs no word.
    pub acknowledged: bool,
    /// Whether it may be bought again.
    pub consumed: bool,
    /// When its store said all that, where it says so. What was said later counts.
    #[serde(default)]
    pub said_at: Option<DateTime<Utc>>,
    /// What of it is refunded by then.
    #[serde(default)]
    pub refund: StoreRefund,
    /// What was verified, as JSON; neither a token nor a signature is in it.
    pub verified: String,
}

/// One product of a purchase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PurchasedItem {
    /// What the store calls it.
    pub product: ProductId,
    /// How many, at least 1.
    pub quantity: u32,
}

impl PurchasedItem {
    /// So many of a product.
    ///
    /// # Errors
    /// [`IdentifierError`] when that is no product's name.
    pub(crate) fn new(product: &str, quantity: u32) -> Result<Self, IdentifierError> {
        Ok(Self { product: ProductId::new(product)?, quantity })
    }
}
