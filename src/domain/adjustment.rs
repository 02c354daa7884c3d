//! An adjustment: the operator puts an account's credits, or its tokens of one model, right by hand.
//!
//! Added credits count as bought, and of those taken away bought ones go first. Added tokens are worth no credits, and
//! their category may hold more than its limit then. Nothing goes below zero, nor below what is held.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Account, Applied, Credits, Delta, Entry, EntryReason, Facts, ModelId, Operation, OperatorAct,
    PriceList, Refusal, Tokens, UserId, Wanted,
};

/// What is put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Adjustment {
    Credits(Delta),
    Tokens { model: ModelId, delta: Delta },
}

/// Puts an account right.
#[derive(Debug, Clone)]
pub(crate) struct Adjust {
    pub adjustment: Adjustment,
    pub reason: EntryReason,
}

/// What the user has then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Adjusted {
    pub credits: Credits,
    /// How many of them were given.
    pub bonus: Credits,
    /// Tokens of the model, if it was about a model.
    pub tokens: Option<Tokens>,
}

impl Operation for Adjust {
    type Outcome = Adjusted;

    fn asks(&self, wanted: &mut Wanted) {
        if let Adjustment::Tokens { delta, .. } = &self.adjustment
            && delta.get() > 0
        {
            wanted.prices = true;
            wanted.adds_tokens = true;
        }
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Adjusted>, Refusal> {
        let Facts { accounts, prices, now, .. } = facts;
        let account = accounts.of(user);
        if !account.is_known() {
            return Err(Refusal::UserNotFound);
        }
        let reason = self.reason.clone();
        let entry = match &self.adjustment {
            Adjustment::Credits(delta) => {
                let bonus = check_credits(account, *delta)?;
                Entry::CreditsAdjustment { delta: *delta, bonus, reason }
            }
            Adjustment::Tokens { model, delta } => {
                let available = account.available(model, *now);
                check_tokens(account, model, *delta, available, prices)?;
                Entry::TokensAdjustment { model: model.clone(), delta: *delta, reason }
            }
        };
        accounts.record(user, entry);
        let account = accounts.of(user);
        let tokens = match &self.adjustment {
            Adjustment::Credits(_) => None,
            Adjustment::Tokens { model, .. } => account.tokens().get(model).copied(),
        };
        let funds = account.funds();
        Ok(Applied::now(Adjusted { credits: funds.total(), bonus: funds.bonus(), tokens }))
    }
}

impl OperatorAct for Adjust {
    const ACTION: &'static str = "adjust";

    fn state(&self, user: &UserId, facts: &Facts) -> Value {
        let account = facts.accounts.get(user).expect("its account was asked for");
        match &self.adjustment {
            Adjustment::Credits(_) => {
                let funds = account.funds();
                json!({"credits": funds.total(), "bonus": funds.bonus()})
            }
            Adjustment::Tokens { model, .. } => {
                let tokens = account.tokens().get(model).copied().unwrap_or_default();
                json!({"model_id": model, "tokens": tokens})
            }
        }
    }
}

/// How many of the credits that are taken away were given.
fn check_credits(account: &Account, delta: Delta) -> Result<Credits, Refusal> {
    let funds = account.funds();
    if delta.get() > 0 {
        let sum = funds.total().changed_by(delta.get());
        return sum.map(|_| Credits::ZERO).ok_or(Refusal::BalanceOverflow);
    }
    let (size, available) = (delta.size(), funds.total());
    let taken = Credits::new(size).ok().filter(|taken| *taken <= available);
    taken
        .map(|taken| funds.bonus_of_taken(taken))
        .ok_or(Refusal::InsufficientCredits { required: size.into(), available })
}

fn check_tokens(
    account: &Account,
    model: &ModelId,
    delta: Delta,
    available: Tokens,
    prices: &PriceList,
) -> Result<(), Refusal> {
    let balance = account.tokens().get(model).copied();
    if delta.get() > 0 {
        // A model that nobody sells, and that the user never had, is misspelt.
        if balance.is_none() && prices.get(model).is_none() {
            return Err(Refusal::ModelNotPriced { model: model.clone() });
        }
        let sum = balance.unwrap_or_default().changed_by(delta.get());
        return sum.map(|_| ()).ok_or(Refusal::BalanceOverflow);
    }
    if balance.is_none() {
        return Err(Refusal::NoTokenBalance { model: model.clone() });
    }
    let required = Tokens::new(delta.size()).expect("a delta's size is an amount");
    if required <= available {
        Ok(())
    } else {
        Err(Refusal::InsufficientTokens { required, available })
    }
}
