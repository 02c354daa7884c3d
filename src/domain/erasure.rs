//! The erasure of an account: what is left in it is taken to nothing, its holds are given up, and from then on it has
//! another name and takes nothing more. How its rows get that name, some at a time, does not belong here.

use serde_json::{Value, json};

use super::{
    Account, Applied, Credits, Delta, Entry, EntryReason, Facts, ModelId, Operation, OperatorAct,
    Refusal, Tokens, UserId, Wanted, hold_closing::release_all,
};

/// Erases an account; tells its new name.
#[derive(Debug, Clone)]
pub(crate) struct Erase {
    /// The new name, which nobody has.
    pub name: UserId,
    /// Whether what was paid for is given up.
    pub forfeit: bool,
    pub reason: EntryReason,
}

impl Operation for Erase {
    type Outcome = UserId;

    /// That of the credits. Those of the tokens follow from the balances.
    fn entries(&self) -> usize {
        1
    }

    fn asks_of(&self, user: &UserId, wanted: &mut Wanted) {
        wanted.lots_of.push(user.clone());
        wanted.emptied.push(user.clone());
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<UserId>, Refusal> {
        let now = facts.now;
        let account = facts.accounts.of(user);
        if !account.is_known() {
            return Err(Refusal::UserNotFound);
        }
        let funds = account.funds();
        let (credits, tokens_worth) = (funds.total().beyond(funds.bonus()), paid_worth(account));
        let is_paid = credits > Credits::ZERO || tokens_worth > Credits::ZERO;
        if is_paid && !self.forfeit {
            return Err(Refusal::PaidBalanceRemains { credits, tokens_worth });
        }
        release_all(account, now);
        for entry in self.emptying(account) {
            facts.accounts.record(user, entry);
        }
        facts.erase(user, &self.name);
        Ok(Applied::now(self.name.clone()))
    }
}

impl Erase {
    /// What takes all balances to nothing.
    fn emptying(&self, account: &Account) -> Vec<Entry> {
        let down = |amount: i64| Delta::new(amount.saturating_neg());
        let funds = account.funds();
        let credits = down(funds.total().get()).map(|delta| Entry::CreditsAdjustment {
            delta,
            bonus: funds.bonus(),
            reason: self.reason.clone(),
        });
        let of_model = |(model, tokens): (&ModelId, &Tokens)| {
            let (model, reason) = (model.clone(), self.reason.clone());
            down(tokens.get()).map(|delta| Entry::TokensAdjustment { model, delta, reason })
        };
        account.tokens().iter().filter_map(of_model).chain(credits).collect()
    }
}

/// Bought credits that would come back if all unused tokens were returned, held ones too.
fn paid_worth(account: &Account) -> Credits {
    let has = |model: &ModelId| account.tokens().get(model).copied().unwrap_or_default();
    account.lots().unused(has).into_iter().fold(Credits::ZERO, |sum, (lot, tokens)| {
        let part = lot.part(tokens);
        sum.checked_add(part.credits.beyond(part.bonus)).unwrap_or(Credits::MAX)
    })
}

impl OperatorAct for Erase {
    const ACTION: &'static str = "erase";

