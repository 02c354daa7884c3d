//! Holds the rules against a second, naive reading of the contract: plain maps of `i128`, written
//! without looking at how accounts work. The edges a random run rarely meets are pinned beside each act.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    Account, Adjust, Adjustment, Applied, ByOperator, Category, Consumed, Delta, EntryKind,
    EntryReason, Facts, Freeze, GiveCredits, HoldId, HoldStatus, KeptEntry, Logged, Lots, ModelId,
    OpenHold, Operation, Recorded, Refusal, ReleaseHold, Reset, ReturnTokens, Reverse, SettleHold,
    Unfreeze, Usage, UserId,
    samples::{
        Prices, allocate, consume, credits, decide, facts, first_prices, limits, model, price_list,
        purchase, purchase_name, tokens, user_id,
    },
};

const USERS: [&str; 3] = ["ann", "bob", "cid"];
const MODELS: [&str; 6] = ["quick-a", "quick-b", "think-a", "think-b", "dear", "unknown"];
const NAMES: [&str; 5] = ["GPA.1", "GPA.2", "GPA.3", "token-1", "token-2"];
const MOST: i128 = 9_007_199_254_740_991;
const MAX_HOLDS: u16 = 3;

/// One random step: what a user asks for, or what an operator changes by hand.
#[derive(Debug, Clone)]
enum Step {
    Purchase { user: &'static str, credits: i64, names: Vec<&'static str> },
    Allocate { user: &'static str, items: Vec<(&'static str, i64)> },
    Consume { user: &'static str, model: &'static str, input: i64, output: i64 },
    Reverse { user: &'static str, place: usize, tokens: Option<i64> },
    Return { user: &'static str, model: &'static str },
    Hold { user: &'static str, model: &'static str, tokens: i64, min: Option<i64>, seconds: i64 },
    Settle { user: &'static str, hold: usize, input: i64, output: i64 },
    Release { user: &'static str, hold: usize },
    Pass { seconds: i64 },
    Reset { user: &'static str },
    Give { user: &'static str, credits: i64 },
    AdjustCredits { user: &'static str, delta: i64 },
    AdjustTokens { user: &'static str, model: &'static str, delta: i64 },
    Freeze { user: &'static str, frozen: bool },
    Limits { quick: i64, think: i64 },
    Reprice { model: &'static str, price: i64, category: Category },
}

/// The contract, naively.
#[derive(Default)]
struct Model {
    users: BTreeMap<&'static str, Holdings>,
    /// Who ever got credits.
    known: BTreeSet<&'static str>,
    frozen: BTreeSet<&'static str>,
    /// What operators did, and to whom.
    log: Vec<(&'static str, &'static str)>,
    names: BTreeMap<&'static str, &'static str>,
    prices: Prices,
    limits: BTreeMap<Category, i64>,
    holds: Vec<NaiveHold>,
    /// Seconds since the start.
    now: i64,
}

struct NaiveHold {
    /// Nobody's after a reset.
    user: Option<&'static str>,
    name: &'static str,
    held: i128,
    expires: i64,
    closed: Option<Closed>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Closed {
    /// Input and output; then consumed, released, missing, and what remained.
    Settled(i64, i64, [i128; 4]),
    /// What was released, and what remained.
    Released([i128; 2]),
}

#[derive(Default, Clone, PartialEq, Debug)]
struct Holdings {
    credits: i128,
    /// How many of them were given.
    given: i128,
    tokens: BTreeMap<&'static str, i128>,
    /// Kind, amount, model, and by how much the given credits changed.
    history: Vec<(&'static str, i128, Option<&'static str>, i128)>,
    bought: Vec<Bought>,
    /// What is left to come back of each consumption, with its model.
    used: Vec<(&'static str, i128)>,
}

/// What an allocation spent and bought, and what of it went back.
#[derive(Clone, PartialEq, Debug)]
struct Bought {
    model: &'static str,
    credits: i128,
    given: i128,
    tokens: i128,
    back: i128,
}

impl Holdings {
    /// Takes credits, bought ones first. Tells how many of them had been given.
    fn take(&mut self, credits: i128) -> i128 {
        let bought = self.credits - self.given;
        let given = if credits > bought { credits - bought } else { 0 };
        self.credits -= credits;
        self.given -= given;
        given
    }
}

impl Bought {
    /// Credits that are back in all, and how many of them had been given: those beyond the bought ones.
    fn in_all(&self) -> (i128, i128) {
        let credits = self.credits * self.back / self.tokens;
        let bought = self.credits - self.given;
        (credits, if credits > bought { credits - bought } else { 0 })
    }
}

impl Model {
    fn purchase(
        &mut self,
        user: &'static str,
        credits: i64,
        names: &[&'static str],
    ) -> Result<(i128, bool), Refusal> {
        let known: BTreeSet<&str> =
            names.iter().filter_map(|name| self.names.get(name).copied()).collect();
        if known.iter().any(|owner| *owner != user) {
            return Err(Refusal::PurchaseAlreadyProcessed);
        }
        if !known.is_empty() {
            return Ok((self.users.get(user).map_or(0, |holdings| holdings.credits), true));
        }
        let holdings = self.users.entry(user).or_default();
        if holdings.credits + i128::from(credits) > MOST {
            return Err(Refusal::BalanceOverflow);
        }
        holdings.credits += i128::from(credits);
        holdings.history.push(("purchase", i128::from(credits), None, 0));
        self.known.insert(user);
        for name in names {
            self.names.insert(name, user);
        }
        Ok((holdings.credits, false))
    }

    fn allocate(
        &mut self,
        user: &'static str,
        items: &[(&'static str, i64)],
    ) -> Result<(), Refusal> {
        self.check_not_frozen(user)?;
        // A copy is worked on, and kept only when every item went through.
        let mut after = self.users.get(user).cloned().unwrap_or_default();
        let required: i128 = items.iter().map(|(_, credits)| i128::from(*credits)).sum();
        if required > after.credits {
            return Err(Refusal::InsufficientCredits {
                required,
                available: credits(after.credits),
            });
        }
        for &(name, spent) in items {
            let Some(&(price, category)) = self.prices.get(name) else {
                return Err(Refusal::ModelNotPriced { model: model(name) });
            };
            let bought = i128::from(spent) * 1_000_000 / i128::from(price);
            let total = self.total(&after, category);
            let limit = i128::from(self.limits[&category]);
            if total + bought > limit {
                let available = (limit - total).max(0);
                return Err(Refusal::CapacityExceeded {
                    category,
                    limit: tokens(limit),
                    available: tokens(available),
                    max_credits: credits(most_credits(i128::from(price), available)),
                });
            }
            if bought == 0 {
                return Err(Refusal::AllocationTooSmall { model: model(name) });
            }
            let given = after.given.min(spent.into());
            after.credits -= i128::from(spent);
            after.given -= given;
            *after.tokens.entry(name).or_default() += bought;
            after.history.push(("allocation", i128::from(spent), Some(name), -given));
            after.bought.push(Bought {
                model: name,
                credits: spent.into(),
                given,
                tokens: bought,
                back: 0,
            });
        }
        self.users.insert(user, after);
        Ok(())
    }

    fn consume(
        &mut self,
        user: &'static str,
        name: &'static str,
        used: i128,
    ) -> Result<i128, Refusal> {
        self.check_not_frozen(user)?;
        let Some(free) = self.free(user, name) else {
            return Err(Refusal::NoTokenBalance { model: model(name) });
        };
        if used > free {
            return Err(Refusal::InsufficientTokens {
                required: tokens(used),
                available: tokens(free),
            });
        }
        Ok(self.take(user, name, used))
    }

    fn take(&mut self, user: &'static str, name: &'static str, used: i128) -> i128 {
        let holdings = self.users.get_mut(user).expect("who has tokens");
        let left = holdings.tokens.get_mut(name).expect("who has tokens");
        *left -= used;
        holdings.history.push(("consumption", used, Some(name), 0));
        holdings.used.push((name, used));
        *left
    }

    /// What is there and not held.
    fn free(&self, user: &str, name: &str) -> Option<i128> {
        let open = self.open(user).filter(|hold| hold.name == name);
        let held: i128 = open.map(|hold| hold.held).sum();
        Some(self.users.get(user)?.tokens.get(name)? - held)
    }

    fn open(&self, user: &str) -> impl Iterator<Item = &NaiveHold> {
        let now = self.now;
        self.holds.iter().filter(move |hold| {
            hold.user == Some(user) && hold.closed.is_none() && hold.expires > now
        })
    }

    fn hold(
        &mut self,
        user: &'static str,
        name: &'static str,
        (most, least): (i64, Option<i64>),
        seconds: i64,
    ) -> Result<[i128; 2], Refusal> {
        self.check_not_frozen(user)?;
        let Some(free) = self.free(user, name) else {
            return Err(Refusal::NoTokenBalance { model: model(name) });
        };
        if self.open(user).count() == usize::from(MAX_HOLDS) {
            return Err(Refusal::TooManyHolds { limit: MAX_HOLDS });
        }
        let required = i128::from(least.unwrap_or(most));
        if required > free {
            return Err(Refusal::InsufficientTokens {
                required: tokens(required),
                available: tokens(free),
            });
        }
        let held = free.min(most.into());
        let expires = self.now + seconds;
        self.holds.push(NaiveHold { user: Some(user), name, held, expires, closed: None });
        Ok([held, free - held])
    }

    /// The hold of a user, and whether it counts.
    fn hold_of(&self, user: &str, hold: usize) -> Result<(&NaiveHold, bool), Refusal> {
        let found = self.holds.get(hold).filter(|hold| hold.user == Some(user));
        found.map(|hold| (hold, hold.expires > self.now)).ok_or(Refusal::HoldNotFound)
    }

    fn settle(
        &mut self,
        user: &'static str,
        hold: usize,
        (input, output): (i64, i64),
    ) -> Result<([i128; 4], bool), Refusal> {
        let (found, counts) = self.hold_of(user, hold)?;
        let (name, held) = (found.name, if counts { found.held } else { 0 });
        match found.closed {
            Some(Closed::Settled(i, o, told)) if (i, o) == (input, output) => {
                return Ok((told, true));
            }
            Some(Closed::Settled(..)) => {
                return Err(Refusal::HoldClosed { status: HoldStatus::Settled });
            }
            Some(Closed::Released(_)) => {
                return Err(Refusal::HoldClosed { status: HoldStatus::Released });
            }
            None => {}
        }
        let used = i128::from(input) + i128::from(output);
        let free = self.free(user, name).expect("a hold is of a balance");
        let taken = used.min(held + free);
        let remaining = self.take(user, name, taken);
        let told = [taken, (held - used).max(0), used - taken, remaining];
        self.holds[hold].closed = Some(Closed::Settled(input, output, told));
        Ok((told, false))
    }

    fn release(&mut self, user: &'static str, hold: usize) -> Result<([i128; 2], bool), Refusal> {
        let (found, counts) = self.hold_of(user, hold)?;
        match found.closed {
            Some(Closed::Released(told)) => return Ok((told, true)),
            Some(Closed::Settled(..)) => {
                return Err(Refusal::HoldClosed { status: HoldStatus::Settled });
            }
            None => {}
        }
        let held = if counts { found.held } else { 0 };
        let told = [held, self.users[user].tokens[found.name]];
        self.holds[hold].closed = Some(Closed::Released(told));
        Ok((told, false))
    }

    /// Tells what came back, and what the model has then.
    fn reverse(
        &mut self,
        user: &'static str,
        place: usize,
        amount: Option<i64>,
    ) -> Result<(i128, i128), Refusal> {
        let holdings = self.users.entry(user).or_default();
        let (name, left) = holdings.used.get_mut(place).ok_or(Refusal::TransactionNotFound)?;
        let amount = amount.map_or(*left, i128::from);
        if amount == 0 || amount > *left {
            return Err(Refusal::AlreadyReversed { reversible: tokens(*left) });
        }
        let held = holdings.tokens.get_mut(name).expect("it was used");
        if *held + amount > MOST {
            return Err(Refusal::BalanceOverflow);
        }
        *left -= amount;
        *held += amount;
        holdings.history.push(("reversal", amount, Some(name), 0));
        Ok((amount, *held))
    }

    /// Tells the tokens and the credits that came back.
    fn give_back(
        &mut self,
        user: &'static str,
        name: &'static str,
    ) -> Result<(i128, i128), Refusal> {
        // A copy is worked on, and kept only when something is worth a credit.
        let mut after = self.users.get(user).cloned().unwrap_or_default();
        let mut rest = self.free(user, name).unwrap_or(0);
        let held = after.tokens.get(name).copied().unwrap_or(0) - rest;
        let (mut given, mut worth, mut bonus) = (0, 0, 0);
        for bought in after.bought.iter_mut().rev().filter(|bought| bought.model == name) {
            let part = rest.min(bought.tokens - bought.back);
            if part > 0 {
                let before = bought.in_all();
                bought.back += part;
                let back = bought.in_all();
                let (credits, of_bonus) = (back.0 - before.0, back.1 - before.1);
                (rest, given, worth) = (rest - part, given + part, worth + credits);
                bonus += of_bonus;
                after.history.push(("return", credits, Some(name), of_bonus));
            }
        }
        if given == 0 {
            return Err(Refusal::InsufficientTokens { required: tokens(1), available: tokens(0) });
        }
        if worth == 0 {
            return Err(Refusal::ReturnTooSmall { model: model(name) });
        }
        if after.credits + worth > MOST {
            return Err(Refusal::BalanceOverflow);
        }
        after.credits += worth;
        after.given += bonus;
        after.tokens.insert(name, held + rest);
        self.users.insert(user, after);
        Ok((given, worth))
    }

    /// Tells the credits, and how many of them were given.
    fn give(&mut self, user: &'static str, credits: i64) -> Result<(i128, i128), Refusal> {
        let holdings = self.users.entry(user).or_default();
        if holdings.credits + i128::from(credits) > MOST {
            return Err(Refusal::BalanceOverflow);
        }
        holdings.credits += i128::from(credits);
        holdings.given += i128::from(credits);
        holdings.history.push(("grant", credits.into(), None, credits.into()));
        self.known.insert(user);
        Ok((holdings.credits, holdings.given))
    }

    fn adjust_credits(
        &mut self,
        user: &'static str,
        delta: i64,
    ) -> Result<(i128, i128, Option<i128>), Refusal> {
        let delta = i128::from(delta);
        if !self.known.contains(user) {
            return Err(Refusal::UserNotFound);
        }
        let holdings = self.users.entry(user).or_default();
        if holdings.credits + delta > MOST {
            return Err(Refusal::BalanceOverflow);
        }
        if holdings.credits + delta < 0 {
            let available = credits(holdings.credits);
            return Err(Refusal::InsufficientCredits { required: -delta, available });
        }
        let mut given = 0;
        if delta < 0 {
            given = holdings.take(-delta);
        } else {
            holdings.credits += delta;
        }
        holdings.history.push(("adjustment", delta.abs(), None, -given));
        Ok((holdings.credits, holdings.given, None))
    }

    fn adjust_tokens(
        &mut self,
        user: &'static str,
        name: &'static str,
        delta: i64,
    ) -> Result<(i128, i128, Option<i128>), Refusal> {
        let delta = i128::from(delta);
        if !self.known.contains(user) {
            return Err(Refusal::UserNotFound);
        }
        let free = self.free(user, name);
        if delta > 0 && free.is_none() && !self.prices.contains_key(name) {
            return Err(Refusal::ModelNotPriced { model: model(name) });
        }
        if delta < 0 {
            let free = free.ok_or_else(|| Refusal::NoTokenBalance { model: model(name) })?;
            if free + delta < 0 {
                let (required, available) = (tokens(-delta), tokens(free));
                return Err(Refusal::InsufficientTokens { required, available });
            }
        }
        let holdings = self.users.entry(user).or_default();
        let held = holdings.tokens.get(name).copied().unwrap_or(0);
        if held + delta > MOST {
            return Err(Refusal::BalanceOverflow);
        }
        holdings.tokens.insert(name, held + delta);
        holdings.history.push(("adjustment", delta.abs(), Some(name), 0));
        Ok((holdings.credits, holdings.given, Some(held + delta)))
    }

    fn reset(&mut self, user: &'static str) -> Result<(), Refusal> {
        self.check_not_frozen(user)?;
        self.users.remove(user);
        let of_user = self.holds.iter_mut().filter(|hold| hold.user == Some(user));
        of_user.for_each(|hold| hold.user = None);
        self.names.retain(|_, owner| *owner != user);
        Ok(())
    }

    /// Tells whether the account is frozen now.
    fn freeze(&mut self, user: &'static str, frozen: bool) -> Result<bool, Refusal> {
        if !self.known.contains(user) {
            return Err(Refusal::UserNotFound);
        }
        if frozen {
            self.frozen.insert(user);
        } else {
            self.frozen.remove(user);
        }
        self.log.push((if frozen { "freeze" } else { "unfreeze" }, user));
        Ok(frozen)
    }

    /// What spends, uses, or forgets is refused, before anything else is looked at.
    fn check_not_frozen(&self, user: &str) -> Result<(), Refusal> {
        if self.frozen.contains(user) { Err(Refusal::AccountFrozen) } else { Ok(()) }
    }

    fn total(&self, holdings: &Holdings, category: Category) -> i128 {
        let of_category = |name| self.prices.get(name).is_some_and(|price| price.1 == category);
        holdings.tokens.iter().filter(|(name, _)| of_category(**name)).map(|(_, held)| held).sum()
    }
}

/// The largest amount of credits whose tokens fit into `free`, found by search, not by formula.
fn most_credits(price: i128, free: i128) -> i128 {
    if free == 0 {
        return 0;
    }
    let (mut fits, mut too_many) = (0, MOST + 1);
    while too_many - fits > 1 {
        let middle = i128::midpoint(fits, too_many);
        if middle * 1_000_000 / price <= free { fits = middle } else { too_many = middle }
    }
    fits
}

/// The real rules, driven through `Operation::decide` as the ledger does.
struct Real(Facts);

impl Real {
    fn decide<O: Operation>(
        &mut self,
        user: &'static str,
        operation: &O,
    ) -> Result<Applied<O::Outcome>, Refusal> {
        let before = self.account(user).clone();
        let result = operation.decide(&user_id(user), &mut self.0);
        if !matches!(result, Ok(Applied { replayed: false, .. })) {
            let account = self.account(user);
            assert_eq!(account.funds(), before.funds(), "a refusal changed credits");
            assert_eq!(account.tokens(), before.tokens(), "a refusal changed tokens");
            assert_eq!(account.entries(), before.entries(), "a refusal left an entry");
            assert_eq!(account.holds(), before.holds(), "a refusal changed holds");
            assert_eq!(account.is_reset(), before.is_reset(), "a refusal reset the account");
            assert_eq!(account.is_frozen(), before.is_frozen(), "a refusal froze the account");
        }
        result
    }

    /// Reverses the consumption at this place among the user's since the last reset.
    fn reverse(
        &mut self,
        user: &'static str,
        place: usize,
        amount: Option<i64>,
    ) -> Result<(i128, i128), Refusal> {
        self.know_consumptions(user);
        let is_consumption = |it: &&Recorded| it.entry.kind() == EntryKind::Consumption;
        let id = self.account(user).entries().iter().filter(is_consumption).nth(place);
        let consumption = id.map_or(i64::MAX, |it| it.id);
        let reason = EntryReason::new("wrong").expect("a reason");
        let amount = amount.map(|amount| tokens(amount.into()));
        let result = self.decide(user, &Reverse { consumption, tokens: amount, reason });
        result.map(|Applied { outcome, .. }| {
            (i128::from(outcome.tokens.get()), i128::from(outcome.remaining.get()))
        })
    }

    fn adjust(
        &mut self,
        user: &'static str,
        adjustment: Adjustment,
    ) -> Result<(i128, i128, Option<i128>), Refusal> {
        let model = match &adjustment {
            Adjustment::Credits(_) => None,
            Adjustment::Tokens { model, .. } => Some(model.clone()),
        };
        let reason = EntryReason::new("wrong").expect("a reason");
        let result = self.decide(user, &Adjust { adjustment, reason });
        result.map(|Applied { outcome, replayed }| {
            assert!(!replayed, "nothing was repeated");
            let tokens = model.map(|model| outcome.tokens[&model].allocated.get().into());
            (outcome.credits.get().into(), outcome.bonus.get().into(), tokens)
        })
    }

    fn freeze(&mut self, user: &'static str, frozen: bool) -> Result<bool, Refusal> {
        let reason = EntryReason::new("charged back").expect("a reason");
        let by = ByOperator { operator: "olga".into(), reason, request_id: "a request".into() };
        let result = if frozen {
            self.decide(user, &Logged { act: Freeze, by })
        } else {
            self.decide(user, &Logged { act: Unfreeze, by })
        };
        result.map(|applied| applied.outcome)
    }

    /// Tells of the consumptions as a database would.
    fn know_consumptions(&mut self, user: &'static str) {
        let entries = self.account(user).entries().to_vec();
        for Recorded { id, entry, .. } in &entries {
            if entry.kind() == EntryKind::Consumption {
                let backs = entries.iter().filter(|other| other.entry.reverses() == Some(*id));
                let kept = KeptEntry {
                    user: user_id(user),
                    kind: entry.kind(),
                    model: entry.model().cloned(),
                    amount: entry.amount(),
                    reversed: backs.map(|back| back.entry.amount()).sum(),
                };
                self.0.entries.insert(*id, kept);
            }
        }
    }

    fn account(&self, user: &'static str) -> &Account {
        self.0.accounts.get(&user_id(user)).expect("every user has an account")
    }
}

/// Credits and tokens are what the entries since the last reset add up to.
fn assert_balances_follow_from_entries(account: &Account) {
    let (mut credits, mut given) = (0_i128, 0_i128);
    let mut tokens: BTreeMap<ModelId, i128> = BTreeMap::new();
    for entry in account.entries().iter().map(|it| &it.entry) {
        credits += i128::from(entry.credits_delta());
        if let Some(model) = entry.model() {
            *tokens.entry(model.clone()).or_default() += i128::from(entry.tokens_delta());
        }
        given += i128::from(entry.bonus_delta());
        assert!(credits >= 0, "credits were negative on the way");
        assert!((0..=credits).contains(&given), "{given} of {credits} credits were given");
        assert!(tokens.values().all(|held| *held >= 0), "tokens were negative on the way");
    }
    let held: BTreeMap<ModelId, i128> = account
        .tokens()
        .iter()
        .map(|(model, tokens)| (model.clone(), i128::from(tokens.get())))
        .collect();
    assert_eq!(i128::from(account.credits().get()), credits);
    assert_eq!(i128::from(account.funds().bonus().get()), given);
    assert_eq!(held, tokens);
}

fn assert_same_holdings(account: &Account, expected: &Holdings) {
    assert_eq!(i128::from(account.credits().get()), expected.credits);
    assert_eq!(i128::from(account.funds().bonus().get()), expected.given);
    let held: BTreeMap<&str, i128> = account
        .tokens()
        .iter()
        .map(|(model, tokens)| (model.as_str(), i128::from(tokens.get())))
        .collect();
    assert_eq!(held, expected.tokens);
    let history: Vec<_> = account
        .entries()
        .iter()
        .map(|recorded| {
            let entry = &recorded.entry;
            let model = entry.model().map(ModelId::as_str);
            let given = i128::from(entry.bonus_delta());
            (entry.kind().name(), i128::from(entry.amount()), model, given)
        })
        .collect();
    assert_eq!(history, expected.history);
}

fn hold_id(number: usize) -> HoldId {
    HoldId::new(Uuid::from_u128(u128::try_from(number).expect("few holds")))
}

#[expect(clippy::too_many_lines, reason = "a table: each step has its arm")]
fn run(steps: Vec<Step>) {
    let mut model = Model { prices: first_prices(), ..Model::default() };
    let accounts = USERS.map(|user| Account::new(user_id(user)));
    let mut real = Real(facts(&model.prices, accounts));
    for user in USERS {
        real.0.accounts.of(&user_id(user)).know_lots(Lots::default());
    }
    model.limits = BTreeMap::from([(Category::Quick, 5_000_000), (Category::Think, 1_000_000)]);

    for step in steps {
        match step {
            Step::Purchase { user, credits, names } => {
                let result = real.decide(user, &purchase(credits, &names));
                let told =
                    result.map(|applied| (i128::from(applied.outcome.get()), applied.replayed));
                assert_eq!(told, model.purchase(user, credits, &names));
            }
            Step::Allocate { user, items } => {
                let result = real.decide(user, &allocate(&items));
                assert_eq!(result, model.allocate(user, &items).map(Applied::now));
                if result.is_ok() {
                    let touched: BTreeSet<Category> =
                        items.iter().map(|(name, _)| model.prices[name].1).collect();
                    for category in touched {
                        let total = real.account(user).category_total(category, &real.0.prices);
                        assert!(total <= real.0.limits.limit_tokens(category));
                        let expected = model.total(&model.users[user], category);
                        assert_eq!(i128::from(total.get()), expected);
                    }
                }
            }
            Step::Consume { user, model: name, input, output } => {
                let result = real.decide(user, &consume(name, input, output));
                let remaining = result.map(|applied| i128::from(applied.outcome.remaining.get()));
                let used = i128::from(input) + i128::from(output);
                assert_eq!(remaining, model.consume(user, name, used));
            }
            Step::Reverse { user, place, tokens } => {
                let result = real.reverse(user, place, tokens);
                assert_eq!(result, model.reverse(user, place, tokens));
            }
            Step::Return { user, model: name } => {
                let result =
                    real.decide(user, &ReturnTokens { model: super::samples::model(name) });
                let told = result.map(|Applied { outcome, .. }| {
                    (i128::from(outcome.tokens.get()), i128::from(outcome.credits.get()))
                });
                assert_eq!(told, model.give_back(user, name));
            }
            Step::Hold { user, model: name, tokens: most, min, seconds } => {
                let operation = OpenHold {
                    id: hold_id(model.holds.len()),
                    model: super::samples::model(name),
                    tokens: tokens(most.into()),
                    min_tokens: min.map(|min| tokens(min.into())),
                    ttl: TimeDelta::seconds(seconds),
                    max_holds: MAX_HOLDS,
                };
                let told = real.decide(user, &operation).map(|applied| {
                    let outcome = applied.outcome;
                    [outcome.hold.held_tokens, outcome.available].map(|it| i128::from(it.get()))
                });
                assert_eq!(told, model.hold(user, name, (most, min), seconds));
            }
            Step::Settle { user, hold, input, output } => {
                let usage = Usage::new(tokens(input.into()), tokens(output.into()));
                let usage = usage.expect("a valid sum");
                let told = real.decide(user, &SettleHold { id: hold_id(hold), usage });
                let told = told.map(|Applied { outcome, replayed }| {
                    let told =
                        [outcome.consumed, outcome.released, outcome.shortfall, outcome.remaining];
                    (told.map(|it| i128::from(it.get())), replayed)
                });
                assert_eq!(told, model.settle(user, hold, (input, output)));
            }
            Step::Release { user, hold } => {
                let told = real.decide(user, &ReleaseHold { id: hold_id(hold) });
                let told = told.map(|Applied { outcome, replayed }| {
                    let told = [outcome.released, outcome.remaining];
                    (told.map(|it| i128::from(it.get())), replayed)
                });
                assert_eq!(told, model.release(user, hold));
            }
            Step::Pass { seconds } => {
                model.now += seconds;
                real.0.now += TimeDelta::seconds(seconds);
            }
            Step::Reset { user } => {
                let result = real.decide(user, &Reset);
                assert!(result.is_err() || real.account(user).is_reset());
                assert_eq!(result, model.reset(user).map(Applied::now));
            }
            Step::Give { user, credits: amount } => {
                let reason = EntryReason::new("sorry").expect("a reason");
                let gift = GiveCredits { credits: credits(amount.into()), reason };
                let told = real.decide(user, &gift).map(|Applied { outcome, .. }| {
                    (i128::from(outcome.credits.get()), i128::from(outcome.bonus.get()))
                });
                assert_eq!(told, model.give(user, amount));
            }
            Step::AdjustCredits { user, delta } => {
                let by = Delta::new(delta).expect("not zero");
                let told = real.adjust(user, Adjustment::Credits(by));
                assert_eq!(told, model.adjust_credits(user, delta));
            }
            Step::AdjustTokens { user, model: name, delta } => {
                let by = Delta::new(delta).expect("not zero");
                let of = super::samples::model(name);
                let told = real.adjust(user, Adjustment::Tokens { model: of, delta: by });
                assert_eq!(told, model.adjust_tokens(user, name, delta));
            }
            Step::Freeze { user, frozen } => {
                assert_eq!(real.freeze(user, frozen), model.freeze(user, frozen));
            }
            Step::Limits { quick, think } => {
                real.0.limits = limits(quick, think);
                model.limits = BTreeMap::from([(Category::Quick, quick), (Category::Think, think)]);
            }
            Step::Reprice { model: name, price, category } => {
                model.prices.insert(name, (price, category));
                real.0.prices = price_list(&model.prices);
            }
        }
        for user in USERS {
            let account = real.account(user);
            assert_balances_follow_from_entries(account);
            assert_same_holdings(account, &model.users.get(user).cloned().unwrap_or_default());
            assert_eq!(account.is_frozen(), model.frozen.contains(user));
            for name in MODELS {
                let free = account.available(&super::samples::model(name), real.0.now);
                assert_eq!(i128::from(free.get()), model.free(user, name).unwrap_or(0));
            }
        }
        for name in NAMES {
            let owner = real.0.granted.owner(&purchase_name(name)).map(UserId::as_str);
            assert_eq!(owner, model.names.get(name).copied());
        }
        let logged = real.0.log.iter().map(|line| {
            (line.action, line.account.as_ref().expect("it is about an account").as_str())
        });
        assert_eq!(logged.collect::<Vec<_>>(), model.log);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let user = || prop::sample::select(&USERS[..]);
    let name = || prop::sample::select(&MODELS[..]);
    let spent = || prop_oneof![8 => 1_i64..300, 2 => 300_i64..3_000, 1 => 1_i64..=1_000_000_000];
    let bought = prop_oneof![
        10 => 1_i64..1_000,
        1 => 1_i64..=1_000_000_000,
        1 => 4_000_000_000_000_000_i64..=9_007_199_254_740_991,
    ];
    let names = prop::collection::vec(prop::sample::select(&NAMES[..]), 0..=2);
    let used = || prop_oneof![1 => Just(0_i64), 8 => 0_i64..400_000, 1 => 0_i64..=1_000_000_000];
    let category = prop_oneof![Just(Category::Quick), Just(Category::Think)];
    let price = prop_oneof![4 => 1_i64..1_000, 1 => 1_i64..=4_000_000, 1 => 1_i64..];
    let limit = || prop_oneof![6 => 0_i64..6_000_000, 1 => 0_i64..=9_007_199_254_740_991];
    let given = prop_oneof![8 => 1_i64..1_000, 1 => 1_i64..=9_007_199_254_740_991];
    let credits_delta = prop_oneof![
        8 => -1_000_i64..1_000,
        1 => -9_007_199_254_740_991_i64..=9_007_199_254_740_991,
    ];
    let tokens_delta = prop_oneof![
        8 => -400_000_i64..400_000,
        1 => -9_007_199_254_740_991_i64..=9_007_199_254_740_991,
    ];
    let not_zero = |delta: &i64| *delta != 0;
    let step = prop_oneof![
        6 => (user(), bought, names)
            .prop_map(|(user, credits, names)| Step::Purchase { user, credits, names }),
        8 => (user(), prop::collection::vec((name(), spent()), 1..=4))
            .prop_map(|(user, items)| Step::Allocate { user, items }),
        5 => (user(), name(), used(), used())
            .prop_map(|(user, model, input, output)| Step::Consume { user, model, input, output }),
        3 => (user(), 0..4_usize, prop::option::of(1_i64..400_000))
            .prop_map(|(user, place, tokens)| Step::Reverse { user, place, tokens }),
        2 => (user(), name()).prop_map(|(user, model)| Step::Return { user, model }),
        6 => (user(), name(), 1_i64..600_000, prop::option::of(1_i64..600_000), 10_i64..100)
            .prop_map(|(user, model, tokens, min, seconds)| {
                let min = min.map(|min| min.min(tokens));
                Step::Hold { user, model, tokens, min, seconds }
            }),
        6 => (user(), 0_usize..6, prop_oneof![used(), Just(7_i64)], prop_oneof![used(), Just(7_i64)])
            .prop_map(|(user, hold, input, output)| Step::Settle { user, hold, input, output }),
        3 => (user(), 0_usize..6).prop_map(|(user, hold)| Step::Release { user, hold }),
        2 => (1_i64..60).prop_map(|seconds| Step::Pass { seconds }),
        1 => user().prop_map(|user| Step::Reset { user }),
        4 => (user(), given).prop_map(|(user, credits)| Step::Give { user, credits }),
        2 => (user(), credits_delta.prop_filter("a change", not_zero))
            .prop_map(|(user, delta)| Step::AdjustCredits { user, delta }),
        3 => (user(), name(), tokens_delta.prop_filter("a change", not_zero))
            .prop_map(|(user, model, delta)| Step::AdjustTokens { user, model, delta }),
        1 => user().prop_map(|user| Step::Freeze { user, frozen: true }),
        3 => user().prop_map(|user| Step::Freeze { user, frozen: false }),
        1 => (limit(), limit()).prop_map(|(quick, think)| Step::Limits { quick, think }),
        // The last model stays unknown.
        1 => (prop::sample::select(&MODELS[..5]), price, category)
            .prop_map(|(model, price, category)| Step::Reprice { model, price, category }),
    ];
    prop::collection::vec(step, 1..60)
}

/// One user's holds of one model, so many and so alike that they meet each other, their limit, the balance and their
/// ends all the time.
fn steps_of_holds() -> impl Strategy<Value = Vec<Step>> {
    let (user, model) = ("ann", "quick-a");
    let first = [
        Step::Purchase { user, credits: 100, names: Vec::new() },
        Step::Allocate { user, items: vec![(model, 15)] },
    ];
    let amount = || prop::sample::select(vec![0_i64, 1, 20_000, 30_000, 60_000, 120_000]);
    let held = prop::sample::select(vec![1_i64, 30_000, 50_000, 90_000, 250_000]);
    let min = prop::option::of(prop::sample::select(vec![1_i64, 20_000, 80_000]));
    let span = || prop::sample::select(vec![10_i64, 20, 30]);
    let hold = || 0_usize..8;
    let settle =
        move |hold, (input, output): (i64, i64)| Step::Settle { user, hold, input, output };
    let step = prop_oneof![
        6 => (held, min, span()).prop_map(move |(tokens, min, seconds)| {
            let min = min.map(|min| min.min(tokens));
            vec![Step::Hold { user, model, tokens, min, seconds }]
        }),
        5 => (hold(), amount(), amount())
            .prop_map(move |(hold, input, output)| vec![settle(hold, (input, output))]),
        // The sum alone is not the same.
        2 => (hold(), amount(), amount()).prop_map(move |(hold, input, output)| {
            vec![settle(hold, (input, output)), settle(hold, (output, input))]
        }),
        3 => hold().prop_map(move |hold| vec![Step::Release { user, hold }]),
        2 => span().prop_map(|seconds| vec![Step::Pass { seconds }]),
        2 => (amount(), amount())
            .prop_map(move |(input, output)| vec![Step::Consume { user, model, input, output }]),
        1 => (0_usize..3).prop_map(move |place| vec![Step::Reverse { user, place, tokens: None }]),
        1 => Just(vec![Step::Return { user, model }]),
        1 => (1_i64..15).prop_map(move |spent| {
            vec![Step::Allocate { user, items: vec![(model, spent)] }]
        }),
        1 => Just(vec![Step::Freeze { user, frozen: true }]),
        2 => Just(vec![Step::Freeze { user, frozen: false }]),
        1 => Just(vec![Step::AdjustTokens { user, model, delta: -20_000 }]),
    ];
    prop::collection::vec(step, 1..40)
        .prop_map(move |steps| first.iter().cloned().chain(steps.into_iter().flatten()).collect())
}

proptest! {
    #[test]
    fn the_rules_are_the_contract(steps in steps()) {
        run(steps);
    }

    #[test]
    fn the_rules_of_holds_are_the_contract(steps in steps_of_holds()) {
        run(steps);
    }
}

#[test]
fn the_acceptance_run() {
    let prices = BTreeMap::from([("gemini-2.0-flash", (75, Category::Quick))]);
    let mut facts = facts(&prices, [Account::new(user_id("ann"))]);
    assert_eq!(decide(&purchase(100, &[]), &mut facts), Ok(credits(100)));
    assert_eq!(decide(&purchase(200, &[]), &mut facts), Ok(credits(300)));
    assert_eq!(decide(&allocate(&[("gemini-2.0-flash", 150)]), &mut facts), Ok(()));
    let remaining = decide(&consume("gemini-2.0-flash", 5_000, 2_000), &mut facts);
    assert_eq!(remaining.map(|it: Consumed| it.remaining), Ok(tokens(1_993_000)));
    let ann = facts.accounts.of(&user_id("ann"));
    assert_eq!(ann.credits(), credits(150));
    assert_balances_follow_from_entries(ann);
}
