//! Prices, what credits buy at them, and how many tokens a category may hold.
//!
//! Exact integer arithmetic; products are made in `i128`, where they can't overflow.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Serialize;

use super::{Credits, ModelId, OutOfRange, Tokens};

/// Prices are per this many tokens.
const TOKENS_PER_PRICE_UNIT: i128 = 1_000_000;

/// What a model is for; tokens are limited by the sum over all models of a category.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Category {
    /// Fast models.
    Quick,
    /// Reasoning models.
    Think,
}

impl Category {
    /// The category called `name`, if there is one.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "quick" => Some(Self::Quick),
            "think" => Some(Self::Think),
            _ => None,
        }
    }

    /// Its name on the wire and in the database.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Think => "think",
        }
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a model costs, in credits per million tokens, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Price {
    price_per_m_token: i64,
    category: Category,
}

impl Price {
    /// A price in credits per million tokens.
    ///
    /// # Errors
    /// [`OutOfRange`] when it is below 1.
    pub(crate) const fn new(
        price_per_m_token: i64,
        category: Category,
    ) -> Result<Self, OutOfRange> {
        if price_per_m_token < 1 {
            return Err(OutOfRange);
        }
        Ok(Self { price_per_m_token, category })
    }

    /// Credits per million tokens, at least 1.
    pub(crate) const fn price_per_m_token(self) -> i64 {
        self.price_per_m_token
    }

    /// What the model is for.
    pub(crate) const fn category(self) -> Category {
        self.category
    }

    /// The tokens that `credits` buy: floor(credits × 1,000,000 / price). `None` when that is more
    /// than an account can ever hold.
    pub(crate) fn tokens_for(self, credits: Credits) -> Option<Tokens> {
        let product = i128::from(credits.get()).checked_mul(TOKENS_PER_PRICE_UNIT)?;
        let tokens = product.checked_div(i128::from(self.price_per_m_token))?;
        Tokens::new(i64::try_from(tokens).ok()?).ok()
    }

    /// The fewest credits that buy at least so many tokens: ceil(tokens × price / 1,000,000).
    pub(crate) fn credits_for(self, tokens: Tokens) -> Credits {
        let product = i128::from(tokens.get()).checked_mul(i128::from(self.price_per_m_token));
        let rounded_up = product
            .and_then(|product| product.checked_add(TOKENS_PER_PRICE_UNIT))
            .and_then(|product| product.checked_sub(1))
            .and_then(|product| product.checked_div(TOKENS_PER_PRICE_UNIT))
            .and_then(|credits| i64::try_from(credits).ok());
        rounded_up.and_then(|credits| Credits::new(credits).ok()).unwrap_or(Credits::MAX)
    }

    /// The largest amount of credits whose tokens still fit into `free`, zero when not even the
    /// tokens of one credit do. The inverse of [`Self::tokens_for`]: the largest `c` with
    /// c × 1,000,000 < (free + 1) × price.
    pub(crate) fn max_credits_within(self, free: Tokens) -> Credits {
        if free == Tokens::ZERO {
            return Credits::ZERO;
        }
        let largest = i128::from(free.get())
            .checked_add(1)
            .and_then(|tokens| tokens.checked_mul(i128::from(self.price_per_m_token)))
            .and_then(|product| product.checked_sub(1))
            .and_then(|below| below.checked_div(TOKENS_PER_PRICE_UNIT))
            .and_then(|credits| i64::try_from(credits).ok())
            .and_then(|credits| Credits::new(credits).ok());
        largest.unwrap_or(Credits::MAX)
    }
}

/// The price of every model that can be bought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct PriceList(Arc<BTreeMap<ModelId, Price>>);

impl PriceList {
    /// The price of `model`, if it can be bought.
    pub(crate) fn get(&self, model: &ModelId) -> Option<Price> {
        self.0.get(model).copied()
    }

    /// All of them, in the order of their models.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ModelId, Price)> {
        self.0.iter().map(|(model, price)| (model, *price))
    }

    /// Sets the price of `model`, or takes it off.
    pub(super) fn set(&mut self, model: &ModelId, price: Option<Price>) {
        let prices = Arc::make_mut(&mut self.0);
        match price {
            Some(price) => drop(prices.insert(model.clone(), price)),
            None => drop(prices.remove(model)),
        }
    }
}

impl FromIterator<(ModelId, Price)> for PriceList {
    fn from_iter<I: IntoIterator<Item = (ModelId, Price)>>(prices: I) -> Self {
        Self(Arc::new(prices.into_iter().collect()))
    }
}

/// How many tokens an account may hold per category through allocations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CapacityLimits {
    /// All quick models together.
    pub quick: Tokens,
    /// All think models together.
    pub think: Tokens,
}

impl CapacityLimits {
    /// The limit of `category`, in tokens.
    pub(crate) const fn limit_tokens(self, category: Category) -> Tokens {
        match category {
            Category::Quick => self.quick,
            Category::Think => self.think,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price(price_per_m_token: i64) -> Price {
        Price::new(price_per_m_token, Category::Quick).expect("a valid price")
    }

    fn credits(value: i64) -> Credits {
        Credits::new(value).expect("a valid amount")
    }

    #[test]
    fn tokens_are_rounded_down_and_exact() {
        assert_eq!(price(75).tokens_for(credits(150)), Tokens::new(2_000_000).ok());
        assert_eq!(price(255).tokens_for(credits(1)), Tokens::new(3_921).ok());
        assert_eq!(price(2_000_001).tokens_for(credits(2)), Tokens::new(0).ok());
        // 53 bits of a float would lose the last token here.
        assert_eq!(
            price(3).tokens_for(credits(27_021_597_764)),
            Tokens::new(9_007_199_254_666_666).ok()
        );
        assert_eq!(price(1).tokens_for(Credits::MAX), None);
    }

    #[test]
    fn a_price_is_at_least_one() {
        assert_eq!(Price::new(0, Category::Think), Err(OutOfRange));
        assert_eq!(Price::new(-5, Category::Think), Err(OutOfRange));
    }

    proptest! {
        #[test]
        fn max_credits_fit_and_one_more_does_not(
            price_per_m_token in 1_i64..5_000_000, free in 1_i64..10_000_000,
        ) {
            let price = price(price_per_m_token);
            let free = Tokens::new(free).expect("in range");
            let most = price.max_credits_within(free);
            let one_more = most.checked_add(credits(1)).expect("small");
            prop_assert!(price.tokens_for(most).expect("small") <= free);
            prop_assert!(price.tokens_for(one_more).expect("small") > free);
        }

        #[test]
        fn tokens_never_cost_less_than_their_price(
            price_per_m_token in 1_i64.., amount in 0_i64..=1_000_000_000,
        ) {
            let tokens = price(price_per_m_token).tokens_for(credits(amount)).expect("in range");
            let paid = i128::from(amount) * TOKENS_PER_PRICE_UNIT;
            let worth = i128::from(tokens.get()) * i128::from(price_per_m_token);
            prop_assert!(worth <= paid);
            prop_assert!(paid - worth < i128::from(price_per_m_token));
        }
    }
}
