//! Why an operation is refused, with the numbers its reader needs. How a refusal looks on the wire
//! is in `http`.

use super::{Category, Credits, HoldStatus, ModelId, Price, PurchaseState, Tokens};

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
    /// Nothing of the account may be spent or used.
    AccountFrozen,
    /// The account is being erased. When that is done its name is free for a new one.
    AccountErasing,
    /// What was paid for is left in an account that is to be erased, and nobody said that it is given up.
    PaidBalanceRemains {
        /// Bought credits.
        credits: Credits,
        /// Bought credits that unused tokens are worth.
        tokens_worth: Credits,
    },
    /// There is no such purchase.
    PurchaseNotFound,
    /// The purchase has come to a state in which that is not done.
    PurchaseState {
        /// To which.
        state: PurchaseState,
    },
    /// The purchase's products are not in the list, so it is not known what it is worth.
    UnknownProduct,
    /// A price would be far from today's, and nobody said that this is meant.
    PriceJump {
        /// Today's, in credits per million tokens.
        today: i64,
    },
    /// The price is not what somebody took it for.
    PriceChanged {
        /// Today's, if the model has one.
        today: Option<Price>,
    },
    /// Nobody has seen this user.
    UserNotFound,
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
    /// The account has as many holds as it may.
    TooManyHolds {
        /// Most that it may have at a time.
        limit: u16,
    },
    /// The account has no such hold.
    HoldNotFound,
    /// The hold was closed in another way.
    HoldClosed {
        /// How it was.
        status: HoldStatus,
    },
    /// More tokens are needed than the account has free for their model.
    InsufficientTokens {
        /// Tokens used, or to be held.
        required: Tokens,
        /// Tokens there are that nobody holds.
        available: Tokens,
    },
    /// The account has no such entry.
    TransactionNotFound,
    /// The entry is no consumption.
    NotReversible,
    /// More than is left of the consumption was to come back, or nothing is left.
    AlreadyReversed {
        /// Tokens that are left.
        reversible: Tokens,
    },
    /// The unused tokens are worth no credit.
    ReturnTooSmall {
        /// The model asked for.
        model: ModelId,
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
            Self::AccountFrozen => "account_frozen",
            Self::AccountErasing => "account_erasing",
            Self::PaidBalanceRemains { .. } => "paid_balance_remains",
            Self::UserNotFound => "user_not_found",
            Self::PurchaseNotFound => "purchase_not_found",
            Self::PurchaseState { .. } => "purchase_state",
            Self::UnknownProduct => "unknown_product",
            Self::PriceJump { .. } => "price_jump",
            Self::PriceChanged { .. } => "price_changed",
            Self::InsufficientCredits { .. } => "insufficient_credits",
            Self::ModelNotPriced { .. } => "model_not_priced",
            Self::CapacityExceeded { .. } => "capacity_exceeded",
            Self::AllocationTooSmall { .. } => "allocation_too_small",
            Self::NoTokenBalance { .. } => "no_token_balance",
            Self::TooManyHolds { .. } => "too_many_holds",
            Self::HoldNotFound => "hold_not_found",
            Self::HoldClosed { .. } => "hold_closed",
            Self::InsufficientTokens { .. } => "insufficient_tokens",
            Self::TransactionNotFound => "transaction_not_found",
            Self::NotReversible => "not_reversible",
            Self::AlreadyReversed { .. } => "already_reversed",
            Self::ReturnTooSmall { .. } => "return_too_small",
        }
    }
}
