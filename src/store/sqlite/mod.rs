//! The SQLite engine: how a database file is opened, checked and migrated.
//!
//! One connection writes ([`SqliteWriter`]), a small pool reads ([`SqliteReader`]).

mod audit;
mod backup;
mod file;
mod index_filter;
mod keys;
mod read_only;
mod reader;
mod recent;
mod save;
mod snapshot;
mod writer;
mod young_keys;

use std::{path::Path, str::FromStr, sync::LazyLock, time::Duration};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

pub use reader::SqliteReader;
pub use writer::SqliteWriter;

use super::{FoundSchema, OpenError, StoreError, describe, migrator, newest_known};
use file::{DatabaseFile, StartsWith};

/// One that was released is never edited: by its checksum every database made with it would look like
/// another program's.
pub(super) static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    migrator([
        include_str!("../../../migrations/sqlite/0001_schema.sql"),
        include_str!("../../../migrations/sqlite/0002_seed.sql"),
        include_str!("../../../migrations/sqlite/0003_idempotency_keys.sql"),
    ])
});

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
pub struct SqliteDatabase {
    options: SqliteConnectOptions,
    path: String,
}

impl SqliteDatabase {
    /// The database a URL such as `sqlite://billing.db` names. Nothing is opened yet.
    ///
    /// `max_bytes` caps the size of the database file; writes that would pass it are unavailable.
    ///
    /// # Errors
    /// [`OpenError::Url`] when the URL names no file.
    pub fn from_url(url: &str, max_bytes: Option<u64>) -> Result<Self, OpenError> {
        if !url.starts_with("sqlite:") {
            return Err(OpenError::Url("must begin with sqlite://".to_owned()));
        }
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|error| OpenError::Url(error.to_string()))?;
        let path = options.get_filename().to_string_lossy().into_owned();
        if path.is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
            return Err(OpenError::Url("must name a file, such as sqlite://billing.db".to_owned()));
        }
        let mut options = options
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
        Ok(Self { options, path })
    }

    /// The database file, as the URL names it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Opens the database, making and migrating it where needed.
    ///
    /// # Errors
    /// [`OpenError`]; a file that is not ours, or newer than we are, is left untouched.
    pub async fn open(&self) -> Result<(SqliteWriter, SqliteReader), OpenError> {
        self.inspect().await?;
        let writing = self.options.clone().pragma("cache_size", format!("-{WRITER_CACHE_KIB}"));
        let create = writing.clone().create_if_missing(true);
        let mut connection = create.connect().await.map_err(|error| self.failed(&error))?;
        migrate(&mut connection).await.map_err(|error| self.failed(&error))?;

        let options = self.options.clone().create_if_missing(false);
        let file =
            DatabaseFile::remember(Path::new(&self.path)).map_err(|error| self.failed(&error))?;
        let reader = SqliteReader::new(&options, file.clone());
        Ok((SqliteWriter::new(connection, writing.create_if_missing(false), file), reader))
    }

    /// Looks whether an existing file is a database we may migrate, without writing to it.
    async fn inspect(&self) -> Result<(), OpenError> {
        match file::starts_with(Path::new(&self.path), SQLITE_MAGIC) {
            Ok(StartsWith::Yes) => {}
            // SQLite itself takes some short files for empty databases and overwrites them.
            Ok(StartsWith::No) => {
                let reason = "file is not a database".to_owned();
                return Err(OpenError::Foreign { database: self.path.clone(), reason });
            }
            Ok(StartsWith::Empty) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(self.failed(&error)),
        }
        let clean = !Path::new(&format!("{}-wal", self.path)).exists();
        let options = self.read_only(clean);
        let foreign = |error: sqlx::Error| OpenError::Foreign {
            database: self.path.clone(),
            reason: describe(&error),
        };
        let mut connection = options.connect().await.map_err(|error| self.failed(&error))?;
        let found = newest_migration(&mut connection).await.map_err(foreign);
        connection.close().await.map_err(|error| self.failed(&error))?;
        OpenError::unfit(&self.path, &found?, newest_known(&MIGRATIONS)).map_or(Ok(()), Err)
    }

    fn failed(&self, error: &dyn std::error::Error) -> OpenError {
        let mut reason = error.to_string();
        if reason.contains("unable to open database file") {
            "its directory is missing or not writable, or the file may not be read"
                .clone_into(&mut reason);
        }
        OpenError::Failed { database: self.path.clone(), reason }
    }
}

/// Applies what is missing. Where another process is doing the same, its migration is one that ours
/// finds already there, so we look again; each is applied whole or not at all.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    for _ in 0..MIGRATIONS.iter().count() {
        if MIGRATIONS.run_direct(None, connection, false).await.is_ok() {
            return Ok(());
        }
    }
    MIGRATIONS.run_direct(None, connection, false).await
}

async fn newest_migration(connection: &mut SqliteConnection) -> Result<FoundSchema, sqlx::Error> {
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
pub(super) fn meaning(error: &sqlx::Error) -> StoreError {
    let code = result_code(error);
    match (error, code) {
        (_, Some(code)) if code & PRIMARY_CODE_MASK == SQLITE_CONSTRAINT => {
            StoreError::Constraint(error.to_string())
        }
        (sqlx::Error::Database(database), _) => StoreError::Unavailable(format!(
            "{} (SQLite code {})",
            database.message(),
            code.unwrap_or_default()
        )),
        _ => StoreError::Unavailable(error.to_string()),
    }
}
