//! Values, and facts, that the tests of the rules are made of.

use std::collections::BTreeMap;

use super::{
    Account, Allocate, Allocation, Applied, CapacityLimits, Category, Consume, Credits, Facts,
    Funds, ModelId, Operation, Price, PriceList, Purchase, PurchaseName, PurchaseRecord,
    PurchaseToken, Refusal, StoreTransactionId, Tokens, Usage, UserId,
};

pub(super) type Prices = BTreeMap<&'static str, (i64, Category)>;

pub(super) fn first_prices() -> Prices {
    BTreeMap::from([
        ("quick-a", (75, Category::Quick)),
        ("quick-b", (255, Category::Quick)),
        ("think-a", (750, Category::Think)),
        ("think-b", (333, Category::Think)),
        ("dear", (2_500_001, Category::Quick)),
    ])
}

pub(super) fn price_list(prices: &Prices) -> PriceList {
    let price = |value, category| Price::new(value, category).expect("a price of at least 1");
    prices.iter().map(|(name, (value, category))| (model(name), price(*value, *category))).collect()
}

/// What is so before anything happened, to `accounts`.
pub(super) fn facts(prices: &Prices, accounts: impl IntoIterator<Item = Account>) -> Facts {
    Facts {
        accounts: accounts.into_iter().collect(),
        prices: price_list(prices),
        limits: limits(5_000_000, 1_000_000),
        ..Facts::default()
    }
}

/// What is so while ann has `amount` credits that nobody remembers buying.
pub(super) fn facts_of_ann(amount: i64) -> Facts {
    let ann = Account::loaded(user_id("ann"), bought(amount), BTreeMap::new());
    facts(&first_prices(), [ann])
}

/// So many credits, none of them given.
pub(super) fn bought(amount: i64) -> Option<Funds> {
    Funds::new(credits(amount.into()), Credits::ZERO)
}

/// Has an operation of ann's decided.
pub(super) fn decide<O: Operation>(
    operation: &O,
    facts: &mut Facts,
) -> Result<O::Outcome, Refusal> {
    let Applied { outcome, replayed } = operation.decide(&user_id("ann"), facts)?;
    assert!(!replayed, "nothing was repeated");
    Ok(outcome)
}

pub(super) fn limits(quick: i64, think: i64) -> CapacityLimits {
    CapacityLimits { quick: tokens(quick.into()), think: tokens(think.into()) }
}

pub(super) fn credits(value: i128) -> Credits {
    Credits::new(i64::try_from(value).expect("fits 64 bits")).expect("a valid amount")
}

pub(super) fn tokens(value: i128) -> Tokens {
    Tokens::new(i64::try_from(value).expect("fits 64 bits")).expect("a valid amount")
}

pub(super) fn model(name: &str) -> ModelId {
    ModelId::new(name).expect("a valid name")
}

pub(super) fn user_id(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

/// What a purchase with this id, or this token, is known by.
pub(super) fn purchase_name(text: &str) -> PurchaseName {
    PurchaseName::of_id(&StoreTransactionId::new(text).expect("a valid id"))
}

/// A purchase known by its id, or by its id and its token.
pub(super) fn purchase(amount: i64, names: &[&str]) -> Purchase {
    Purchase {
        credits: credits(amount.into()),
        store_transaction_id: names
            .first()
            .map(|id| StoreTransactionId::new(*id).expect("a valid id")),
        token: names.get(1).map(|token| PurchaseToken::new(*token).expect("a valid token")),
        record: PurchaseRecord::new("{}".to_owned()),
    }
}

pub(super) fn allocate(items: &[(&str, i64)]) -> Allocate {
    let item = |&(name, amount): &(&str, i64)| Allocation {
        model: model(name),
        credits: credits(amount.into()),
    };
    Allocate { items: items.iter().map(item).collect() }
}

pub(super) fn consume(name: &str, input: i64, output: i64) -> Consume {
    let usage = Usage::new(tokens(input.into()), tokens(output.into())).expect("a valid sum");
    Consume { model: model(name), usage }
}
