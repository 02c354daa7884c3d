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

/// One line of an account's ledger, with all that an entry has to tell; its texts stay where they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LedgerLine<'a> {
    pub id: i64,
    pub kind: EntryKind,
    /// Never negative; of what, is the kind's.
    pub amount: i64,
    pub credits_delta: i64,
    /// How much of the change of credits had been given, not bought.
    pub bonus_delta: i64,
    pub tokens_delta: i64,
    pub model_id: Option<&'a str>,
    pub price_per_m_token: Option<i64>,
    pub input_tokens: Option<i64>,
    pub output_tokens: Option<i64>,
    /// What was used beyond what could be taken.
    pub shortfall_tokens: Option<i64>,
    pub store_transaction_id: Option<&'a str>,
    /// The entry that is taken back.
    pub reverses: Option<i64>,
    /// The allocation whose tokens go back.
    pub allocation_id: Option<i64>,
    pub hold_id: Option<&'a str>,
    pub reason: Option<&'a str>,
    /// Who made it, if it was not the user.
    pub actor: Option<&'a str>,
    /// When, in UTC, as RFC 3339 with microseconds and `Z`.
    pub created_at: &'a str,
}

/// Where a part of a ledger ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LedgerEnd {
    /// The id of its last line, if it had any.
    pub last: Option<i64>,
    /// Whether older ones remain.
    pub more: bool,
}
