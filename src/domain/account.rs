//! One user's account: what it holds, and the rules of every change.
//!
//! A method either refuses and leaves the account as it was, or changes it and adds the entries
//! that say so. Where an account comes from and how its entries are kept is not known here.

use std::collections::{BTreeMap, HashMap};

use super::{
    Allocation, CapacityLimits, Category, Credits, Entry, GrantedPurchases, ModelId, Price,
    PriceList, Purchase, Refusal, Tokens, Usage, UserId,
};

/// A user's credits and tokens, with the changes made since it was loaded.
#[derive(Debug, Clone)]
pub struct Account {
    user: UserId,
    credits: Credits,
    tokens: BTreeMap<ModelId, Tokens>,
    entries: Vec<Entry>,
    reset: bool,
}

impl Account {
    /// The account of a user nobody has seen.
    #[must_use]
    pub const fn new(user: UserId) -> Self {
        Self::loaded(user, Credits::ZERO, BTreeMap::new())
    }

    /// An account as it was kept.
    #[must_use]
    pub const fn loaded(user: UserId, credits: Credits, tokens: BTreeMap<ModelId, Tokens>) -> Self {
        Self { user, credits, tokens, entries: Vec::new(), reset: false }
    }

    /// Whose account it is.
    #[must_use]
    pub const fn user(&self) -> &UserId {
        &self.user
    }

    /// Credits not yet spent.
    #[must_use]
    pub const fn credits(&self) -> Credits {
        self.credits
    }

    /// Tokens left, for every model that ever got some.
    #[must_use]
    pub const fn tokens(&self) -> &BTreeMap<ModelId, Tokens> {
        &self.tokens
    }

    /// What was added since the account was loaded, or since its reset.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether everything older than [`Self::entries`] is to be forgotten.
    #[must_use]
    pub const fn is_reset(&self) -> bool {
        self.reset
    }

    /// The same account once its entries are kept elsewhere.
    #[must_use]
    pub fn into_saved(mut self) -> Self {
        self.entries.clear();
        self.reset = false;
        self
    }

    /// Adds the credits of a purchase and returns the new balance.
    ///
    /// # Errors
    /// [`Refusal::PurchaseAlreadyProcessed`] when its store transaction was granted before,
    /// [`Refusal::BalanceOverflow`] when the balance would pass [`Credits::MAX`].
    pub fn purchase(
        &mut self,
        purchase: &Purchase,
        granted: &mut GrantedPurchases,
    ) -> Result<Credits, Refusal> {
        let id = purchase.store_transaction_id.as_ref();
        if id.is_some_and(|id| granted.contains(id)) {
            return Err(Refusal::PurchaseAlreadyProcessed);
        }
        let credits = self.credits.checked_add(purchase.credits).ok_or(Refusal::BalanceOverflow)?;

        if let Some(id) = id {
            granted.insert(id.clone(), self.user.clone());
        }
        self.credits = credits;
        self.entries.push(Entry::Purchase {
            credits: purchase.credits,
            store_transaction_id: purchase.store_transaction_id.clone(),
            record: purchase.record.clone(),
        });
        Ok(credits)
    }

    /// Turns credits into tokens, all items in order or none.
    ///
    /// # Errors
    /// [`Refusal::InsufficientCredits`] for the sum of all items, else the first item's
    /// [`Refusal::ModelNotPriced`], [`Refusal::CapacityExceeded`] or
    /// [`Refusal::AllocationTooSmall`].
    ///
    /// # Panics
    /// Never: what is added was checked against a limit that is an amount itself.
    pub fn allocate(
        &mut self,
        items: &[Allocation],
        prices: &PriceList,
        limits: CapacityLimits,
    ) -> Result<(), Refusal> {
        let credits_left = self.credits_after(items)?;

        let mut totals = HashMap::new();
        let mut entries = Vec::with_capacity(items.len());
        for Allocation { model, credits } in items {
            let price = prices
                .get(model)
                .ok_or_else(|| Refusal::ModelNotPriced { model: model.clone() })?;
            let category = price.category();
            let total =
                totals.entry(category).or_insert_with(|| self.category_total(category, prices));
            let limit = limits.limit_tokens(category);
            let tokens = tokens_within(price, *credits, *total, limit)?;
            if tokens == Tokens::ZERO {
                return Err(Refusal::AllocationTooSmall { model: model.clone() });
            }
            *total = total.checked_add(tokens).expect("within the limit, which is an amount");
            entries.push(Entry::Allocation {
                model: model.clone(),
                credits: *credits,
                tokens,
                price_per_m_token: price.price_per_m_token(),
            });
        }

        // From here on nothing refuses.
        self.credits = credits_left;
        for entry in &entries {
            if let Entry::Allocation { model, tokens, .. } = entry {
                let held = self.tokens.entry(model.clone()).or_default();
                *held = held.checked_add(*tokens).expect("not above its category's total");
            }
        }
        self.entries.append(&mut entries);
        Ok(())
    }

    /// Uses up a chat's tokens and returns how many of its model remain.
    ///
    /// # Errors
    /// [`Refusal::NoTokenBalance`] when the model never got tokens,
    /// [`Refusal::InsufficientTokens`] when it has too few.
    pub fn consume(&mut self, model: &ModelId, usage: Usage) -> Result<Tokens, Refusal> {
        let held = self
            .tokens
            .get_mut(model)
            .ok_or_else(|| Refusal::NoTokenBalance { model: model.clone() })?;
        let remaining = held
            .checked_sub(usage.total())
            .ok_or(Refusal::InsufficientTokens { required: usage.total(), available: *held })?;

        *held = remaining;
        self.entries.push(Entry::Consumption { model: model.clone(), usage });
        Ok(remaining)
    }

    /// Forgets credits, tokens and all entries, and which store transactions were granted.
    pub fn reset(&mut self, granted: &mut GrantedPurchases) {
        granted.forget(&self.user);
        self.credits = Credits::ZERO;
        self.tokens.clear();
        self.entries.clear();
        self.reset = true;
    }

    /// Tokens held by all models of `category`. Models without a price belong to no category.
    #[must_use]
    pub fn category_total(&self, category: Category, prices: &PriceList) -> Tokens {
        self.tokens
            .iter()
            .filter(|(model, _)| prices.get(model).map(Price::category) == Some(category))
            .try_fold(Tokens::ZERO, |sum, (_, tokens)| sum.checked_add(*tokens))
            // Only many models moved into one category by hand come here; more than a limit is full.
            .unwrap_or(Tokens::MAX)
    }

    /// The credits left when all items are paid.
    fn credits_after(&self, items: &[Allocation]) -> Result<Credits, Refusal> {
        let required: i128 = items.iter().map(|item| i128::from(item.credits.get())).sum();
        i64::try_from(required)
            .ok()
            .and_then(|required| Credits::new(required).ok())
            .and_then(|required| self.credits.checked_sub(required))
            .ok_or(Refusal::InsufficientCredits { required, available: self.credits })
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
