//! A freeze: nothing of the account may be spent or used until it ends.

use serde_json::{Value, json};

use super::{Applied, Facts, Operation, OperatorAct, Refusal, UserId};

/// Freezes an account. Said twice it is the same; tells that it is frozen.
#[derive(Debug, Clone)]
pub(crate) struct Freeze;

/// Ends a freeze; tells that it is not frozen.
#[derive(Debug, Clone)]
pub(crate) struct Unfreeze;

impl Operation for Freeze {
    type Outcome = bool;

    fn entries(&self) -> usize {
        0
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<bool>, Refusal> {
        facts.accounts.of(user).set_frozen(true);
        Ok(Applied::now(true))
    }
}

impl OperatorAct for Freeze {
    const ACTION: &'static str = "freeze";

    fn state(&self, user: &UserId, facts: &Facts) -> Value {
        state(user, facts)
    }
}

impl Operation for Unfreeze {
    type Outcome = bool;

    fn entries(&self) -> usize {
        0
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<bool>, Refusal> {
        facts.accounts.of(user).set_frozen(false);
        Ok(Applied::now(false))
    }
}

impl OperatorAct for Unfreeze {
    const ACTION: &'static str = "unfreeze";

    fn state(&self, user: &UserId, facts: &Facts) -> Value {
        state(user, facts)
    }
}

fn state(user: &UserId, facts: &Facts) -> Value {
    let account = facts.accounts.get(user).expect("its account was asked for");
    json!({"frozen": account.is_frozen()})
}
