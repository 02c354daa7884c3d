//! An adjustment: the operator puts an account's credits, or its tokens of one model, right by hand.
//!
//! Added credits count as bought, and of those taken away bought ones go first. Added tokens are worth no credits, and
//! their category may hold more than its limit then. Nothing goes below zero, nor below what is held.

use serde_json::{Value, json};

use super::{
    Account, Applied, Credits, Delta, Entry, EntryReason, Facts, ModelId, Operation, OperatorAct,
    PriceList, Refusal, Tokens, UserId, Wallet, Wanted,
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

impl Operation for Adjust {
    /// What the user has then.
    type Outcome = Wallet;

    fn asks(&self, wanted: &mut Wanted) {
        wanted.prices = true;
        if let Adjustment::Tokens { delta, .. } = &self.adjustment
            && delta.get() > 0
        {
            wanted.adds_tokens = true;
        }
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Wallet>, Refusal> {
        let Facts { accounts, prices, limits, now, .. } = facts;
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
        Ok(Applied::now(Wallet::of(accounts.of(user), prices, *limits, *now)))
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

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        Account, GiveCredits, HoldId, OpenHold,
        samples::{
            allocate, credits, decide, facts, facts_of_ann, first_prices, limits, model, tokens,
            user_id,
        },
    };

    fn by(delta: i64) -> Delta {
        Delta::new(delta).expect("a change")
    }

    fn reason() -> EntryReason {
        EntryReason::new("wrong").expect("a reason")
    }

    fn of_credits(delta: i64) -> Adjust {
        Adjust { adjustment: Adjustment::Credits(by(delta)), reason: reason() }
    }

    fn of_tokens(name: &str, delta: i64) -> Adjust {
        let adjustment = Adjustment::Tokens { model: model(name), delta: by(delta) };
        Adjust { adjustment, reason: reason() }
    }

    fn allocated(wallet: &Wallet, name: &str) -> Option<Tokens> {
        wallet.tokens.get(&model(name)).map(|tokens| tokens.allocated)
    }

    #[test]
    fn tokens_that_are_held_stay() {
        let mut facts = facts_of_ann(75);
        decide(&allocate(&[("quick-a", 75)]), &mut facts).expect("it is paid");
        let hold = OpenHold {
            id: HoldId::new(Uuid::from_u128(1)),
            model: model("quick-a"),
            tokens: tokens(999_990),
            min_tokens: None,
            ttl: TimeDelta::seconds(10),
            max_holds: 1,
        };
        decide(&hold, &mut facts).expect("it is covered");
        let refusal = Refusal::InsufficientTokens { required: tokens(11), available: tokens(10) };
        assert_eq!(decide(&of_tokens("quick-a", -11), &mut facts), Err(refusal));
        let left =
            decide(&of_tokens("quick-a", -10), &mut facts).map(|left| allocated(&left, "quick-a"));
        assert_eq!(left, Ok(Some(tokens(999_990))));
        facts.now += TimeDelta::seconds(10);
        let left = decide(&of_tokens("quick-a", -999_990), &mut facts)
            .map(|left| allocated(&left, "quick-a"));
        assert_eq!(left, Ok(Some(Tokens::ZERO)));
    }

    #[test]
    fn amounts_stop_at_zero_and_at_the_largest() {
        let most = Credits::MAX.get();
        let mut facts = facts_of_ann(most - 1);
        let gift = GiveCredits { credits: credits(2), reason: reason() };
        assert_eq!(decide(&gift, &mut facts), Err(Refusal::BalanceOverflow));
        assert_eq!(decide(&of_credits(2), &mut facts), Err(Refusal::BalanceOverflow));
        let has = decide(&of_credits(1), &mut facts).map(|has| (has.credits, has.bonus));
        assert_eq!(has, Ok((Credits::MAX, Credits::ZERO)));
        assert_eq!(decide(&gift, &mut facts), Err(Refusal::BalanceOverflow));
        let has = decide(&of_credits(-most), &mut facts).map(|has| has.credits);
        assert_eq!(has, Ok(Credits::ZERO));
        let refusal =
            Refusal::InsufficientCredits { required: most.into(), available: Credits::ZERO };
        assert_eq!(decide(&of_credits(-most), &mut facts), Err(refusal));

        let has = decide(&of_tokens("dear", most), &mut facts).map(|has| allocated(&has, "dear"));
        assert_eq!(has, Ok(Some(Tokens::MAX)));
        assert_eq!(decide(&of_tokens("dear", 1), &mut facts), Err(Refusal::BalanceOverflow));
    }

    #[test]
    fn added_tokens_may_pass_the_capacity_and_are_of_a_model_that_there_is() {
        let mut facts = facts_of_ann(0);
        facts.limits = limits(5, 5);
        let has =
            decide(&of_tokens("quick-a", 6), &mut facts).map(|has| allocated(&has, "quick-a"));
        assert_eq!(has, Ok(Some(tokens(6))));
        let refusal = Refusal::ModelNotPriced { model: model("misspelt") };
        assert_eq!(decide(&of_tokens("misspelt", 1), &mut facts), Err(refusal));
        let refusal = Refusal::NoTokenBalance { model: model("quick-b") };
        assert_eq!(decide(&of_tokens("quick-b", -1), &mut facts), Err(refusal));
        // One that is not sold any more.
        facts.prices = PriceList::default();
        let has =
            decide(&of_tokens("quick-a", 1), &mut facts).map(|has| allocated(&has, "quick-a"));
        assert_eq!(has, Ok(Some(tokens(7))));
    }

    #[test]
    fn nobody_is_adjusted_whom_nobody_has_seen() {
        let mut facts = facts(&first_prices(), [Account::new(user_id("ann"))]);
        for adjust in [of_credits(1), of_credits(-1), of_tokens("quick-a", 1)] {
            assert_eq!(decide(&adjust, &mut facts), Err(Refusal::UserNotFound));
        }
        let gift = GiveCredits { credits: credits(5), reason: reason() };
        decide(&gift, &mut facts).expect("a gift makes a user");
        let has = decide(&of_credits(-2), &mut facts).map(|has| (has.credits, has.bonus));
        assert_eq!(has, Ok((credits(3), credits(3))));
    }

    #[test]
    fn a_change_is_no_more_than_an_amount_and_not_nothing() {
        let most = Credits::MAX.get();
        for none in [0, most + 1, -most - 1, i64::MIN, i64::MAX] {
            assert_eq!(Delta::new(none), None);
        }
        for delta in [1, -1, most, -most] {
            assert_eq!((by(delta).get(), by(delta).size()), (delta, delta.abs()));
        }
    }
}
