//! One line of the ledger: what changed a balance, and by how much.
//!
//! Entries are only ever added; every balance is the sum of their deltas.

use super::{
    Actor, Credits, Delta, EntryReason, HoldId, ModelId, PurchaseRecord, StoreTransactionId,
    Tokens, Usage,
};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum EntryKind {
    /// Credits were bought in the app store.
    Purchase,
    /// Credits were turned into a model's tokens.
    Allocation,
    /// A chat used tokens.
    Consumption,
    /// What was bought was taken back, because its store gave the money back.
    Refund,
    /// A consumption, or a refund, was undone.
    Reversal,
    /// Tokens were turned back into credits.
    Return,
    /// Credits were given.
    Grant,
    /// Something was put right by hand.
    Adjustment,
}

impl EntryKind {
    /// Every kind there is.
    pub(crate) const ALL: [Self; 8] = [
        Self::Purchase,
        Self::Allocation,
        Self::Consumption,
        Self::Refund,
        Self::Reversal,
        Self::Return,
        Self::Grant,
        Self::Adjustment,
    ];

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
            Self::Refund => "refund",
            Self::Reversal => "reversal",
            Self::Return => "return",
            Self::Grant => "grant",
            Self::Adjustment => "adjustment",
        }
    }
}

/// An entry that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// The id it is kept under.
    pub id: i64,
    /// Who made it; the user, if nobody.
    pub actor: Option<Actor>,
    pub entry: Entry,
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
        /// How many of those had been given.
        bonus: Credits,
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
        /// The hold that it settles, if any.
        hold: Option<HoldId>,
        /// What of the usage could not be taken, if anything.
        shortfall: Option<Tokens>,
    },
    /// Unspent credits were taken back.
    CreditsRefund {
        /// Credits taken.
        credits: Credits,
        /// How many of those had been given.
        bonus: Credits,
        /// The entry of the purchase.
        purchase: i64,
    },
    /// Unused tokens were taken back.
    TokensRefund {
        /// What was paid for them.
        credits: Credits,
        /// The entry of the purchase.
        purchase: i64,
        /// What they were bought with.
        allocation: i64,
        model: ModelId,
        /// Tokens taken.
        tokens: Tokens,
    },
    /// What a refund took is given back, as credits.
    RefundReversal {
        /// Credits added.
        credits: Credits,
        /// How many of those had been given before they were taken.
        bonus: Credits,
        /// The entry of the refund.
        refund: i64,
    },
    /// Tokens of a consumption came back.
    ConsumptionReversal {
        /// The model that had answered.
        model: ModelId,
        /// Tokens added.
        tokens: Tokens,
        /// The entry of the consumption.
        consumption: i64,
        reason: EntryReason,
    },
    /// Unused tokens became credits again.
    Return {
        model: ModelId,
        /// Tokens taken.
        tokens: Tokens,
        /// What was paid for them, which may be nothing for a few.
        credits: Credits,
        /// How much of those had been given, not bought.
        bonus: Credits,
        /// What they were bought with.
        allocation: i64,
    },
    /// Credits were given.
    Grant {
        /// Credits added.
        credits: Credits,
        reason: EntryReason,
    },
    /// Credits were put right.
    CreditsAdjustment {
        delta: Delta,
        /// How many of those taken away had been given; none, where credits are added.
        bonus: Credits,
        reason: EntryReason,
    },
    /// A model's tokens were put right.
    TokensAdjustment { model: ModelId, delta: Delta, reason: EntryReason },
}

impl Entry {
    /// What happened.
    pub(crate) const fn kind(&self) -> EntryKind {
        match self {
            Self::Purchase { .. } => EntryKind::Purchase,
            Self::Allocation { .. } => EntryKind::Allocation,
            Self::Consumption { .. } => EntryKind::Consumption,
            Self::CreditsRefund { .. } | Self::TokensRefund { .. } => EntryKind::Refund,
            Self::RefundReversal { .. } | Self::ConsumptionReversal { .. } => EntryKind::Reversal,
            Self::Return { .. } => EntryKind::Return,
            Self::Grant { .. } => EntryKind::Grant,
            Self::CreditsAdjustment { .. } | Self::TokensAdjustment { .. } => EntryKind::Adjustment,
        }
    }

    /// The amount the history shows, never negative: tokens of a consumption and its reversal, of an
    /// adjustment whichever it changes, else credits.
    pub(crate) const fn amount(&self) -> i64 {
        match self {
            Self::Purchase { credits, .. }
            | Self::Allocation { credits, .. }
            | Self::CreditsRefund { credits, .. }
            | Self::TokensRefund { credits, .. }
            | Self::RefundReversal { credits, .. }
            | Self::Return { credits, .. }
            | Self::Grant { credits, .. } => credits.get(),
            Self::Consumption { usage, shortfall, .. } => taken(*usage, *shortfall),
            Self::ConsumptionReversal { tokens, .. } => tokens.get(),
            Self::CreditsAdjustment { delta, .. } | Self::TokensAdjustment { delta, .. } => {
                delta.size()
            }
        }
    }

