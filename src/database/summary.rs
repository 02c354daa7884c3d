//! The sums of the whole, as statements find and keep them, the same for both engines: what is read to add entries to
//! them, and what is then written. When that is done is the service's business.
//!
//! All is worked out beside the lanes, on what was read, and written only if nobody changed the tables meanwhile:
//! each change makes another version of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{DatabaseError, rows::row};
use crate::domain::{
    ActiveUsers, AlikeEntries, Arrivals, EntryKind, PeriodTokens, SummaryTotals, UserDay,
    WholeQuarter,
};

/// Most entries that are read at once for the sums, which takes a few milliseconds.
pub(super) const READ_AT_ONCE: i64 = 2_048;
/// Most entries that are added to the sums by one write.
const ENTRIES_IN_A_WRITE: i64 = 16_384;
/// How many rows a write may have before no more is added to it. It takes a few milliseconds then.
const ROWS_IN_A_WRITE: usize = 1_024;
/// Quarters of an hour of half a day, each a bit of `morning` and of `evening`.
const HALF_DAY: u32 = 48;
const HALF_DAY_BITS: u128 = (1 << HALF_DAY) - 1;

/// [`StateRow`], and what it is asked together with: the time of the oldest entry that is in no sums, in the brackets
/// where the engines differ, if there is one.
macro_rules! summary_state {
    ($time:literal) => {
        concat!(
            "SELECT version, summed_until, credits_sold, credits_given, credits_allocated,
                credits_refunded, tokens_consumed, tokens_shortfall,
                (SELECT ",
            $time,
            " FROM transactions WHERE id > summed_until ORDER BY id LIMIT 1) AS oldest_left
            FROM summary_state"
        )
    };
}
pub(super) use summary_state;

row! {
    /// The one row of `summary_state`.
    #[derive(Debug)]
    pub(super) struct StateRow {
        version: i64,
        summed_until: i64,
        credits_sold: i64,
        credits_given: i64,
        credits_allocated: i64,
        credits_refunded: i64,
        tokens_consumed: i64,
        tokens_shortfall: i64,
        pub(super) oldest_left: Option<String>,
    }
}

impl StateRow {
    pub(super) const fn totals(&self) -> SummaryTotals {
        SummaryTotals {
            credits_sold: self.credits_sold,
            credits_given: self.credits_given,
            credits_allocated: self.credits_allocated,
            credits_refunded: self.credits_refunded,
            tokens_consumed: self.tokens_consumed,
            tokens_shortfall: self.tokens_shortfall,
        }
    }
}

/// `$1` and `$2`: of the entries after the first id and up to the second the next ones, up to which id, and how many.
pub(super) const NEXT_ENTRIES: &str = "
    SELECT coalesce(max(id), 0) AS until, count(*) AS entries FROM (
        SELECT id FROM transactions WHERE id > $1 AND id <= $2 ORDER BY id LIMIT $3) AS next";

row! {
    /// What [`NEXT_ENTRIES`] tells.
    pub(super) struct NextRow {
        pub(super) until: i64,
        pub(super) entries: i64,
    }
}

/// [`AlikeRow`]s, in the brackets where the engines differ: the quarter of an hour of `created_at`; and which entries.
macro_rules! alike_entries {
    ($quarter:literal, $entries:literal) => {
        concat!(
            "SELECT ",
            $quarter,
            " AS quarter, type, model_id, CAST(sum(amount) AS bigint) AS amount,
                CAST(coalesce(sum(shortfall_tokens), 0) AS bigint) AS shortfall_tokens
            FROM ",
            $entries,
            " GROUP BY 1, 2, 3"
        )
    };
}
pub(super) use alike_entries;

row! {
    /// [`AlikeEntries`].
    pub(super) struct AlikeRow {
        quarter: i64,
        kind("type"): String,
        model_id: Option<String>,
        amount: i64,
        shortfall_tokens: i64,
    }
}

impl AlikeRow {
    pub(super) fn into_entries(self) -> Result<AlikeEntries, DatabaseError> {
        let Self { quarter, kind, model_id: model, amount, shortfall_tokens } = self;
        let kind = EntryKind::from_name(&kind)
            .ok_or_else(|| DatabaseError::Corrupt(format!("type of a transaction: '{kind}'")))?;
        Ok(AlikeEntries { kind, model, quarter, amount, shortfall_tokens })
    }
}

/// [`ActiveRow`]s, in the same brackets. Users who are being erased have the same number under both names.
macro_rules! active_users {
    ($quarter:literal, $entries:literal) => {
        concat!(
            "SELECT DISTINCT coalesce(
                (SELECT id FROM users WHERE users.user_id = entry.user_id),
                (SELECT account FROM erasures WHERE erasures.user_id = entry.user_id)
            ) AS user_number, ",
            $quarter,
            " AS quarter
            FROM ",
            $entries,
            " AND type = 'consumption'"
        )
    };
}
pub(super) use active_users;

