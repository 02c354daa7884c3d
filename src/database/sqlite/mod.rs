//! The SQLite engine: how a database file is named, found, opened and made. How its tables are made is in
//! `migrations`.
//!
//! One connection writes ([`SqliteLane`]), a small pool reads ([`SqliteReader`]).

mod audit;
mod backup;
mod cache;
mod erasing;
mod file;
mod keys;
mod migrations;
mod naming;
mod operators;
mod purchases;
mod read;
mod read_only;
mod save;
mod save_holds;
mod snapshot;
mod summary;
mod unused;
mod url;
mod usage;
mod users;
mod write;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

pub(crate) use read::SqliteReader;
pub(crate) use write::{SqliteLane, SqliteTransaction};

use super::{DatabaseError, FoundSchema, OpenError, describe, migrator, newest_known};
use file::{DatabaseFile, StartsWith};
pub(super) use migrations::MIGRATIONS;
use migrations::newest_migration;
use url::Access;

/// How long a statement waits for another process's lock. Well below the deadline of a request, so
/// that whoever asked still gets an answer.
const BUSY_TIMEOUT: Duration = Duration::from_millis(2_500);
/// Rows that may wait between SQLite's thread and ours; a full history page fits.
const ROW_BUFFER_ROWS: usize = 1_024;
/// What every SQLite database begins with.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
/// Most memory for pages on the connection that writes, in KiB: accounts, and the ends of the tables. What does
/// not fit is read from the system's cache, page by page.
const WRITER_CACHE_KIB: u32 = 4_096;
/// SQLite's page size, in bytes, of a database made here.
const PAGE_BYTES: u32 = 4_096;

/// An SQLite database that may not exist yet.
#[derive(Debug, Clone)]
pub(crate) struct SqliteDatabase {
    options: SqliteConnectOptions,
    /// As people call it.
    name: String,
    /// Where it lies, links followed: its log lies beside it.
    path: PathBuf,
    access: Access,
}

impl SqliteDatabase {
    /// The database a URL such as `sqlite://billing.db` names. Nothing is opened yet.
    ///
    /// `max_bytes` caps the size of the database file; writes that would pass it are unavailable.
    ///
    /// # Errors
    /// [`OpenError::Url`] when the URL names no file, and [`OpenError::Failed`] when the file has several
    /// names, or can't be found by the one given.
    pub(crate) fn from_url(url: &str, max_bytes: Option<u64>) -> Result<Self, OpenError> {
        let (given, access) = url::parse(url)?;
        let name = given.to_string_lossy().into_owned();
        let path = file::follow_links(&given)
            .map_err(|reason| OpenError::Failed { database: name.clone(), reason })?;
        let mut options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .page_size(PAGE_BYTES)
            .row_buffer_size(ROW_BUFFER_ROWS)
            .disable_statement_logging();
        if let Some(max_bytes) = max_bytes {
            let pages = max_bytes.checked_div(u64::from(PAGE_BYTES)).unwrap_or(0).max(1);
            options = options.pragma("max_page_count", pages.to_string());
        }
        Ok(Self { options, name, path, access })
    }

    /// What people call it: the file, as the URL names it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The database file itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the database, making and migrating it where needed.
    ///
    /// # Errors
    /// [`OpenError`]; a file that is not ours, or newer than we are, is left untouched.
    pub(crate) async fn open(&self) -> Result<(SqliteLane, SqliteReader), OpenError> {
        if self.access == Access::Read {
            return Err(OpenError::Url("mode=ro: a service has to write".to_owned()));
        }
        self.inspect().await?;
        if self.access == Access::Create {
            file::make(&self.path).map_err(|error| self.failed(&error))?;
        }
        let writing = self.options.clone().pragma("cache_size", format!("-{WRITER_CACHE_KIB}"));
        let connection = self.migrated(&writing).await?;
        let file = DatabaseFile::remember(&self.path).map_err(|error| self.failed(&error))?;
        let reader = SqliteReader::new(&self.options, file.clone());
        Ok((SqliteLane::new(connection, writing, file), reader))
    }

    /// Looks whether an existing file is a database we may migrate, without writing to it.
    async fn inspect(&self) -> Result<(), OpenError> {
        match file::starts_with(&self.path, SQLITE_MAGIC) {
            Ok(StartsWith::Yes) => {}
            // SQLite itself takes some short files for empty databases and overwrites them.
            Ok(StartsWith::No) => {
                let reason = "file is not a database".to_owned();
                return Err(OpenError::Foreign { database: self.name.clone(), reason });
            }
            Ok(StartsWith::Empty) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return match self.access {
                    Access::Create => Ok(()),
                    _ => Err(OpenError::Missing { database: self.name.clone() }),
                };
            }
            Err(error) => return Err(self.failed(&error)),
        }
        let clean = !file::companion(&self.path, "-wal").exists();
        let options = self.read_only(clean);
        let foreign = |error: sqlx::Error| OpenError::Foreign {
            database: self.name.clone(),
            reason: describe(&error),
        };
        let mut connection = options.connect().await.map_err(|error| self.failed(&error))?;
        let found = newest_migration(&mut connection).await.map_err(foreign);
        connection.close().await.map_err(|error| self.failed(&error))?;
        OpenError::unfit(&self.name, &found?, newest_known(&MIGRATIONS)).map_or(Ok(()), Err)
    }

    fn failed(&self, error: &dyn std::error::Error) -> OpenError {
        let mut reason = error.to_string();
        if reason.contains("unable to open database file") {
            "its directory is missing or not writable, or the file may not be read"
                .clone_into(&mut reason);
        }
        OpenError::Failed { database: self.name.clone(), reason }
    }
}

/// SQLite's primary result code for every broken constraint.
const SQLITE_CONSTRAINT: i32 = 19;
/// SQLite's result code for an error in what a statement computes.
const SQLITE_ERROR: i32 = 1;
/// SQLite's primary result code for a damaged file.
const SQLITE_CORRUPT: i32 = 11;
/// The low byte of a result code is the primary one.
const PRIMARY_CODE_MASK: i32 = 0xff;

/// SQLite's result code, if the error is one of SQLite's.
fn result_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// What an error of SQLite means.
pub(super) fn meaning(error: &sqlx::Error) -> DatabaseError {
    let code = result_code(error);
    match (error, code) {
        (_, Some(code)) if code & PRIMARY_CODE_MASK == SQLITE_CONSTRAINT => {
            DatabaseError::Constraint(error.to_string())
        }
        (sqlx::Error::Database(database), _) => DatabaseError::Unavailable(format!(
            "{} (SQLite code {})",
            database.message(),
            code.unwrap_or_default()
        )),
        _ => DatabaseError::Unavailable(error.to_string()),
    }
}
