//! A line of a ledger as pages show it.

use serde::Deserialize;

use super::{
    numbers,
    words::{Words, filled},
};

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
    /// Whatever else there is to tell.
    pub(super) fn details(&self, words: &Words) -> String {
        let number = |sentence, value: Option<i64>| {
            value.map(|value| filled(sentence, &[&numbers::grouped(value)]))
        };
        let text = |sentence, value: &Option<String>| {
            value.as_ref().map(|value| filled(sentence, &[value]))
        };
        let id = |sentence, value: Option<i64>| {
            value.map(|value| filled(sentence, &[&value.to_string()]))
        };
        let bonus = Some(self.bonus_delta).filter(|delta| *delta != 0);
        let parts = [
            bonus.map(|delta| filled(words.detail_bonus, &[&numbers::signed(delta)])),
            number(words.detail_input, self.input_tokens),
            number(words.detail_output, self.output_tokens),
            number(words.detail_shortfall, self.shortfall_tokens.filter(|tokens| *tokens != 0)),
            number(words.detail_price, self.price_per_m_token),
            id(words.detail_reverses, self.reverses),
            id(words.detail_allocation, self.allocation_id),
            text(words.detail_hold, &self.hold_id),
            text(words.detail_store_id, &self.store_transaction_id),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}
