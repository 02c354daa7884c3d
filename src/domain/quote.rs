//! A quote: what an allocation would come to, found out by trying it on a copy of the account.

use super::{
    Account, Allocate, Allocation, CapacityLimits, Category, Credits, Facts, ModelId, Operation,
    Price, PriceList, Refusal, Tokens,
};

/// What somebody wants to know the rest of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked {
    /// What so many credits buy.
    Credits(Credits),
    /// The fewest credits that buy so many tokens.
    Tokens(Tokens),
}

/// What an allocation would come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quote {
    /// Of the model.
    pub price: Price,
    /// What would be spent.
    pub credits: Credits,
    /// What that buys, whether or not it fits.
    pub tokens: Tokens,
    /// What can be spent.
    pub available_credits: Credits,
    /// What the category holds, may hold, and has left.
    pub category_tokens: Tokens,
    pub limit_tokens: Tokens,
    pub free_tokens: Tokens,
    /// The most that could be spent at once, and what that buys. One more credit would be refused.
    pub max_credits: Credits,
    pub max_tokens: Tokens,
    /// Why the allocation would be refused, if it would.
    pub limited_by: Option<Limit>,
}

/// Why an allocation would be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// It costs more than there is, or than can be spent at once.
    Credits,
    /// The category would hold more than it may.
    Capacity,
    /// It would not buy a single token.
    TooSmall,
}

impl Limit {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Credits, Self::Capacity, Self::TooSmall];

    /// Its name on the wire.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Credits => "credits",
            Self::Capacity => "capacity",
            Self::TooSmall => "too_small",
        }
    }
}

/// An account, and what its allocations depend on.
#[derive(Debug)]
pub(crate) struct Quotes<'a> {
    pub account: &'a Account,
    pub prices: &'a PriceList,
    pub limits: CapacityLimits,
    /// Most credits of one allocation.
    pub most: Credits,
}

impl Quotes<'_> {
    /// What an allocation to `model` would come to.
    ///
    /// # Errors
    /// [`Refusal::ModelNotPriced`].
    pub(crate) fn quote(&self, model: &ModelId, asked: Asked) -> Result<Quote, Refusal> {
        let price = self
            .prices
            .get(model)
            .ok_or_else(|| Refusal::ModelNotPriced { model: model.clone() })?;
        let credits = match asked {
            Asked::Credits(credits) => credits,
            Asked::Tokens(tokens) => price.credits_for(tokens),
        };
        let category = price.category();
        let (category_tokens, limit_tokens) = self.category(category);
        let free_tokens = limit_tokens.checked_sub(category_tokens).unwrap_or(Tokens::ZERO);
        let most = self.account.credits().min(self.most);
        let max_credits = most.min(price.max_credits_within(free_tokens));
        let max_credits =
            if self.refusal(model, max_credits).is_none() { max_credits } else { Credits::ZERO };
        Ok(Quote {
            price,
            credits,
            tokens: price.tokens_for(credits).unwrap_or(Tokens::MAX),
            available_credits: self.account.credits(),
            category_tokens,
            limit_tokens,
            free_tokens,
            max_credits,
            max_tokens: price.tokens_for(max_credits).unwrap_or(Tokens::MAX),
            limited_by: self.limit(model, credits),
        })
    }

    /// What the category holds, and may hold.
    fn category(&self, category: Category) -> (Tokens, Tokens) {
        let held = self.account.category_total(category, self.prices);
        (held, self.limits.limit_tokens(category))
    }

    fn limit(&self, model: &ModelId, credits: Credits) -> Option<Limit> {
        match self.refusal(model, credits) {
            None => (credits > self.most).then_some(Limit::Credits),
            // Of a frozen account none can be spent.
            Some(Refusal::InsufficientCredits { .. } | Refusal::AccountFrozen) => {
                Some(Limit::Credits)
            }
            Some(Refusal::AllocationTooSmall { .. }) => Some(Limit::TooSmall),
            Some(_) => Some(Limit::Capacity),
        }
    }

    /// Why the allocation would be refused, tried on a copy of the account.
    fn refusal(&self, model: &ModelId, credits: Credits) -> Option<Refusal> {
        let user = self.account.user().clone();
        let mut facts = Facts {
            accounts: [self.account.clone()].into_iter().collect(),
            prices: self.prices.clone(),
            limits: self.limits,
            ..Facts::default()
        };
        let items = vec![Allocation { model: model.clone(), credits }];
        Allocate { items }.decide(&user, &mut facts).err()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::samples::{
        bought, credits, first_prices, limits, model, price_list, tokens, user_id,
    };

    fn account(amount: i64, held: i64) -> Account {
        let held = BTreeMap::from([(model("quick-a"), tokens(held.into()))]);
        Account::loaded(user_id("ann"), bought(amount), held)
    }

    proptest! {
        #[test]
        fn the_largest_amount_is_taken_and_one_more_is_not(
            amount in 0..2_000_i64,
            held in 0..1_200_000_i64,
            quick in 0..1_000_000_i64,
            name in prop_oneof![Just("quick-a"), Just("quick-b"), Just("dear"), Just("think-b")],
            asked in 1..2_500_i64,
            most in 1..2_500_i64,
        ) {
            let (account, prices) = (account(amount, held), price_list(&first_prices()));
            let limits = limits(quick, 900_000);
            let quotes =
                Quotes { account: &account, prices: &prices, limits, most: credits(most.into()) };
            let of = |number: i64| credits(number.into());
            let quote = quotes.quote(&model(name), Asked::Credits(of(asked)));
            let quote = quote.expect("it has a price");
            let taken = |number| quotes.refusal(&model(name), of(number)).is_none();
            let max = quote.max_credits.get();
            prop_assert!(max <= most && (max == 0 || taken(max)));
            prop_assert!(max == most || max == 0 || !taken(max + 1));
            if max == 0 {
                prop_assert!((1..=amount.min(most)).all(|number| !taken(number)));
            }
            prop_assert_eq!(quote.limited_by.is_none(), taken(asked) && asked <= most);

            let wanted = tokens(i128::from(asked) * 97);
            let by_tokens = quotes.quote(&model(name), Asked::Tokens(wanted)).expect("a price");
            prop_assert!(by_tokens.tokens >= wanted);
            let fewer = of(by_tokens.credits.get() - 1);
            prop_assert!(by_tokens.price.tokens_for(fewer).expect("an amount") < wanted);
        }
    }

    #[test]
    fn the_reason_is_the_one_that_refuses() {
        let prices = price_list(&first_prices());
        for (amount, held, name, asked, limited_by) in [
            (100, 0, "quick-a", 100, None),
            (99, 0, "quick-a", 100, Some(Limit::Credits)),
            (1_000, 0, "quick-a", 376, Some(Limit::Capacity)),
            (1_000, 5_000_001, "quick-a", 1, Some(Limit::Capacity)),
            (1_000, 0, "dear", 2, Some(Limit::TooSmall)),
        ] {
            let account = account(amount, held);
            let (limits, most) = (limits(5_000_000, 1_000_000), credits(800));
            let quotes = Quotes { account: &account, prices: &prices, limits, most };
            let quote = quotes.quote(&model(name), Asked::Credits(credits(asked)));
            assert_eq!(quote.expect("a price").limited_by, limited_by, "{name} for {asked}");
        }
    }
}
