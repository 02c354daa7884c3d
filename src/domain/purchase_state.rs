//! How far a store's purchase has come, and why it is where it is. What moves it on is in `receipt`, `grant` and
//! `errand`.

use serde::{Deserialize, Serialize};

/// How far a purchase has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PurchaseState {
    /// Written down; its store has not said anything that counts.
    Received,
    /// Its store says that it is not paid yet.
    Pending,
    /// Its credits were granted.
    Granted,
    /// It is not granted, for a reason.
    Refused,
    /// It is paid, and something has to be cleared up before it is granted.
    Review,
    /// Its store told of it, and nobody has brought it yet.
    Unclaimed,
    /// It was granted, and the money went back, at least in part; or it went back before the grant.
    Refunded,
}

impl PurchaseState {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Received,
        Self::Pending,
        Self::Granted,
        Self::Refused,
        Self::Review,
        Self::Unclaimed,
        Self::Refunded,
    ];

    /// Whether something is still to come.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Received | Self::Pending | Self::Review)
    }

    /// Its name in the database and in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Pending => "pending",
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Review => "review",
            Self::Unclaimed => "unclaimed",
            Self::Refunded => "refunded",
        }
    }
}

/// Why a purchase is refused or in review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// Its product is not in the list: granted as soon as it is.
    UnknownProduct,
    /// It names the account of another user: an operator has to decide.
    AnotherAccount,
    /// It can never become valid.
    Invalid,
    /// It is a test purchase, and those are not granted to this user.
    Sandbox,
    /// Another purchase is the same one.
    Duplicate,
    /// Its store never said anything that counts.
    GivenUp,
}
