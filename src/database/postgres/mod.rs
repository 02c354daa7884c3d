//! The PostgreSQL engine: how a database on a server is named, reached, checked and migrated.
//!
//! Any number of instances may share it. Each writes on a few connections ([`PostgresLane`]) and reads
//! on a pool ([`PostgresReader`]).

mod address;
mod audit;
mod erasing;
mod found;
mod ids;
mod lock;
mod migrating;
mod naming;
mod operators;
mod patience;
mod plans;
mod pool;
mod purchases;
mod read;
mod save;
mod session;
mod statement;
mod summary;
mod unsettled;
mod unused;
mod usage;
mod users;
mod write;

use std::{sync::LazyLock, time::Duration};

use sqlx::{Connection, PgConnection, migrate::Migrator, postgres::PgDatabaseError};

pub(super) use audit::books;
pub(crate) use read::PostgresReader;
pub(crate) use write::{PostgresLane, PostgresTransaction};

use super::{DatabaseError, FoundSchema, OpenError, describe, migrator, newest_known};
use address::Address;
use found::{Found, look};
use patience::{LOCK_PATIENCE, patiently};
pub(crate) use session::Pooler;
use session::Session;

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
        include_str!("../../../migrations/postgres/0011_summary.sql"),
        include_str!("../../../migrations/postgres/0012_light_holds.sql"),
        include_str!("../../../migrations/postgres/0013_erasures.sql"),
    ])
});

/// A PostgreSQL database, which has to exist, empty or ours.
#[derive(Debug, Clone)]
pub(crate) struct PostgresDatabase {
    session: Session,
    name: String,
    lanes: u16,
    /// By which way it is migrated, where that is another.
    migrated_over: Option<Session>,
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
    /// [`OpenError::Url`] when it names none; it repeats nothing of the URL that may be a password.
    pub(crate) fn from_url(url: &str, lanes: u16, pooler: Pooler) -> Result<Self, OpenError> {
        let address = Address::of_url(url).map_err(OpenError::Url)?;
        let session = Session::new(&address, pooler);
        Ok(Self { session, name: address.name, lanes, migrated_over: None })
    }

    /// The same, migrated over another URL, which has to lead to it.
    ///
    /// # Errors
    /// [`OpenError::MigrationUrl`] when that names none.
    pub(crate) fn migrated_over(self, url: &str, pooler: Pooler) -> Result<Self, OpenError> {
        if !Self::is_named_by(url) {
            return Err(OpenError::MigrationUrl("must begin with postgres://".to_owned()));
        }
        let address = Address::of_url(url).map_err(OpenError::MigrationUrl)?;
        Ok(Self { migrated_over: Some(Session::new(&address, pooler)), ..self })
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
        let (mut connection, session) = self.open_to_fill().await?;
        let ahead = ids::go_on(&mut connection, &session).await;
        ahead.map_err(|error| self.failed(&error))?;
        connection.close().await.map_err(|error| self.failed(&error))?;

        let mut connections = Vec::new();
        for _ in 0..self.lanes {
            let connection = session.connect().await.map_err(|error| self.failed(&error))?;
            connections.push(connection);
        }
        let lane = |connection| PostgresLane::new(session.clone(), connection);
        let lanes = connections.into_iter().map(lane).collect();
        Ok((lanes, PostgresReader::new(session)))
    }

    /// A connection to the database, which is migrated where needed, and how to begin transactions on it. Where there
    /// is nothing to migrate, nothing is locked and no right is needed but to read.
    ///
    /// # Errors
    /// As for [`Self::open`].
    async fn open_to_fill(&self) -> Result<(PgConnection, Session), OpenError> {
        let mut connection = self.connect().await?;
        let begin = self.session.begin_work(LOCK_PATIENCE);
        let found = patiently(&mut connection, &begin, async |on| look(on).await).await;
        let found = found.map_err(|error| self.failed(&error))?;
        self.check(&found)?;
        let session = self.session.in_schema(&found.schema);
        if !found.is_current() {
            self.migrate(&mut connection, &session).await?;
        }
        let named = naming::name_purchases(&mut connection, &session).await;
        named.map_err(|error| self.failed(&error))?;
        Ok((connection, session))
    }

