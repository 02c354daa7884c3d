//! The sums of the whole, in SQLite's words.

use sqlx::{FromRow, SqliteConnection, query::Query, sqlite::SqliteRow};

use super::{DatabaseError, SqliteReader, save::SqliteQuery};
use crate::{
    database::{
        Progress,
        summary::{
            ActiveRow, AlikeRow, DayRow, NEXT_ENTRIES, NextRow, PeriodTokensRow, QuarterRow,
            READ_AT_ONCE, SAVE_STATE, StateRow, SummaryTables, SummaryWrite, TokensRow, Which,
            active_users, alike_entries, save_active, save_quarters, save_tokens, summary_state,
            take_out, work_out,
        },
        tracked,
    },
    domain::{KeptSums, PeriodTokens, Quarters, UserDay},
};

const STATE: &str = summary_state!("created_at");

/// By their ids; an index of their users would be read as a whole.
const ALIKE_IN_RANGE: &str = alike_entries!(
    "unixepoch(substr(created_at, 1, 19)) / 900",
    "transactions AS entry NOT INDEXED WHERE id > $1 AND id <= $2"
);
const ALIKE_OF_USERS: &str = alike_entries!(
    "unixepoch(substr(created_at, 1, 19)) / 900",
    "transactions AS entry WHERE user_id IN (SELECT value FROM json_each($1)) AND id <= $2"
);
const ACTIVE_IN_RANGE: &str = active_users!(
    "unixepoch(substr(created_at, 1, 19)) / 900",
    "transactions AS entry NOT INDEXED WHERE id > $1 AND id <= $2"
);
const ACTIVE_OF_USERS: &str = active_users!(
    "unixepoch(substr(created_at, 1, 19)) / 900",
    "transactions AS entry WHERE user_id IN (SELECT value FROM json_each($1)) AND id <= $2"
);

/// `$1` a list of users and days each.
const DAYS: &str = "
    SELECT kept.day, kept.user_number, kept.morning, kept.evening
    FROM json_each($1) AS wanted CROSS JOIN summary_active AS kept
        ON kept.day = wanted.value ->> 1 AND kept.user_number = wanted.value ->> 0";
const QUARTERS: &str = "
    SELECT quarter, credits_sold, arrivals FROM summary_quarters
    WHERE quarter IN (SELECT value FROM json_each($1))";
/// `$1` a list of quarters and models each.
const TOKENS: &str = "
    SELECT kept.quarter, kept.model_id, kept.tokens
    FROM json_each($1) AS wanted CROSS JOIN summary_tokens AS kept
        ON kept.quarter = wanted.value ->> 0 AND kept.model_id = wanted.value ->> 1";

const SAVE_ROWS: [&str; 3] =
    [save_quarters!("json_each($1)"), save_tokens!("json_each($1)"), save_active!("json_each($1)")];

/// What is lost with the machine's power is summed again, so that it is not waited for.
const BEGIN: &str = "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE";
const COMMIT: &str = "COMMIT; PRAGMA synchronous = FULL";
const ROLLBACK: &str = "ROLLBACK; PRAGMA synchronous = FULL";

/// `$1` the first quarter, `$2` the one after the last.
const QUARTERS_BETWEEN: &str = "
    SELECT quarter, credits_sold, arrivals FROM summary_quarters
    WHERE quarter >= $1 AND quarter < $2 ORDER BY quarter";
/// `$1` stretches as JSON.
const TOKENS_OF_PERIODS: &str = "
    SELECT stretch.value ->> 0 AS period, kept.model_id,
        CAST(sum(kept.tokens) AS bigint) AS tokens
    FROM json_each($1) AS stretch CROSS JOIN summary_tokens AS kept
    WHERE kept.quarter >= stretch.value ->> 1 AND kept.quarter < stretch.value ->> 2
    GROUP BY 1, 2";

impl SummaryTables for &mut SqliteConnection {
    async fn state(&mut self) -> Result<StateRow, DatabaseError> {
        one(sqlx::query(STATE), self).await
    }

    async fn next(&mut self, after: i64, until: i64) -> Result<NextRow, DatabaseError> {
        one(sqlx::query(NEXT_ENTRIES).bind(after).bind(until).bind(READ_AT_ONCE), self).await
    }

    async fn alike(&mut self, which: Which<'_>) -> Result<Vec<AlikeRow>, DatabaseError> {
        all(of(which, ALIKE_IN_RANGE, ALIKE_OF_USERS), self).await
    }

    async fn active(&mut self, which: Which<'_>) -> Result<Vec<ActiveRow>, DatabaseError> {
        all(of(which, ACTIVE_IN_RANGE, ACTIVE_OF_USERS), self).await
    }

