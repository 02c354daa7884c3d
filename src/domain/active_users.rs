//! How many users used something on a day, whatever the day's time zone: counts that tell it exactly for every
//! stretch of quarters of an hour up to a long day. How they are kept does not belong here.
//!
//! A count of different users can't be added up from shorter stretches. So of each quarter it is counted how long
//! before it those who used something then had last done so: of a stretch each user counts in the quarter whose last
//! one before lies outside of it, which is the first.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

/// Quarters of an hour of a day of UTC.
const DAY_QUARTERS: i64 = 96;
/// What came so many quarters ago, or fewer, is told exactly. A day is never longer, wherever clocks are put back.
pub(crate) const GAP_MAX: i64 = 127;
/// Days of UTC that a gap may reach back, or ahead.
const GAP_DAYS: i64 = 2;

/// The users of one quarter: at each place how many had last used something so many quarters before. At place 0 those
/// who had not for longer than [`GAP_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Arrivals(Vec<i64>);

impl Arrivals {
    /// Those whose last use before was more than `quarters` ago.
    pub(crate) fn after_more_than(&self, quarters: i64) -> i64 {
        let skipped = usize::try_from(quarters).unwrap_or(0);
        let longer = self.0.iter().skip(skipped.saturating_add(1));
        let long_ago = self.0.first().copied().unwrap_or(0);
        longer.fold(long_ago, |sum, users| sum.saturating_add(*users))
    }

    /// As many as had last done so as many quarters before as the place says.
    pub(crate) fn counts(&self) -> &[i64] {
        &self.0
    }

    fn change(&mut self, gap: Option<i64>, by: i64) {
        let place = gap.and_then(|gap| usize::try_from(gap).ok()).unwrap_or(0);
        if self.0.len() <= place {
            self.0.resize(place.saturating_add(1), 0);
        }
        let users = self.0.get_mut(place).expect("there is room for it");
        *users = users.saturating_add(by);
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    /// Adds the counts of other users.
    pub(crate) fn add(&mut self, other: &Self) {
        for (place, users) in (0..).zip(&other.0) {
            self.change((place > 0).then_some(place), *users);
        }
    }

    /// Whether no count of it is below zero.
    #[cfg(test)]
    fn are_possible(&self) -> bool {
        self.0.iter().all(|users| *users >= 0)
    }
}

/// A user, by the number of the account, and a day of UTC, in days since 1970.
pub(crate) type UserDay = (i64, i64);

/// Who used something in which quarter of an hour, as far as it is at hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ActiveUsers {
    /// A bit for each quarter.
    days: HashMap<UserDay, u128>,
    arrivals: BTreeMap<i64, Arrivals>,
    changed_days: BTreeSet<UserDay>,
}

impl ActiveUsers {
    /// The days of a user that have to be at hand for a quarter to be added.
    pub(crate) fn days_about(user: i64, quarter: i64) -> impl Iterator<Item = UserDay> {
        let day = quarter.div_euclid(DAY_QUARTERS);
        (day.saturating_sub(GAP_DAYS)..=day.saturating_add(GAP_DAYS)).map(move |day| (user, day))
    }

    /// Takes note of a day that is kept.
    pub(crate) fn know_day(&mut self, day: UserDay, bits: u128) {
        self.days.insert(day, bits);
    }

    /// Whether a day is at hand.
    pub(crate) fn knows_day(&self, day: UserDay) -> bool {
        self.days.contains_key(&day)
    }

    /// Takes note of a quarter that is kept.
    pub(crate) fn know_arrivals(&mut self, quarter: i64, arrivals: Arrivals) {
        self.arrivals.insert(quarter, arrivals);
    }

    /// All counts that are at hand.
    pub(crate) fn all_arrivals(&self) -> impl Iterator<Item = (i64, &Arrivals)> {
        self.arrivals.iter().map(|(quarter, arrivals)| (*quarter, arrivals))
    }

    /// The counts of a quarter, if they are at hand.
    pub(crate) fn arrivals(&self, quarter: i64) -> Option<&Arrivals> {
        self.arrivals.get(&quarter)
    }

    /// The quarter after this one in which the user did something, if its count depends on this one.
    pub(crate) fn next_after(&self, user: i64, quarter: i64) -> Option<i64> {
        let (day, place) = (quarter.div_euclid(DAY_QUARTERS), quarter.rem_euclid(DAY_QUARTERS));
        let later = bits_from(place.saturating_add(1));
        (0..=GAP_DAYS)
            .find_map(|ahead| {
                let other = day.saturating_add(ahead);
                let mask = if ahead == 0 { later } else { u128::MAX };
                let bits = self.bits((user, other)) & mask;
                (bits != 0).then(|| in_day(other, bits.trailing_zeros()))
            })
            .filter(|next| next.saturating_sub(quarter) <= GAP_MAX)
    }

