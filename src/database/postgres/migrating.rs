//! Brings the tables up to date, each migration in a transaction of its own. Of several instances that start, one does
//! it; nothing of it lasts beyond the transaction, so that it works behind a pooler too. The list of what was done is
//! the one that our library keeps.

use sqlx::{AssertSqlSafe, PgConnection, migrate::Migration};

use super::{
    MIGRATIONS,
    patience::{LOCK_PATIENCE, patiently},
    session::Session,
};

/// Whoever migrates has this lock: "bill" as a number.
pub(super) const LOCK_KEY: u32 = 0x6269_6c6c;

const LIST: &str = "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMPTZ NOT NULL DEFAULT now(),
    success BOOLEAN NOT NULL,
    checksum BYTEA NOT NULL,
    execution_time BIGINT NOT NULL
)";
const IS_DONE: &str = "SELECT EXISTS (SELECT FROM _sqlx_migrations WHERE version = $1)";
const DONE: &str = "
    INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES ($1, $2, true, $3,
        CAST(extract(epoch FROM clock_timestamp() - now()) * 1000000000 AS bigint))";

/// Carries out the migrations that were not carried out yet.
///
/// # Errors
/// What the server says; migrations before that one stay.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    session: &Session,
) -> Result<(), sqlx::Error> {
    let begin = session.begin_work(LOCK_PATIENCE);
    for migration in MIGRATIONS.iter() {
        patiently(connection, &begin, async |on| carry_out(on, migration).await).await?;
    }
    Ok(())
}

/// Whether two connections lead to the same database: a lock that one of them takes, of its
/// session's own number, is seen by the other.
///
/// # Errors
/// What the server says.
pub(super) async fn is_same_database(
    one: &mut PgConnection,
    other: &mut PgConnection,
    session: &Session,
) -> Result<bool, sqlx::Error> {
    let begin = session.begin_work(LOCK_PATIENCE);
    sqlx::raw_sql(begin.clone()).execute(&mut *one).await?;
    let mark =
        format!("SELECT pid FROM pg_backend_pid() AS pid, pg_advisory_xact_lock({LOCK_KEY}, pid)");
    let marked: i32 = sqlx::query_scalar(AssertSqlSafe(mark)).fetch_one(&mut *one).await?;
    sqlx::raw_sql(begin).execute(&mut *other).await?;
    let sees_mark = format!(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
             AND classid = {LOCK_KEY} AND CAST(objid AS bigint) = $1
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    );
    let sees_mark = sqlx::query_scalar(AssertSqlSafe(sees_mark)).bind(i64::from(marked));
    let seen = sees_mark.fetch_one(&mut *other).await?;
    for connection in [one, other] {
        sqlx::raw_sql("ROLLBACK").execute(connection).await?;
    }
    Ok(seen)
}

async fn carry_out(
    connection: &mut PgConnection,
    migration: &Migration,
) -> Result<(), sqlx::Error> {
    let lock = format!("SELECT pg_advisory_xact_lock({LOCK_KEY})");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *connection).await?;
    sqlx::raw_sql(LIST).execute(&mut *connection).await?;
    let is_done = sqlx::query_scalar(IS_DONE).bind(migration.version);
    if is_done.fetch_one(&mut *connection).await? {
        return Ok(());
    }
    sqlx::raw_sql(migration.sql.clone()).execute(&mut *connection).await?;
    let done = sqlx::query(DONE)
        .bind(migration.version)
        .bind(&*migration.description)
        .bind(&*migration.checksum);
    done.execute(connection).await?;
    Ok(())
}
