//! `token-billing backup FILE`: a checked copy of the database, in a file that was not there before.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf, absolute},
};

use crate::database::{Audit, Database, sqlite::SqliteDatabase};
use anyhow::Context as _;
use tempfile::TempPath;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    progress::Progress,
    report::{Report, holdings, print},
};

/// Copies the database to `file`. Whatever goes wrong, nothing of it stays.
pub(crate) async fn backup(database: &Database, file: &Path) -> anyhow::Result<()> {
    let Database::Sqlite(database) = database else {
        anyhow::bail!(
            "'{}' is on a server; use pg_dump --format=custom --file={} instead",
            database.name(),
            file.display()
        );
    };
    let target = Target::new(file)?;
    let unfinished = target.unfinished(database)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let audit = tokio::select! {
        audit = copy(database, &unfinished) => audit?,
        _ = interrupt.recv() => anyhow::bail!("interrupted; nothing was kept"),
        _ = terminate.recv() => anyhow::bail!("interrupted; nothing was kept"),
    };
    let bytes = target.keep(unfinished)?;
    let holdings = holdings(audit.counts);
    print(&format!("done: {}, {bytes} bytes, {holdings}, checked", file.display()))?;
    Ok(())
}

/// Fills `path` with a copy, and checks that.
async fn copy(database: &SqliteDatabase, path: &Path) -> anyhow::Result<Audit> {
    let copy = database.beside(path)?;
    let progress = Progress::new();
    progress.tell("copying");
    let audit = progress
        .during(async {
            database.copy_into(&copy).await?;
            copy.audit(|check| progress.tell(check.rule())).await
        })
        .await?;
    if audit.total() > 0 {
        print(&Report { database: database.path(), audit: &audit })?;
        anyhow::bail!("the copy is not as it must be; nothing was kept");
    }
    Ok(audit)
}

/// Where the copy is to be.
struct Target<'a> {
    /// As the user calls it.
    file: &'a Path,
    path: PathBuf,
    directory: PathBuf,
}

impl<'a> Target<'a> {
    /// Looks whether the place is free: of the file, and of logs of another, which SQLite would take
    /// for the copy's.
    fn new(file: &'a Path) -> anyhow::Result<Self> {
        let path = absolute(file).with_context(|| format!("'{}'", file.display()))?;
        let directory =
            path.parent().with_context(|| format!("'{}' is no file", file.display()))?;
        let directory = directory.to_owned();
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut taken = path.clone().into_os_string();
            taken.push(end);
            if fs::symlink_metadata(&taken).is_ok() {
                anyhow::bail!("'{}{end}' exists; nothing was written", file.display());
            }
        }
        Ok(Self { file, path, directory })
    }

    /// An empty file beside it, which vanishes unless it is kept. Whoever may not read the database may
    /// not read the copy; its owner may also write.
    fn unfinished(&self, database: &SqliteDatabase) -> anyhow::Result<TempPath> {
        let source = Path::new(database.path());
        let metadata = fs::metadata(source)
            .with_context(|| format!("cannot read the database '{}'", source.display()))?;
        let mode = metadata.permissions().mode() & 0o777 | 0o600;
        let file = tempfile::Builder::new()
            .prefix(".token-billing-backup-")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(&self.directory)
            .with_context(|| format!("cannot write to '{}'", self.directory.display()))?;
        Ok(file.into_temp_path())
    }

    /// Puts the finished copy on disk and in its place, if that is still free. Returns its size in bytes.
    fn keep(&self, unfinished: TempPath) -> anyhow::Result<u64> {
        let shown = self.file.display();
        let cannot = || format!("cannot write '{shown}'");
        let file = fs::File::open(&unfinished).with_context(cannot)?;
        file.sync_all().with_context(cannot)?;
        let bytes = file.metadata().with_context(cannot)?.len();
        if let Err(failed) = unfinished.persist_noclobber(&self.path) {
            if failed.error.kind() == ErrorKind::AlreadyExists {
                anyhow::bail!("'{shown}' exists; nothing was written");
            }
            return Err(failed.error).with_context(cannot);
        }
        let synced = fs::File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced
            .with_context(|| format!("'{shown}' is written, but a power cut may still lose it"))?;
        Ok(bytes)
    }
}