    /// The quarter before this one in which the user did something, if this one's count depends on it.
    fn last_before(&self, user: i64, quarter: i64) -> Option<i64> {
        let (day, place) = (quarter.div_euclid(DAY_QUARTERS), quarter.rem_euclid(DAY_QUARTERS));
        let earlier = !bits_from(place);
        (0..=GAP_DAYS)
            .find_map(|ago| {
                let other = day.saturating_sub(ago);
                let mask = if ago == 0 { earlier } else { u128::MAX };
                let bits = self.bits((user, other)) & mask;
                (bits != 0).then(|| in_day(other, bits.ilog2()))
            })
            .filter(|last| quarter.saturating_sub(*last) <= GAP_MAX)
    }

    fn bits(&self, day: UserDay) -> u128 {
        self.days.get(&day).copied().unwrap_or(0)
    }

    /// Adds a quarter in which the user did something, in any order. Once it is there it stays.
    pub(crate) fn add(&mut self, user: i64, quarter: i64) {
        if self.flip(user, quarter, true) {
            self.recount(user, quarter, 1);
        }
    }

    /// Takes a quarter out in which the user did something.
    pub(crate) fn remove(&mut self, user: i64, quarter: i64) {
        if self.flip(user, quarter, false) {
            self.recount(user, quarter, -1);
        }
    }

    /// Whether it was not so.
    fn flip(&mut self, user: i64, quarter: i64, is_active: bool) -> bool {
        let day = (user, quarter.div_euclid(DAY_QUARTERS));
        let bit = bits_from(quarter.rem_euclid(DAY_QUARTERS))
            & !bits_from(quarter.rem_euclid(DAY_QUARTERS).saturating_add(1));
        let bits = self.days.entry(day).or_default();
        if (*bits & bit != 0) == is_active {
            return false;
        }
        *bits ^= bit;
        self.changed_days.insert(day);
        true
    }

    fn recount(&mut self, user: i64, quarter: i64, by: i64) {
        let before = self.last_before(user, quarter);
        let since = |other: i64, earlier: Option<i64>| {
            earlier.map(|earlier| other.saturating_sub(earlier)).filter(|gap| *gap <= GAP_MAX)
        };
        self.change(quarter, since(quarter, before), by);
        if let Some(next) = self.next_after(user, quarter) {
            self.change(next, since(next, before), by.saturating_neg());
            self.change(next, since(next, Some(quarter)), by);
        }
    }

    fn change(&mut self, quarter: i64, gap: Option<i64>, by: i64) {
        self.arrivals.entry(quarter).or_default().change(gap, by);
    }

    /// The days that were changed.
    pub(crate) fn changed_days(&self) -> impl ExactSizeIterator<Item = (UserDay, u128)> {
        self.changed_days.iter().map(|day| (*day, self.bits(*day)))
    }
}

/// A bit for each quarter of a day from this one on.
fn bits_from(place: i64) -> u128 {
    let place = u32::try_from(place).unwrap_or(0);
    u128::MAX.checked_shl(place).unwrap_or(0)
}

fn in_day(day: i64, place: u32) -> i64 {
    day.saturating_mul(DAY_QUARTERS).saturating_add(place.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Different users of a stretch, by the counts.
    fn counted(active: &ActiveUsers, first: i64, past: i64) -> i64 {
        let in_stretch = active.arrivals.range(first..past);
        in_stretch.map(|(quarter, arrivals)| arrivals.after_more_than(quarter - first)).sum()
    }

    proptest! {
        #[test]
        fn whatever_the_order_the_users_of_each_stretch_are_counted_once(
            uses in prop::collection::vec((0..4_i64, -300..300_i64), 0..120),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
            first in -320..320_i64, length in 0..=GAP_MAX,
        ) {
            let mut active = ActiveUsers::default();
            let mut all: BTreeSet<(i64, i64)> = BTreeSet::new();
            for (user, quarter) in &uses {
                active.add(*user, *quarter);
                all.insert((*user, *quarter));
            }
            for index in removed {
                if !uses.is_empty() {
                    let (user, quarter) = *index.get(&uses);
                    active.remove(user, quarter);
                    all.remove(&(user, quarter));
                }
            }
            let stretch = first..first + length;
            let users: BTreeSet<i64> =
                all.iter().filter(|(_, at)| stretch.contains(at)).map(|(user, _)| *user).collect();
            prop_assert_eq!(counted(&active, first, first + length), i64::try_from(users.len()).unwrap());
            prop_assert!(active.arrivals.values().all(Arrivals::are_possible));
            let mut again = ActiveUsers::default();
            for (user, quarter) in all {
                again.add(user, quarter);
            }
            let counts = |it: &ActiveUsers| -> Vec<_> {
                it.arrivals.iter().filter(|(_, it)| **it != Arrivals::default()).map(|(q, it)| (*q, it.clone())).collect()
            };
            prop_assert_eq!(counts(&active), counts(&again));
        }
    }
}
