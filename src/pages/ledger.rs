//! A line of a ledger as pages show it.

use serde::Deserialize;

use super::numbers;

/// A line of the ledger, as the API tells it.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) id: i64,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) amount: i64,
    pub(super) credits_delta: i64,
    bonus_delta: i64,
    pub(super) tokens_delta: i64,
    pub(super) model_id: Option<String>,
    price_per_m_token: Option<i64>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    shortfall_tokens: Option<i64>,
    store_transaction_id: Option<String>,
    reverses: Option<i64>,
    allocation_id: Option<i64>,
    hold_id: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) actor: Option<String>,
    pub(super) created_at: String,
}

impl Line {
    /// Whatever else there is to tell, in the API's own words.
    pub(super) fn details(&self) -> String {
        let number = |name: &str, value: Option<i64>| {
            value.map(|value| format!("{name} {}", numbers::grouped(value)))
        };
        let text = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{name} {value}"))
        };
        let id = |name: &str, value: Option<i64>| value.map(|value| format!("{name} #{value}"));
        let bonus = Some(self.bonus_delta).filter(|delta| *delta != 0);
        let parts = [
            bonus.map(|delta| format!("bonus {}", numbers::signed(delta))),
            number("input", self.input_tokens),
            number("output", self.output_tokens),
            number("shortfall", self.shortfall_tokens.filter(|tokens| *tokens != 0)),
            number("price", self.price_per_m_token),
            id("reverses", self.reverses),
            id("allocation", self.allocation_id),
            text("hold", &self.hold_id),
            text("store id", &self.store_transaction_id),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}
