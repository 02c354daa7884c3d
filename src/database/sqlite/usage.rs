//! What users used, in SQLite's words: read, and added to the sums that are kept.

use sqlx::{FromRow, SqliteConnection};

use super::{DatabaseError, SqliteReader};
use crate::{
    database::{
        Progress,
        usage::{
            Added, FreshRow, PartRow, SUMMED_AT_ONCE, add_to_sums, next_to_sum, note_summed, usage,
        },
    },
    domain::{Quarters, UsagePart, UserId},
};

/// `$2` stretches as JSON. Of the time without its fraction: SQLite would round that up.
const USAGE: &str = usage!(
    "unixepoch(substr(created_at, 1, 19)) / 900",
    "SELECT value ->> 0 AS period, value ->> 1 AS first, value ->> 2 AS past FROM json_each($2)"
);

/// What is lost with the machine's power is summed again, so that none of it is waited for: neither the sums
/// nor up to where they reach are there then.
const BEGIN_AND_READ: &str = concat!(
    "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE; ",
    next_to_sum!("unixepoch(substr(created_at, 1, 19)) / 900")
);
const ADD: &str = concat!(
    add_to_sums!("json_each($2)"),
    "; ",
    note_summed!("$1", "$3"),
    "; COMMIT; PRAGMA synchronous = FULL"
);
const NOTHING_TO_ADD: &str = "COMMIT; PRAGMA synchronous = FULL";

/// Adds some of the user's entries to the sums. After an error the connection is in doubt.
pub(super) async fn sum(
    connection: &mut SqliteConnection,
    user: &UserId,
) -> Result<Progress, DatabaseError> {
    let query = sqlx::query(BEGIN_AND_READ).bind(user.as_str().to_owned()).bind(SUMMED_AT_ONCE);
    let rows = query.fetch_all(&mut *connection).await?;
    let rows: Vec<FreshRow> = rows.iter().map(FreshRow::from_row).collect::<Result<_, _>>()?;
    let Some(added) = Added::of(rows) else {
        sqlx::query(NOTHING_TO_ADD).execute(connection).await?;
        return Ok(Progress::Done);
    };
    let query = sqlx::query(ADD).bind(user.as_str().to_owned()).bind(added.json()?);
    query.bind(added.until).execute(connection).await?;
    Ok(added.progress())
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
