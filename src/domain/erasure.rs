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
