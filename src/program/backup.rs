//! `token-billing backup FILE`: a checked copy of the database, in a file that was not there before.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf, absolute},
};

use crate::database::{Audit, Database, Priority, sqlite::SqliteDatabase};
use anyhow::Context as _;
use scopeguard::{ScopeGuard, guard};
use tempfile::{TempDir, TempPath};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    progress::Progress,
    report::{Differs, Report, complain, holdings, print},
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
    let unfinished = target.begin(database)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let audit = tokio::select! {
        audit = copy(database, &unfinished.file, file) => audit?,
        _ = interrupt.recv() => anyhow::bail!("interrupted; nothing was kept"),
        _ = terminate.recv() => anyhow::bail!("interrupted; nothing was kept"),
    };
    let (kept, bytes) = target.keep(unfinished)?;
    let holdings = holdings(audit.counts);
    print(&format!("done: {}, {bytes} bytes, {holdings}, checked", file.display()))?;
    ScopeGuard::into_inner(kept);
    Ok(())
}

/// Fills `path` with a copy, which is called `file`, and checks that.
async fn copy(database: &SqliteDatabase, path: &Path, file: &Path) -> anyhow::Result<Audit> {
    let copy = database.copy_at(path, file.display().to_string());
    let progress = Progress::new();
    progress.tell("copying");
    let audit = progress
        .during(async {
            database.copy_into(&copy).await?;
            copy.audit(Priority::Usual, |check| progress.tell(check.rule())).await
        })
        .await?;
    if audit.total() > 0 {
        print(&Report { database: database.name(), audit: &audit })?;
        return Err(Differs("the copy is not as it must be; nothing was kept".to_owned()).into());
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

    /// An empty file in a directory beside it. Whoever may not read the database may not read the copy; its
    /// owner may also write.
    fn begin(&self, database: &SqliteDatabase) -> anyhow::Result<Unfinished> {
        let metadata = fs::metadata(database.path())
            .with_context(|| format!("cannot read the database '{}'", database.name()))?;
        let mode = metadata.permissions().mode() & 0o777 | 0o600;
        let cannot = || format!("cannot write to '{}'", self.directory.display());
        let directory = tempfile::Builder::new()
            .prefix(".token-billing-backup-")
            .tempdir_in(&self.directory)
            .with_context(cannot)?;
        let file = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(&directory)
            .with_context(cannot)?;
        Ok(Unfinished { file: file.into_temp_path(), _directory: directory })
    }

    /// Puts the finished copy on disk and in its place, if that is still free. Returns its size in bytes, and
    /// what takes it away again unless its maker was told of it.
    fn keep(&self, unfinished: Unfinished) -> anyhow::Result<(Kept<'_>, u64)> {
        let shown = self.file.display();
        let cannot = || format!("cannot write '{shown}'");
        let file = fs::File::open(&unfinished.file).with_context(cannot)?;
        file.sync_all().with_context(cannot)?;
        let bytes = file.metadata().with_context(cannot)?.len();
        if let Err(failed) = unfinished.file.persist_noclobber(&self.path) {
            if failed.error.kind() == ErrorKind::AlreadyExists {
                anyhow::bail!("'{shown}' exists; nothing was written");
            }
            return Err(failed.error).with_context(cannot);
        }
        let withdraw: fn(&Path) = withdraw;
        let kept = guard(self.path.as_path(), withdraw);
        let synced = fs::File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.with_context(cannot)?;
        Ok((kept, bytes))
    }
}

/// A copy that is being made. It vanishes unless it is kept, and with it whatever SQLite left beside it.
struct Unfinished {
    file: TempPath,
    _directory: TempDir,
}

/// A copy in its place, until its maker was told.
type Kept<'a> = ScopeGuard<&'a Path, fn(&Path)>;

/// Takes a copy back from its place: whoever is told of a failure must not find it.
fn withdraw(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        complain(&format!("'{}' is left behind: {error}", path.display()));
    }
}
