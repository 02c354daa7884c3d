//! One line of the ledger: what changed a balance, and by how much.
//!
//! Entries are only ever added; every balance is the sum of their deltas.

use super::{Credits, ModelId, PurchaseRecord, StoreTransactionId, Tokens, Usage};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum EntryKind {
    /// Credits were bought in the app store.
    Purchase,
    /// Credits were turned into a model's tokens.
    Allocation,
    /// A chat used tokens.
    Consumption,
}

impl EntryKind {
    /// Every kind there is.
    pub(crate) const ALL: [Self; 3] = [Self::Purchase, Self::Allocation, Self::Consumption];

    /// The kind called `name`, if there is one.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name on the wire and in the database.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Purchase => "purchase",
            Self::Allocation => "allocation",
            Self::Consumption => "consumption",
        }
    }
}

/// One change of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Credits were bought.
    Purchase {
        /// Credits added.
        credits: Credits,
        /// The store's id of the purchase, when the store gave one.
        store_transaction_id: Option<StoreTransactionId>,
        /// What the client sent about it, verbatim.
        record: PurchaseRecord,
    },
    /// Credits became tokens.
    Allocation {
        /// The model that got them.
        model: ModelId,
        /// Credits spent.
        credits: Credits,
        /// Tokens added.
        tokens: Tokens,
        /// Credits per million tokens at that moment.
        price_per_m_token: i64,
    },
    /// A chat used tokens.
    Consumption {
        /// The model that answered.
        model: ModelId,
        /// Tokens used.
        usage: Usage,
        /// Credits per million tokens at that moment, if the model had a price.
        price_per_m_token: Option<i64>,
    },
}

impl Entry {
    /// What happened.
    pub(crate) const fn kind(&self) -> EntryKind {
        match self {
            Self::Purchase { .. } => EntryKind::Purchase,
            Self::Allocation { .. } => EntryKind::Allocation,
            Self::Consumption { .. } => EntryKind::Consumption,
        }
    }

    /// The amount the history shows: credits of a purchase or an allocation, tokens of a
    /// consumption.
    pub(crate) const fn amount(&self) -> i64 {
        match self {
            Self::Purchase { credits, .. } | Self::Allocation { credits, .. } => credits.get(),
            Self::Consumption { usage, .. } => usage.total().get(),
        }
    }

    /// The model concerned, if any.
    pub(crate) const fn model(&self) -> Option<&ModelId> {
        match self {
            Self::Purchase { .. } => None,
            Self::Allocation { model, .. } | Self::Consumption { model, .. } => Some(model),
        }
    }

    /// By how much the account's credits changed.
    pub(crate) fn credits_delta(&self) -> i64 {
        match self {
            Self::Purchase { credits, .. } => credits.get(),
            Self::Allocation { credits, .. } => negative(credits.get()),
            Self::Consumption { .. } => 0,
        }
    }

    /// By how much the model's tokens changed.
    pub(crate) fn tokens_delta(&self) -> i64 {
        match self {
            Self::Purchase { .. } => 0,
            Self::Allocation { tokens, .. } => tokens.get(),
            Self::Consumption { usage, .. } => negative(usage.total().get()),
        }
    }
}

fn negative(amount: i64) -> i64 {
    amount.checked_neg().expect("amounts are never negative, so their negation exists")
}
