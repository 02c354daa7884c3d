//! An allocation: credits turned into models' tokens, within what a category may hold.

use std::collections::HashMap;

use super::{
    Account, Applied, Credits, Entry, Facts, ModelId, Operation, Price, Refusal, Tokens, UserId,
    Wanted,
};

/// Credits to turn into tokens of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allocation {
    /// The model that gets the tokens.
    pub model: ModelId,
    /// Credits to spend.
    pub credits: Credits,
}

/// Turns credits into tokens, all items in order or none.
#[derive(Debug, Clone)]
pub(crate) struct Allocate {
    pub items: Vec<Allocation>,
}

impl Operation for Allocate {
    type Outcome = ();

    fn asks(&self, wanted: &mut Wanted) {
        wanted.prices = true;
    }

    fn entries(&self) -> usize {
        self.items.len()
    }

    /// The credits are looked at first, for the sum of all items; then each item in turn.
    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<()>, Refusal> {
        let Facts { accounts, prices, limits, .. } = facts;
        let account = accounts.of(user);
        account.check_not_frozen()?;
        self.check_credits(account)?;

        let mut totals = HashMap::new();
        let mut funds = account.funds();
        let mut entries = Vec::with_capacity(self.items.len());
        for Allocation { model, credits } in &self.items {
            let price = prices
                .get(model)
                .ok_or_else(|| Refusal::ModelNotPriced { model: model.clone() })?;
            let category = price.category();
            let total =
                totals.entry(category).or_insert_with(|| account.category_total(category, prices));
            let limit = limits.limit_tokens(category);
            let tokens = tokens_within(price, *credits, *total, limit)?;
            if tokens == Tokens::ZERO {
                return Err(Refusal::AllocationTooSmall { model: model.clone() });
            }
            *total = total.checked_add(tokens).expect("within the limit, which is an amount");
            let bonus = funds.bonus_of_spent(*credits);
            funds = funds
                .changed_by(credits.get().saturating_neg(), bonus.get().saturating_neg())
                .expect("the credits of all items are there");
            entries.push(Entry::Allocation {
                model: model.clone(),
                credits: *credits,
                bonus,
                tokens,
                price_per_m_token: price.price_per_m_token(),
            });
        }

        // From here on nothing refuses.
        for entry in entries {
            accounts.record(user, entry);
        }
        Ok(Applied::now(()))
    }
}

impl Allocate {
    /// Whether all items can be paid.
    fn check_credits(&self, account: &Account) -> Result<(), Refusal> {
        let required: i128 = self.items.iter().map(|item| i128::from(item.credits.get())).sum();
        let available = account.credits();
        if required <= i128::from(available.get()) {
            Ok(())
        } else {
            Err(Refusal::InsufficientCredits { required, available })
        }
    }
}

/// The tokens `credits` buy, when they fit into a category that holds `total` of at most `limit`.
fn tokens_within(
    price: Price,
    credits: Credits,
    total: Tokens,
    limit: Tokens,
) -> Result<Tokens, Refusal> {
    // A limit that was lowered leaves nothing free, not even for zero tokens.
    let free = limit.checked_sub(total);
    match (price.tokens_for(credits), free) {
        (Some(tokens), Some(free)) if tokens <= free => Ok(tokens),
        _ => {
            let available = free.unwrap_or(Tokens::ZERO);
            Err(Refusal::CapacityExceeded {
                category: price.category(),
                limit,
                available,
                max_credits: price.max_credits_within(available),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Category,
        samples::{allocate, credits, decide, facts_of_ann, limits, model, tokens, user_id},
    };

    #[test]
    fn landing_exactly_on_the_limit_is_allowed() {
        let mut facts = facts_of_ann(1_000);
        assert_eq!(decide(&allocate(&[("think-a", 750)]), &mut facts), Ok(()));
        assert_eq!(
            facts.accounts.of(&user_id("ann")).tokens()[&model("think-a")],
            tokens(1_000_000)
        );

        let refusal = decide(&allocate(&[("think-b", 1)]), &mut facts);
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
        let mut facts = facts_of_ann(1_000);
        assert_eq!(decide(&allocate(&[("quick-a", 75)]), &mut facts), Ok(()));
        facts.limits = limits(999_999, 1_000_000);

        let expected = Refusal::CapacityExceeded {
            category: Category::Quick,
            limit: tokens(999_999),
            available: Tokens::ZERO,
            max_credits: Credits::ZERO,
        };
        // Not even what buys no token at all.
        for name in ["quick-a", "quick-b", "dear"] {
            let refusal = decide(&allocate(&[(name, 1)]), &mut facts);
            assert_eq!(refusal, Err(expected.clone()), "{name}");
        }
    }

    #[test]
    fn items_of_one_request_for_new_models_are_counted_together() {
        let mut facts = facts_of_ann(10_000);
        // 600,000 tokens, then 600,600 more: each alone would fit.
        let refusal = decide(&allocate(&[("think-a", 450), ("think-b", 200)]), &mut facts);
        let expected = Refusal::CapacityExceeded {
            category: Category::Think,
            limit: tokens(1_000_000),
            available: tokens(400_000),
            max_credits: credits(133),
        };
        assert_eq!(refusal, Err(expected));
        let ann = facts.accounts.of(&user_id("ann"));
        assert!(ann.tokens().is_empty() && ann.entries().is_empty());
        assert_eq!(decide(&allocate(&[("think-a", 450), ("think-b", 133)]), &mut facts), Ok(()));
    }

    #[test]
    fn the_sum_is_checked_before_any_item() {
        let mut facts = facts_of_ann(100);
        let refusal = decide(&allocate(&[("unknown", 60), ("dear", 41)]), &mut facts);
        let expected = Refusal::InsufficientCredits { required: 101, available: credits(100) };
        assert_eq!(refusal, Err(expected));

        let refusal = decide(&allocate(&[("unknown", 60), ("dear", 40)]), &mut facts);
        assert_eq!(refusal, Err(Refusal::ModelNotPriced { model: model("unknown") }));
        let refusal = decide(&allocate(&[("dear", 2)]), &mut facts);
        assert_eq!(refusal, Err(Refusal::AllocationTooSmall { model: model("dear") }));
    }

    #[test]
    fn a_sum_above_every_amount_is_insufficient_credits_with_its_number() {
        let most = Credits::MAX.get();
        let refusal = decide(&allocate(&[("dear", most), ("dear", most)]), &mut facts_of_ann(100));
        let required = 2 * i128::from(most);
        let expected = Refusal::InsufficientCredits { required, available: credits(100) };
        assert_eq!(refusal, Err(expected));
    }
}
