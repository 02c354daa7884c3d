//! Holds the rules against a second, naive reading of the contract: plain maps of `i128`, written
//! without looking at how accounts work. Unit tests below pin the edges a random run rarely meets.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::{
    Account, Allocate, Allocation, CapacityLimits, Category, Consume, Context, Credits, Entry,
    GrantedPurchases, ModelId, Operation, Price, PriceList, Purchase, PurchaseRecord, Refusal,
    Replays, Reset, StoreTransactionId, Tokens, Usage, UserId,
};

const USERS: [&str; 3] = ["ann", "bob", "cid"];
const MODELS: [&str; 6] = ["quick-a", "quick-b", "think-a", "think-b", "dear", "unknown"];
const STORE_IDS: [&str; 4] = ["GPA.1", "GPA.2", "GPA.3", "GPA.4"];
const MOST: i128 = 9_007_199_254_740_991;

type Prices = BTreeMap<&'static str, (i64, Category)>;

/// One random step: what a user asks for, or what an operator changes by hand.
#[derive(Debug, Clone)]
enum Step {
    Purchase { user: &'static str, credits: i64, id: Option<&'static str> },
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
    store_ids: BTreeMap<&'static str, &'static str>,
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
        id: Option<&'static str>,
    ) -> Result<i128, Refusal> {
        if id.is_some_and(|id| self.store_ids.contains_key(id)) {
            return Err(Refusal::PurchaseAlreadyProcessed);
        }
        let holdings = self.users.entry(user).or_default();
        if holdings.credits + i128::from(credits) > MOST {
            return Err(Refusal::BalanceOverflow);
        }
        holdings.credits += i128::from(credits);
        holdings.history.push(("purchase", i128::from(credits), None));
        if let Some(id) = id {
            self.store_ids.insert(id, user);
        }
        Ok(holdings.credits)
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
        self.store_ids.retain(|_, owner| *owner != user);
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
struct Real {
    accounts: HashMap<&'static str, Account>,
    context: Context,
}

impl Real {
    fn decide<O: Operation>(
        &mut self,
        user: &'static str,
        operation: &O,
    ) -> Result<O::Outcome, Refusal> {
        let account = self.accounts.entry(user).or_insert_with(|| Account::new(user_id(user)));
        let before = account.clone();
        let result = operation.decide(account, &mut self.context);
        if result.is_err() {
            assert_eq!(account.credits(), before.credits(), "a refusal changed credits");
            assert_eq!(account.tokens(), before.tokens(), "a refusal changed tokens");
            assert_eq!(account.entries(), before.entries(), "a refusal left an entry");
            assert_eq!(account.is_reset(), before.is_reset(), "a refusal reset the account");
        }
        result
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
    let mut real = Real { accounts: HashMap::new(), context: context(&model.prices) };
    model.limits = BTreeMap::from([(Category::Quick, 5_000_000), (Category::Think, 1_000_000)]);

    for step in steps {
        match step {
            Step::Purchase { user, credits, id } => {
                let result = real.decide(user, &purchase(credits, id));
                let balance = result.map(|balance| i128::from(balance.get()));
                assert_eq!(balance, model.purchase(user, credits, id));
            }
            Step::Allocate { user, items } => {
                let result = real.decide(user, &allocate(&items));
                assert_eq!(result, model.allocate(user, &items));
                if result.is_ok() {
                    let touched: BTreeSet<Category> =
                        items.iter().map(|(name, _)| model.prices[name].1).collect();
                    for category in touched {
                        let total =
                            real.accounts[user].category_total(category, &real.context.prices);
                        assert!(total <= real.context.limits.limit_tokens(category));
                        let expected = model.total(&model.users[user], category);
                        assert_eq!(i128::from(total.get()), expected);
                    }
                }
            }
            Step::Consume { user, model: name, input, output } => {
                let result = real.decide(user, &consume(name, input, output));
                let remaining = result.map(|remaining| i128::from(remaining.get()));
                let used = i128::from(input) + i128::from(output);
                assert_eq!(remaining, model.consume(user, name, used));
            }
            Step::Reset { user } => {
                assert_eq!(real.decide(user, &Reset), Ok(()));
                assert!(real.accounts[user].is_reset());
                model.reset(user);
            }
            Step::Limits { quick, think } => {
                real.context.limits = limits(quick, think);
                model.limits = BTreeMap::from([(Category::Quick, quick), (Category::Think, think)]);
            }
            Step::Reprice { model: name, price, category } => {
                model.prices.insert(name, (price, category));
                real.context.prices = price_list(&model.prices);
            }
        }
        for (user, account) in &real.accounts {
            assert_balances_follow_from_entries(account);
            assert_same_holdings(account, &model.users.get(user).cloned().unwrap_or_default());
        }
        for id in STORE_IDS {
            let granted = real.context.granted.contains(&store_id(id));
            assert_eq!(granted, model.store_ids.contains_key(id));
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
    let id = prop::option::of(prop::sample::select(&STORE_IDS[..]));
    let used = || prop_oneof![1 => Just(0_i64), 8 => 0_i64..400_000, 1 => 0_i64..=1_000_000_000];
    let category = prop_oneof![Just(Category::Quick), Just(Category::Think)];
    let price = prop_oneof![4 => 1_i64..1_000, 1 => 1_i64..=4_000_000, 1 => 1_i64..];
    let limit = || prop_oneof![6 => 0_i64..6_000_000, 1 => 0_i64..=9_007_199_254_740_991];
    let step = prop_oneof![
        6 => (user(), bought, id)
            .prop_map(|(user, credits, id)| Step::Purchase { user, credits, id }),
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

fn first_prices() -> Prices {
    BTreeMap::from([
        ("quick-a", (75, Category::Quick)),
        ("quick-b", (255, Category::Quick)),
        ("think-a", (750, Category::Think)),
        ("think-b", (333, Category::Think)),
        ("dear", (2_500_001, Category::Quick)),
    ])
}

fn price_list(prices: &Prices) -> PriceList {
    let price = |value, category| Price::new(value, category).expect("a price of at least 1");
    prices.iter().map(|(name, (value, category))| (model(name), price(*value, *category))).collect()
}

fn context(prices: &Prices) -> Context {
    Context {
        replays: Replays::default(),
        prices: price_list(prices),
        limits: limits(5_000_000, 1_000_000),
        granted: GrantedPurchases::default(),
    }
}

fn limits(quick: i64, think: i64) -> CapacityLimits {
    CapacityLimits { quick: tokens(quick.into()), think: tokens(think.into()) }
}

fn credits(value: i128) -> Credits {
    Credits::new(i64::try_from(value).expect("fits 64 bits")).expect("a valid amount")
}

fn tokens(value: i128) -> Tokens {
    Tokens::new(i64::try_from(value).expect("fits 64 bits")).expect("a valid amount")
}

fn model(name: &str) -> ModelId {
    ModelId::new(name).expect("a valid name")
}

fn user_id(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

fn store_id(id: &str) -> StoreTransactionId {
    StoreTransactionId::new(id).expect("a valid id")
}

fn purchase(amount: i64, id: Option<&str>) -> Purchase {
    Purchase {
        credits: credits(amount.into()),
        store_transaction_id: id.map(store_id),
        record: PurchaseRecord::new("{}".to_owned()),
    }
}

fn allocate(items: &[(&str, i64)]) -> Allocate {
    let item = |&(name, amount): &(&str, i64)| Allocation {
        model: model(name),
        credits: credits(amount.into()),
    };
    Allocate { items: items.iter().map(item).collect() }
}

fn consume(name: &str, input: i64, output: i64) -> Consume {
    let usage = Usage::new(tokens(input.into()), tokens(output.into())).expect("a valid sum");
    Consume { model: model(name), usage }
}

/// An account with `amount` credits that nobody remembers buying.
fn account(amount: i64) -> Account {
    Account::loaded(user_id("ann"), credits(amount.into()), BTreeMap::new())
}

#[test]
fn landing_exactly_on_the_limit_is_allowed() {
    let mut context = context(&first_prices());
    let mut ann = account(1_000);
    assert_eq!(allocate(&[("think-a", 750)]).decide(&mut ann, &mut context), Ok(()));
    assert_eq!(ann.tokens()[&model("think-a")], tokens(1_000_000));

    let refusal = allocate(&[("think-b", 1)]).decide(&mut ann, &mut context);
    let expected = Refusal::CapacityExceeded {
        category: Category::Think,
        limit: tokens(1_000_000),
        available: Tokens::ZERO,
        max_credits: Credits::ZERO,
    };
    assert_eq!(refusal, Err(expected));
}

#[test]
fn a_category_over_a_lowered_limit_takes_nothing_more() {
    let mut context = context(&first_prices());
    let mut ann = account(1_000);
    assert_eq!(allocate(&[("quick-a", 75)]).decide(&mut ann, &mut context), Ok(()));
    context.limits = limits(999_999, 1_000_000);

    let expected = Refusal::CapacityExceeded {
        category: Category::Quick,
        limit: tokens(999_999),
        available: Tokens::ZERO,
        max_credits: Credits::ZERO,
    };
    // Not even what buys no token at all.
    for name in ["quick-a", "quick-b", "dear"] {
        let refusal = allocate(&[(name, 1)]).decide(&mut ann, &mut context);
        assert_eq!(refusal, Err(expected.clone()), "{name}");
    }
}

#[test]
fn items_of_one_request_for_new_models_are_counted_together() {
    let mut context = context(&first_prices());
    let mut ann = account(10_000);
    // 600,000 tokens, then 600,600 more: each alone would fit.
    let refusal = allocate(&[("think-a", 450), ("think-b", 200)]).decide(&mut ann, &mut context);
    let expected = Refusal::CapacityExceeded {
        category: Category::Think,
        limit: tokens(1_000_000),
        available: tokens(400_000),
        max_credits: credits(133),
    };
    assert_eq!(refusal, Err(expected));
    assert!(ann.tokens().is_empty() && ann.entries().is_empty());
    assert_eq!(
        allocate(&[("think-a", 450), ("think-b", 133)]).decide(&mut ann, &mut context),
        Ok(())
    );
}

#[test]
fn the_sum_is_checked_before_any_item() {
    let mut context = context(&first_prices());
    let mut ann = account(100);
    let refusal = allocate(&[("unknown", 60), ("dear", 41)]).decide(&mut ann, &mut context);
    let expected = Refusal::InsufficientCredits { required: 101, available: credits(100) };
    assert_eq!(refusal, Err(expected));

    let refusal = allocate(&[("unknown", 60), ("dear", 40)]).decide(&mut ann, &mut context);
    assert_eq!(refusal, Err(Refusal::ModelNotPriced { model: model("unknown") }));
    let refusal = allocate(&[("dear", 2)]).decide(&mut ann, &mut context);
    assert_eq!(refusal, Err(Refusal::AllocationTooSmall { model: model("dear") }));
}

#[test]
fn a_sum_above_every_amount_is_insufficient_credits_with_its_number() {
    let mut ann = account(100);
    let most = Credits::MAX.get();
    let refusal =
        allocate(&[("dear", most), ("dear", most)]).decide(&mut ann, &mut context(&first_prices()));
    let expected = Refusal::InsufficientCredits { required: 2 * MOST, available: credits(100) };
    assert_eq!(refusal, Err(expected));
}

#[test]
fn credits_stop_at_the_largest_amount() {
    let mut context = context(&first_prices());
    let mut ann = account(Credits::MAX.get() - 1);
    assert_eq!(
        purchase(2, Some("GPA.1")).decide(&mut ann, &mut context),
        Err(Refusal::BalanceOverflow)
    );
    // The refused purchase was not granted, so its store transaction is still good.
    assert_eq!(purchase(1, Some("GPA.1")).decide(&mut ann, &mut context), Ok(Credits::MAX));
    assert_eq!(purchase(1, None).decide(&mut ann, &mut context), Err(Refusal::BalanceOverflow));
}

#[test]
fn the_acceptance_run() {
    let prices = BTreeMap::from([("gemini-2.0-flash", (75, Category::Quick))]);
    let mut context = context(&prices);
    let mut user = Account::new(UserId::default_user());
    assert_eq!(purchase(100, None).decide(&mut user, &mut context), Ok(credits(100)));
    assert_eq!(purchase(200, None).decide(&mut user, &mut context), Ok(credits(300)));
    assert_eq!(allocate(&[("gemini-2.0-flash", 150)]).decide(&mut user, &mut context), Ok(()));
    assert_eq!(user.credits(), credits(150));
    assert_eq!(user.tokens()[&model("gemini-2.0-flash")], tokens(2_000_000));
    let remaining = consume("gemini-2.0-flash", 5_000, 2_000).decide(&mut user, &mut context);
    assert_eq!(remaining, Ok(tokens(1_993_000)));
    assert_balances_follow_from_entries(&user);
    assert!(matches!(user.entries().last(), Some(Entry::Consumption { .. })));
}
