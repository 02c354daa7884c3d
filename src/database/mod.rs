//! Everything that is SQL: opening and migrating the database, one batch of writes, the reads.
//!
//! The rules live in `domain`, and when to write is the `ledger`'s business. A storage engine gives
//! [`Writer`]s and a [`Reader`]; nothing above this folder knows which engine it is.

mod account_reads;
mod audit;
mod engine;
mod found;
mod migrate_to;
mod opening;
pub(crate) mod postgres;
mod purchase_names;
pub(crate) mod sqlite;

use std::{collections::HashMap, future::Future};

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::postgres::PgDatabaseError;
use thiserror::Error;

use crate::domain::{
    Account, GrantedPurchases, PriceList, Replays, StoreTransactionId, UserId, UserKey,
};

pub(crate) use audit::{Audit, Check, Counts, Difference};
pub(crate) use engine::{Database, EngineSettings, Opened, Reader};
pub(crate) use migrate_to::{MigrateError, migrate_to};
pub(crate) use opening::OpenError;
use opening::{FoundSchema, describe, newest_known};

/// Why the database did not do what it was asked.
#[derive(Debug, Clone, Error)]
pub enum DatabaseError {
    /// What was written broke a constraint: one operation of the batch is at fault, not the database.
    #[error("the database refuses a value: {0}")]
    Constraint(String),
    /// The transaction did not get to its commit, and nothing of it is kept, through no fault of the
    /// operations or the database: load, decide and save again.
    #[error("the transaction has to be tried again: {0}")]
    Retry(String),
    /// What was read can't be: somebody changed the data by hand into something impossible.
    #[error("the database holds an impossible value: {0}")]
    Corrupt(String),
    /// The database can't do it now: busy, full, read-only or gone. It may pass.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        let of_postgres = error
            .as_database_error()
            .and_then(<dyn sqlx::error::DatabaseError>::try_downcast_ref::<PgDatabaseError>);
        match (&error, of_postgres) {
            (_, Some(error)) => postgres::meaning(error),
            (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_), None) => {
                Self::Corrupt(error.to_string())
            }
            // A server that was lost, or a thread of SQLite's that could not be started: what was not
            // committed is undone.
            (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), None) => {
                Self::Retry(format!("the connection was lost: {error}"))
            }
            (_, None) => sqlite::meaning(&error),
        }
    }
}

impl DatabaseError {
    /// As an error of a read, which nobody tries again but the client.
    fn of_read(self) -> Self {
        match self {
            Self::Retry(reason) => Self::Unavailable(reason),
            other => other,
        }
    }
}

/// How much room the database takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseSize {
    /// Its file.
    pub file_bytes: u64,
    /// Its write-ahead log.
    pub wal_bytes: u64,
}

/// What a batch needs to be decided.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Accounts to load, each once.
    pub users: Vec<UserId>,
    /// Whether the prices are needed.
    pub prices: bool,
    /// Store transactions of which to know whether they were granted.
    pub store_transaction_ids: Vec<StoreTransactionId>,
    /// Requests of which to know whether they were carried out, each once.
    pub keys: Vec<UserKey>,
}

/// What the database holds of what was [`Wanted`].
#[derive(Debug, Default)]
pub struct Loaded {
    /// The accounts of the users asked for; new ones for users nobody has seen.
    pub accounts: HashMap<UserId, Account>,
    /// The prices, when asked for.
    pub prices: PriceList,
    /// Who got which of the store transactions asked for.
    pub granted: GrantedPurchases,
    /// The replays of those of the requests that were carried out.
    pub replays: Replays,
}

/// A connection that writes, one transaction at a time: `load`, then `save` or `abandon`.
///
/// After an error the transaction is gone and nothing of it is kept; the next `load` starts afresh,
/// on a new connection where needed.
pub trait Writer: Send + 'static {
    /// Gives what is wanted: read in a transaction that stays open, or remembered, which `save` proves.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    fn load(
        &mut self,
        wanted: &Wanted,
    ) -> impl Future<Output = Result<Loaded, DatabaseError>> + Send;

    /// Writes the entries of the accounts that were loaded, with the balances that follow from them, and
    /// the new replays, and commits.
    ///
    /// When this returns `Ok`, everything is on disk, and the accounts were as they had been loaded
    /// until then.
    ///
    /// # Errors
    /// Any [`DatabaseError`]; nothing was written then, unless the database went away during the commit
    /// itself.
    fn save(
        &mut self,
        accounts: Vec<Account>,
        replays: &Replays,
        now: DateTime<Utc>,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;

    /// Ends the transaction without a trace.
    fn abandon(&mut self) -> impl Future<Output = ()> + Send;

    /// Does some of what need not be done before callers are answered, between transactions. Among it,
    /// when asked to: forgets some of the idempotency keys given before `before`, oldest first; tells
    /// whether there were any, so that more may be left.
    ///
    /// # Errors
    /// Any [`DatabaseError`]; some may be done all the same.
    fn tidy(
        &mut self,
        before: Option<DateTime<Utc>>,
    ) -> impl Future<Output = Result<bool, DatabaseError>> + Send;

    /// Brings the database into the state a stopped service leaves behind.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// A time as it is kept and shown: UTC, RFC 3339 with microseconds and `Z`.
fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
