//! A copy of the database, taken while others read and write it.

use std::{fs, io, path::Path};

use super::{OpenError, SqliteDatabase};

impl SqliteDatabase {
    /// The database at another path.
    ///
    /// # Errors
    /// [`OpenError::Failed`] when SQLite can't be given that path.
    pub(crate) fn beside(&self, path: &Path) -> Result<Self, OpenError> {
        let Some(text) = path.to_str() else {
            let database = path.to_string_lossy().into_owned();
            return Err(OpenError::Failed { database, reason: "the path is not UTF-8".to_owned() });
        };
        Ok(Self { options: self.options.clone().filename(path), path: text.to_owned() })
    }

    /// Fills `copy`, which must be a file of nobody else's, with what this database holds at one moment.
    /// It is compact and, until a service opens it, without a write-ahead log.
    ///
    /// # Errors
    /// [`OpenError`]; what the file holds then is of no use.
    pub(crate) async fn copy_into(&self, copy: &Self) -> Result<(), OpenError> {
        self.read(async |connection| {
            // SQLite fills only empty files, and this may be the second time.
            empty(&copy.path)?;
            sqlx::query("VACUUM INTO ?").bind(copy.path.clone()).execute(connection).await?;
            Ok(())
        })
        .await
    }
}

fn empty(path: &str) -> io::Result<()> {
    fs::File::options().write(true).truncate(true).open(path)?;
    Ok(())
}
