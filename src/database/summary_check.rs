//! The audit of the sums of the whole: whether they are those of all entries that are in them.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt;
use sqlx::{Connection, Database, Executor, FromRow};

use super::{
    audit::{Audit, Difference},
    rows::row,
    summary::{AlikeRow, QuarterRow, StateRow, TokensRow},
};
use crate::domain::{ActiveUsers, AlikeEntries, Arrivals, EntryKind, SummaryTotals};

/// What is read.
pub(super) struct SummaryTexts {
    /// The one row.
    pub(super) state: &'static str,
    /// [`QuarterRow`]s.
    pub(super) quarters: &'static str,
    /// [`TokensRow`]s.
    pub(super) tokens: &'static str,
    /// [`AlikeRow`]s of all entries that are in the sums.
    pub(super) alike: &'static str,
    /// [`CheckedActiveRow`]s, those of a user together, in the order of time.
    pub(super) active: &'static str,
}

/// [`SummaryTexts`], in the brackets where the engines differ: the quarter of an hour of `created_at`.
macro_rules! summary_texts {
    ($quarter:literal) => {
        $crate::database::summary_check::SummaryTexts {
            state: $crate::database::summary::summary_state!("CAST(NULL AS text)"),
            quarters: "SELECT quarter, credits_sold, arrivals FROM summary_quarters",
            tokens: "SELECT quarter, model_id, tokens FROM summary_tokens",
            alike: $crate::database::summary::alike_entries!(
                $quarter,
                "transactions WHERE id <= (SELECT summed_until FROM summary_state)"
            ),
            active: concat!(
                "SELECT user_number, quarter, CAST(0 AS bigint) AS kept, CAST(0 AS bigint) AS morning,
                    CAST(0 AS bigint) AS evening
                FROM (",
                $crate::database::summary::active_users!(
                    $quarter,
                    "transactions AS entry WHERE id <= (SELECT summed_until FROM summary_state)"
                ),
                ") AS entries
                UNION ALL
                SELECT user_number, day * 96, 1, morning, evening FROM summary_active
                WHERE morning > 0 OR evening > 0
                ORDER BY 1, 2, 3"
            ),
        }
    };
}
pub(super) use summary_texts;

row! {
    /// A quarter in which a user consumed something, or a day that is kept.
    pub(super) struct CheckedActiveRow {
        user_number: i64,
        quarter: i64,
        kept: i64,
        morning: i64,
        evening: i64,
    }
}

/// What was read of one user.
#[derive(Default)]
struct OfUser {
    number: i64,
    entries: Vec<i64>,
    kept: HashMap<i64, u128>,
}

/// Compares every sum with its entries.
pub(super) async fn check_summary<C>(
    connection: &mut C,
    texts: &SummaryTexts,
    audit: &mut Audit,
) -> Result<(), sqlx::Error>
where
    C: Connection,
    for<'e> &'e mut C: Executor<'e, Database = C::Database>,
    StateRow: for<'r> FromRow<'r, <C::Database as Database>::Row>,
    QuarterRow: for<'r> FromRow<'r, <C::Database as Database>::Row>,
    TokensRow: for<'r> FromRow<'r, <C::Database as Database>::Row>,
    AlikeRow: for<'r> FromRow<'r, <C::Database as Database>::Row>,
    CheckedActiveRow: for<'r> FromRow<'r, <C::Database as Database>::Row>,
{
    let mut expected = Sums::default();
    let mut rows = sqlx::raw_sql(texts.alike).fetch(&mut *connection);
    while let Some(row) = rows.try_next().await? {
        // What is of no known type is told among the changes.
        if let Ok(entries) = AlikeRow::from_row(&row)?.into_entries() {
            expected.add(&entries);
        }
    }
    drop(rows);
    let mut rows = sqlx::raw_sql(texts.active).fetch(&mut *connection);
    let mut user = OfUser::default();
    while let Some(row) = rows.try_next().await? {
        let row = CheckedActiveRow::from_row(&row)?;
        if row.user_number != user.number {
            let number = row.user_number;
            let done = std::mem::replace(&mut user, OfUser { number, ..OfUser::default() });
            done.compare(&mut expected, audit);
        }
        user.take(&row);
    }
    drop(rows);
    user.compare(&mut expected, audit);
    let kept = Sums::kept(connection, texts, audit).await?;
    expected.compare(&kept, audit);
    Ok(())
}

impl OfUser {
    fn take(&mut self, row: &CheckedActiveRow) {
        if row.kept == 1 {
            let bits = u128::from(row.morning.unsigned_abs())
                | (u128::from(row.evening.unsigned_abs()) << 48_u32);
            self.kept.insert(row.quarter.div_euclid(96), bits);
        } else {
            self.entries.push(row.quarter);
        }
    }

    /// Adds the user to those who are expected.
    fn compare(self, expected: &mut Sums, audit: &mut Audit) {
        let mut active = ActiveUsers::default();
        for quarter in &self.entries {
            active.add(self.number, *quarter);
        }
        let days: HashMap<i64, u128> =
            active.changed_days().map(|((_, day), bits)| (day, bits)).collect();
        if days != self.kept {
            let what = format!("active days of user number {}", self.number);
            let told = |days: &HashMap<i64, u128>| format!("{} days", days.len());
            audit.add(Difference::wrong_summary(&what, &told(&days), told(&self.kept)));
        }
        for (quarter, arrivals) in active.all_arrivals() {
            let (_, all) = expected.quarters.entry(quarter).or_default();
            all.add(arrivals);
        }
    }
}

/// All that is kept, but for the days of users.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    totals: SummaryTotals,
    quarters: BTreeMap<i64, (i64, Arrivals)>,
    tokens: BTreeMap<(i64, String), i64>,
}

