//! What was used, summed up exactly: of some entries, and of some quarters of an hour. How they are kept does not
//! belong here.

use std::collections::BTreeMap;

use super::Periods;

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
