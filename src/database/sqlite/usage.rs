//! What users used, in SQLite's words: read, and added to the sums that are kept.

use sqlx::{FromRow, SqliteConnection};

use super::{DatabaseError, SqliteReader};
use crate::{
    database::{
        Progress,
        usage::{
            FreshRow, PartRow, SUMMED_AT_ONCE, add_to_sums, fresh_usage, json_to_add, next_to_sum,
            note_summed, progress, usage,
        },
    },
    domain::{FreshUsage, Quarters, UsagePart, UserId},
};

/// `$2` stretches as JSON. Of the time without its fraction: SQLite would round that up.
const USAGE: &str = usage!(
    "unixepoch(substr(created_at, 1, 19)) / 900",
    "SELECT value ->> 0 AS period, value ->> 1 AS first, value ->> 2 AS past FROM json_each($2)"
);

/// What is lost with the machine's power is summed again, so that none of it is waited for: neither the sums
/// nor up to where they reach are there then.
///
/// Counts the entries of user `$1` that are in no sums up to the one with the id `$3`, if the one with the id `$2` is in
/// none. There is nothing to sum of whoever is being erased.
const BEGIN_AND_COUNT: &str = "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE;
    WITH state AS MATERIALIZED (
        SELECT coalesce((SELECT summed_until FROM usage_state WHERE user_id = $1), 0) AS until
    )
    SELECT CASE WHEN (SELECT until FROM state) >= $2
        OR EXISTS (SELECT * FROM erasures WHERE user_id = $1) THEN 0 ELSE
        (SELECT count(*) FROM transactions
            WHERE user_id = $1 AND type = 'consumption'
                AND id > (SELECT until FROM state) AND id <= $3)
        + (SELECT count(*) FROM transactions
            WHERE user_id = $1 AND type <> 'consumption' AND type <> 'allocation'
                AND model_id IS NOT NULL AND type = 'reversal'
                AND id > (SELECT until FROM state) AND id <= $3)
    END";
const NEXT_TO_SUM: &str = next_to_sum!("unixepoch(substr(created_at, 1, 19)) / 900");
const ADD: &str = concat!(
    add_to_sums!("json_each($2)"),
    "; ",
    note_summed!("$1", "$3"),
    "; COMMIT; PRAGMA synchronous = FULL"
);
const NOTHING_TO_ADD: &str = "COMMIT; PRAGMA synchronous = FULL";

/// Adds some of the user's entries to the sums: those that are known, if they are all there are. After an error the
/// connection is in doubt.
pub(super) async fn sum(
    connection: &mut SqliteConnection,
    user: &UserId,
    known: &FreshUsage,
) -> Result<Progress, DatabaseError> {
    let query = sqlx::query_scalar(BEGIN_AND_COUNT).bind(user.as_str().to_owned());
    let count: i64 = query.bind(known.first).bind(known.until).fetch_one(&mut *connection).await?;
    if count > 0 && count == known.entries {
        return add(connection, user, known).await.map(|()| Progress::Done);
    }
    let query = sqlx::query(NEXT_TO_SUM).bind(user.as_str().to_owned()).bind(SUMMED_AT_ONCE);
    let rows = query.fetch_all(&mut *connection).await?;
    let rows: Vec<FreshRow> = rows.iter().map(FreshRow::from_row).collect::<Result<_, _>>()?;
    let Some(fresh) = fresh_usage(rows) else {
        sqlx::query(NOTHING_TO_ADD).execute(connection).await?;
        return Ok(Progress::Done);
    };
    add(connection, user, &fresh).await.map(|()| progress(&fresh))
}

async fn add(
    connection: &mut SqliteConnection,
    user: &UserId,
    fresh: &FreshUsage,
) -> Result<(), DatabaseError> {
    let query = sqlx::query(ADD).bind(user.as_str().to_owned()).bind(json_to_add(fresh)?);
    query.bind(fresh.until).execute(connection).await?;
    Ok(())
}

impl SqliteReader {
    /// What the user used in these stretches, part by part.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(crate) async fn usage(
        &self,
        user: &UserId,
        stretches: &[Quarters],
    ) -> Result<Vec<UsagePart>, DatabaseError> {
        let lists = stretches.iter().map(|it| vec![it.period, it.first, it.past]);
        let lists = serde_json::Value::from(lists.collect::<Vec<_>>()).to_string();
        let mut connection = self.connection().await?;
        let query = sqlx::query(USAGE).bind(user.as_str().to_owned()).bind(lists);
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| Ok(PartRow::from_row(row)?.into_part())).collect()
    }
}
