//! What was bought and not used by the end of a day: credits as they are, tokens at what returning all of them would
//! give then, held ones too. Given credits are told apart. How entries are read does not belong here.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{Lot, Lots, ModelId, Tokens};

/// Credits, by how they came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PaidAndBonus {
    /// Bought.
    pub paid: i128,
    /// Given.
    pub bonus: i128,
}

impl PaidAndBonus {
    const fn add(&mut self, other: Self) {
        self.paid = self.paid.saturating_add(other.paid);
        self.bonus = self.bonus.saturating_add(other.bonus);
    }
}

/// Unused tokens of a model that were bought, and what they are worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UnusedTokens {
    pub tokens: i128,
    pub worth: PaidAndBonus,
}

/// What of all users was not used. Of users each number is at most 2^53, so no sum of them is ever too large.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnusedBalance {
    pub credits: PaidAndBonus,
    /// Of those models that there are any of.
    pub tokens: BTreeMap<ModelId, UnusedTokens>,
}

impl UnusedBalance {
    /// All of it.
    pub(crate) fn total(&self) -> PaidAndBonus {
        let mut total = self.credits;
        self.tokens.values().for_each(|tokens| total.add(tokens.worth));
        total
    }

    /// Adds what a user has not used.
    pub(crate) fn add(&mut self, account: UnusedAccount) {
        let UnusedAccount { credits, bonus, tokens, bought, back } = account;
        let bonus = bonus.clamp(0, credits.max(0));
        let paid = credits.max(0).saturating_sub(bonus);
        self.credits.add(PaidAndBonus { paid: paid.into(), bonus: bonus.into() });
        let lots = bought.into_iter().map(|lot| {
            let tokens_back = back.get(&lot.allocation).copied().unwrap_or_default();
            Lot { tokens_back: tokens_back.min(lot.tokens), ..lot }
        });
        let lots: Lots = lots.collect();
        for (lot, unused) in lots.unused(|model| amount(tokens.get(model).copied().unwrap_or(0))) {
            let part = lot.part(unused);
            let bonus = part.bonus.get();
            let paid = part.credits.get().saturating_sub(bonus);
            let of_model = self.tokens.entry(lot.model.clone()).or_default();
            of_model.tokens = of_model.tokens.saturating_add(unused.get().into());
            of_model.worth.add(PaidAndBonus { paid: paid.into(), bonus: bonus.into() });
        }
    }
}

/// What the entries of one user come to, whatever their order.
///
/// Entries of before a moment are those whose time says so. Where a clock was set back some may be among them that
/// rest on others which are not: what is below zero then counts as nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UnusedAccount {
    credits: i64,
    bonus: i64,
    tokens: BTreeMap<ModelId, i64>,
    /// What allocations bought, as if nothing had gone back.
    bought: Vec<Lot>,
    /// Tokens that went back, by allocation.
    back: BTreeMap<i64, Tokens>,
}

impl UnusedAccount {
    /// Takes in by how much entries changed the credits, and how much of that had been given.
    pub(crate) const fn change_credits(&mut self, credits: i64, bonus: i64) {
        self.credits = self.credits.saturating_add(credits);
        self.bonus = self.bonus.saturating_add(bonus);
    }

    /// Takes in by how much entries changed a model's tokens.
    pub(crate) fn change_tokens(&mut self, model: ModelId, tokens: i64) {
        let balance = self.tokens.entry(model).or_default();
        *balance = balance.saturating_add(tokens);
    }

    /// Takes in what an allocation bought, as if nothing had gone back.
    pub(crate) fn add_lot(&mut self, lot: Lot) {
        self.bought.push(lot);
    }

    /// Takes in that tokens of an allocation went back.
    pub(crate) fn take_back(&mut self, allocation: i64, tokens: Tokens) {
        let back = self.back.entry(allocation).or_default();
        *back = back.checked_add(tokens).unwrap_or(Tokens::MAX);
    }
}

/// As many tokens as there are; none, where there are fewer.
fn amount(tokens: i64) -> Tokens {
    Tokens::new(tokens.max(0)).unwrap_or(Tokens::MAX)
}

/// When a day ends in a zone. A day that a zone left out ends when it would have begun.
pub(crate) fn end_of_day(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    /// No zone ever was further from UTC.
    const ZONE_HOURS_MAX: i64 = 16;
    const QUARTER: TimeDelta = TimeDelta::minutes(15);
    let begins = day.and_time(chrono::NaiveTime::MIN).and_utc();
    let hours = |hours| begins.checked_add_signed(TimeDelta::hours(hours)).unwrap_or(begins);
    // The last quarter of an hour that is not later, looked for from the latest on: clocks may be put back across
    // midnight.
    let mut end = hours(ZONE_HOURS_MAX.saturating_add(48));
    let earliest = hours(ZONE_HOURS_MAX.saturating_neg());
    while end > earliest {
        let Some(quarter) = end.checked_sub_signed(QUARTER) else { break };
        if quarter.with_timezone(&zone).date_naive() <= day {
            break;
        }
        end = quarter;
    }
    end
}

/// Which day's end is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportDay {
    pub at: NaiveDate,
    pub zone: Tz,
}

impl ReportDay {
    /// When it was over.
    pub(crate) fn ended(self) -> DateTime<Utc> {
        end_of_day(self.at, self.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_when_the_clocks_of_its_zone_say_so() {
        for (day, zone, end) in [
            ("2026-09-30", "UTC", "2026-10-01T00:00:00Z"),
            ("2026-09-30", "Asia/Tokyo", "2026-09-30T15:00:00Z"),
            ("2026-09-30", "Asia/Kathmandu", "2026-09-30T18:15:00Z"),
            ("2026-09-30", "Pacific/Kiritimati", "2026-09-30T10:00:00Z"),
            ("2026-09-30", "Etc/GMT+12", "2026-10-01T12:00:00Z"),
            ("2026-11-01", "America/New_York", "2026-11-02T05:00:00Z"),
            ("2026-10-04", "Australia/Lord_Howe", "2026-10-04T13:00:00Z"),
            ("2026-03-28", "Asia/Beirut", "2026-03-28T22:00:00Z"),
            // The 30th was left out.
            ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00:00Z"),
            ("2011-12-29", "Pacific/Apia", "2011-12-30T10:00:00Z"),
        ] {
            let found = end_of_day(day.parse().expect("a date"), zone.parse().expect("a zone"));
            assert_eq!(found, end.parse::<DateTime<Utc>>().expect("a time"), "{day} {zone}");
        }
    }
}