    fn state(&self, user: &UserId, facts: &Facts) -> Value {
        let account = facts.accounts.get(user).expect("its account was asked for");
        let funds = account.funds();
        json!({
            "credits": funds.total(), "bonus": funds.bonus(), "tokens": account.tokens(),
            "erased": account.is_erasing(),
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        GiveCredits, HoldId, HoldStatus, Lots, OpenHold, ReturnTokens,
        samples::{allocate, consume, credits, decide, facts_of_ann, model, tokens, user_id},
    };

    fn erase(forfeit: bool) -> Erase {
        let reason = EntryReason::new("asked").expect("a reason");
        Erase { name: UserId::erased(1), forfeit, reason }
    }

    /// Facts with what ann's allocations bought.
    fn facts(amount: i64) -> Facts {
        let mut facts = facts_of_ann(amount);
        facts.accounts.of(&user_id("ann")).know_lots(Lots::default());
        facts
    }

    #[test]
    fn only_what_was_paid_for_is_asked_about() {
        let mut facts = facts(0);
        let reason = EntryReason::new("a gift").expect("a reason");
        decide(&GiveCredits { credits: credits(100), reason }, &mut facts).expect("a gift");
        decide(&allocate(&[("quick-a", 75)]), &mut facts).expect("it is paid");
        decide(&erase(false), &mut facts).expect("all of it was given");
        assert!(facts.accounts.of(&user_id("ann")).is_erasing());
        assert_eq!(facts.erased, [(user_id("ann"), UserId::erased(1))]);
    }

    #[test]
    fn holds_are_released_and_what_they_held_is_given_up() {
        let mut facts = facts(75);
        decide(&allocate(&[("quick-a", 75)]), &mut facts).expect("it is paid");
        let hold = OpenHold {
            id: HoldId::new(Uuid::from_u128(1)),
            model: model("quick-a"),
            tokens: tokens(999_999),
            min_tokens: None,
            ttl: TimeDelta::seconds(10),
            max_holds: 1,
        };
        decide(&hold, &mut facts).expect("it is covered");
        let remains =
            Refusal::PaidBalanceRemains { credits: Credits::ZERO, tokens_worth: credits(75) };
        assert_eq!(decide(&erase(false), &mut facts), Err(remains));
        decide(&erase(true), &mut facts).expect("it is given up");
        let account = facts.accounts.of(&user_id("ann"));
        let closed: Vec<_> = account.holds().closed().map(|hold| hold.status).collect();
        assert_eq!(closed, [HoldStatus::Released]);
        assert_eq!(account.tokens()[&model("quick-a")], Tokens::ZERO);
    }

    proptest! {
        /// Tokens are worth what returning all of them would bring, and then nothing is left but zeros.
        #[test]
        fn what_remains_is_what_returns_would_bring(
            amount in 1_i64..5_000,
            given in 0_i64..3_000,
            bought in prop::collection::vec((0_usize..2, 1_i64..900), 0..5),
            used in prop::collection::vec((0_usize..2, 0_i64..2_000_000), 0..5),
        ) {
            let models = ["quick-a", "think-a"];
            let mut facts = facts(amount);
            if given > 0 {
                let reason = EntryReason::new("a gift").expect("a reason");
                let gift = GiveCredits { credits: credits(given.into()), reason };
                decide(&gift, &mut facts).expect("a gift");
            }
            for (model, spent) in bought {
                // Some are refused.
                let _ = decide(&allocate(&[(models[model], spent)]), &mut facts);
            }
            for (model, tokens) in used {
                let _ = decide(&consume(models[model], tokens, 0), &mut facts);
            }
            let ann = user_id("ann");
            let mut returned = facts_of(&mut facts);
            let before = returned.accounts.of(&ann).funds();
            for name in models {
                let _ = decide(&ReturnTokens { model: model(name) }, &mut returned);
            }
            let after = returned.accounts.of(&ann).funds();
            let paid = |funds: crate::domain::Funds| funds.total().beyond(funds.bonus());
            let worth = paid(after).beyond(paid(before));
            let expected = Refusal::PaidBalanceRemains { credits: paid(before), tokens_worth: worth };
            if paid(before) > Credits::ZERO || worth > Credits::ZERO {
                prop_assert_eq!(decide(&erase(false), &mut facts), Err(expected));
            }
            decide(&erase(true), &mut facts).expect("it is given up");
            let account = facts.accounts.of(&ann);
            prop_assert_eq!(account.funds(), crate::domain::Funds::NONE);
            prop_assert!(account.tokens().values().all(|tokens| *tokens == Tokens::ZERO));
        }
    }

    /// The same facts once more.
    fn facts_of(facts: &mut Facts) -> Facts {
        let account = facts.accounts.of(&user_id("ann")).clone();
        let ids = facts.accounts.ids().clone();
        Facts {
            accounts: crate::domain::Accounts::from_iter([account]).with_ids(ids),
            prices: facts.prices.clone(),
            limits: facts.limits,
            ..Facts::default()
        }
    }
}