row! {
    /// A quarter of an hour in which a user consumed something.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct ActiveRow {
        pub(super) user_number: i64,
        pub(super) quarter: i64,
    }
}

row! {
    /// A row of `summary_active`.
    pub(super) struct DayRow {
        day: i64,
        user_number: i64,
        morning: i64,
        evening: i64,
    }
}

row! {
    /// A row of `summary_quarters`.
    pub(super) struct QuarterRow {
        quarter: i64,
        credits_sold: i64,
        arrivals: String,
    }
}

impl QuarterRow {
    pub(super) fn into_sums(self) -> Result<WholeQuarter, DatabaseError> {
        let Self { quarter, credits_sold, arrivals } = self;
        let arrivals = serde_json::from_str(&arrivals).map_err(|error| {
            DatabaseError::Corrupt(format!("arrivals of quarter {quarter}: {error}"))
        })?;
        Ok(WholeQuarter { quarter, credits_sold, arrivals })
    }
}

row! {
    /// A row of `summary_tokens`.
    pub(super) struct TokensRow {
        pub(super) quarter: i64,
        pub(super) model_id: String,
        pub(super) tokens: i64,
    }
}

row! {
    /// [`PeriodTokens`].
    pub(super) struct PeriodTokensRow {
        period: i64,
        model_id: String,
        tokens: i64,
    }
}

impl From<PeriodTokensRow> for PeriodTokens {
    fn from(PeriodTokensRow { period, model_id: model, tokens }: PeriodTokensRow) -> Self {
        Self { period, model, tokens }
    }
}

/// What entries change in the tables, as far as it is worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SummaryWrite {
    /// The version that it was worked out on.
    version: i64,
    summed_until: i64,
    totals: SummaryTotals,
    entries: i64,
    sold: BTreeMap<i64, i64>,
    tokens: BTreeMap<(i64, String), i64>,
    active: ActiveUsers,
}

/// What has to be read before some entries can be added.
#[derive(Debug, Default)]
pub(super) struct Missing {
    pub(super) quarters: Vec<i64>,
    pub(super) tokens: Vec<(i64, String)>,
}

impl SummaryWrite {
    /// On the state as it is.
    pub(super) fn on(state: &StateRow) -> Self {
        Self {
            version: state.version,
            summed_until: state.summed_until,
            totals: state.totals(),
            entries: 0,
            sold: BTreeMap::new(),
            tokens: BTreeMap::new(),
            active: ActiveUsers::default(),
        }
    }

    pub(super) const fn version(&self) -> i64 {
        self.version
    }

    pub(super) const fn summed_until(&self) -> i64 {
        self.summed_until
    }

    /// Whether there is nothing to write.
    pub(super) const fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Whether there is enough to write, and more may be left.
    pub(crate) fn is_full(&self) -> bool {
        self.entries >= ENTRIES_IN_A_WRITE || self.active.changed_days().len() >= ROWS_IN_A_WRITE
    }

    /// The days of users that have to be read first. They come before [`Self::missing`].
    pub(super) fn missing_days(&self, active: &[ActiveRow]) -> Vec<UserDay> {
        let about =
            active.iter().flat_map(|it| ActiveUsers::days_about(it.user_number, it.quarter));
        let days: BTreeSet<_> = about.filter(|day| !self.active.knows_day(*day)).collect();
        days.into_iter().collect()
    }

    /// Takes note of days that were looked for.
    pub(super) fn know_days(&mut self, looked_for: &[UserDay], found: Vec<DayRow>) {
        for day in looked_for {
            self.active.know_day(*day, 0);
        }
        for DayRow { day, user_number, morning, evening } in found {
            let bits = u128::from(morning.unsigned_abs())
                | (u128::from(evening.unsigned_abs()) << HALF_DAY);
            self.active.know_day((user_number, day), bits);
        }
    }

    /// What else has to be read first.
    pub(super) fn missing(&self, alike: &[AlikeEntries], active: &[ActiveRow]) -> Missing {
        let mut quarters = BTreeSet::new();
        for ActiveRow { user_number, quarter } in active {
            quarters.insert(*quarter);
            quarters.extend(self.active.next_after(*user_number, *quarter));
        }
        let mut tokens = BTreeSet::new();
        for entries in alike {
            match (entries.kind, &entries.model) {
                (EntryKind::Purchase, _) => drop(quarters.insert(entries.quarter)),
                (EntryKind::Consumption, Some(model)) => {
                    tokens.insert((entries.quarter, model.clone()));
                }
                _ => {}
            }
        }
        quarters.retain(|quarter| !self.sold.contains_key(quarter));
        tokens.retain(|key| !self.tokens.contains_key(key));
        Missing { quarters: quarters.into_iter().collect(), tokens: tokens.into_iter().collect() }
    }

