//! The audit of the sums of usage: whether they are those of the entries.

use futures_util::TryStreamExt;
use sqlx::{Connection, Database, Executor, FromRow};

use super::{audit::Audit, audit::Difference, rows::row};
use crate::domain::UsageSums;

/// [`CheckedRow`]s, those of one sum in a row, in the brackets where the engines differ: the quarter of an hour of
/// `created_at`. The sums of whoever is being erased are just being forgotten.
macro_rules! checked_usage {
    ($quarter:literal) => {
        concat!(
            "SELECT user_id, quarter, model_id, CAST(1 AS bigint) AS kept,
                CAST(NULL AS bigint) AS price, requests, input_tokens, output_tokens, total_tokens,
                reversed_tokens, cost_high, cost_low, unpriced_tokens
            FROM usage_sums WHERE user_id NOT IN (SELECT user_id FROM erasures)
            UNION ALL
            SELECT user_id, ",
            $quarter,
            ", model_id, 0, price_per_m_token, 1, input_tokens, output_tokens, amount, 0, 0, 0,
                CASE WHEN price_per_m_token IS NULL THEN amount ELSE 0 END
            FROM transactions JOIN usage_state USING (user_id)
            WHERE type = 'consumption' AND id <= summed_until
            UNION ALL
            SELECT user_id, ",
            $quarter,
            ", model_id, 0, NULL, 0, 0, 0, 0, amount, 0, 0, 0
            FROM transactions JOIN usage_state USING (user_id)
            WHERE type = 'reversal' AND model_id IS NOT NULL AND id <= summed_until
            ORDER BY 1, 2, 3"
        )
    };
}
pub(super) use checked_usage;

row! {
    /// A sum that is kept, or an entry that is in one.
    pub(super) struct CheckedRow {
        user_id: String,
        quarter: i64,
        model_id: String,
        kept: i64,
        price: Option<i64>,
        requests: i64,
        input_tokens: i64,
        output_tokens: i64,
        total_tokens: i64,
        reversed_tokens: i64,
        cost_high: i64,
        cost_low: i64,
        unpriced_tokens: i64,
    }
}

/// The sums of one quarter of an hour and model, with the tokens that have no price.
#[derive(Default)]
struct Compared {
    key: Option<(String, i64, String)>,
    kept: (UsageSums, i128),
    entries: (UsageSums, i128),
}

impl Compared {
    /// Takes in a row of the same sum.
    fn take(&mut self, row: &CheckedRow) {
        let high = i128::from(row.cost_high) << 32_u32;
        let priced = i128::from(row.total_tokens).saturating_mul(row.price.unwrap_or(0).into());
        let sums = UsageSums {
            requests: row.requests.into(),
            input_tokens: row.input_tokens.into(),
            output_tokens: row.output_tokens.into(),
            total_tokens: row.total_tokens.into(),
            reversed_tokens: row.reversed_tokens.into(),
            cost_credits_micro: high.saturating_add(row.cost_low.into()).saturating_add(priced),
        };
        let (all, unpriced) = if row.kept == 1 { &mut self.kept } else { &mut self.entries };
        all.add(&sums);
        *unpriced = unpriced.saturating_add(row.unpriced_tokens.into());
    }

    fn tell(self, audit: &mut Audit) {
        let Self { key: Some((user, quarter, model)), kept, entries } = self else { return };
        if kept != entries {
            audit.add(Difference::wrong_usage(user, model, quarter, entries.0, kept.0));
        }
    }
}

/// Compares every sum with its entries.
pub(super) async fn check_usage<C>(
    connection: &mut C,
    sql: &'static str,
    audit: &mut Audit,
) -> Result<(), sqlx::Error>
where
    C: Connection,
    for<'e> &'e mut C: Executor<'e, Database = C::Database>,
    CheckedRow: for<'r> FromRow<'r, <C::Database as Database>::Row>,
{
    let mut compared = Compared::default();
    let mut rows = sqlx::raw_sql(sql).fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        let row = CheckedRow::from_row(&row)?;
        let key = Some((row.user_id.clone(), row.quarter, row.model_id.clone()));
        if compared.key != key {
            std::mem::replace(&mut compared, Compared { key, ..Compared::default() }).tell(audit);
        }
        compared.take(&row);
    }
    compared.tell(audit);
    Ok(())
}
