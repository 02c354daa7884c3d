//! A consumption: the tokens one chat used, taken from its model's balance.

use super::{
    Applied, Entry, Facts, ModelId, Operation, Price, Refusal, Tokens, Usage, UserId, Wanted,
};

/// Uses up tokens; tells how many of the model remain.
#[derive(Debug, Clone)]
pub(crate) struct Consume {
    /// The model that answered.
    pub model: ModelId,
    /// Tokens used.
    pub usage: Usage,
}

impl Operation for Consume {
    type Outcome = Tokens;

    fn asks(&self, wanted: &mut Wanted) {
        wanted.prices = true;
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Tokens>, Refusal> {
        let Facts { accounts, prices, .. } = facts;
        let account = accounts.of(user);
        let Some(available) = account.tokens().get(&self.model).copied() else {
            return Err(Refusal::NoTokenBalance { model: self.model.clone() });
        };
        let required = self.usage.total();
        let remaining = available
            .checked_sub(required)
            .ok_or(Refusal::InsufficientTokens { required, available })?;
        account.record(Entry::Consumption {
            model: self.model.clone(),
            usage: self.usage,
            price_per_m_token: prices.get(&self.model).map(Price::price_per_m_token),
        });
        Ok(Applied::now(remaining))
    }
}