    /// Takes note of what was looked for.
    pub(super) fn know(
        &mut self,
        looked_for: Missing,
        quarters: Vec<QuarterRow>,
        tokens: Vec<TokensRow>,
    ) -> Result<(), DatabaseError> {
        for quarter in looked_for.quarters {
            self.sold.insert(quarter, 0);
            self.active.know_arrivals(quarter, Arrivals::default());
        }
        for row in quarters {
            let WholeQuarter { quarter, credits_sold, arrivals } = row.into_sums()?;
            self.sold.insert(quarter, credits_sold);
            self.active.know_arrivals(quarter, arrivals);
        }
        self.tokens.extend(looked_for.tokens.into_iter().map(|key| (key, 0)));
        let tokens = tokens.into_iter();
        self.tokens.extend(tokens.map(|row| ((row.quarter, row.model_id), row.tokens)));
        Ok(())
    }

    /// Adds entries; all that is missing has been read.
    pub(super) fn add(
        &mut self,
        next: &NextRow,
        alike: &[AlikeEntries],
        active: &[ActiveRow],
    ) -> Result<(), DatabaseError> {
        self.summed_until = next.until;
        self.entries = self.entries.saturating_add(next.entries);
        self.change(alike, 1)?;
        for it in active {
            self.active.add(it.user_number, it.quarter);
        }
        Ok(())
    }

    /// Takes out again what entries have added that are to be forgotten.
    pub(super) fn remove(
        &mut self,
        alike: &[AlikeEntries],
        active: &[ActiveRow],
    ) -> Result<(), DatabaseError> {
        self.change(alike, -1)?;
        for it in active {
            self.active.remove(it.user_number, it.quarter);
        }
        Ok(())
    }

    fn change(&mut self, alike: &[AlikeEntries], by: i64) -> Result<(), DatabaseError> {
        let too_large =
            || DatabaseError::Corrupt("a sum of the whole is too large to be kept".to_owned());
        for entries in alike {
            self.totals = self.totals.changed_by(entries, by).ok_or_else(too_large)?;
            let sum = match (entries.kind, &entries.model) {
                (EntryKind::Purchase, _) => self.sold.get_mut(&entries.quarter),
                (EntryKind::Consumption, Some(model)) => {
                    self.tokens.get_mut(&(entries.quarter, model.clone()))
                }
                _ => continue,
            };
            let sum = sum.expect("what is missing has been read");
            let amount = entries.amount.checked_mul(by).ok_or_else(too_large)?;
            *sum = sum.checked_add(amount).ok_or_else(too_large)?;
        }
        Ok(())
    }

    /// The rows of `summary_quarters`, `summary_tokens` and `summary_active`, as JSON lists in the order of their
    /// columns.
    pub(super) fn rows(&self) -> [String; 3] {
        let none = Arrivals::default();
        let quarters = self.sold.iter().map(|(quarter, sold)| {
            let arrivals = self.active.arrivals(*quarter).unwrap_or(&none);
            json!([
                quarter,
                sold,
                serde_json::to_string(arrivals).expect("numbers have a JSON form")
            ])
        });
        let tokens = self.tokens.iter().map(|((quarter, model), sum)| json!([quarter, model, sum]));
        let active = self.active.changed_days().map(|((user, day), bits)| {
            let (morning, evening) = (bits & HALF_DAY_BITS, bits >> HALF_DAY);
            let half = |bits: u128| i64::try_from(bits).expect("a half has 48 bits");
            json!([day, user, half(morning), half(evening)])
        });
        let list = |rows: Vec<Value>| Value::from(rows).to_string();
        [list(quarters.collect()), list(tokens.collect()), list(active.collect())]
    }

    /// The columns of `summary_state`, in their order from `summed_until` on.
    pub(super) const fn state(&self) -> [i64; 7] {
        let totals = &self.totals;
        [
            self.summed_until,
            totals.credits_sold,
            totals.credits_given,
            totals.credits_allocated,
            totals.credits_refunded,
            totals.tokens_consumed,
            totals.tokens_shortfall,
        ]
    }
}

/// `$1` the version that it was worked out on, then [`SummaryWrite::state`]. It changes a row if that is still the one.
pub(super) const SAVE_STATE: &str = "
    UPDATE summary_state SET version = version + 1, summed_until = $2, credits_sold = $3,
        credits_given = $4, credits_allocated = $5, credits_refunded = $6, tokens_consumed = $7,
        tokens_shortfall = $8
    WHERE version = $1";