impl Sums {
    fn add(&mut self, entries: &AlikeEntries) {
        // Sums that are too large are kept nowhere.
        self.totals = self.totals.changed_by(entries, 1).unwrap_or(self.totals);
        match (entries.kind, &entries.model) {
            (EntryKind::Purchase, _) => {
                let (sold, _) = self.quarters.entry(entries.quarter).or_default();
                *sold = sold.saturating_add(entries.amount);
            }
            (EntryKind::Consumption, Some(model)) => {
                let tokens = self.tokens.entry((entries.quarter, model.clone())).or_default();
                *tokens = tokens.saturating_add(entries.amount);
            }
            _ => {}
        }
    }

    async fn kept<C>(
        connection: &mut C,
        texts: &SummaryTexts,
        audit: &mut Audit,
    ) -> Result<Self, sqlx::Error>
    where
        C: Connection,
        for<'e> &'e mut C: Executor<'e, Database = C::Database>,
        StateRow: for<'r> FromRow<'r, <C::Database as Database>::Row>,
        QuarterRow: for<'r> FromRow<'r, <C::Database as Database>::Row>,
        TokensRow: for<'r> FromRow<'r, <C::Database as Database>::Row>,
    {
        let mut kept = Self::default();
        let state = sqlx::raw_sql(texts.state).fetch_one(&mut *connection).await?;
        kept.totals = StateRow::from_row(&state)?.totals();
        for row in sqlx::raw_sql(texts.quarters).fetch_all(&mut *connection).await? {
            match QuarterRow::from_row(&row)?.into_sums() {
                Ok(sums) => {
                    kept.quarters.insert(sums.quarter, (sums.credits_sold, sums.arrivals));
                }
                Err(error) => {
                    audit.add(Difference::wrong_summary("a quarter", "numbers", error.to_string()));
                }
            }
        }
        for row in sqlx::raw_sql(texts.tokens).fetch_all(&mut *connection).await? {
            let TokensRow { quarter, model_id, tokens } = TokensRow::from_row(&row)?;
            kept.tokens.insert((quarter, model_id), tokens);
        }
        Ok(kept)
    }

    /// Tells where `kept` is not as it must be. What is nothing need not be kept, and may be.
    fn compare(mut self, kept: &Self, audit: &mut Audit) {
        for ((name, expected), (_, found)) in
            self.totals.named().into_iter().zip(kept.totals.named())
        {
            if expected != found {
                let what = format!("all {name}");
                audit.add(Difference::wrong_summary(
                    &what,
                    &expected.to_string(),
                    found.to_string(),
                ));
            }
        }
        let told = |(sold, arrivals): &(i64, Arrivals)| {
            format!("{sold} credits sold, users come {:?}", arrivals.counts())
        };
        for (quarter, found) in &kept.quarters {
            let expected = self.quarters.remove(quarter).unwrap_or_default();
            if expected != *found {
                let what = format!("quarter of an hour {quarter}");
                audit.add(Difference::wrong_summary(&what, &told(&expected), told(found)));
            }
        }
        for ((quarter, model), found) in &kept.tokens {
            let expected = self.tokens.remove(&(*quarter, model.clone())).unwrap_or(0);
            if expected != *found {
                let what = format!("tokens of {model:?} in quarter of an hour {quarter}");
                audit.add(Difference::wrong_summary(
                    &what,
                    &expected.to_string(),
                    found.to_string(),
                ));
            }
        }
        for (quarter, sums) in
            self.quarters.into_iter().filter(|(_, sums)| *sums != <(i64, Arrivals)>::default())
        {
            let what = format!("quarter of an hour {quarter}");
            audit.add(Difference::wrong_summary(&what, &told(&sums), "none".to_owned()));
        }
        for ((quarter, model), tokens) in self.tokens.into_iter().filter(|(_, tokens)| *tokens != 0)
        {
            let what = format!("tokens of {model:?} in quarter of an hour {quarter}");
            audit.add(Difference::wrong_summary(&what, &tokens.to_string(), "none".to_owned()));
        }
    }
}
