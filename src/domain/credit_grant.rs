//! Credits that the operator gives: a user gets them without having bought any. The grant of a purchase is in `grant`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Applied, Credits, Entry, EntryReason, Facts, Operation, OperatorAct, Refusal, UserId};

/// Gives credits to a user, who may be new.
#[derive(Debug, Clone)]
pub(crate) struct GiveCredits {
    /// One at least.
    pub credits: Credits,
    pub reason: EntryReason,
}

/// What the user has then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Given {
    pub credits: Credits,
    /// How many of them were given.
    pub bonus: Credits,
}

impl Operation for GiveCredits {
    type Outcome = Given;

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Given>, Refusal> {
        let accounts = &mut facts.accounts;
        accounts.of(user).credits().checked_add(self.credits).ok_or(Refusal::BalanceOverflow)?;
        let entry = Entry::Grant { credits: self.credits, reason: self.reason.clone() };
        accounts.record(user, entry);
        let funds = accounts.of(user).funds();
        Ok(Applied::now(Given { credits: funds.total(), bonus: funds.bonus() }))
    }
}

impl OperatorAct for GiveCredits {
    const ACTION: &'static str = "grant";
    const OPENS_ACCOUNTS: bool = true;

    fn state(&self, user: &UserId, facts: &Facts) -> Value {
        let funds = facts.accounts.get(user).expect("its account was asked for").funds();
        json!({"credits": funds.total(), "bonus": funds.bonus()})
    }
}
