//! What users used, in PostgreSQL's words: read, and added to the sums that are kept.

use sqlx::{FromRow, PgConnection};

use super::PostgresReader;
use crate::{
    database::{
        DatabaseError, Progress,
        usage::{
            FreshRow, PartRow, SUMMED_AT_ONCE, add_to_sums, fresh_usage, json_to_add, next_to_sum,
            note_summed, progress, usage,
        },
    },
    domain::{Quarters, UsagePart, UserId},
};

const USAGE: &str = usage!(
    "CAST(floor(extract(epoch FROM created_at) / 900) AS bigint)",
    "SELECT * FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS asked (period, first, past)"
);

/// What is lost with the server is summed again, so that it is not waited for.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = off";
/// Whoever writes entries of the user holds this lock.
const LOCK: &str = "SELECT user_id FROM credits WHERE user_id = $1 FOR UPDATE";
const NEXT_TO_SUM: &str =
    next_to_sum!("CAST(floor(extract(epoch FROM created_at) / 900) AS bigint)");
const ADD: &str = add_to_sums!("jsonb_array_elements(CAST($2 AS jsonb)) AS list (value)");
const NOTE_SUMMED: &str = note_summed!("$1", "$2");

/// Adds some of the user's entries to the sums. After an error the connection is in doubt.
pub(super) async fn sum(
    connection: &mut PgConnection,
    user: &UserId,
) -> Result<Progress, DatabaseError> {
    sqlx::raw_sql(BEGIN).execute(&mut *connection).await?;
    sqlx::query(LOCK).bind(user.as_str()).execute(&mut *connection).await?;
    let query = sqlx::query(NEXT_TO_SUM).bind(user.as_str()).bind(SUMMED_AT_ONCE);
    let rows = query.fetch_all(&mut *connection).await?;
    let rows: Vec<FreshRow> = rows.iter().map(FreshRow::from_row).collect::<Result<_, _>>()?;
    let progress = match fresh_usage(rows) {
        Some(fresh) => {
            let query = sqlx::query(ADD).bind(user.as_str()).bind(json_to_add(&fresh)?);
            query.execute(&mut *connection).await?;
            let query = sqlx::query(NOTE_SUMMED).bind(user.as_str()).bind(fresh.until);
            query.execute(&mut *connection).await?;
            progress(&fresh)
        }
        None => Progress::Done,
    };
    sqlx::raw_sql("COMMIT").execute(connection).await?;
    Ok(progress)
}

impl PostgresReader {
    /// What the user used in these stretches, part by part.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(crate) async fn usage(
        &self,
        user: &UserId,
        stretches: &[Quarters],
    ) -> Result<Vec<UsagePart>, DatabaseError> {
        let column = |of: fn(&Quarters) -> i64| stretches.iter().map(of).collect::<Vec<_>>();
        let query = sqlx::query(USAGE)
            .bind(user.as_str())
            .bind(column(|it| it.period))
            .bind(column(|it| it.first))
            .bind(column(|it| it.past));
        let rows = self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
        rows.iter().map(|row| Ok(PartRow::from_row(row)?.into_part())).collect()
    }
}
