//! What was used, summed up exactly: of some entries, and of some quarters of an hour. How they are kept does not
//! belong here.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

use super::{Account, Entry, Periods, quarter_of};

/// What some entries come to. Of entries each number is at most 2^53, so no sum of them is ever too large.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UsageSums {
    /// Consumptions.
    pub requests: i128,
    pub input_tokens: i128,
    pub output_tokens: i128,
    /// What the consumptions took.
    pub total_tokens: i128,
    /// What came back of consumptions, of these or of others.
    pub reversed_tokens: i128,
    /// What they cost, in millionths of a credit: tokens times credits per million of them.
    pub cost_credits_micro: i128,
}

impl UsageSums {
    pub(crate) const fn add(&mut self, other: &Self) {
        let Self { requests, input_tokens, output_tokens, .. } = other;
        let Self { total_tokens, reversed_tokens, cost_credits_micro, .. } = other;
        self.requests = self.requests.saturating_add(*requests);
        self.input_tokens = self.input_tokens.saturating_add(*input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(*output_tokens);
        self.total_tokens = self.total_tokens.saturating_add(*total_tokens);
        self.reversed_tokens = self.reversed_tokens.saturating_add(*reversed_tokens);
        self.cost_credits_micro = self.cost_credits_micro.saturating_add(*cost_credits_micro);
    }
}

/// What one model's entries of one quarter of an hour come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct QuarterSums {
    pub sums: UsageSums,
    /// Those of the tokens that don't tell their price, and are in no cost.
    pub unpriced_tokens: i64,
}

/// What entries of one user come to that are in no sums yet, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FreshUsage {
    /// By model and quarter.
    pub quarters: BTreeMap<(Arc<str>, i64), QuarterSums>,
    /// How many entries they are.
    pub entries: i64,
    /// The ids of the first and of the last of them.
    pub first: i64,
    pub until: i64,
}

impl FreshUsage {
    /// What the new entries of an account come to, made at a time.
    pub(crate) fn of(account: &Account, now: DateTime<Utc>) -> Self {
        let mut fresh = Self::default();
        for recorded in account.entries() {
            let (sums, unpriced_tokens) = match &recorded.entry {
                Entry::Consumption { usage, price_per_m_token: price, .. } => {
                    let taken = recorded.entry.amount();
                    let sums = UsageSums {
                        requests: 1,
                        input_tokens: usage.input().get().into(),
                        output_tokens: usage.output().get().into(),
                        total_tokens: taken.into(),
                        reversed_tokens: 0,
                        cost_credits_micro: cost_credits_micro(taken, *price),
                    };
                    (sums, if price.is_none() { taken } else { 0 })
                }
                Entry::ConsumptionReversal { tokens, .. } => {
                    (UsageSums { reversed_tokens: tokens.get().into(), ..UsageSums::default() }, 0)
                }
                _ => continue,
            };
            let model = recorded.entry.model().expect("both kinds have a model").shared();
            fresh.add((model, quarter_of(now)), QuarterSums { sums, unpriced_tokens }, 1);
            if fresh.entries == 1 {
                fresh.first = recorded.id;
            }
            fresh.until = recorded.id;
        }
        fresh
    }

    /// Adds what some entries come to.
    pub(crate) fn add(&mut self, of: (Arc<str>, i64), sums: QuarterSums, entries: i64) {
        let QuarterSums { sums, unpriced_tokens } = sums;
        let quarter = self.quarters.entry(of).or_default();
        quarter.sums.add(&sums);
        quarter.unpriced_tokens = quarter.unpriced_tokens.saturating_add(unpriced_tokens);
        self.entries = self.entries.saturating_add(entries);
    }

    /// Adds those that followed.
    pub(crate) fn follow(&mut self, later: Self) {
        if self.entries == 0 {
            self.first = later.first;
        }
        self.entries = self.entries.saturating_add(later.entries);
        self.until = self.until.max(later.until);
        for (of, quarter) in later.quarters {
            self.add(of, quarter, 0);
        }
    }
}

/// What tokens cost, in millionths of a credit; nothing without a price, which is credits per million of them.
pub(crate) fn cost_credits_micro(tokens: i64, price: Option<i64>) -> i128 {
    i128::from(tokens).saturating_mul(i128::from(price.unwrap_or(0)))
}

/// What is known of one model in one period; there may be several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsagePart {
    /// The place of the period among those asked for; nothing if it is in none of them.
    pub period: Option<i64>,
    pub model: String,
    pub sums: UsageSums,
    /// How many entries it is the sum of that are in no sums yet.
    pub fresh_entries: i64,
}

/// What a user used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UsageReport {
    /// By period, if that has a name, and model, in this order.
    pub lines: Vec<UsageLine>,
    pub totals: UsageSums,
    /// How many entries were read one by one for it.
    pub fresh_entries: i64,
}

/// What was used of one model in one period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsageLine {
    pub period: Option<String>,
    pub model: String,
    pub sums: UsageSums,
}

impl UsageReport {
    /// What the parts come to.
    pub(crate) fn of(parts: Vec<UsagePart>, periods: &Periods) -> Self {
        let mut report = Self::default();
        let mut lines: BTreeMap<(i64, String), UsageSums> = BTreeMap::new();
        for UsagePart { period, model, sums, fresh_entries } in parts {
            report.fresh_entries = report.fresh_entries.saturating_add(fresh_entries);
            if let Some(period) = period {
                report.totals.add(&sums);
                lines.entry((period, model)).or_default().add(&sums);
            }
        }
        let line =
            |((period, model), sums)| UsageLine { period: periods.name(period), model, sums };
        report.lines = lines.into_iter().map(line).collect();
        report
    }
}
