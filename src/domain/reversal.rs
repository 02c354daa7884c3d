//! A reversal: tokens of a failed or wrong consumption come back, never more than it took.

use serde::{Deserialize, Serialize};

use super::{
    Applied, Entry, EntryKind, EntryReason, Facts, ModelId, Operation, Refusal, Tokens, UserId,
    Wanted,
};

/// Gives tokens of a consumption back to its model. The category may hold more than its limit then.
#[derive(Debug, Clone)]
pub(crate) struct Reverse {
    /// The entry of the consumption.
    pub consumption: i64,
    /// How many; all that are left, unless told.
    pub tokens: Option<Tokens>,
    pub reason: EntryReason,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reversed {
    pub model: ModelId,
    pub tokens: Tokens,
    /// What may still come back of the same consumption.
    pub reversible: Tokens,
    /// What the model has now.
    pub remaining: Tokens,
}

impl Operation for Reverse {
    type Outcome = Reversed;

    fn asks(&self, wanted: &mut Wanted) {
        wanted.reversing.push(self.consumption);
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Reversed>, Refusal> {
        let Facts { accounts, entries, .. } = facts;
        let kept = entries.of(user, self.consumption).ok_or(Refusal::TransactionNotFound)?;
        let Some(model) = kept.model.clone().filter(|_| kept.kind == EntryKind::Consumption) else {
            return Err(Refusal::NotReversible);
        };
        // Without a balance the account was opened after it was looked for, and the consumption is as new.
        let held = accounts.of(user).tokens().get(&model).copied();
        let held = held.ok_or(Refusal::TransactionNotFound)?;
        let left = Tokens::new(kept.amount.saturating_sub(kept.reversed)).unwrap_or_default();
        let tokens = self.tokens.unwrap_or(left);
        let reversible = left
            .checked_sub(tokens)
            .filter(|_| tokens > Tokens::ZERO)
            .ok_or(Refusal::AlreadyReversed { reversible: left })?;
        let remaining = held.checked_add(tokens).ok_or(Refusal::BalanceOverflow)?;
        kept.reversed = kept.reversed.saturating_add(tokens.get());
        let entry = Entry::ConsumptionReversal {
            model: model.clone(),
            tokens,
            consumption: self.consumption,
            reason: self.reason.clone(),
        };
        accounts.record(user, entry);
        Ok(Applied::now(Reversed { model, tokens, reversible, remaining }))
    }
}
