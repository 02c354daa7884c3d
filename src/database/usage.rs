//! What was used, as statements find it: from the sums that are kept, and from the entries that are in none yet.
//! When entries are added to the sums is the ledger's business.

use std::sync::Arc;

use serde_json::json;

use super::{DatabaseError, Progress, rows::row};
use crate::domain::{FreshUsage, QuarterSums, UsagePart, UsageSums, cost_credits_micro};

/// Most entries that are added to the sums at once, which takes a few milliseconds.
pub(crate) const SUMMED_AT_ONCE: i64 = 1_024;

/// Entries of `$1` after the last one in the sums, in the brackets where the engines differ: the quarter of an
/// hour of `created_at`; and how many of each of the two kinds, from the oldest on.
///
/// The ids of a user's entries are in the order in which they are written, under the lock of the user's account.
/// While somebody is being erased that is not so, and there are none.
macro_rules! fresh_entries {
    ($quarter:literal, $limit:literal) => {
        concat!(
            "SELECT * FROM (
                SELECT id, model_id, ",
            $quarter,
            " AS quarter, price_per_m_token AS price, 1 AS requests, input_tokens, output_tokens,
                    amount AS total_tokens, 0 AS reversed_tokens
                FROM transactions
                WHERE user_id = $1 AND type = 'consumption' AND id > coalesce(
                    (SELECT summed_until FROM usage_state WHERE user_id = $1), 0) AND ",
            $crate::database::erasing::is_not_erasing!(),
            $limit,
            ") AS consumptions
            UNION ALL
            SELECT * FROM (
                SELECT id, model_id, ",
            $quarter,
            " AS quarter, price_per_m_token AS price, 0 AS requests, 0 AS input_tokens,
                    0 AS output_tokens, 0 AS total_tokens, amount AS reversed_tokens
                FROM transactions
                WHERE user_id = $1 AND type <> 'consumption' AND type <> 'allocation'
                    AND model_id IS NOT NULL AND type = 'reversal' AND id > coalesce(
                    (SELECT summed_until FROM usage_state WHERE user_id = $1), 0) AND ",
            $crate::database::erasing::is_not_erasing!(),
            $limit,
            ") AS reversals"
        )
    };
}
pub(super) use fresh_entries;

/// [`PartRow`]s of user `$1`, in the brackets where the engines differ: the quarter of an hour of `created_at`; and
/// `period`, `first`, `past` of the stretches that are asked for. One statement, which sees one moment.
macro_rules! usage {
    ($quarter:literal, $stretches:literal) => {
        concat!(
            "WITH stretches AS MATERIALIZED (",
            $stretches,
            "), fresh AS MATERIALIZED (
                SELECT model_id, quarter, price, count(*) AS entries, sum(requests) AS requests,
                    sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
                    sum(total_tokens) AS total_tokens, sum(reversed_tokens) AS reversed_tokens
                FROM (",
            $crate::database::usage::fresh_entries!($quarter, ""),
            ") AS entries GROUP BY model_id, quarter, price
            )
            SELECT period, kept.model_id, CAST(0 AS bigint) AS entries, CAST(NULL AS bigint) AS price,
                CAST(sum(requests) AS bigint) AS requests,
                CAST(sum(input_tokens) AS bigint) AS input_tokens,
                CAST(sum(output_tokens) AS bigint) AS output_tokens,
                CAST(sum(total_tokens) AS bigint) AS total_tokens,
                CAST(sum(reversed_tokens) AS bigint) AS reversed_tokens,
                CAST(sum(cost_high) AS bigint) AS cost_high,
                CAST(sum(cost_low) AS bigint) AS cost_low,
                CAST(sum(unpriced_tokens) AS bigint) AS unpriced_tokens,
                price_per_m_token AS price_today
            FROM stretches CROSS JOIN usage_sums AS kept
            LEFT JOIN token_pricing ON token_pricing.model_id = kept.model_id
            WHERE kept.user_id = $1 AND kept.quarter >= first AND kept.quarter < past AND ",
            $crate::database::erasing::is_not_erasing!(),
            "
            GROUP BY period, kept.model_id, price_per_m_token
            UNION ALL
            SELECT period, fresh.model_id, entries, price, CAST(requests AS bigint),
                CAST(input_tokens AS bigint), CAST(output_tokens AS bigint),
                CAST(total_tokens AS bigint), CAST(reversed_tokens AS bigint), 0, 0,
                CAST(CASE WHEN price IS NULL THEN total_tokens ELSE 0 END AS bigint),
                price_per_m_token
            FROM fresh LEFT JOIN stretches ON quarter >= first AND quarter < past
            LEFT JOIN token_pricing ON token_pricing.model_id = fresh.model_id"
        )
    };
}
pub(super) use usage;

/// [`FreshRow`]s of user `$1`: the next `$2` entries that are to be added to the sums, those alike together.
macro_rules! next_to_sum {
    ($quarter:literal) => {
        concat!(
            "SELECT model_id, quarter, price, count(*) AS entries, max(id) AS last_id,
                CAST(sum(requests) AS bigint) AS requests,
                CAST(sum(input_tokens) AS bigint) AS input_tokens,
                CAST(sum(output_tokens) AS bigint) AS output_tokens,
                CAST(sum(total_tokens) AS bigint) AS total_tokens,
                CAST(sum(reversed_tokens) AS bigint) AS reversed_tokens
            FROM (SELECT * FROM (",
            $crate::database::usage::fresh_entries!($quarter, " ORDER BY id LIMIT $2"),
            ") AS both_kinds ORDER BY id LIMIT $2) AS entries GROUP BY model_id, quarter, price"
        )
    };
}
pub(super) use next_to_sum;

/// `$1` a user, `$2` what is to be added, as [`json_to_add`] has it, in the brackets where the engines differ: the
/// list of `value`s.
macro_rules! add_to_sums {
    ($values:literal) => {
        concat!(
            "INSERT INTO usage_sums (user_id, model_id, quarter, requests, input_tokens, output_tokens,
                total_tokens, reversed_tokens, cost_high, cost_low, unpriced_tokens)
            SELECT $1, value ->> 0, CAST(value ->> 1 AS bigint), CAST(value ->> 2 AS bigint),
                CAST(value ->> 3 AS bigint), CAST(value ->> 4 AS bigint),
                CAST(value ->> 5 AS bigint), CAST(value ->> 6 AS bigint),
                CAST(value ->> 7 AS bigint), CAST(value ->> 8 AS bigint),
                CAST(value ->> 9 AS bigint)
            FROM ",
            $values,
            " WHERE true
            ON CONFLICT (user_id, quarter, model_id) DO UPDATE SET
                requests = usage_sums.requests + excluded.requests,
                input_tokens = usage_sums.input_tokens + excluded.input_tokens,
                output_tokens = usage_sums.output_tokens + excluded.output_tokens,
                total_tokens = usage_sums.total_tokens + excluded.total_tokens,
                reversed_tokens = usage_sums.reversed_tokens + excluded.reversed_tokens,
                cost_high = usage_sums.cost_high + excluded.cost_high
                    + ((usage_sums.cost_low + excluded.cost_low) >> 32),
                cost_low = (usage_sums.cost_low + excluded.cost_low) & 4294967295,
                unpriced_tokens = usage_sums.unpriced_tokens + excluded.unpriced_tokens"
        )
    };
}
pub(super) use add_to_sums;

/// `$1` a user, `$2` the last entry that is in the sums now.
macro_rules! note_summed {
    ($user:literal, $until:literal) => {
        concat!(
            "INSERT INTO usage_state (user_id, summed_until) VALUES (",
            $user,
            ", ",
            $until,
            ") ON CONFLICT (user_id) DO UPDATE SET summed_until = excluded.summed_until"
        )
    };
}
pub(super) use note_summed;

row! {
    /// What one model's entries in one period come to: those in the sums, or those alike that are in none.
    pub(super) struct PartRow {
        period: Option<i64>,
        model_id: String,
        entries: i64,
        price: Option<i64>,
        requests: i64,
        input_tokens: i64,
        output_tokens: i64,
        total_tokens: i64,
        reversed_tokens: i64,
        cost_high: i64,
        cost_low: i64,
        unpriced_tokens: i64,
        price_today: Option<i64>,
    }
}

impl PartRow {
    pub(super) fn into_part(self) -> UsagePart {
        let kept = (i128::from(self.cost_high) << 32_u32).saturating_add(i128::from(self.cost_low));
        let cost = kept
            .saturating_add(cost_credits_micro(self.total_tokens, self.price))
            .saturating_add(cost_credits_micro(self.unpriced_tokens, self.price_today));
        UsagePart {
            period: self.period,
            model: self.model_id,
            sums: UsageSums {
                requests: self.requests.into(),
                input_tokens: self.input_tokens.into(),
                output_tokens: self.output_tokens.into(),
                total_tokens: self.total_tokens.into(),
                reversed_tokens: self.reversed_tokens.into(),
                cost_credits_micro: cost,
            },
            fresh_entries: self.entries,
        }
    }
}

row! {
    /// What entries come to that are alike in all but their tokens.
    #[derive(Debug, Clone)]
    pub(super) struct FreshRow {
        model_id: String,
        quarter: i64,
        price: Option<i64>,
        entries: i64,
        last_id: i64,
        requests: i64,
        input_tokens: i64,
        output_tokens: i64,
        total_tokens: i64,
        reversed_tokens: i64,
    }
}

/// What entries come to; nothing if there are none.
pub(super) fn fresh_usage(rows: Vec<FreshRow>) -> Option<FreshUsage> {
    let until = rows.iter().map(|row| row.last_id).max()?;
    let mut fresh = FreshUsage { until, ..FreshUsage::default() };
    for row in rows {
        let sums = UsageSums {
            requests: row.requests.into(),
            input_tokens: row.input_tokens.into(),
            output_tokens: row.output_tokens.into(),
            total_tokens: row.total_tokens.into(),
            reversed_tokens: row.reversed_tokens.into(),
            cost_credits_micro: cost_credits_micro(row.total_tokens, row.price),
        };
        let unpriced_tokens = if row.price.is_none() { row.total_tokens } else { 0 };
        let of = (row.model_id.into(), row.quarter);
        fresh.add(of, QuarterSums { sums, unpriced_tokens }, row.entries);
    }
    Some(fresh)
}

/// Whether there may be more than these rows came to.
pub(super) const fn progress(fresh: &FreshUsage) -> Progress {
    if fresh.entries < SUMMED_AT_ONCE { Progress::Done } else { Progress::More }
}

/// What is to be added to a user's sums: a list of lists, in the order of the columns.
pub(super) fn json_to_add(fresh: &FreshUsage) -> Result<String, DatabaseError> {
    let list: Result<Vec<_>, DatabaseError> = fresh.quarters.iter().map(row_to_add).collect();
    Ok(serde_json::Value::from(list?).to_string())
}

fn row_to_add(
    ((model, quarter), QuarterSums { sums, unpriced_tokens }): (&(Arc<str>, i64), &QuarterSums),
) -> Result<serde_json::Value, DatabaseError> {
    let fits = |number: i128| {
        let why = || DatabaseError::Corrupt("a sum of usage is too large to be kept".to_owned());
        i64::try_from(number).map_err(|_| why())
    };
    let cost = sums.cost_credits_micro;
    Ok(json!([
        &**model,
        quarter,
        fits(sums.requests)?,
        fits(sums.input_tokens)?,
        fits(sums.output_tokens)?,
        fits(sums.total_tokens)?,
        fits(sums.reversed_tokens)?,
        fits(cost >> 32_u32)?,
        fits(cost & 0xffff_ffff)?,
        unpriced_tokens,
    ]))
}
