//! What is found at a server before anything is changed: what it can hold, whether it takes writes, and which schema
//! has our tables, as of which migration.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{FoundSchema, MIGRATIONS, newest_known};
use crate::database::rows::row;

/// What a database holds and allows.
pub(super) struct Found {
    pub(super) encoding: String,
    /// It is not said to be a standby's fault.
    pub(super) is_read_only: bool,
    pub(super) is_standby: bool,
    /// The schema of the tables, or for them, quoted.
    pub(super) schema: String,
    pub(super) tables: FoundSchema,
}

impl Found {
    /// Whether its tables are as this version has them.
    pub(super) fn is_current(&self) -> bool {
        matches!(self.tables, FoundSchema::Migrated(found) if found == newest_known(&MIGRATIONS))
    }
}

row! {
    struct Surroundings {
        encoding: String,
        is_read_only: bool,
        is_standby: bool,
        current: Option<String>,
    }
}

const SURROUNDINGS: &str = "
    SELECT current_setting('server_encoding') AS encoding,
        current_setting('transaction_read_only') = 'on' AS is_read_only,
        pg_is_in_recovery() AS is_standby, quote_ident(current_schema()) AS current";

/// Schemas with a list of migrations, in the order of the search path. One that is not ours may not be for us to read.
const LISTED: &str = "
    SELECT quote_ident(name) FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (name, place)
    WHERE to_regclass(quote_ident(name) || '._sqlx_migrations') IS NOT NULL
        AND (name = current_schema()
            OR has_table_privilege(quote_ident(name) || '._sqlx_migrations', 'SELECT'))
    ORDER BY place";

const TABLES: &str = "
    SELECT count(*) FROM pg_class
    WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
        AND relkind IN ('r', 'p', 'v', 'm', 'f')";

/// Looks around in the open transaction. Our tables are where they are, though a schema that would come first, such as
/// one with the user's name, was made since.
///
/// # Errors
/// What the server says.
pub(super) async fn look(connection: &mut PgConnection) -> Result<Found, sqlx::Error> {
    let Surroundings { encoding, is_read_only, is_standby, current } =
        sqlx::query_as(SURROUNDINGS).fetch_one(&mut *connection).await?;
    let current = current.unwrap_or_else(|| "public".to_owned());
    let mut listed: Vec<String> = sqlx::query_scalar(LISTED).fetch_all(&mut *connection).await?;
    let (schema, tables) = loop {
        if let Some(found) = listed_tables(connection, &current, &listed).await? {
            break found;
        }
        if sqlx::query_scalar::<_, i64>(TABLES).fetch_one(&mut *connection).await? == 0 {
            break (current, FoundSchema::Empty);
        }
        // Whoever starts at the same time may have made them meanwhile, and their list with them.
        let now: Vec<String> = sqlx::query_scalar(LISTED).fetch_all(&mut *connection).await?;
        if now == listed {
            break (current, FoundSchema::Foreign);
        }
        listed = now;
    };
    Ok(Found { encoding, is_read_only, is_standby, schema, tables })
}

/// What the listed schemas hold: the first with our tables, or else the current one, if it is among them.
async fn listed_tables(
    connection: &mut PgConnection,
    current: &str,
    listed: &[String],
) -> Result<Option<(String, FoundSchema)>, sqlx::Error> {
    let mut tables = None;
    for schema in listed {
        let sql =
            format!("SELECT version, checksum FROM {schema}._sqlx_migrations ORDER BY version");
        let applied: Vec<(i64, Vec<u8>)> =
            sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *connection).await?;
        let found = FoundSchema::of(&applied, &MIGRATIONS);
        let is_ours = matches!(found, FoundSchema::Migrated(1..));
        if is_ours || schema == current {
            tables = Some((schema.clone(), found));
        }
        if is_ours {
            break;
        }
    }
    Ok(tables)
}