    /// Migrates it, on this connection or on one of the other way to it.
    async fn migrate(
        &self,
        connection: &mut PgConnection,
        session: &Session,
    ) -> Result<(), OpenError> {
        let Some(over) = &self.migrated_over else {
            let migrated = migrating::migrate(connection, session).await;
            return migrated.map_err(|error| self.failed(&error));
        };
        let of_way = |error: sqlx::Error| {
            self.refused(&format!("over BILLING_MIGRATION_DATABASE_URL: {}", describe(&error)))
        };
        let mut other = over.connect_to_work().await.map_err(of_way)?;
        let same = migrating::is_same_database(&mut other, connection, session).await;
        if !same.map_err(of_way)? {
            return Err(self.refused(
                "BILLING_MIGRATION_DATABASE_URL leads to another database than this one; nothing was changed",
            ));
        }
        migrating::migrate(&mut other, &over.in_schema_of(session)).await.map_err(of_way)?;
        // The server finds out by itself, too.
        let _ = other.close().await;
        Ok(())
    }

    /// A transaction that may take as long as it needs, on a connection as of [`Self::open_to_fill`].
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub(super) async fn begin_to_fill(&self) -> Result<PgConnection, OpenError> {
        let (mut connection, session) = self.open_to_fill().await?;
        let begin = session.begin_work(Duration::ZERO);
        let begun = sqlx::raw_sql(begin).execute(&mut connection).await;
        begun.map_err(|error| self.failed(&error))?;
        Ok(connection)
    }

    /// Whether it may be served.
    fn check(&self, found: &Found) -> Result<(), OpenError> {
        if found.encoding != "UTF8" {
            // Names may hold any character, and not every encoding has each.
            return Err(self.refused(&format!(
                "its encoding is {}, and must be UTF8; make it with CREATE DATABASE … ENCODING \
                 'UTF8' TEMPLATE template0",
                found.encoding
            )));
        }
        if found.is_standby {
            return Err(self.refused(
                "its server is a standby, which takes no writes; name the primary, or all hosts with \
                 target_session_attrs=read-write",
            ));
        }
        if found.is_read_only {
            return Err(self.refused(
                "its sessions are read-only (default_transaction_read_only), and the service writes; \
                 see what ALTER DATABASE or ALTER ROLE has set",
            ));
        }
        match OpenError::unfit(&self.name, &found.tables, newest_known(&MIGRATIONS)) {
            Some(unfit) => Err(unfit),
            None => Ok(()),
        }
    }

    /// A connection whose statements may take as long as they need.
    async fn connect(&self) -> Result<PgConnection, OpenError> {
        let connecting = async {
            let mut connection = self.session.connect_to_work().await?;
            let keeps_settings = self.session.keeps_settings(&mut connection).await?;
            Ok((connection, keeps_settings))
        };
        let (connection, keeps_settings) = connecting.await.map_err(|error| self.failed(&error))?;
        if keeps_settings {
            return Ok(connection);
        }
        Err(self.refused(
            "there is a pooler in transaction mode before it, for sessions do not keep their settings; set \
             BILLING_PG_POOLER=transaction",
        ))
    }

    fn refused(&self, reason: &str) -> OpenError {
        OpenError::Failed { database: self.name.clone(), reason: reason.to_owned() }
    }

    fn failed(&self, error: &sqlx::Error) -> OpenError {
        self.refused(&describe(error))
    }

    fn unreadable(&self, error: &sqlx::Error) -> OpenError {
        OpenError::Unreadable { database: self.name.clone(), reason: describe(error) }
    }
}

/// `serialization_failure` and `deadlock_detected`: somebody else went first.
const ANOTHER_WENT_FIRST: [&str; 2] = ["40001", "40P01"];
/// The server ends the connection, and the transaction with it: `admin_shutdown`, `crash_shutdown`,
/// `cannot_connect_now`, `database_dropped`, `idle_session_timeout`, `idle_in_transaction_session_timeout` and
/// `transaction_timeout`.
const SERVER_ENDS: [&str; 7] = ["57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04"];

/// What an error the server told means.
pub(super) fn meaning(error: &PgDatabaseError) -> DatabaseError {
    let (code, message) = (error.code(), error.message());
    if ANOTHER_WENT_FIRST.contains(&code) || SERVER_ENDS.contains(&code) {
        return DatabaseError::Retry(message.to_owned());
    }
    match code.get(..2) {
        // Connection exceptions, as poolers tell of a server that they lost.
        Some("08") => DatabaseError::Retry(message.to_owned()),
        // Integrity constraint violations, and data exceptions.
        Some("23" | "22") => DatabaseError::Constraint(message.to_owned()),
        _ => DatabaseError::Unavailable(format!("{message} (SQLSTATE {code})")),
    }
}
