//! The PostgreSQL engine: how a database on a server is named, reached, checked and migrated.
//!
//! Any number of instances may share it. Each writes on a few connections ([`PostgresLane`]) and reads
//! on a pool ([`PostgresReader`]).

mod audit;
mod lock;
mod naming;
mod operators;
mod purchases;
mod read;
mod save;
mod session;
mod usage;
mod write;

use std::{fmt, str::FromStr, sync::LazyLock};

use sqlx::{
    ConnectOptions, Connection, PgConnection,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgDatabaseError},
};

pub(super) use audit::books;
pub(crate) use read::PostgresReader;
pub(crate) use write::{PostgresLane, PostgresTransaction};

use super::{DatabaseError, FoundSchema, OpenError, describe, migrator, newest_known};
use naming::name_purchases;
use session::{Session, connect_unlimited};

/// The same numbers and names as SQLite's. One that was released is never edited.
pub(super) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    migrator([
        include_str!("../../../migrations/postgres/0001_schema.sql"),
        include_str!("../../../migrations/postgres/0002_seed.sql"),
        include_str!("../../../migrations/postgres/0003_idempotency_keys.sql"),
        include_str!("../../../migrations/postgres/0004_ledger.sql"),
        include_str!("../../../migrations/postgres/0005_purchases.sql"),
        include_str!("../../../migrations/postgres/0006_money_back.sql"),
        include_str!("../../../migrations/postgres/0007_holds.sql"),
        include_str!("../../../migrations/postgres/0008_usage.sql"),
        include_str!("../../../migrations/postgres/0009_bonus.sql"),
        include_str!("../../../migrations/postgres/0010_operator.sql"),
    ])
});

/// What the server calls our connections.
const APPLICATION_NAME: &str = "token-billing";

/// A PostgreSQL database, which has to exist, empty or ours.
#[derive(Clone)]
pub(crate) struct PostgresDatabase {
    options: PgConnectOptions,
    name: String,
    lanes: u16,
}

/// Without the options: they hold the password.
impl fmt::Debug for PostgresDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresDatabase").field(&self.name).finish()
    }
}

impl PostgresDatabase {
    /// Whether a URL is one of a PostgreSQL database.
    pub(crate) fn is_named_by(url: &str) -> bool {
        url.starts_with("postgres:") || url.starts_with("postgresql:")
    }

    /// The database a URL names, such as `postgres://billing@localhost/billing?sslmode=verify-full`. What
    /// the URL leaves out comes from the environment, as for `psql`. Nothing is opened yet.
    ///
    /// # Errors
    /// [`OpenError::Url`] when it names none; it repeats nothing of the URL, which may hold a password.
    pub(crate) fn from_url(url: &str, lanes: u16) -> Result<Self, OpenError> {
        let none = || {
            let example = "postgres://user@host:5432/database?sslmode=verify-full";
            OpenError::Url(format!("is not the URL of a database, such as {example}"))
        };
        if is_torn(url) {
            return Err(none());
        }
        let options = PgConnectOptions::from_str(url).map_err(|_| none())?;
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        let name = match options.get_socket() {
            Some(socket) => format!("postgres:///{database}?host={}", socket.display()),
            None => {
                format!("postgres://{}:{}/{database}", options.get_host(), options.get_port())
            }
        };
        let options = options
            .application_name(APPLICATION_NAME)
            // What the server tells of a start is no news, and would stand before our first line.
            .options([("client_min_messages", "warning")])
            .disable_statement_logging();
        Ok(Self { options, name, lanes })
    }

    /// What people call it, without user and password.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Opens the database and migrates it where needed: once, however many instances start.
    ///
    /// # Errors
    /// [`OpenError`]; a database that is not ours, or newer than we are, is left untouched.
    pub(crate) async fn open(&self) -> Result<(Vec<PostgresLane>, PostgresReader), OpenError> {
        let connection = self.open_to_fill().await?;
        connection.close().await.map_err(|error| self.failed(&error))?;

        let session = Session::new(&self.options);
        let mut lanes = Vec::new();
        for _ in 0..self.lanes {
            let connection = session.connect().await.map_err(|error| self.failed(&error))?;
            lanes.push(PostgresLane::new(session.clone(), connection));
        }
        Ok((lanes, PostgresReader::new(&session)))
    }

