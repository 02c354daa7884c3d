//! A move to another engine: everything an SQLite database holds, copied into an empty PostgreSQL one.

use super::rows::row;
use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection, postgres::PgDatabaseError,
    sqlite::SqliteRow,
};
use thiserror::Error;

use super::{
    Audit, OpenError, describe, postgres, postgres::PostgresDatabase, sqlite::SqliteDatabase,
};

/// How much is sent at once.
const CHUNK_BYTES: usize = 65_536;

/// Every table of the new database with its columns, in an order in which each row finds those it refers to:
/// all refer to users, and keys to purchases. SQLite has the same tables and columns, and more.
const TABLES: &str = "
    SELECT table_name::text AS name,
        string_agg(column_name::text, ', ' ORDER BY ordinal_position) AS columns,
        bool_or(column_name = 'id') AS has_id
    FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations'
    GROUP BY table_name
    ORDER BY table_name <> 'users', table_name = 'purchase_keys', table_name";

row! {
    /// A table of [`TABLES`].
    #[derive(Debug)]
    struct Table {
        name: String,
        columns: String,
        /// Whether its ids may be given by the database.
        has_id: bool,
    }
}

/// Whether there is nothing but what a new database starts with.
const IS_EMPTY: &str = "SELECT NOT EXISTS (SELECT FROM transactions)
    AND NOT EXISTS (SELECT FROM token_balances) AND NOT EXISTS (SELECT FROM idempotency_keys)
    AND NOT EXISTS (SELECT FROM operator_log)
    AND NOT EXISTS (SELECT FROM purchase_names) AND NOT EXISTS (SELECT FROM purchases)
    AND NOT EXISTS (SELECT FROM credits WHERE credits <> 0)
    AND NOT EXISTS (SELECT FROM users WHERE user_id <> 'default_user')";

/// Why nothing was copied.
#[derive(Debug, Error)]
pub(crate) enum MigrateError {
    /// One of the databases can't be opened or read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Somebody's data is there already.
    #[error("the database '{0}' is not empty; nothing was copied")]
    NotEmpty(String),
    /// The server did not take it.
    #[error("the database '{database}' does not take the copy: {reason}; nothing was copied")]
    Refused {
        /// The new database.
        database: String,
        /// What the server says.
        reason: String,
    },
    /// What arrived is not as it must be.
    #[error("the copy is not as it must be; nothing of it was kept")]
    Unsound(Audit),
}

/// How far a copy has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copied<'a> {
    /// The table at hand.
    pub table: &'a str,
    /// Rows copied so far, of all tables.
    pub rows: u64,
    /// Rows there are, in all tables.
    pub of_rows: u64,
}

