//! What a model has cost: a line of the history of prices, whoever changed them.

use super::Price;

/// A change of a price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PriceLine {
    pub id: i64,
    /// RFC 3339.
    pub at: String,
    /// None where the model was taken off.
    pub price: Option<Price>,
}

/// Changes of a model's price, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PricePage {
    pub lines: Vec<PriceLine>,
    /// Whether there are older ones.
    pub more: bool,
}
