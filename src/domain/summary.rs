//! What the whole comes to, of all users: sums of all entries, and of each day. How they are kept, and when they are
//! made, does not belong here.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};

use super::{Arrivals, DateRange, EntryKind, Periods, PurchaseState, Store, UsageBy};

/// Sums of entries, each of amounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SummaryTotals {
    /// Credits that were bought.
    pub credits_sold: i64,
    /// Credits that were given.
    pub credits_given: i64,
    /// Credits that became tokens, less those that were returned.
    pub credits_allocated: i64,
    /// Credits that refunds took, less what of them was given back.
    pub credits_refunded: i64,
    /// Tokens that consumptions took, also those that came back.
    pub tokens_consumed: i64,
    /// Tokens that were used beyond what could be taken.
    pub tokens_shortfall: i64,
}

/// What entries come to that are alike in kind, model and quarter of an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlikeEntries {
    pub kind: EntryKind,
    pub model: Option<String>,
    pub quarter: i64,
    /// What their amounts come to.
    pub amount: i64,
    pub shortfall_tokens: i64,
}

impl SummaryTotals {
    /// Each by what it is the sum of.
    pub(crate) const fn named(&self) -> [(&'static str, i64); 6] {
        [
            ("credits sold", self.credits_sold),
            ("credits given", self.credits_given),
            ("credits allocated", self.credits_allocated),
            ("credits refunded", self.credits_refunded),
            ("tokens consumed", self.tokens_consumed),
            ("tokens short", self.tokens_shortfall),
        ]
    }

    /// Adds entries, or takes them out again if `by` is -1. `None` where a sum is too large.
    #[must_use]
    pub(crate) fn changed_by(mut self, entries: &AlikeEntries, by: i64) -> Option<Self> {
        let amount = entries.amount.checked_mul(by)?;
        let add = |sum: &mut i64, amount: i64| {
            *sum = sum.checked_add(amount)?;
            Some(())
        };
        match (entries.kind, &entries.model) {
            (EntryKind::Purchase, _) => add(&mut self.credits_sold, amount)?,
            (EntryKind::Grant, _) => add(&mut self.credits_given, amount)?,
            (EntryKind::Allocation, _) => add(&mut self.credits_allocated, amount)?,
            (EntryKind::Return, _) => add(&mut self.credits_allocated, amount.checked_neg()?)?,
            (EntryKind::Refund, _) => add(&mut self.credits_refunded, amount)?,
            (EntryKind::Reversal, None) => add(&mut self.credits_refunded, amount.checked_neg()?)?,
            (EntryKind::Consumption, _) => {
                add(&mut self.tokens_consumed, amount)?;
                add(&mut self.tokens_shortfall, entries.shortfall_tokens.checked_mul(by)?)?;
            }
            (EntryKind::Reversal, Some(_)) | (EntryKind::Adjustment, _) => {}
        }
        Some(self)
    }
}

/// One day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SummaryDay {
    /// As `YYYY-MM-DD`, in the time zone asked for.
    pub day: String,
    pub credits_sold: i64,
    /// Users who consumed something.
    pub active_users: i64,
    /// Tokens that consumptions took, by model.
    pub tokens: BTreeMap<String, i64>,
}

/// What is kept of one quarter of an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WholeQuarter {
    pub quarter: i64,
    pub credits_sold: i64,
    pub arrivals: Arrivals,
}

/// What is kept of all quarters of a period and a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeriodTokens {
    pub period: i64,
    pub model: String,
    pub tokens: i64,
}

/// What is kept about the whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeptSums {
    pub totals: SummaryTotals,
    /// When the oldest entry was made that is in no sums yet, if there is one.
    pub summed_before: Option<DateTime<Utc>>,
    pub quarters: Vec<WholeQuarter>,
    pub tokens: Vec<PeriodTokens>,
}

/// The last days of a zone, as many as are asked for, up to the one of `now`.
pub(crate) fn last_days(now: DateTime<Utc>, zone: chrono_tz::Tz, days: u16) -> Periods {
    let to = now.with_timezone(&zone).date_naive();
    let before = chrono::Days::new(u64::from(days.saturating_sub(1)));
    let from = to.checked_sub_days(before).unwrap_or(NaiveDate::MIN);
    Periods::new(DateRange { from, to }, UsageBy::Day, zone)
}

/// The days with what they come to, the oldest first, also those without anything.
pub(crate) fn told_by_day(kept: &KeptSums, periods: &Periods) -> Vec<SummaryDay> {
    let mut days: Vec<SummaryDay> = Vec::new();
    for period in 0.. {
        let Some(day) = periods.name(period) else { break };
        // Where clocks were put back across midnight, what lies between counts for both; that was seen last in 2011.
        let mut stretches = periods.quarters().iter().filter(|it| it.period == period);
        let (first, past) = stretches.next().map_or((0, 0), |it| {
            (it.first, stretches.fold(it.past, |past, other| past.max(other.past)))
        });
        let mut told = SummaryDay { day, ..SummaryDay::default() };
        let start = kept.quarters.partition_point(|it| it.quarter < first);
        let of_day = kept.quarters.iter().skip(start).take_while(|it| it.quarter < past);
        for quarter in of_day {
            let into_day = quarter.quarter.saturating_sub(first);
            let active = quarter.arrivals.after_more_than(into_day);
            told.active_users = told.active_users.saturating_add(active);
            told.credits_sold = told.credits_sold.saturating_add(quarter.credits_sold);
        }
        let of_day = kept.tokens.iter().filter(|it| it.period == period);
        let of_day = of_day.filter(|it| it.tokens != 0);
        told.tokens = of_day.map(|it| (it.model.clone(), it.tokens)).collect();
        days.push(told);
    }
    days
}

/// What is counted when it is asked for, or was a moment ago.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SummaryCounts {
    pub users: u64,
    /// Of those states that there are any of.
    pub purchases: Vec<(PurchaseState, u64)>,
    /// When the oldest purchase came that waits for its store's word, or for somebody to look.
    pub oldest_waiting_at: Option<DateTime<Utc>>,
    /// Granted purchases whose store was not told yet that they were delivered.
    pub acknowledgements_due: u64,
    /// When the oldest of those was granted.
    pub oldest_acknowledgement_at: Option<DateTime<Utc>>,
    /// Purchases that their store did not confirm the last time it was asked, of each store.
    pub unconfirmed: Vec<(Store, u64)>,
    /// Credits of refunds that could not be taken.
    pub credits_shortfall: i64,
}

/// What the whole comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    /// All that was made before is in it.
    pub as_of: DateTime<Utc>,
    pub totals: SummaryTotals,
    pub counts: SummaryCounts,
    /// The oldest first, also those without anything.
    pub days: Vec<SummaryDay>,
}