    async fn days(&mut self, days: &[UserDay]) -> Result<Vec<DayRow>, DatabaseError> {
        all(sqlx::query(DAYS).bind(list(days)?), self).await
    }

    async fn quarters(&mut self, quarters: &[i64]) -> Result<Vec<QuarterRow>, DatabaseError> {
        all(sqlx::query(QUARTERS).bind(list(quarters)?), self).await
    }

    async fn tokens(&mut self, keys: &[(i64, String)]) -> Result<Vec<TokensRow>, DatabaseError> {
        all(sqlx::query(TOKENS).bind(list(keys)?), self).await
    }

    async fn save(&mut self, write: &SummaryWrite) -> Result<bool, DatabaseError> {
        let query = sqlx::query(SAVE_STATE).bind(write.version());
        let query = write.state().into_iter().fold(query, Query::bind);
        if query.execute(&mut **self).await?.rows_affected() == 0 {
            return Ok(false);
        }
        for (sql, rows) in SAVE_ROWS.into_iter().zip(write.rows()) {
            sqlx::query(sql).bind(rows).execute(&mut **self).await?;
        }
        Ok(true)
    }
}

fn of(which: Which<'_>, in_range: &'static str, of_users: &'static str) -> SqliteQuery {
    match which {
        Which::Range { after, until } => sqlx::query(in_range).bind(after).bind(until),
        Which::OfUsers { users, until } => {
            sqlx::query(of_users).bind(serde_json::json!(users).to_string()).bind(until)
        }
    }
}

fn list(values: &(impl serde::Serialize + ?Sized)) -> Result<String, DatabaseError> {
    serde_json::to_string(values).map_err(|error| DatabaseError::Corrupt(error.to_string()))
}

async fn all<T>(
    query: SqliteQuery,
    connection: &mut SqliteConnection,
) -> Result<Vec<T>, DatabaseError>
where
    T: for<'r> FromRow<'r, SqliteRow>,
{
    let rows = query.fetch_all(connection).await?;
    Ok(rows.iter().map(T::from_row).collect::<Result<_, _>>()?)
}

async fn one<T>(query: SqliteQuery, connection: &mut SqliteConnection) -> Result<T, DatabaseError>
where
    T: for<'r> FromRow<'r, SqliteRow>,
{
    Ok(T::from_row(&query.fetch_one(connection).await?)?)
}

/// Writes what entries change, if nobody else has changed the tables meanwhile. After an error the connection is in
/// doubt.
pub(super) async fn save(
    mut connection: &mut SqliteConnection,
    write: &SummaryWrite,
) -> Result<Progress, DatabaseError> {
    sqlx::query(BEGIN).execute(&mut *connection).await?;
    let saved = connection.save(write).await?;
    sqlx::query(if saved { COMMIT } else { ROLLBACK }).execute(connection).await?;
    Ok(Progress::Done)
}

/// Takes out what the entries of users have added, before they are forgotten in the transaction that is open.
pub(super) async fn forget(
    mut connection: &mut SqliteConnection,
    users: &[&str],
) -> Result<(), DatabaseError> {
    take_out(&mut connection, users).await
}

impl SqliteReader {
    /// What entries that are in no sums yet change in the sums of the whole.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(crate) async fn summary_write(&self) -> Result<SummaryWrite, DatabaseError> {
        let mut connection = self.connection().await?;
        work_out(&mut &mut *connection, i64::MAX).await
    }

    /// What is kept about the whole, and about these stretches of time.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(crate) async fn summary(&self, stretches: &[Quarters]) -> Result<KeptSums, DatabaseError> {
        let mut connection = self.connection().await?;
        let lists: Vec<_> = stretches.iter().map(|it| vec![it.period, it.first, it.past]).collect();
        // The state first: what is added meanwhile may be told, and what is told is in it.
        let state: StateRow = one(sqlx::query(STATE), &mut connection).await?;
        let first = stretches.iter().map(|it| it.first).min().unwrap_or(0);
        let past = stretches.iter().map(|it| it.past).max().unwrap_or(0);
        let query = sqlx::query(QUARTERS_BETWEEN).bind(first).bind(past);
        let quarters: Vec<QuarterRow> = all(query, &mut connection).await?;
        let query = sqlx::query(TOKENS_OF_PERIODS).bind(list(&lists)?);
        let tokens: Vec<PeriodTokensRow> = all(query, &mut connection).await?;
        Ok(KeptSums {
            totals: state.totals(),
            summed_before: state.oldest_left.as_deref().and_then(tracked::time),
            quarters: quarters.into_iter().map(QuarterRow::into_sums).collect::<Result<_, _>>()?,
            tokens: tokens.into_iter().map(PeriodTokens::from).collect(),
        })
    }
}
