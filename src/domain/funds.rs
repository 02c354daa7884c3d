//! An account's credits, with how many of them were given and not bought, and which of the two go first. Who spends
//! credits, or takes them, does not belong here.

use super::Credits;

/// Credits of which some were given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Funds {
    total: Credits,
    bonus: Credits,
}

impl Funds {
    /// No credits.
    pub(crate) const NONE: Self = Self { total: Credits::ZERO, bonus: Credits::ZERO };

    /// Credits of which `bonus` were given, if those are not more than all.
    pub(crate) fn new(total: Credits, bonus: Credits) -> Option<Self> {
        (bonus <= total).then_some(Self { total, bonus })
    }

    /// All of them.
    pub(crate) const fn total(self) -> Credits {
        self.total
    }

    /// Those that were given.
    pub(crate) const fn bonus(self) -> Credits {
        self.bonus
    }

    /// How many of `credits` were given when so many are spent: given ones go first.
    pub(super) fn bonus_of_spent(self, credits: Credits) -> Credits {
        self.bonus.min(credits)
    }

    /// How many of `credits` were given when so many are taken: bought ones go first.
    pub(super) fn bonus_of_taken(self, credits: Credits) -> Credits {
        credits.beyond(self.total.beyond(self.bonus))
    }

    /// The same after a change, of which `bonus_delta` is about given ones. `None` where either is no amount, or
    /// more were given than there are.
    pub(super) fn changed_by(self, credits_delta: i64, bonus_delta: i64) -> Option<Self> {
        let total = self.total.changed_by(credits_delta)?;
        Self::new(total, self.bonus.changed_by(bonus_delta)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::samples::credits;

    proptest! {
        /// Counted off one by one.
        #[test]
        fn given_credits_are_spent_first_and_taken_last(
            bought in 0..50_i64, given in 0..50_i64, share in 0..=100_i64,
        ) {
            let of = |amount: i64| credits(amount.into());
            let funds = Funds::new(of(bought + given), of(given)).expect("no more than all");
            let gone = (bought + given) * share / 100;
            let (mut spent, mut taken) = (0, 0);
            for one in 0..gone {
                spent += i64::from(one < given);
                taken += i64::from(one >= bought);
            }
            prop_assert_eq!(funds.bonus_of_spent(of(gone)), of(spent));
            prop_assert_eq!(funds.bonus_of_taken(of(gone)), of(taken));
            for bonus in [spent, taken] {
                let left = funds.changed_by(-gone, -bonus).expect("some are left");
                prop_assert_eq!(left.total().get() - left.bonus().get(), bought - (gone - bonus));
            }
        }
    }

    #[test]
    fn no_more_are_given_than_there_are() {
        assert_eq!(Funds::new(credits(1), credits(2)), None);
        let funds = Funds::new(credits(5), credits(3)).expect("no more than all");
        assert_eq!(funds.changed_by(-3, 0), None);
        assert_eq!(funds.changed_by(-5, -4), None);
        assert_eq!(funds.changed_by(Credits::MAX.get(), 0), None);
        assert_eq!(funds.changed_by(-5, -3), Some(Funds::NONE));
    }
}
