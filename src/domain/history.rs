//! What a reader of the history asks for and gets. How it is found is in `database`.

use super::{EntryKind, ModelId};

/// Which transactions a page of the history shows.
#[derive(Debug, Clone)]
pub(crate) struct HistoryFilter {
    /// Most transactions on the page.
    pub limit: u16,
    /// Only transactions with an id below this one.
    pub before: Option<i64>,
    /// Only transactions of this kind.
    pub kind: Option<EntryKind>,
    /// Only transactions of this model.
    pub model: Option<ModelId>,
}

/// One recorded change of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// Rises with every transaction recorded.
    pub id: i64,
    /// What happened.
    pub kind: EntryKind,
    /// Credits of a purchase or an allocation, tokens of a consumption.
    pub amount: i64,
    /// The model concerned, if any.
    pub model: Option<String>,
    /// When, in UTC, as RFC 3339 with microseconds and `Z`.
    pub created_at: String,
}

/// Transactions, newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct HistoryPage {
    /// At most as many as were asked for.
    pub transactions: Vec<Transaction>,
    /// Whether older ones remain.
    pub more: bool,
}
