//! Whether the database file is still the one that was opened.
//!
//! SQLite keeps writing to a file that was removed or replaced under it, and everything written then
//! is lost with the process; a WAL database never notices. So we look before each use.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::DatabaseError;
use crate::database::DatabaseSize;

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

    /// The bytes of what lies there and of its write-ahead log; zero for what does not.
    pub(super) fn sizes(&self) -> DatabaseSize {
        let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        DatabaseSize { file_bytes: length(&self.path), wal_bytes: length(Path::new(&wal)) }
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
