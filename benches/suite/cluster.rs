//! A PostgreSQL server of our own, with durable commits, and `pgbench` against it.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::geteuid;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use crate::{client::PATIENCE, guard::guarded, server::FOLDER};

/// A user without any rights; the server refuses to run as root.
const NOBODY: u32 = 65_534;

/// Ended, and its data removed, with this value.
pub(crate) struct Cluster {
    server: Child,
    programs: PathBuf,
    /// Of the socket, whose path may have no more than 107 bytes.
    socket: TempDir,
    _data: TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Result<Self> {
        let programs = programs()?;
        let socket = given_away(tempfile::tempdir_in("/tmp")?)?;
        let data = given_away(tempfile::tempdir_in(FOLDER)?)?;
        let made = as_nobody(Command::new(programs.join("initdb")), data.path())
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale"])
            .arg("--pgdata")
            .arg(data.path())
            .stdout(Stdio::null())
            .status()?;
        ensure!(made.success(), "initdb failed");
        let server = as_nobody(guarded(programs.join("postgres"))?, data.path())
            .arg("-D")
            .arg(data.path())
            .arg("-k")
            .arg(socket.path())
            .args(["-c", "listen_addresses=", "-c", "max_connections=200"])
            .args(["-c", "fsync=on", "-c", "synchronous_commit=on"])
            .stderr(Stdio::null())
            .spawn()?;
        let cluster = Self { server, programs, socket, _data: data };
        let started = Instant::now();
        while PgConnection::connect(&cluster.url("postgres")).await.is_err() {
            ensure!(started.elapsed() < PATIENCE, "the server does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(cluster)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.socket.path().display())
    }

    /// Makes a database, and tells its URL.
    pub(crate) async fn database(&self, name: &str) -> Result<String> {
        let mut connection = PgConnection::connect(&self.url("postgres")).await?;
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create).execute(&mut connection).await?;
        connection.close().await?;
        Ok(self.url(name))
    }

    /// Transactions per second, over whole seconds.
    pub(crate) fn pgbench(
        &self,
        database: &str,
        connections: usize,
        script: &Path,
        duration: Duration,
    ) -> Result<f64> {
        let output = Command::new(self.programs.join("pgbench"))
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--username=postgres"])
            .arg(format!("--client={connections}"))
            .arg(format!("--time={}", duration.as_secs().max(1)))
            .arg("--file")
            .arg(script)
            .arg("--host")
            .arg(self.socket.path())
            .arg(database)
            .output()
            .context("run pgbench")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next());
        Ok(rate.context("pgbench told no rate")?.parse()?)
    }
}

/// What the sessions of the service at a database have done so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) on_processor: Duration,
    /// That wrote, of the whole server.
    pub(crate) transactions: u64,
}

impl Cluster {
    /// What instances at a database had the server do, as the kernel counts it.
    pub(crate) async fn work_of_service(&self, url: &str) -> Result<Work> {
        let mut connection = PgConnection::connect(url).await?;
        let sessions = "SELECT pid FROM pg_stat_activity
            WHERE application_name = 'token-billing' AND datname = current_database()";
        let sessions: Vec<i32> = sqlx::query_scalar(sessions).fetch_all(&mut connection).await?;
        let next = "SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)";
        let next: i64 = sqlx::query_scalar(next).fetch_one(&mut connection).await?;
        connection.close().await?;
        let mut nanoseconds = 0_u64;
        for session in sessions {
            let told = fs::read_to_string(format!("/proc/{session}/schedstat"))?;
            let spent = told.split(' ').next().context("the time on a processor")?;
            nanoseconds = nanoseconds.saturating_add(spent.parse()?);
        }
        let on_processor = Duration::from_nanos(nanoseconds);
        Ok(Work { on_processor, transactions: u64::try_from(next)? })
    }

    /// A pooler before it that gives a session for a transaction at a time; none where it is not installed.
    pub(crate) async fn pooler(&self) -> Result<Option<Pooler>> {
        let Some(program) = on_path("pgbouncer") else { return Ok(None) };
        let directory = given_away(tempfile::tempdir_in("/tmp")?)?;
        let (here, server) = (directory.path().display(), self.socket.path().display());
        let settings = format!(
            "[databases]\n* = host={server} user=postgres\n[pgbouncer]\npool_mode = transaction\n\
             auth_type = any\nlisten_port = 6432\nunix_socket_dir = {here}\nmax_client_conn = 200\n\
             ignore_startup_parameters = extra_float_digits\n"
        );
        let file = directory.path().join("pgbouncer.ini");
        fs::write(&file, settings)?;
        let process = as_nobody(guarded(program)?, directory.path())
            .args(["--quiet".as_ref(), file.as_os_str()])
            .stderr(Stdio::null())
            .spawn()?;
        let pooler = Pooler { process, directory };
        let started = Instant::now();
        while PgConnection::connect(&pooler.url("postgres")).await.is_err() {
            ensure!(started.elapsed() < PATIENCE, "PgBouncer does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Some(pooler))
    }
}

/// `PgBouncer`, ended with this value.
pub(crate) struct Pooler {
    process: Child,
    /// Of its socket.
    directory: TempDir,
}

impl Pooler {
    pub(crate) fn url(&self, database: &str) -> String {
        let directory = self.directory.path().display();
        format!("postgres://postgres@localhost:6432/{database}?host={directory}")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|program| program.is_file())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let pid = self.server.id().to_string();
        let _ = Command::new("kill").args(["-QUIT", &pid]).status();
        let _ = self.server.wait();
    }
}

fn given_away(directory: TempDir) -> Result<TempDir> {
    if geteuid().is_root() {
        chown(directory.path(), Some(NOBODY), Some(NOBODY))?;
    }
    Ok(directory)
}

fn as_nobody(mut command: Command, directory: &Path) -> Command {
    command.current_dir(directory).env("LC_ALL", "C");
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The folder of the server's programs: that of Debian's newest version, or one in PATH.
fn programs() -> Result<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.reverse();
    folders.extend(std::env::split_paths(&path));
    let is_whole = |folder: &PathBuf| {
        ["initdb", "postgres", "pgbench"].iter().all(|program| folder.join(program).is_file())
    };
    folders
        .into_iter()
        .find(is_whole)
        .context("PostgreSQL's initdb, postgres and pgbench are missing")
}
