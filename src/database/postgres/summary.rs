//! The sums of the whole, in PostgreSQL's words.

use std::time::Duration;

use sqlx::{
    FromRow, PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use tokio::time::sleep;

use super::PostgresReader;
use crate::{
    database::{
        DatabaseError, Progress,
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

/// How often it is looked whether entries whose ids were given are written.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often at most: a batch takes a few milliseconds, and none more than two seconds.
const LOOKS_MAX: u32 = 100;

const STATE: &str = summary_state!("CAST(created_at AS text)");
/// Whoever changes the tables holds this lock.
const LOCK: &str = "SELECT version FROM summary_state FOR UPDATE";

const ALIKE_IN_RANGE: &str = alike_entries!(
    "CAST(floor(extract(epoch FROM created_at) / 900) AS bigint)",
    "transactions AS entry WHERE id > $1 AND id <= $2"
);
const ALIKE_OF_USERS: &str = alike_entries!(
    "CAST(floor(extract(epoch FROM created_at) / 900) AS bigint)",
    "transactions AS entry WHERE user_id = ANY($1) AND id <= $2"
);
const ACTIVE_IN_RANGE: &str = active_users!(
    "CAST(floor(extract(epoch FROM created_at) / 900) AS bigint)",
    "transactions AS entry WHERE id > $1 AND id <= $2"
);
const ACTIVE_OF_USERS: &str = active_users!(
    "CAST(floor(extract(epoch FROM created_at) / 900) AS bigint)",
    "transactions AS entry WHERE user_id = ANY($1) AND id <= $2"
);

/// `$1` users and `$2` days, in pairs.
const DAYS: &str = "
    SELECT day, user_number, morning, evening
    FROM unnest($1::bigint[], $2::bigint[]) AS wanted (its_user, its_day)
    JOIN summary_active ON day = ANY(ARRAY[its_day]) AND user_number = ANY(ARRAY[its_user])";
const QUARTERS: &str =
    "SELECT quarter, credits_sold, arrivals FROM summary_quarters WHERE quarter = ANY($1)";
/// `$1` quarters and `$2` models, in pairs.
const TOKENS: &str = "
    SELECT quarter, model_id, tokens
    FROM unnest($1::bigint[], $2::text[]) AS wanted (its_quarter, its_model)
    JOIN summary_tokens ON quarter = ANY(ARRAY[its_quarter]) AND model_id = ANY(ARRAY[its_model])";

const SAVE_ROWS: [&str; 3] = [
    save_quarters!("jsonb_array_elements(CAST($1 AS jsonb)) AS list (value)"),
    save_tokens!("jsonb_array_elements(CAST($1 AS jsonb)) AS list (value)"),
    save_active!("jsonb_array_elements(CAST($1 AS jsonb)) AS list (value)"),
];

/// What is lost with the server is summed again, so that it is not waited for.
const NEED_NOT_LAST: &str = "SET LOCAL synchronous_commit = off";

/// The last id that was given to an entry.
const LAST_GIVEN: &str = "
    SELECT coalesce(pg_sequence_last_value(
        CAST(pg_get_serial_sequence('transactions', 'id') AS regclass)), 0)";
/// Transactions that have taken ids and may not have written their entries: they hold this lock until they end. So does
/// whoever has just read the last id, where a read is a transaction.
const WHO_TOOK_IDS: &str = "
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
        AND pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND relation = CAST(CAST(
            pg_get_serial_sequence('transactions', 'id') AS regclass) AS oid)";

/// `$1` the first quarter, `$2` the one after the last.
const QUARTERS_BETWEEN: &str = "
    SELECT quarter, credits_sold, arrivals FROM summary_quarters
    WHERE quarter >= $1 AND quarter < $2 ORDER BY quarter";
/// `$1`, `$2`, `$3` of the stretches.
const TOKENS_OF_PERIODS: &str = "
    SELECT period, model_id, CAST(sum(tokens) AS bigint) AS tokens
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS stretch (period, first, past)
    JOIN summary_tokens ON quarter >= first AND quarter < past
    GROUP BY period, model_id ORDER BY period, model_id";

type PgQuery<'q> = Query<'q, Postgres, PgArguments>;

impl SummaryTables for &mut PgConnection {
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
        let (users, days): (Vec<i64>, Vec<i64>) = days.iter().copied().unzip();
        all(sqlx::query(DAYS).bind(users).bind(days), self).await
    }

    async fn quarters(&mut self, quarters: &[i64]) -> Result<Vec<QuarterRow>, DatabaseError> {
        all(sqlx::query(QUARTERS).bind(quarters), self).await
    }

    async fn tokens(&mut self, keys: &[(i64, String)]) -> Result<Vec<TokensRow>, DatabaseError> {
        let (quarters, models): (Vec<i64>, Vec<&str>) =
            keys.iter().map(|(quarter, model)| (*quarter, model.as_str())).unzip();
        all(sqlx::query(TOKENS).bind(quarters).bind(models), self).await
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

fn of<'q>(which: Which<'q>, in_range: &'static str, of_users: &'static str) -> PgQuery<'q> {
    match which {
        Which::Range { after, until } => sqlx::query(in_range).bind(after).bind(until),
        Which::OfUsers { users, until } => sqlx::query(of_users).bind(users).bind(until),
    }
}

async fn all<T>(query: PgQuery<'_>, connection: &mut PgConnection) -> Result<Vec<T>, DatabaseError>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    let rows = query.fetch_all(connection).await?;
    Ok(rows.iter().map(T::from_row).collect::<Result<_, _>>()?)
}

async fn one<T>(query: PgQuery<'_>, connection: &mut PgConnection) -> Result<T, DatabaseError>
where
    T: for<'r> FromRow<'r, PgRow>,
{
    Ok(T::from_row(&query.fetch_one(connection).await?)?)
}

/// Writes what entries change, if nobody else has changed the tables meanwhile, in the open transaction.
pub(super) async fn save(
    mut connection: &mut PgConnection,
    write: &SummaryWrite,
) -> Result<Progress, DatabaseError> {
    sqlx::raw_sql(NEED_NOT_LAST).execute(&mut *connection).await?;
    // Nothing is written where it is not saved.
    let _saved = connection.save(write).await?;
    Ok(Progress::Done)
}

/// Takes out what the entries of users have added, before they are forgotten in the transaction that is open.
pub(super) async fn forget(
    mut connection: &mut PgConnection,
    users: &[&str],
) -> Result<(), DatabaseError> {
    sqlx::query(LOCK).execute(&mut *connection).await?;
    take_out(&mut connection, users).await
}

/// The id up to which all entries are written that ever will be. Ids are given before they are: others may have
/// lower ones, and commit later.
async fn all_written_until(connection: &mut PgConnection) -> Result<i64, DatabaseError> {
    let last: i64 = sqlx::query_scalar(LAST_GIVEN).fetch_one(&mut *connection).await?;
    let mut open: Vec<String> = who_took_ids(connection).await?;
    for _ in 0..LOOKS_MAX {
        if open.is_empty() {
            return Ok(last);
        }
        sleep(LOOK_AGAIN).await;
        let still = who_took_ids(connection).await?;
        open.retain(|transaction| still.contains(transaction));
    }
    // Somebody has a transaction open, and may do so for long.
    Ok(0)
}

async fn who_took_ids(connection: &mut PgConnection) -> Result<Vec<String>, DatabaseError> {
    Ok(sqlx::query_scalar(WHO_TOOK_IDS).fetch_all(connection).await?)
}

impl PostgresReader {
    /// What entries that are in no sums yet change in the sums of the whole.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(crate) async fn summary_write(&self) -> Result<SummaryWrite, DatabaseError> {
        let until = self.read_on(async |connection| all_written_until(connection).await).await?;
        self.read_on(async |mut connection| work_out(&mut connection, until).await).await
    }

    /// What is kept about the whole, and about these stretches of time.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(crate) async fn summary(&self, stretches: &[Quarters]) -> Result<KeptSums, DatabaseError> {
        let column = |of: fn(&Quarters) -> i64| stretches.iter().map(of).collect::<Vec<_>>();
        let first = stretches.iter().map(|it| it.first).min().unwrap_or(0);
        let past = stretches.iter().map(|it| it.past).max().unwrap_or(0);
        let found = self.read_on(async |connection| {
            // The state first: what is added meanwhile may be told, and what is told is in it.
            let state: StateRow = one(sqlx::query(STATE), connection).await?;
            let query = sqlx::query(QUARTERS_BETWEEN).bind(first).bind(past);
            let quarters: Vec<QuarterRow> = all(query, connection).await?;
            let query = sqlx::query(TOKENS_OF_PERIODS)
                .bind(column(|it| it.period))
                .bind(column(|it| it.first))
                .bind(column(|it| it.past));
            let tokens: Vec<PeriodTokensRow> = all(query, connection).await?;
            Ok((state, quarters, tokens))
        });
        let (state, quarters, tokens) = found.await?;
        Ok(KeptSums {
            totals: state.totals(),
            summed_before: state.oldest_left.as_deref().and_then(tracked::time),
            quarters: quarters.into_iter().map(QuarterRow::into_sums).collect::<Result<_, _>>()?,
            tokens: tokens.into_iter().map(PeriodTokens::from).collect(),
        })
    }
}