/// Copies all of `source` to `target`, in one transaction, and looks through it before it is committed.
///
/// # Errors
/// [`MigrateError`]; `target` is as it was then, but for its tables.
pub(crate) async fn migrate_to(
    source: &SqliteDatabase,
    target: &PostgresDatabase,
    mut progress: impl FnMut(Copied<'_>),
) -> Result<Audit, MigrateError> {
    let refused = |error: sqlx::Error| MigrateError::Refused {
        database: target.name().to_owned(),
        reason: describe(&error),
    };
    let mut connection = target.begin_to_fill().await?;
    let tables: Vec<Table> =
        sqlx::query_as(TABLES).fetch_all(&mut connection).await.map_err(refused)?;
    // Nobody reads or writes the new database meanwhile.
    let names = tables.iter().map(|table| table.name.as_str()).collect::<Vec<_>>().join(", ");
    let lock = format!("LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut connection).await.map_err(refused)?;
    let is_empty = sqlx::query_scalar(IS_EMPTY).fetch_one(&mut connection).await;
    if !is_empty.map_err(refused)? {
        return Err(MigrateError::NotEmpty(target.name().to_owned()));
    }
    let copied = source.read(async |from| {
        let copied = async {
            sqlx::query("BEGIN").execute(&mut *from).await?;
            // It may be the second time.
            let clear = format!("TRUNCATE {names}");
            sqlx::query(AssertSqlSafe(clear)).execute(&mut connection).await?;
            // What they would write is copied too.
            set_triggers(&mut connection, &tables, "DISABLE").await?;
            copy_all(from, &mut connection, &tables, &mut progress).await?;
            set_triggers(&mut connection, &tables, "ENABLE").await
        };
        match copied.await {
            Err(error) if is_of_server(&error) => Ok(Err(error)),
            done => done.map(Ok),
        }
    });
    copied.await?.map_err(refused)?;
    let audit = async {
        for table in tables.iter().filter(|table| table.has_id) {
            sqlx::query(AssertSqlSafe(next_id(&table.name))).execute(&mut connection).await?;
        }
        postgres::books(&mut connection, |_| {}).await
    };
    let audit = audit.await.map_err(refused)?;
    if audit.total() > 0 {
        return Err(MigrateError::Unsound(audit));
    }
    sqlx::query("COMMIT").execute(&mut connection).await.map_err(refused)?;
    connection.close().await.map_err(refused)?;
    Ok(audit)
}

/// Whether it was the server that failed, or the way to it, and not the file.
fn is_of_server(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.try_downcast_ref::<PgDatabaseError>().is_some(),
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => true,
        _ => false,
    }
}

/// The ids to be given go on from those that were. Where none are given, nothing happens.
fn next_id(table: &str) -> String {
    format!(
        "SELECT setval(pg_get_serial_sequence('{table}', 'id'), coalesce(max(id), 0) + 1, false)
         FROM {table}"
    )
}

/// Has the triggers of all tables run, or not.
async fn set_triggers(
    to: &mut PgConnection,
    tables: &[Table],
    state: &str,
) -> Result<(), sqlx::Error> {
    for Table { name, .. } in tables {
        let set = format!("ALTER TABLE {name} {state} TRIGGER USER");
        sqlx::query(AssertSqlSafe(set)).execute(&mut *to).await?;
    }
    Ok(())
}

async fn copy_all(
    from: &mut SqliteConnection,
    to: &mut PgConnection,
    tables: &[Table],
    progress: &mut impl FnMut(Copied<'_>),
) -> Result<(), sqlx::Error> {
    let mut of_rows = 0_u64;
    for table in tables {
        let count = format!("SELECT count(*) FROM {}", table.name);
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *from).await?;
        of_rows = of_rows.saturating_add(rows.unsigned_abs());
    }
    let mut before = 0_u64;
    for table in tables {
        let told = |rows| {
            let rows = before.saturating_add(rows);
            progress(Copied { table: &table.name, rows, of_rows });
        };
        before = before.saturating_add(copy_table(from, to, table, told).await?);
    }
    Ok(())
}

/// Copies a table; tells, and returns, how many of its rows.
async fn copy_table(
    from: &mut SqliteConnection,
    to: &mut PgConnection,
    table: &Table,
    mut told: impl FnMut(u64),
) -> Result<u64, sqlx::Error> {
    let Table { name, columns, .. } = table;
    let texts: Vec<_> =
        columns.split(", ").map(|column| format!("CAST({column} AS TEXT)")).collect();
    // Ids that SQLite gave and PostgreSQL would give go in the order of time.
    let order = if table.has_id { " ORDER BY id" } else { "" };
    let select = format!("SELECT {} FROM {name}{order}", texts.join(", "));
    let mut rows = sqlx::query(AssertSqlSafe(select)).fetch(from);
    let mut copy = to.copy_in_raw(&format!("COPY {name} ({columns}) FROM STDIN")).await?;
    let (mut text, mut count) = (String::new(), 0_u64);
    while let Some(row) = rows.try_next().await? {
        append(&mut text, &row, texts.len())?;
        count = count.saturating_add(1);
        if text.len() >= CHUNK_BYTES {
            copy.send(text.as_bytes()).await?;
            text.clear();
            told(count);
        }
    }
    copy.send(text.as_bytes()).await?;
    copy.finish().await?;
    told(count);
    Ok(count)
}

/// Appends a line of `COPY`'s text format.
fn append(text: &mut String, row: &SqliteRow, columns: usize) -> Result<(), sqlx::Error> {
    for column in 0..columns {
        if column > 0 {
            text.push('\t');
        }
        let Some(value) = row.try_get::<Option<&str>, _>(column)? else {
            text.push_str("\\N");
            continue;
        };
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\t' => text.push_str("\\t"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                other => text.push(other),
            }
        }
    }
    text.push('\n');
    Ok(())
}
