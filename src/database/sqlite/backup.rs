//! A copy of the database, taken while others read and write it.

use std::{fs, io, path::Path};

use super::{OpenError, PRIMARY_CODE_MASK, SqliteDatabase, describe, result_code};

/// SQLite's primary result codes for no room, no file and no right to write.
const SQLITE_FULL: i32 = 13;
const SQLITE_CANTOPEN: i32 = 14;
const SQLITE_READONLY: i32 = 8;
/// `SQLITE_IOERR_WRITE`, `_FSYNC`, `_DIR_FSYNC`, `_TRUNCATE` and `_DELETE`.
const IO_ERRORS_OF_WRITING: [i32; 5] = [778, 1_034, 1_290, 1_546, 2_570];

impl SqliteDatabase {
    /// The copy that is being made at `path`, and that people call `name`.
    #[must_use]
    pub(crate) fn copy_at(&self, path: &Path, name: String) -> Self {
        let options = self.options.clone().filename(path);
        Self { options, name, path: path.to_owned(), access: self.access }
    }

    /// Fills `copy`, which must be a file of nobody else's, with what this database holds at one moment.
    /// It is compact and, until a service opens it, without a write-ahead log.
    ///
    /// # Errors
    /// [`OpenError`] of whichever of the two is at fault; what the file holds then is of no use.
    pub(crate) async fn copy_into(&self, copy: &Self) -> Result<(), OpenError> {
        let unwritten = |reason| OpenError::Unwritten { database: copy.name.clone(), reason };
        let Some(path) = copy.path.to_str() else {
            return Err(unwritten("the path is not UTF-8".to_owned()));
        };
        let copied = self.read(async |connection| {
            // SQLite fills only empty files, and this may be the second time.
            if let Err(error) = empty(&copy.path) {
                return Ok(Err(unwritten(error.to_string())));
            }
            match sqlx::query("VACUUM INTO ?").bind(path).execute(connection).await {
                Err(error) if is_of_writing(&error) => Ok(Err(unwritten(describe(&error)))),
                done => done.map(|_| Ok(())),
            }
        });
        copied.await?
    }
}

/// Whether a statement failed at what it writes: at the copy, for nothing else is written.
fn is_of_writing(error: &sqlx::Error) -> bool {
    result_code(error).is_some_and(|code| {
        IO_ERRORS_OF_WRITING.contains(&code)
            || [SQLITE_FULL, SQLITE_CANTOPEN, SQLITE_READONLY].contains(&(code & PRIMARY_CODE_MASK))
    })
}

fn empty(path: &Path) -> io::Result<()> {
    fs::File::options().write(true).truncate(true).open(path)?;
    Ok(())
}