/// A list of [`SummaryWrite::rows`] each, in the brackets where the engines differ: the list of `value`s.
macro_rules! save_quarters {
    ($values:literal) => {
        concat!(
            "INSERT INTO summary_quarters (quarter, credits_sold, arrivals)
            SELECT CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint), value ->> 2 FROM ",
            $values,
            " WHERE true ON CONFLICT (quarter) DO UPDATE
            SET credits_sold = excluded.credits_sold, arrivals = excluded.arrivals"
        )
    };
}
pub(super) use save_quarters;

macro_rules! save_tokens {
    ($values:literal) => {
        concat!(
            "INSERT INTO summary_tokens (quarter, model_id, tokens)
            SELECT CAST(value ->> 0 AS bigint), value ->> 1, CAST(value ->> 2 AS bigint) FROM ",
            $values,
            " WHERE true ON CONFLICT (quarter, model_id) DO UPDATE SET tokens = excluded.tokens"
        )
    };
}
pub(super) use save_tokens;

macro_rules! save_active {
    ($values:literal) => {
        concat!(
            "INSERT INTO summary_active (day, user_number, morning, evening)
            SELECT CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint),
                CAST(value ->> 2 AS bigint), CAST(value ->> 3 AS bigint)
            FROM ",
            $values,
            " WHERE true ON CONFLICT (day, user_number) DO UPDATE
            SET morning = excluded.morning, evening = excluded.evening"
        )
    };
}
pub(super) use save_active;

/// Which entries are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    /// Those after an id, up to another.
    Range { after: i64, until: i64 },
    /// Those of users, up to an id.
    OfUsers { users: &'a [&'a str], until: i64 },
}

/// The tables, as an engine reads and writes them.
pub(super) trait SummaryTables {
    /// The one row, with the oldest entry that is in no sums.
    async fn state(&mut self) -> Result<StateRow, DatabaseError>;
    async fn next(&mut self, after: i64, until: i64) -> Result<NextRow, DatabaseError>;
    async fn alike(&mut self, which: Which<'_>) -> Result<Vec<AlikeRow>, DatabaseError>;
    async fn active(&mut self, which: Which<'_>) -> Result<Vec<ActiveRow>, DatabaseError>;
    async fn days(&mut self, days: &[UserDay]) -> Result<Vec<DayRow>, DatabaseError>;
    async fn quarters(&mut self, quarters: &[i64]) -> Result<Vec<QuarterRow>, DatabaseError>;
    async fn tokens(&mut self, keys: &[(i64, String)]) -> Result<Vec<TokensRow>, DatabaseError>;
    /// Writes it in the transaction that is open, if it is still of the version; tells whether it was.
    async fn save(&mut self, write: &SummaryWrite) -> Result<bool, DatabaseError>;
}

/// What entries that are in no sums yet, up to an id at most, change in the tables; the oldest, as many as one write
/// takes.
pub(super) async fn work_out(
    tables: &mut impl SummaryTables,
    until: i64,
) -> Result<SummaryWrite, DatabaseError> {
    let mut write = SummaryWrite::on(&tables.state().await?);
    while !write.is_full() {
        let next = tables.next(write.summed_until(), until).await?;
        if next.entries == 0 {
            break;
        }
        let which = Which::Range { after: write.summed_until(), until: next.until };
        let (alike, active) = read(tables, &mut write, which).await?;
        write.add(&next, &alike, &active)?;
    }
    Ok(write)
}

/// Takes what entries of users have added out of the tables, in the transaction that is open and before they are
/// forgotten.
pub(super) async fn take_out(
    tables: &mut impl SummaryTables,
    users: &[&str],
) -> Result<(), DatabaseError> {
    let mut write = SummaryWrite::on(&tables.state().await?);
    let which = Which::OfUsers { users, until: write.summed_until() };
    let (alike, active) = read(tables, &mut write, which).await?;
    write.remove(&alike, &active)?;
    // Also where nothing was in the sums yet: somebody may just be about to add it.
    let saved = tables.save(&write).await?;
    if saved {
        Ok(())
    } else {
        Err(DatabaseError::Retry("the sums of the whole changed".to_owned()))
    }
}

/// Entries, with all that has to be known before they can be added or taken out.
async fn read(
    tables: &mut impl SummaryTables,
    write: &mut SummaryWrite,
    which: Which<'_>,
) -> Result<(Vec<AlikeEntries>, Vec<ActiveRow>), DatabaseError> {
    let alike = tables.alike(which).await?;
    let alike = alike.into_iter().map(AlikeRow::into_entries).collect::<Result<Vec<_>, _>>()?;
    let active = tables.active(which).await?;
    let days = write.missing_days(&active);
    let found = tables.days(&days).await?;
    write.know_days(&days, found);
    let missing = write.missing(&alike, &active);
    let quarters = tables.quarters(&missing.quarters).await?;
    let tokens = tables.tokens(&missing.tokens).await?;
    write.know(missing, quarters, tokens)?;
    Ok((alike, active))
}
