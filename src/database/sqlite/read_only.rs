//! Reads of a database that a service may have open, or that nobody may write: nothing in it changes,
//! and no file appears beside one at rest.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

use crate::database::{beside, purchase_names::SOME_TO_NAME};

use super::{
    BUSY_TIMEOUT, MIGRATIONS, OpenError, ROW_BUFFER_ROWS, SQLITE_MAGIC, SqliteDatabase, describe,
    file, file::StartsWith, newest_known, newest_migration,
};

impl SqliteDatabase {
    /// Does `work` on a connection that can't write; again, when a service came and wrote meanwhile to
    /// what was taken to be at rest.
    pub(in crate::database) async fn read<T>(
        &self,
        mut work: impl AsyncFnMut(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, OpenError> {
        loop {
            self.check_begins_as_a_database()?;
            let at_rest = AtRest::look(&self.path);
            let options = self.read_only(at_rest.is_some());
            let mut connection = options.connect().await.map_err(|error| self.failed(&error))?;
            let done = match self.check_current(&mut connection).await {
                Ok(()) => work(&mut connection).await.map_err(|error| self.unreadable(&error)),
                Err(error) => Err(error),
            };
            connection.close().await.map_err(|error| self.unreadable(&error))?;
            if at_rest.is_none() || at_rest == AtRest::look(&self.path) {
                return done;
            }
        }
    }

    /// How to open the file for reading. Opening a WAL database makes files beside it, unless it may be
    /// taken as immutable: which it may while no log lies there.
    pub(super) fn read_only(&self, at_rest: bool) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .read_only(true)
            .immutable(at_rest)
            // What a copy is written with, too: it counts once it is on disk.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .row_buffer_size(ROW_BUFFER_ROWS)
            .disable_statement_logging()
    }

    fn check_begins_as_a_database(&self) -> Result<(), OpenError> {
        let foreign = |reason: &str| OpenError::Foreign {
            database: self.name.clone(),
            reason: reason.to_owned(),
        };
        match file::starts_with(&self.path, SQLITE_MAGIC) {
            Ok(StartsWith::Yes) => Ok(()),
            Ok(StartsWith::No) => Err(foreign("file is not a database")),
            Ok(StartsWith::Empty) => Err(foreign("the file is empty")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(OpenError::Missing { database: self.name.clone() })
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Looks whether the tables are those this version knows.
    async fn check_current(&self, connection: &mut SqliteConnection) -> Result<(), OpenError> {
        let foreign =
            |error| OpenError::Foreign { database: self.name.clone(), reason: describe(&error) };
        let schema = newest_migration(connection).await.map_err(foreign)?;
        match OpenError::not_current(&self.name, &schema, newest_known(&MIGRATIONS)) {
            Some(error) => return Err(error),
            None => self.check_tables(connection).await?,
        }
        let unnamed = sqlx::query_scalar(SOME_TO_NAME).fetch_one(connection).await;
        if unnamed.map_err(|error| self.unreadable(&error))? {
            return Err(OpenError::Unnamed { database: self.name.clone() });
        }
        Ok(())
    }

    fn unreadable(&self, error: &sqlx::Error) -> OpenError {
        OpenError::Unreadable { database: self.name.clone(), reason: describe(error) }
    }
}

/// Steps of SQLite's machine after which it looks whether it is to go on; some microseconds.
const STEPS: i32 = 1_000;

/// What runs on a connection gives way to others, and is given up when this is dropped.
pub(super) struct GivingWay(Arc<AtomicBool>);

impl Drop for GivingWay {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has all that runs on a connection from now on give way to whatever else wants to run on this machine. Each
/// connection has a thread of its own, and only from within can its priority be lowered.
pub(super) async fn give_way(connection: &mut SqliteConnection) -> Result<GivingWay, sqlx::Error> {
    let given_up = Arc::new(AtomicBool::new(false));
    let (mut has_given_way, is_given_up) = (false, Arc::clone(&given_up));
    connection.lock_handle().await?.set_progress_handler(STEPS, move || {
        if !has_given_way {
            has_given_way = true;
            beside::give_way();
        }
        !is_given_up.load(Ordering::Relaxed)
    });
    Ok(GivingWay(given_up))
}

/// A file that nobody has open for writing, as far as can be seen, and what changes with each write.
#[derive(Debug, PartialEq, Eq)]
struct AtRest {
    inode: u64,
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl AtRest {
    /// `None` when the file has a log beside it, or isn't there.
    fn look(path: &Path) -> Option<Self> {
        let logged = ["-wal", "-journal"].iter().any(|end| file::companion(path, end).exists());
        let metadata = fs::metadata(path).ok().filter(|_| !logged)?;
        Some(Self {
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        })
    }
}
