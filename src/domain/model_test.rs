//! Holds the rules against a second, naive reading of the contract: plain maps of `i128`, written
//! without looking at how accounts work. The edges a random run rarely meets are pinned beside each act.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    Account, Applied, Category, Facts, ModelId, Operation, Refusal, Reset, UserId,
    samples::{
        Prices, allocate, consume, credits, decide, facts, first_prices, limits, model, price_list,
        purchase, purchase_name, tokens, user_id,
    },
};

const USERS: [&str; 3] = ["ann", "bob", "cid"];
const MODELS: [&str; 6] = ["quick-a", "quick-b", "think-a", "think-b", "dear", "unknown"];
const NAMES: [&str; 5] = ["GPA.1", "GPA.2", "GPA.3", "token-1", "token-2"];
const MOST: i128 = 9_007_199_254_740_991;

/// One random step: what a user asks for, or what an operator changes by hand.
#[derive(Debug, Clone)]
enum Step {
    Purchase { user: &'static str, credits: i64, names: Vec<&'static str> },
    Allocate { user: &'static str, items: Vec<(&'static str, i64)> },
    Consume { user: &'static str, model: &'static str, input: i64, output: i64 },
    Reset { user: &'static str },
    Limits { quick: i64, think: i64 },
    Reprice { model: &'static str, price: i64, category: Category },
}

/// The contract, naively.
#[derive(Default)]
struct Model {
    users: BTreeMap<&'static str, Holdings>,
    names: BTreeMap<&'static str, &'static str>,
    prices: Prices,
    limits: BTreeMap<Category, i64>,
}

#[derive(Default, Clone, PartialEq, Debug)]
struct Holdings {
    credits: i128,
    tokens: BTreeMap<&'static str, i128>,
    history: Vec<(&'static str, i128, Option<&'static str>)>,
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
        holdings.history.push(("purchase", i128::from(credits), None));
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
            after.credits -= i128::from(spent);
            *after.tokens.entry(name).or_default() += bought;
            after.history.push(("allocation", i128::from(spent), Some(name)));
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
        let holdings = self.users.entry(user).or_default();
        let Some(held) = holdings.tokens.get_mut(name) else {
            return Err(Refusal::NoTokenBalance { model: model(name) });
        };
        if used > *held {
            return Err(Refusal::InsufficientTokens {
                required: tokens(used),
                available: tokens(*held),
            });
        }
        *held -= used;
        holdings.history.push(("consumption", used, Some(name)));
        Ok(*held)
    }

    fn reset(&mut self, user: &'static str) {
        self.users.remove(user);
        self.names.retain(|_, owner| *owner != user);
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
            assert_eq!(account.credits(), before.credits(), "a refusal changed credits");
            assert_eq!(account.tokens(), before.tokens(), "a refusal changed tokens");
            assert_eq!(account.entries(), before.entries(), "a refusal left an entry");
            assert_eq!(account.is_reset(), before.is_reset(), "a refusal reset the account");
        }
        result
    }

    fn account(&self, user: &'static str) -> &Account {
        self.0.accounts.get(&user_id(user)).expect("every user has an account")
    }
}

/// Credits and tokens are what the entries since the last reset add up to.
fn assert_balances_follow_from_entries(account: &Account) {
    let mut credits = 0_i128;
    let mut tokens: BTreeMap<ModelId, i128> = BTreeMap::new();
    for entry in account.entries() {
        credits += i128::from(entry.credits_delta());
        if let Some(model) = entry.model() {
            *tokens.entry(model.clone()).or_default() += i128::from(entry.tokens_delta());
        }
        assert!(credits >= 0, "credits were negative on the way");
        assert!(tokens.values().all(|held| *held >= 0), "tokens were negative on the way");
    }
    let held: BTreeMap<ModelId, i128> = account
        .tokens()
        .iter()
        .map(|(model, tokens)| (model.clone(), i128::from(tokens.get())))
        .collect();
    assert_eq!(i128::from(account.credits().get()), credits);
    assert_eq!(held, tokens);
}

fn assert_same_holdings(account: &Account, expected: &Holdings) {
    assert_eq!(i128::from(account.credits().get()), expected.credits);
    let held: BTreeMap<&str, i128> = account
        .tokens()
        .iter()
        .map(|(model, tokens)| (model.as_str(), i128::from(tokens.get())))
        .collect();
    assert_eq!(held, expected.tokens);
    let history: Vec<_> = account
        .entries()
        .iter()
        .map(|entry| {
            let model = entry.model().map(ModelId::as_str);
            (entry.kind().name(), i128::from(entry.amount()), model)
        })
        .collect();
    assert_eq!(history, expected.history);
}

fn run(steps: Vec<Step>) {
    let mut model = Model { prices: first_prices(), ..Model::default() };
    let accounts = USERS.map(|user| Account::new(user_id(user)));
    let mut real = Real(facts(&model.prices, accounts));
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
                let remaining = result.map(|applied| i128::from(applied.outcome.get()));
                let used = i128::from(input) + i128::from(output);
                assert_eq!(remaining, model.consume(user, name, used));
            }
            Step::Reset { user } => {
                assert_eq!(real.decide(user, &Reset), Ok(Applied::now(())));
                assert!(real.account(user).is_reset());
                model.reset(user);
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
        }
        for name in NAMES {
            let owner = real.0.granted.owner(&purchase_name(name)).map(UserId::as_str);
            assert_eq!(owner, model.names.get(name).copied());
        }
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
    let step = prop_oneof![
        6 => (user(), bought, names)
            .prop_map(|(user, credits, names)| Step::Purchase { user, credits, names }),
        8 => (user(), prop::collection::vec((name(), spent()), 1..=4))
            .prop_map(|(user, items)| Step::Allocate { user, items }),
        5 => (user(), name(), used(), used())
            .prop_map(|(user, model, input, output)| Step::Consume { user, model, input, output }),
        1 => user().prop_map(|user| Step::Reset { user }),
        1 => (limit(), limit()).prop_map(|(quick, think)| Step::Limits { quick, think }),
        // The last model stays unknown.
        1 => (prop::sample::select(&MODELS[..5]), price, category)
            .prop_map(|(model, price, category)| Step::Reprice { model, price, category }),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn the_rules_are_the_contract(steps in steps()) {
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
    assert_eq!(remaining, Ok(tokens(1_993_000)));
    let ann = facts.accounts.of(&user_id("ann"));
    assert_eq!(ann.credits(), credits(150));
    assert_balances_follow_from_entries(ann);
}
