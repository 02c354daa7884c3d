//! The making of a hold: tokens of a model are put aside, as many as are asked for and there, for a time.

use chrono::{SubsecRound, TimeDelta};
use serde::{Deserialize, Serialize};

use super::{
    Applied, Facts, Hold, HoldId, HoldStatus, ModelId, Operation, Refusal, Tokens, UserId,
};

/// Digits of a second's fraction that are kept.
const MICROSECONDS: u16 = 6;

/// Puts tokens aside.
#[derive(Debug, Clone)]
pub(crate) struct OpenHold {
    /// What it will be called. Made before it is decided, so that deciding again makes the same.
    pub id: HoldId,
    pub model: ModelId,
    /// How many, at least one.
    pub tokens: Tokens,
    /// How many will do, where there are fewer: at least one.
    pub min_tokens: Option<Tokens>,
    /// For how long.
    pub ttl: TimeDelta,
    /// Most holds that an account may have at a time.
    pub max_holds: u16,
}

/// A hold, with what is free besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenedHold {
    pub hold: Hold,
    /// Tokens of its model that nobody holds.
    pub available: Tokens,
}

impl Operation for OpenHold {
    type Outcome = OpenedHold;

    fn entries(&self) -> usize {
        0
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<OpenedHold>, Refusal> {
        let now = facts.now;
        let account = facts.accounts.of(user);
        account.check_not_frozen()?;
        if !account.tokens().contains_key(&self.model) {
            return Err(Refusal::NoTokenBalance { model: self.model.clone() });
        }
        if account.holds().count(now) >= usize::from(self.max_holds) {
            return Err(Refusal::TooManyHolds { limit: self.max_holds });
        }
        let available = account.available(&self.model, now);
        let required = self.min_tokens.unwrap_or(self.tokens);
        if available < required {
            return Err(Refusal::InsufficientTokens { required, available });
        }
        let created_at = now.trunc_subsecs(MICROSECONDS);
        let hold = Hold {
            id: self.id,
            user: user.clone(),
            model: self.model.clone(),
            held_tokens: self.tokens.min(available),
            status: HoldStatus::Held,
            created_at,
            expires_at: created_at.checked_add_signed(self.ttl).unwrap_or(created_at),
            closed_at: None,
            input_tokens: None,
            output_tokens: None,
            consumed_tokens: None,
            released_tokens: None,
            remaining_tokens: None,
            transaction_id: None,
        };
        account.put_hold(hold.clone());
        let available = account.available(&self.model, now);
        Ok(Applied::now(OpenedHold { hold, available }))
    }
}
