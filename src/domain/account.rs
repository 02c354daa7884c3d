//! One user's account: what it holds, and how an entry changes it.
//!
//! What a user may ask of it is a file an act, from `purchase` to `reset`. Where an account comes from
//! and how its entries are kept is not known here.

use std::collections::BTreeMap;

use super::{Category, Credits, Entry, ModelId, Price, PriceList, Tokens, UserId};

/// A user's credits and tokens, with the changes made since it was loaded.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    user: UserId,
    credits: Credits,
    tokens: BTreeMap<ModelId, Tokens>,
    entries: Vec<Entry>,
    reset: bool,
}

impl Account {
    /// The account of a user nobody has seen.
    #[cfg(test)]
    pub(crate) const fn new(user: UserId) -> Self {
        Self::loaded(user, Credits::ZERO, BTreeMap::new())
    }

    /// An account as it was kept.
    pub(crate) const fn loaded(
        user: UserId,
        credits: Credits,
        tokens: BTreeMap<ModelId, Tokens>,
    ) -> Self {
        Self { user, credits, tokens, entries: Vec::new(), reset: false }
    }

    pub(crate) const fn user(&self) -> &UserId {
        &self.user
    }

    /// Credits not yet spent.
    pub(crate) const fn credits(&self) -> Credits {
        self.credits
    }

    /// Tokens left, for every model that ever got some.
    pub(crate) const fn tokens(&self) -> &BTreeMap<ModelId, Tokens> {
        &self.tokens
    }

    /// What was added since the account was loaded, or since its reset.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether everything older than [`Self::entries`] is to be forgotten.
    pub(crate) const fn is_reset(&self) -> bool {
        self.reset
    }

    /// The same account once its entries are kept elsewhere.
    pub(crate) fn into_saved(mut self) -> Self {
        self.entries.clear();
        self.reset = false;
        self
    }

    /// Changes the balances by what `entry` says, and adds it. The rule that made it has seen to it that
    /// they stay amounts.
    pub(super) fn record(&mut self, entry: Entry) {
        self.credits = self
            .credits
            .changed_by(entry.credits_delta())
            .expect("the rule of the entry has looked at the credits");
        if let Some(model) = entry.model() {
            let held = self.tokens.get(model).copied().unwrap_or_default();
            let held = held
                .changed_by(entry.tokens_delta())
                .expect("the rule of the entry has looked at the tokens");
            match self.tokens.get_mut(model) {
                Some(tokens) => *tokens = held,
                None => drop(self.tokens.insert(model.clone(), held)),
            }
        }
        self.entries.push(entry);
    }

    /// Forgets credits, tokens and all entries.
    pub(super) fn forget(&mut self) {
        self.credits = Credits::ZERO;
        self.tokens.clear();
        self.entries.clear();
        self.reset = true;
    }

    /// Tokens held by all models of `category`. Models without a price belong to no category.
    pub(crate) fn category_total(&self, category: Category, prices: &PriceList) -> Tokens {
        self.tokens
            .iter()
            .filter(|(model, _)| prices.get(model).map(Price::category) == Some(category))
            .try_fold(Tokens::ZERO, |sum, (_, tokens)| sum.checked_add(*tokens))
            // Only many models moved into one category by hand come here; more than a limit is full.
            .unwrap_or(Tokens::MAX)
    }
}
