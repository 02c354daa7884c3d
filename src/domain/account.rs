//! One user's account: what it holds, and how an entry changes it.
//!
//! What a user may ask of it is a file an act, from `purchase` to `reset`. Where an account comes from
//! and how its entries are kept is not known here.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{
    Category, Credits, Funds, Hold, Holds, Lots, ModelId, Price, PriceList, Recorded, Refusal,
    Tokens, UserId,
};

/// A user's credits and tokens, with the changes made since it was loaded.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is so, or not")]
pub(crate) struct Account {
    user: UserId,
    /// Whether the user has been seen before.
    known: bool,
    funds: Funds,
    tokens: BTreeMap<ModelId, Tokens>,
    holds: Holds,
    /// What its allocations bought, where somebody asked.
    lots: Option<Lots>,
    entries: Vec<Recorded>,
    reset: bool,
    frozen: bool,
    /// Whether `frozen` was set since.
    freezes: bool,
    /// Whether it is being erased.
    erasing: bool,
}

impl Account {
    /// The account of a user nobody has seen.
    #[cfg(test)]
    pub(crate) const fn new(user: UserId) -> Self {
        Self::loaded(user, None, BTreeMap::new())
    }

    /// An account as it was kept; nobody has seen a user without credits, be they none.
    pub(crate) const fn loaded(
        user: UserId,
        kept: Option<Funds>,
        tokens: BTreeMap<ModelId, Tokens>,
    ) -> Self {
        let (known, funds) = match kept {
            Some(funds) => (true, funds),
            None => (false, Funds::NONE),
        };
        Self {
            user,
            known,
            funds,
            tokens,
            holds: Holds::new(),
            lots: None,
            entries: Vec::new(),
            reset: false,
            frozen: false,
            freezes: false,
            erasing: false,
        }
    }

    pub(crate) const fn user(&self) -> &UserId {
        &self.user
    }

    /// Credits not yet spent.
    pub(crate) const fn credits(&self) -> Credits {
        self.funds.total()
    }

    /// The same, with how many of them were given.
    pub(crate) const fn funds(&self) -> Funds {
        self.funds
    }

    /// Whether there is such a user.
    pub(super) const fn is_known(&self) -> bool {
        self.known
    }

    /// Tokens left, for every model that ever got some.
    pub(crate) const fn tokens(&self) -> &BTreeMap<ModelId, Tokens> {
        &self.tokens
    }

    /// Tokens put aside, as far as they were asked for.
    pub(crate) const fn holds(&self) -> &Holds {
        &self.holds
    }

    /// Whether nothing of it may be spent or used.
    pub(crate) const fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Takes note of that it is frozen.
    pub(crate) const fn know_frozen(&mut self) {
        self.frozen = true;
    }

    /// Whether it is being erased: nothing can be done with it.
    pub(crate) const fn is_erasing(&self) -> bool {
        self.erasing
    }

    /// Takes note of that it is being erased.
    pub(crate) const fn know_erasing(&mut self) {
        self.erasing = true;
    }

    /// Freezes it, or ends that.
    pub(super) const fn set_frozen(&mut self, frozen: bool) {
        self.frozen = frozen;
        self.freezes = true;
    }

    /// Whether it is frozen from now on, if that was said.
    pub(crate) const fn said_frozen(&self) -> Option<bool> {
        if self.freezes { Some(self.frozen) } else { None }
    }

    /// Whether something of it may be spent or used.
    ///
    /// # Errors
    /// [`Refusal::AccountFrozen`], before any other rule is looked at.
    pub(super) const fn check_not_frozen(&self) -> Result<(), Refusal> {
        if self.frozen { Err(Refusal::AccountFrozen) } else { Ok(()) }
    }

    /// Takes note of a hold that is kept.
    pub(crate) fn know_hold(&mut self, hold: Hold) {
        self.holds.insert_kept(hold);
    }

    /// Adds a hold.
    pub(super) fn open_hold(&mut self, hold: Hold) {
        self.holds.open(hold);
    }

    /// Closes a hold.
    pub(super) fn close_hold(&mut self, hold: Hold) {
        self.holds.close(hold);
    }

    /// Takes note of what its allocations bought.
    pub(crate) fn know_lots(&mut self, lots: Lots) {
        self.lots = Some(lots);
    }

    /// What its allocations bought, to whoever asked for it.
    pub(super) const fn lots(&self) -> &Lots {
        self.lots.as_ref().expect("whoever takes tokens back has asked for the lots")
    }

    /// Tokens of a model that can be used: those that are there and not held.
    pub(crate) fn available(&self, model: &ModelId, now: DateTime<Utc>) -> Tokens {
        self.free(model, self.holds.held(model, now))
    }

    /// The same for a hold of the account, without which all else is held.
    pub(super) fn available_to(&self, hold: &Hold, now: DateTime<Utc>) -> Tokens {
        let own = if hold.counts(now) { hold.held_tokens.get() } else { 0 };
        self.free(&hold.model, self.holds.held(&hold.model, now).saturating_sub(own))
    }

    fn free(&self, model: &ModelId, held: i64) -> Tokens {
        let tokens = self.tokens.get(model).copied().unwrap_or_default();
        // After a clock was set back more may be held than there is.
        Tokens::new(tokens.get().saturating_sub(held)).unwrap_or_default()
    }

    /// What was added since the account was loaded, or since its reset.
    pub(crate) fn entries(&self) -> &[Recorded] {
        &self.entries
    }

    /// Whether everything older than [`Self::entries`] is to be forgotten.
    pub(crate) const fn is_reset(&self) -> bool {
        self.reset
    }

    /// Whether there is anything to keep.
    pub(crate) fn is_changed(&self) -> bool {
        self.reset || self.freezes || !self.entries.is_empty() || self.holds.are_changed()
    }

    /// The same account once its entries are kept elsewhere, with the holds that count.
    pub(crate) fn into_saved(mut self, now: DateTime<Utc>) -> Self {
        self.entries.clear();
        self.holds = self.holds.into_saved(now);
        self.lots = None;
        self.reset = false;
        self.freezes = false;
        self
    }

    /// Changes the balances by what `entry` says, and adds it. The rule that made it has seen to it that
    /// they stay amounts.
    pub(super) fn record(&mut self, recorded: Recorded) {
        let entry = &recorded.entry;
        self.known = true;
        self.funds = self
            .funds
            .changed_by(entry.credits_delta(), entry.bonus_delta())
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
        if let Some(lots) = &mut self.lots {
            lots.follow(&recorded);
        }
        self.entries.push(recorded);
    }

    /// Forgets credits, tokens, holds and all entries.
    pub(super) fn forget(&mut self) {
        self.funds = Funds::NONE;
        self.tokens.clear();
        self.holds = Holds::new();
        // Whoever asked for them may still come.
        self.lots = self.lots.take().map(|_| Lots::default());
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
