//! Brings a database's tables to what this version knows, all of them or none. What is found before, and
//! whether it is ours, does not belong here.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    migrate::{MigrateError, Migrator},
    sqlite::SqliteConnectOptions,
};

use tokio::time::sleep;

use super::{
    FoundSchema, OpenError, PRIMARY_CODE_MASK, SqliteDatabase, migrator, naming::name_purchases,
    newest_known, result_code,
};

/// One that was released is never edited: by its checksum every database made with it would look like
/// another program's.
pub(in crate::database) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    migrator([
        include_str!("../../../migrations/sqlite/0001_schema.sql"),
        include_str!("../../../migrations/sqlite/0002_seed.sql"),
        include_str!("../../../migrations/sqlite/0003_idempotency_keys.sql"),
        include_str!("../../../migrations/sqlite/0004_ledger.sql"),
        include_str!("../../../migrations/sqlite/0005_purchases.sql"),
        include_str!("../../../migrations/sqlite/0006_money_back.sql"),
        include_str!("../../../migrations/sqlite/0007_holds.sql"),
        include_str!("../../../migrations/sqlite/0008_usage.sql"),
        include_str!("../../../migrations/sqlite/0009_bonus.sql"),
        include_str!("../../../migrations/sqlite/0010_operator.sql"),
        include_str!("../../../migrations/sqlite/0011_summary.sql"),
        include_str!("../../../migrations/sqlite/0012_light_holds.sql"),
        include_str!("../../../migrations/sqlite/0013_erasures.sql"),
    ])
});

/// SQLite's primary result code for a database that others hold.
const SQLITE_BUSY: i32 = 5;
/// How long others that open or migrate the database at the same time are waited for.
const OTHERS_TIMEOUT: Duration = Duration::from_secs(20);
/// How long until the next look.
const OTHERS_PAUSE: Duration = Duration::from_millis(20);

/// How long another process that names purchases is waited for.
const NAMING_TIMEOUT: Duration = Duration::from_mins(1);

/// What there is, but for what SQLite and the migrations themselves keep.
const SCHEMA: &str = "SELECT type, name, sql FROM sqlite_schema
    WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> '_sqlx_migrations'";

/// The migration that fills a new database.
const SEED: i64 = 2;

/// Whether what a new database starts with is there, or was: an operator may have taken all prices away.
const SEEDED: &str = "SELECT EXISTS (SELECT * FROM token_pricing)
    OR EXISTS (SELECT * FROM transactions WHERE type = 'allocation')";

/// The same, of a database that keeps what prices were.
const SEEDED_BEFORE: &str = "SELECT EXISTS (SELECT * FROM price_history)";

impl SqliteDatabase {
    /// A connection to write on, to a database whose tables are as this version makes them.
    pub(super) async fn migrated(
        &self,
        writing: &SqliteConnectOptions,
    ) -> Result<SqliteConnection, OpenError> {
        self.check_complete(writing).await?;
        self.migrate(writing).await.map_err(|error| self.failed(&error))?;
        self.check_complete(writing).await?;
        let named = async {
            // Nobody is served yet who would wait.
            let mut naming = writing.clone().busy_timeout(NAMING_TIMEOUT).connect().await?;
            name_purchases(&mut naming).await?;
            naming.close().await
        };
        named.await.map_err(|error| self.failed(&error))?;
        writing.connect().await.map_err(|error| self.failed(&error))
    }

    /// Applies what is missing. Where another process is doing the same, its migration is one that ours
    /// finds already there, so we look again; each is applied whole or not at all.
    ///
    /// Never twice on one connection: SQLite rolls a transaction back by itself when the disk is full, of
    /// which our library knows nothing, and what is sent then is committed statement by statement.
    async fn migrate(&self, writing: &SqliteConnectOptions) -> Result<(), MigrateError> {
        let mut attempts = MIGRATIONS.iter().count();
        loop {
            let migrated = past_others(async || {
                let mut connection = writing.connect().await?;
                let migrated = MIGRATIONS.run_direct(None, &mut connection, false).await;
                let closed = connection.close().await;
                migrated.and(closed.map_err(MigrateError::from))
            });
            match migrated.await {
                Ok(()) => return Ok(()),
                Err(error) if attempts == 0 => return Err(error),
                Err(_) => attempts = attempts.saturating_sub(1),
            }
        }
    }