    /// The model concerned, if any.
    pub(crate) const fn model(&self) -> Option<&ModelId> {
        match self {
            Self::Purchase { .. }
            | Self::CreditsRefund { .. }
            | Self::RefundReversal { .. }
            | Self::Grant { .. }
            | Self::CreditsAdjustment { .. } => None,
            Self::Allocation { model, .. }
            | Self::Consumption { model, .. }
            | Self::TokensRefund { model, .. }
            | Self::ConsumptionReversal { model, .. }
            | Self::Return { model, .. }
            | Self::TokensAdjustment { model, .. } => Some(model),
        }
    }

    /// By how much the account's credits changed.
    pub(crate) fn credits_delta(&self) -> i64 {
        match self {
            Self::Purchase { credits, .. }
            | Self::RefundReversal { credits, .. }
            | Self::Return { credits, .. }
            | Self::Grant { credits, .. } => credits.get(),
            Self::Allocation { credits, .. } | Self::CreditsRefund { credits, .. } => {
                negative(credits.get())
            }
            Self::CreditsAdjustment { delta, .. } => delta.get(),
            Self::Consumption { .. }
            | Self::TokensRefund { .. }
            | Self::ConsumptionReversal { .. }
            | Self::TokensAdjustment { .. } => 0,
        }
    }

    /// By how much the model's tokens changed.
    pub(crate) fn tokens_delta(&self) -> i64 {
        match self {
            Self::Purchase { .. }
            | Self::CreditsRefund { .. }
            | Self::RefundReversal { .. }
            | Self::Grant { .. }
            | Self::CreditsAdjustment { .. } => 0,
            Self::TokensAdjustment { delta, .. } => delta.get(),
            Self::Allocation { tokens, .. } | Self::ConsumptionReversal { tokens, .. } => {
                tokens.get()
            }
            Self::Consumption { usage, shortfall, .. } => negative(taken(*usage, *shortfall)),
            Self::TokensRefund { tokens, .. } | Self::Return { tokens, .. } => {
                negative(tokens.get())
            }
        }
    }

    /// The entry that it takes back, if any.
    pub(crate) const fn reverses(&self) -> Option<i64> {
        match self {
            Self::CreditsRefund { purchase, .. } | Self::TokensRefund { purchase, .. } => {
                Some(*purchase)
            }
            Self::RefundReversal { refund, .. } => Some(*refund),
            Self::ConsumptionReversal { consumption, .. } => Some(*consumption),
            Self::Purchase { .. }
            | Self::Allocation { .. }
            | Self::Consumption { .. }
            | Self::Return { .. }
            | Self::Grant { .. }
            | Self::CreditsAdjustment { .. }
            | Self::TokensAdjustment { .. } => None,
        }
    }

    /// The allocation whose tokens go back, if any do.
    pub(crate) const fn allocation(&self) -> Option<i64> {
        match self {
            Self::TokensRefund { allocation, .. } | Self::Return { allocation, .. } => {
                Some(*allocation)
            }
            _ => None,
        }
    }

    /// How much of the change of credits had been given, not bought.
    pub(crate) fn bonus_delta(&self) -> i64 {
        match self {
            Self::Return { bonus, .. } | Self::RefundReversal { bonus, .. } => bonus.get(),
            Self::Grant { credits, .. } => credits.get(),
            Self::Allocation { bonus, .. }
            | Self::CreditsRefund { bonus, .. }
            | Self::CreditsAdjustment { bonus, .. } => negative(bonus.get()),
            Self::Purchase { .. }
            | Self::Consumption { .. }
            | Self::TokensRefund { .. }
            | Self::ConsumptionReversal { .. }
            | Self::TokensAdjustment { .. } => 0,
        }
    }

    /// Why it was made, where somebody had to say.
    pub(crate) const fn reason(&self) -> Option<&EntryReason> {
        match self {
            Self::ConsumptionReversal { reason, .. }
            | Self::Grant { reason, .. }
            | Self::CreditsAdjustment { reason, .. }
            | Self::TokensAdjustment { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// Tokens of a consumption that left the balance.
const fn taken(usage: Usage, shortfall: Option<Tokens>) -> i64 {
    let missing = match shortfall {
        Some(missing) => missing.get(),
        None => 0,
    };
    usage.total().get().saturating_sub(missing)
}

fn negative(amount: i64) -> i64 {
    amount.checked_neg().expect("amounts are never negative, so their negation exists")
}
