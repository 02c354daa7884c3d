//! Why an operation is refused, with the numbers its reader needs. How a refusal looks on the wire
//! is in `http`.

use super::{Category, Credits, ModelId, Tokens};

/// A business rule said no; the account is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The store transaction was granted before, to anyone.
    PurchaseAlreadyProcessed,
    /// Credits would pass [`Credits::MAX`].
    BalanceOverflow,
    /// The purchase can never become valid.
    InvalidReceipt,
    /// The purchase is not paid yet.
    PurchasePending,
    /// The purchase is paid, and something has to be cleared up first.
    PurchaseInReview {
        /// Whether only a person can.
        for_operator: bool,
    },
    /// The store's word is missing.
    StoreUnavailable,
    /// It is a test purchase, and those are not granted.
    SandboxRefused,
    /// The store is not asked, or not about this kind of proof.
    StoreNotConfigured,
    /// An allocation costs more credits than the account has.
    InsufficientCredits {
        /// Credits asked for, all items together. It may pass [`Credits::MAX`].
        required: i128,
        /// Credits there are.
        available: Credits,
    },
    /// The model has no price, so it can't be bought.
    ModelNotPriced {
        /// The model asked for.
        model: ModelId,
    },
    /// The category would hold more tokens than it may.
    CapacityExceeded {
        /// The category that is full.
        category: Category,
        /// Most tokens it may hold.
        limit: Tokens,
        /// Tokens still free.
        available: Tokens,
        /// The largest amount of credits for this model whose tokens still fit.
        max_credits: Credits,
    },
    /// The credits of an item don't buy a single token.
    AllocationTooSmall {
        /// The model asked for.
        model: ModelId,
    },
    /// The account never got tokens for this model.
    NoTokenBalance {
        /// The model asked for.
        model: ModelId,
    },
    /// The chat used more tokens than the account has for its model.
    InsufficientTokens {
        /// Tokens used.
        required: Tokens,
        /// Tokens there are.
        available: Tokens,
    },
}

impl Refusal {
    /// The refusal's name for programs; never changes.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::PurchaseAlreadyProcessed => "purchase_already_processed",
            Self::BalanceOverflow => "balance_overflow",
            Self::InvalidReceipt => "invalid_receipt",
            Self::PurchasePending => "purchase_pending",
            Self::PurchaseInReview { .. } => "purchase_in_review",
            Self::StoreUnavailable => "store_unavailable",
            Self::SandboxRefused => "sandbox_refused",
            Self::StoreNotConfigured => "store_not_configured",
            Self::InsufficientCredits { .. } => "insufficient_credits",
            Self::ModelNotPriced { .. } => "model_not_priced",
            Self::CapacityExceeded { .. } => "capacity_exceeded",
            Self::AllocationTooSmall { .. } => "allocation_too_small",
            Self::NoTokenBalance { .. } => "no_token_balance",
            Self::InsufficientTokens { .. } => "insufficient_tokens",
        }
    }
}