    /// Looks whether everything is there, and as it was made, of the migrations that are said to be done.
    /// The list of them alone does not tell: earlier versions could write it without the tables, on a full
    /// disk.
    async fn check_complete(&self, options: &SqliteConnectOptions) -> Result<(), OpenError> {
        let flaw = past_others(async || {
            let mut connection = options.connect().await?;
            let flaw = flaw(&mut connection).await;
            connection.close().await?;
            flaw
        });
        self.incomplete(flaw.await)
    }

    /// Looks whether all tables are there, and be they empty or changed.
    pub(super) async fn check_tables(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<(), OpenError> {
        self.incomplete(missing_table(connection).await)
    }

    fn incomplete(&self, flaw: Result<Option<String>, MigrateError>) -> Result<(), OpenError> {
        match flaw.map_err(|error| self.failed(&error))? {
            Some(reason) => Err(OpenError::Incomplete { database: self.name.clone(), reason }),
            None => Ok(()),
        }
    }
}

/// Tries again while other processes hold the database: SQLite waits for some of their locks, and for
/// others, such as when a new file is made a database with a log, it does not.
async fn past_others<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, MigrateError>,
) -> Result<T, MigrateError> {
    let started = Instant::now();
    loop {
        match attempt().await {
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _))
                if is_busy(&error) && started.elapsed() < OTHERS_TIMEOUT =>
            {
                sleep(OTHERS_PAUSE).await;
            }
            result => return result,
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    result_code(error).is_some_and(|code| code & PRIMARY_CODE_MASK == SQLITE_BUSY)
}

/// A table, an index or a trigger: type, name and text.
type Object = (String, String, Option<String>);

async fn flaw(connection: &mut SqliteConnection) -> Result<Option<String>, MigrateError> {
    // Of one moment: another process may be migrating.
    let mut moment = connection.begin().await?;
    let FoundSchema::Migrated(version) = newest_migration(&mut moment).await? else {
        return Ok(None);
    };
    let found: Vec<Object> = sqlx::query_as(SCHEMA).fetch_all(&mut *moment).await?;
    if version == 0 {
        let unexpected = "there are tables of which no migration tells".to_owned();
        return Ok((!found.is_empty()).then_some(unexpected));
    }
    let expected = schema_of(version).await?;
    if let Some((kind, name, _)) = expected.iter().find(|made| !found.contains(made)) {
        return Ok(Some(format!("the {kind} '{name}' is missing or not as it was made")));
    }
    let has_history = found.iter().any(|(_, name, _)| name == "price_history");
    let seeded = if has_history { SEEDED_BEFORE } else { SEEDED };
    let seeded = version < SEED || sqlx::query_scalar(seeded).fetch_one(&mut *moment).await?;
    Ok((!seeded).then(|| "there are no prices".to_owned()))
}

async fn missing_table(connection: &mut SqliteConnection) -> Result<Option<String>, MigrateError> {
    let found: Vec<Object> = sqlx::query_as(SCHEMA).fetch_all(connection).await?;
    let is_there = |name: &String| found.iter().any(|(_, found, _)| found == name);
    let expected = schema_of(newest_known(&MIGRATIONS)).await?;
    let missing = expected.iter().find(|(kind, name, _)| kind == "table" && !is_there(name));
    Ok(missing.map(|(_, name, _)| format!("the table '{name}' is missing")))
}

/// What the migrations make of an empty database, up to one of them.
async fn schema_of(version: i64) -> Result<Vec<Object>, MigrateError> {
    let mut empty = SqliteConnectOptions::new().filename(":memory:").connect().await?;
    MIGRATIONS.run_direct(Some(version), &mut empty, false).await?;
    let schema = sqlx::query_as(SCHEMA).fetch_all(&mut empty).await?;
    empty.close().await?;
    Ok(schema)
}

/// Which migrations a database says it has.
pub(super) async fn newest_migration(
    connection: &mut SqliteConnection,
) -> Result<FoundSchema, sqlx::Error> {
    let (tables, ours): (i64, bool) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE name = '_sqlx_migrations') > 0 FROM sqlite_schema",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !ours {
        return Ok(if tables == 0 { FoundSchema::Empty } else { FoundSchema::Foreign });
    }
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(connection)
            .await?;
    Ok(FoundSchema::of(&applied, &MIGRATIONS))
}
