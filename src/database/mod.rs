//! Everything that is SQL: opening and migrating the database, one batch of writes, the reads.
//!
//! The rules live in `domain`, and when to write is the `ledger`'s business. An engine gives [`Lane`]s to
//! write in and what a [`Reader`] reads from; what is asked of it passes through `engine`.

mod account_reads;
mod any_reader;
mod audit;
mod beside;
mod changes;
mod engine;
mod erasing;
mod error;
mod history;
mod holds;
mod inbox;
mod ledger_lines;
mod list_reads;
mod migrate_to;
mod opening;
mod operator_log;
pub(crate) mod postgres;
mod price_history;
mod purchase_names;
mod refund_check;
mod rows;
pub(crate) mod sqlite;
mod summary;
mod summary_check;
mod tracked;
mod unused;
mod usage;
mod usage_check;
mod users;

use std::{future::Future, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::domain::{Facts, FreshUsage, UserId, Wanted};

pub(crate) use audit::{Audit, Check, Counts, Difference, Priority};
pub(crate) use engine::{Database, EngineSettings, Opened, Reader};
pub(crate) use error::DatabaseError;
pub(crate) use inbox::{MessageCounts, PurchaseAskedFor};
pub(crate) use migrate_to::{MigrateError, migrate_to};
pub(crate) use opening::OpenError;
use opening::{FoundSchema, describe, migrator, newest_known};
pub(crate) use postgres::Pooler;
pub(crate) use purchase_names::BelievedPurchase;
pub(crate) use summary::SummaryWrite;
pub(crate) use tracked::{DuePurchase, PurchaseCounts};

/// How much room the database takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DatabaseSize {
    /// Its file.
    pub file_bytes: u64,
    /// Its write-ahead log.
    pub wal_bytes: u64,
}

/// A connection that writes, one transaction at a time.
pub(crate) trait Lane: Send + 'static {
    /// A transaction that has begun. It is saved once; dropped, it leaves nothing behind.
    type Transaction<'lane>: Transaction
    where
        Self: 'lane;

    /// Begins a transaction and gives the facts wanted; the limits and the time are the ledger's. What is
    /// told is true under a lock, or remembered, and then `save` finds out whether it still is.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`. The next transaction starts afresh, on a new connection
    /// where needed.
    fn begin(
        &mut self,
        wanted: &Wanted,
    ) -> impl Future<Output = Result<(Facts, Self::Transaction<'_>), DatabaseError>> + Send;

    /// Carries out a slice of a chore, which takes a few milliseconds at most.
    ///
    /// # Errors
    /// Any [`DatabaseError`]; some may be done all the same.
    fn slice(
        &mut self,
        chore: &Chore,
    ) -> impl Future<Output = Result<Progress, DatabaseError>> + Send;

    /// Adds some of a user's entries to the sums of usage, the oldest that are in none, which takes a few
    /// milliseconds at most. Where nobody else writes, what is `known` need not be read again.
    ///
    /// # Errors
    /// Any [`DatabaseError`]; nothing was added then, unless the database went away during the commit itself.
    fn sum_usage(
        &mut self,
        user: &UserId,
        known: &FreshUsage,
    ) -> impl Future<Output = Result<Progress, DatabaseError>> + Send;

    /// Brings the database into the state a stopped service leaves behind.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// What a batch is written in.
pub(crate) trait Transaction: Send {
    /// Writes the entries of the accounts, with the balances that follow from them, and the new replays,
    /// and commits.
    ///
    /// When this returns `Ok`, everything is on disk, and the facts were as they had been told until then.
    ///
    /// # Errors
    /// Any [`DatabaseError`]; nothing was written then, unless the database went away during the commit
    /// itself.
    fn save(
        self,
        facts: Facts,
        hoped_new: HopedNew,
    ) -> impl Future<Output = Result<(), DatabaseError>> + Send;
}

/// What became of the purchases and the requests that [`Wanted`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HopedNew {
    /// All were taken for new and are among what is saved, so the tables tell if one was not.
    AllSaved,
    /// One was refused, or taken for a repetition. That has to be so.
    SomeRefused,
}

/// Work that is written between batches, a slice at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chore {
    /// Forgets the idempotency keys given before a time, oldest first.
    ForgetKeys { before: DateTime<Utc> },
    /// Does what an engine does for its own speed; SQLite's has its idempotency keys to put in order.
    Upkeep,
    /// Has the stores of all purchases that wait asked at once, those of all that were not acknowledged told, and all
    /// messages that wait worked on.
    MakeDue { now: DateTime<Utc> },
    /// Forgets the stores' messages that are done with and came before a time.
    ForgetMessages { before: DateTime<Utc> },
    /// Forgets the holds that were closed, or expired, before a time.
    ForgetHolds { before: DateTime<Utc> },
    /// Does a piece of the erasure of an account, if any is under way.
    Erase,
    /// Writes something that takes room, and takes it away again: finds that it can be.
    TryWrite,
    /// Adds entries to the sums of the whole, unless those have changed since it was worked out.
    AddToSummary(Arc<SummaryWrite>),
}

/// How far a slice brought its chore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More may be left.
    More,
    /// Nothing is left.
    Done,
}

/// A time as it is kept and shown: UTC, RFC 3339 with microseconds and `Z`.
fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
