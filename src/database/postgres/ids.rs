//! The ids that the server gives: after a restore that copied rows alone they would begin again, and collide with what
//! is there. They are moved forward, never back, so that instances which are at work are not minded.

use sqlx::{AssertSqlSafe, FromRow, PgConnection};
use tracing::warn;

use super::{
    patience::{LOCK_PATIENCE, patiently},
    session::Session,
};
use crate::database::{Audit, Difference, rows::row};

/// How many ids are passed over in one statement.
const PASSED_AT_ONCE: i64 = 1_000_000;

/// Tables whose ids are given by a sequence that we may look at, and that sequence.
const SEQUENCES: &str = "
    SELECT relname::text AS name, sequence FROM pg_class
    JOIN pg_attribute ON attrelid = pg_class.oid AND attname = 'id' AND attidentity <> '',
    pg_get_serial_sequence(quote_ident(relname), 'id') AS sequence
    WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
        AND has_sequence_privilege(sequence, 'SELECT')
    ORDER BY relname";

row! {
    struct Sequence {
        name: String,
        sequence: String,
    }
}

row! {
    /// What a sequence gives next, and the highest id there is.
    struct Place {
        next: i64,
        newest: i64,
    }
}

/// Moves sequences on that are behind their table, and says so.
///
/// # Errors
/// What the server says.
pub(super) async fn go_on(
    connection: &mut PgConnection,
    session: &Session,
) -> Result<(), sqlx::Error> {
    let begin = session.begin_work(LOCK_PATIENCE);
    while patiently(connection, &begin, async |on| go_on_some(on).await).await? {}
    Ok(())
}

/// Returns whether there is more to do.
async fn go_on_some(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let mut more = false;
    for sequence in sequences(connection).await? {
        let Place { next, newest } = place(connection, &sequence).await?;
        let behind = newest.saturating_sub(next).saturating_add(1);
        if behind <= 0 {
            continue;
        }
        warn!(
            table = sequence.name,
            next, newest, "ids begin again behind those there are: passed over"
        );
        let count = behind.min(PASSED_AT_ONCE);
        let pass = "SELECT count(nextval($1::regclass)) FROM generate_series(1, $2)";
        sqlx::query(pass).bind(&sequence.sequence).bind(count).execute(&mut *connection).await?;
        more = more || behind > count;
    }
    Ok(more)
}

/// Looks in the open transaction whether a sequence is behind its table.
///
/// # Errors
/// What the server says.
pub(super) async fn check(
    connection: &mut PgConnection,
    audit: &mut Audit,
) -> Result<(), sqlx::Error> {
    for sequence in sequences(connection).await? {
        let Place { next, newest } = place(connection, &sequence).await?;
        if next <= newest {
            audit.add(Difference::used_id(&sequence.name, next, newest));
        }
    }
    Ok(())
}

async fn sequences(connection: &mut PgConnection) -> Result<Vec<Sequence>, sqlx::Error> {
    sqlx::query_as(SEQUENCES).fetch_all(connection).await
}

async fn place(
    connection: &mut PgConnection,
    Sequence { name, sequence }: &Sequence,
) -> Result<Place, sqlx::Error> {
    // Read first, for whoever takes an id writes its row afterwards.
    let sql = format!(
        "SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END AS next,
             coalesce((SELECT max(id) FROM {name}), 0) AS newest
         FROM {sequence}"
    );
    Place::from_row(&sqlx::query(AssertSqlSafe(sql)).fetch_one(connection).await?)
}
