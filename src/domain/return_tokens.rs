//! A return: a model's unused tokens become credits again, at what was paid for them. What they are worth is
//! worked out in `lot`.

use serde::{Deserialize, Serialize};

use super::{Applied, Credits, Entry, Facts, ModelId, Operation, Refusal, Tokens, UserId, Wanted};

/// The fewest tokens that a return is about.
const FEWEST: i64 = 1;

/// Turns all unused tokens of a model back into credits.
#[derive(Debug, Clone)]
pub(crate) struct ReturnTokens {
    pub model: ModelId,
}

/// What was turned back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Returned {
    pub tokens: Tokens,
    pub credits: Credits,
    /// What can be spent now.
    pub balance: Credits,
    /// What the model has now.
    pub remaining: Tokens,
}

impl Operation for ReturnTokens {
    type Outcome = Returned;

    fn asks_of(&self, user: &UserId, wanted: &mut Wanted) {
        wanted.lots_of.push(user.clone());
        wanted.returning.push(user.clone());
    }

    fn entries(&self) -> usize {
        0
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Returned>, Refusal> {
        let Facts { accounts, now, .. } = facts;
        let account = accounts.of(user);
        let parts = account.lots().unused_of(&self.model, account.available(&self.model, *now));
        if parts.is_empty() {
            let required = Tokens::new(FEWEST).unwrap_or_default();
            return Err(Refusal::InsufficientTokens { required, available: Tokens::ZERO });
        }
        let credits = sum(parts.iter().map(|part| part.credits), Credits::checked_add)?;
        if credits == Credits::ZERO {
            return Err(Refusal::ReturnTooSmall { model: self.model.clone() });
        }
        let balance = account.credits().checked_add(credits).ok_or(Refusal::BalanceOverflow)?;
        let tokens = sum(parts.iter().map(|part| part.tokens), Tokens::checked_add)?;

        // From here on nothing refuses.
        for part in parts {
            let entry = Entry::Return {
                model: self.model.clone(),
                tokens: part.tokens,
                credits: part.credits,
                bonus: part.bonus,
                allocation: part.allocation,
            };
            accounts.record(user, entry);
        }
        let left = accounts.of(user).tokens().get(&self.model).copied();
        let remaining = left.unwrap_or_default();
        Ok(Applied::now(Returned { tokens, credits, balance, remaining }))
    }
}

fn sum<T: Default>(
    mut amounts: impl Iterator<Item = T>,
    add: fn(T, T) -> Option<T>,
) -> Result<T, Refusal> {
    amounts.try_fold(T::default(), add).ok_or(Refusal::BalanceOverflow)
}
