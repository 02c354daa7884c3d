//! The database file: where it lies, how it is made, and whether it is still the one that was opened. What it
//! holds does not belong here.
//!
//! SQLite keeps writing to a file that was removed or replaced under it, and everything written then
//! is lost with the process; a WAL database never notices. So we look before each use.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::DatabaseError;
use crate::database::DatabaseSize;

/// A new database is for its owner alone. SQLite gives what lies beside it the same mode.
const NEW_FILE_MODE: u32 = 0o600;

/// Where the file lies that is called `given`, all links followed: SQLite keeps the log beside it, not beside
/// a link. A file that is not there yet will lie in the directory named.
pub(super) fn follow_links(given: &Path) -> Result<PathBuf, String> {
    match fs::canonicalize(given) {
        Ok(path) => {
            let names = fs::metadata(&path).map_err(|error| error.to_string())?;
            // A directory has several, of which SQLite will complain in its own way.
            if names.is_file() && names.nlink() > 1 {
                return Err(format!(
                    "the file has {} names (hard links), and its log is found by only one of them; \
                     remove the others",
                    names.nlink()
                ));
            }
            Ok(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Ok(target) = fs::read_link(given) {
                return Err(format!(
                    "it is a link to '{}', which is not there; make an empty file there if a new \
                     database is meant",
                    target.display()
                ));
            }
            let directory = given.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = fs::canonicalize(directory.unwrap_or(Path::new(".")));
            Ok(directory.ok().zip(given.file_name()).map_or_else(
                // Without its directory it can't be made, which is told when it is tried.
                || given.to_owned(),
                |(directory, name)| directory.join(name),
            ))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// A file that SQLite keeps beside the database.
pub(super) fn companion(database: &Path, end: &str) -> PathBuf {
    let mut path = database.to_owned().into_os_string();
    path.push(end);
    path.into()
}

/// Makes the file, empty, unless it is there.
pub(super) fn make(path: &Path) -> io::Result<()> {
    let made = fs::File::options().write(true).create_new(true).mode(NEW_FILE_MODE).open(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// How a file begins.
pub(super) enum StartsWith {
    /// As asked.
    Yes,
    /// In another way.
    No,
    /// Not at all.
    Empty,
}

/// Looks how the file at `path` begins.
pub(super) fn starts_with(path: &Path, magic: &[u8]) -> io::Result<StartsWith> {
    let mut file = fs::File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(StartsWith::Empty);
    }
    let mut start = vec![0; magic.len()];
    match file.read_exact(&mut start) {
        Ok(()) if start == magic => Ok(StartsWith::Yes),
        Ok(()) => Ok(StartsWith::No),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(StartsWith::No),
        Err(error) => Err(error),
    }
}

/// The file that was opened.
#[derive(Debug, Clone)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    /// Remembers the file that lies at `path` now.
    pub(super) fn remember(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// Looks whether the same file still lies there, for reading.
    pub(super) fn check_present(&self) -> Result<fs::Metadata, DatabaseError> {
        let metadata = fs::metadata(&self.path).map_err(|error| {
            DatabaseError::Unavailable(format!(
                "the database file can't be found any more: {error}"
            ))
        })?;
        if (metadata.dev(), metadata.ino()) != (self.device, self.inode) {
            return Err(DatabaseError::Unavailable(
                "another file lies in the database's place; restart the service to use it"
                    .to_owned(),
            ));
        }
        Ok(metadata)
    }

    /// Whether there is a write-ahead log, and be it empty.
    pub(super) fn has_log(&self) -> bool {
        companion(&self.path, "-wal").exists()
    }

    /// The bytes of what lies there and of its write-ahead log; zero for what does not.
    pub(super) fn sizes(&self) -> DatabaseSize {
        let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let wal = companion(&self.path, "-wal");
        DatabaseSize { file_bytes: length(&self.path), wal_bytes: length(&wal) }
    }

    /// Looks whether the same file still lies there, and may be written.
    pub(super) fn check_writable(&self) -> Result<(), DatabaseError> {
        if self.check_present()?.permissions().readonly() {
            return Err(DatabaseError::Unavailable(
                "the database file was made read-only".to_owned(),
            ));
        }
        Ok(())
    }
}
