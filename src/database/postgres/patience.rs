//! Work at the start that waits for others' locks. It never queues for long, for everybody else queues behind it: it
//! gives up, says who holds what, and tries again.

use std::time::Duration;

use sqlx::{PgConnection, Row, SqlStr, postgres::PgDatabaseError};
use tracing::warn;

use super::migrating::LOCK_KEY;

/// How long a lock is waited for at a time.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// After how many times it is said again.
const SAID_AGAIN: u32 = 15;
/// `lock_not_available`.
const LOCKED: &str = "55P03";

/// Sessions that have locked something of ours, as far as we may see.
const HOLDERS: &str = "SELECT coalesce(string_agg(holder, '; '), 'a session that is not seen') FROM (
    SELECT format('process %s (%s) has locked %s', pid, coalesce(nullif(application_name, ''), 'unnamed'),
        string_agg(DISTINCT coalesce(relname::text, 'the right to migrate'), ', ')) AS holder
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    LEFT JOIN pg_class ON pg_class.oid = pg_locks.relation
    WHERE granted AND pid <> pg_backend_pid() AND datname = current_database()
        AND (relnamespace = ANY(SELECT to_regnamespace(quote_ident(name))::oid
                FROM unnest(current_schemas(false)) AS path (name)) AND relkind IN ('r', 'p')
            OR locktype = 'advisory' AND classid = 0 AND objid = ###)
    GROUP BY pid, application_name ORDER BY pid LIMIT 5
) AS holders";

/// Does `work` in a transaction, again and again while it finds something locked.
///
/// # Errors
/// What `work` ends with otherwise; nothing of it is kept then.
pub(super) async fn patiently<T>(
    connection: &mut PgConnection,
    begin: &SqlStr,
    mut work: impl AsyncFnMut(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    let mut times = 0_u32;
    loop {
        sqlx::raw_sql(begin.clone()).execute(&mut *connection).await?;
        match work(connection).await {
            Ok(done) => {
                sqlx::raw_sql("COMMIT").execute(connection).await?;
                return Ok(done);
            }
            Err(error) if is_locked(&error) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await?;
                if times.checked_rem(SAID_AGAIN) == Some(0) {
                    let holders = holders(connection).await?;
                    warn!(%holders, "the start waits for locks at the database");
                }
                times = times.saturating_add(1);
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_locked(error: &sqlx::Error) -> bool {
    let Some(error) = error.as_database_error() else { return false };
    error.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| error.code() == LOCKED)
}

async fn holders(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let sql = HOLDERS.replace("###", &LOCK_KEY.to_string());
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).fetch_one(connection).await?;
    row.try_get(0)
}
