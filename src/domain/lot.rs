//! What an allocation bought, and what of it went back: the one place that knows what returned tokens are worth.
//! Who takes tokens back, and why, does not belong here.

use super::{Credits, Entry, ModelId, Recorded, Tokens};

/// The tokens that one allocation bought.
///
/// Of C credits and T tokens, ⌊C × tokens back ÷ T⌋ credits are back in all; each time the difference counts. So
/// nobody gains by splitting, and nothing is lost by giving back at once what was just bought. Of the credits that are
/// back the bought ones come first, then those that had been given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lot {
    /// The allocation's entry.
    pub allocation: i64,
    pub model: ModelId,
    /// What was paid.
    pub credits: Credits,
    /// How many of those had been given.
    pub bonus: Credits,
    /// What was bought.
    pub tokens: Tokens,
    /// What went back, by returns and refunds.
    pub tokens_back: Tokens,
}

impl Lot {
    /// Tokens that are not back; they may be used up.
    fn left(&self) -> i64 {
        self.tokens.get().saturating_sub(self.tokens_back.get())
    }

    /// Credits that are back once `tokens` are.
    fn credits_back(&self, tokens: i64) -> i64 {
        let (paid, bought) = (i128::from(self.credits.get()), i128::from(self.tokens.get()));
        let back = paid.checked_mul(i128::from(tokens)).and_then(|back| back.checked_div(bought));
        back.and_then(|back| i64::try_from(back).ok())
            .expect("amounts fit, an allocation buys a token, and no more come back than it bought")
    }

    /// What `more` of its tokens are worth when they go back.
    fn worth(&self, more: Tokens) -> Credits {
        self.part(more).credits
    }

    /// So many more of its tokens, with what they are worth when they go back.
    fn part(&self, tokens: Tokens) -> Part {
        let back = self.tokens_back.get();
        let back = [back, back.saturating_add(tokens.get())];
        let [before, after] = back.map(|tokens| {
            Credits::new(self.credits_back(tokens)).expect("no more come back than were paid")
        });
        let bought = self.credits.beyond(self.bonus);
        Part {
            allocation: self.allocation,
            tokens,
            credits: after.beyond(before),
            bonus: after.beyond(bought).beyond(before.beyond(bought)),
        }
    }

    /// The fewest of at most `available` tokens that are worth as much as can be had of `credits`, never more.
    fn fewest(&self, available: Tokens, credits: Credits) -> Part {
        let worth = self.worth(available);
        if worth <= credits {
            return self.fewest_worth(worth);
        }
        // More tokens than credits: each number of credits can be met. With fewer tokens some can't.
        let at_most = self.fewest_worth(credits);
        if at_most.credits <= credits {
            return at_most;
        }
        let one_less = at_most.tokens.get().saturating_sub(1);
        self.fewest_worth(self.worth(Tokens::new(one_less).unwrap_or_default()))
    }

    /// The fewest tokens that are worth so much, or more.
    fn fewest_worth(&self, credits: Credits) -> Part {
        let (paid, bought) = (i128::from(self.credits.get()), i128::from(self.tokens.get()));
        let back = i128::from(self.tokens_back.get());
        let goal = i128::from(self.credits_back(self.tokens_back.get()))
            .saturating_add(credits.get().into());
        // The least t with C × t ≥ goal × T.
        let total = goal
            .saturating_mul(bought)
            .saturating_add(paid.saturating_sub(1))
            .checked_div(paid)
            .expect("an allocation is of a credit at least");
        let tokens = if credits == Credits::ZERO { 0 } else { total.saturating_sub(back) };
        let tokens = i64::try_from(tokens).ok().and_then(|tokens| Tokens::new(tokens).ok());
        let tokens = tokens.expect("no more than the lot has left");
        self.part(tokens)
    }
}

/// Tokens of one lot that go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub allocation: i64,
    pub tokens: Tokens,
    /// What they are worth.
    pub credits: Credits,
    /// How many of those had been given.
    pub bonus: Credits,
}

/// What an account's allocations bought, the newest last. Those that can't have unused tokens may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lots(Vec<Lot>);

impl Lots {
    /// Takes note of an entry.
    pub(super) fn follow(&mut self, recorded: &Recorded) {
        match &recorded.entry {
            Entry::Allocation { model, credits, bonus, tokens, .. } => self.0.push(Lot {
                allocation: recorded.id,
                model: model.clone(),
                credits: *credits,
                bonus: *bonus,
                tokens: *tokens,
                tokens_back: Tokens::ZERO,
            }),
            Entry::TokensRefund { allocation, tokens, .. }
            | Entry::Return { allocation, tokens, .. } => {
                if let Some(lot) = self.0.iter_mut().find(|lot| lot.allocation == *allocation) {
                    let back = lot.tokens_back.checked_add(*tokens);
                    lot.tokens_back = back.expect("no more comes back than the lot bought");
                }
            }
            _ => {}
        }
    }

    /// The unused tokens of all lots, the newest first: of each model as many as `available` tells. What is there
    /// beyond them was given, and counts as used first.
    fn unused(&self, available: impl Fn(&ModelId) -> Tokens) -> Vec<(&Lot, Tokens)> {
        let mut rest: std::collections::BTreeMap<&ModelId, i64> = std::collections::BTreeMap::new();
        let mut unused = Vec::new();
        for lot in self.0.iter().rev() {
            let rest = rest.entry(&lot.model).or_insert_with(|| available(&lot.model).get());
            let of_lot = lot.left().min(*rest);
            *rest = rest.saturating_sub(of_lot);
            if let Ok(tokens) = Tokens::new(of_lot)
                && tokens > Tokens::ZERO
            {
                unused.push((lot, tokens));
            }
        }
        unused
    }

    /// All unused tokens of one model, of which `available` can be used, the newest first. A part may be worth
    /// nothing.
    pub(super) fn unused_of(&self, model: &ModelId, available: Tokens) -> Vec<Part> {
        let of_model = |other: &ModelId| if other == model { available } else { Tokens::ZERO };
        self.unused(of_model).into_iter().map(|(lot, tokens)| lot.part(tokens)).collect()
    }

    /// Parts that are worth up to `credits` together, of the newest lots first. No part is worth nothing.
    pub(super) fn worth_up_to(
        &self,
        credits: Credits,
        available: impl Fn(&ModelId) -> Tokens,
    ) -> Vec<(ModelId, Part)> {
        let mut missing = credits;
        let mut parts = Vec::new();
        for (lot, tokens) in self.unused(available) {
            let part = lot.fewest(tokens, missing);
            if part.credits > Credits::ZERO {
                missing = missing
                    .changed_by(part.credits.get().saturating_neg())
                    .expect("a part is worth no more than is missing");
                parts.push((lot.model.clone(), part));
            }
        }
        parts
    }
}

impl FromIterator<Lot> for Lots {
    /// In any order.
    fn from_iter<I: IntoIterator<Item = Lot>>(lots: I) -> Self {
        let mut lots: Vec<Lot> = lots.into_iter().collect();
        lots.sort_unstable_by_key(|lot| lot.allocation);
        Self(lots)
    }
}