    /// A connection to the database, which is migrated where needed.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub(super) async fn open_to_fill(&self) -> Result<PgConnection, OpenError> {
        let mut connection = self.connect().await?;
        self.check_encoding(&mut connection).await?;
        let found = newest_migration(&mut connection).await.map_err(|error| self.failed(&error))?;
        if let Some(unfit) = OpenError::unfit(&self.name, &found, newest_known(&MIGRATIONS)) {
            return Err(unfit);
        }
        // Takes a lock that others who migrate wait for.
        let migrated = MIGRATIONS.run_direct(None, &mut connection, false).await;
        migrated.map_err(|error| match error {
            MigrateError::Execute(error) => self.failed(&error),
            error => OpenError::Failed { database: self.name.clone(), reason: error.to_string() },
        })?;
        name_purchases(&mut connection).await.map_err(|error| self.failed(&error))?;
        Ok(connection)
    }

    /// Names may hold any character, and not every encoding has each.
    async fn check_encoding(&self, connection: &mut PgConnection) -> Result<(), OpenError> {
        let encoding: String = sqlx::query_scalar("SELECT current_setting('server_encoding')")
            .fetch_one(connection)
            .await
            .map_err(|error| self.failed(&error))?;
        if encoding == "UTF8" {
            return Ok(());
        }
        let reason = format!(
            "its encoding is {encoding}, and must be UTF8; make it with CREATE DATABASE … ENCODING \
             'UTF8' TEMPLATE template0"
        );
        Err(OpenError::Failed { database: self.name.clone(), reason })
    }

    /// A connection whose statements may take as long as they need.
    async fn connect(&self) -> Result<PgConnection, OpenError> {
        connect_unlimited(&self.options).await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &sqlx::Error) -> OpenError {
        OpenError::Failed { database: self.name.clone(), reason: describe(error) }
    }

    fn unreadable(&self, error: &sqlx::Error) -> OpenError {
        OpenError::Unreadable { database: self.name.clone(), reason: describe(error) }
    }
}

/// Whether a user or a password reaches into what follows them: something is mistyped, or a sign such as `/`
/// not percent-encoded. It would be taken for the name of the database, which is told.
fn is_torn(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return true };
    let behind = rest.find(['/', '?', '#']).map_or("", |end| &rest[end..]);
    behind.contains(['@', '#'])
}

async fn newest_migration(connection: &mut PgConnection) -> Result<FoundSchema, sqlx::Error> {
    let (tables, ours): (i64, bool) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE relname = '_sqlx_migrations') > 0
         FROM pg_class
         WHERE relnamespace = to_regnamespace(quote_ident(current_schema()))
             AND relkind IN ('r', 'p', 'v', 'm', 'f')",
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

/// `serialization_failure` and `deadlock_detected`: somebody else went first.
const ANOTHER_WENT_FIRST: [&str; 2] = ["40001", "40P01"];
/// `admin_shutdown` and `crash_shutdown`: the server ends the connection, and the transaction with it.
const SERVER_ENDS: [&str; 2] = ["57P01", "57P02"];

/// What an error the server told means.
pub(super) fn meaning(error: &PgDatabaseError) -> DatabaseError {
    let (code, message) = (error.code(), error.message());
    if ANOTHER_WENT_FIRST.contains(&code) || SERVER_ENDS.contains(&code) {
        return DatabaseError::Retry(message.to_owned());
    }
    match code.get(..2) {
        // Integrity constraint violations, and data exceptions.
        Some("23" | "22") => DatabaseError::Constraint(message.to_owned()),
        _ => DatabaseError::Unavailable(format!("{message} (SQLSTATE {code})")),
    }
}
