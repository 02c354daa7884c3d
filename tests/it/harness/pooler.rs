//! A `PgBouncer` of the tests' own before one of our servers. Nothing here knows the service's tables.

use std::{
    env,
    fs::{self, Permissions},
    io::Write,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use rustix::process::geteuid;
use tempfile::TempDir;

use super::{
    Cluster, Database, Launch,
    cluster::{NOBODY, OWNER, SECURED, USER},
    log::Log,
};

/// Set to `1` where every service goes through a pooler in transaction mode.
const OF_ALL: &str = "THROUGH_POOLER";
/// Set to `1` where a pooler that is missing must not go unnoticed.
const REQUIRE: &str = "REQUIRE_POSTGRES";
const PORT: u16 = 6432;

/// Ends the pooler when nobody holds the pipe any more, however the tests end.
const KEEPER: &str = r#""$1" "$2" & read -r end; kill -INT $!; wait $!"#;

/// A running pooler.
#[derive(Debug)]
pub(crate) struct Pooler {
    directory: TempDir,
    mode: &'static str,
    keeper: Child,
}

impl Pooler {
    /// Whether this machine has one. Says so loudly where it has not, and panics where it must.
    pub(crate) fn is_here() -> bool {
        let is_here = program().is_some();
        let required = env::var_os(REQUIRE).is_some_and(|value| value == "1");
        assert!(is_here || !required, "{REQUIRE}=1, but there is no pgbouncer");
        if !is_here {
            let _ = writeln!(
                std::io::stderr(),
                "\n!!! SKIPPED: tests with a pooler; on Debian: apt-get install pgbouncer !!!\n"
            );
        }
        is_here
    }

    /// The one before the shared server that all services go through, if they do.
    pub(crate) fn of_all() -> Option<&'static Self> {
        static OF_ALL_TESTS: OnceLock<Option<Pooler>> = OnceLock::new();
        let start = || {
            let wanted = env::var_os(OF_ALL).is_some_and(|value| value == "1");
            wanted.then(|| Self::start(Cluster::shared(), "transaction", 10))
        };
        OF_ALL_TESTS.get_or_init(start).as_ref()
    }

    /// A new one in a mode, with so many sessions for each database.
    pub(crate) fn start(cluster: &Cluster, mode: &'static str, sessions: u16) -> Self {
        let base = if geteuid().is_root() { PathBuf::from("/tmp") } else { env::temp_dir() };
        let directory = tempfile::Builder::new().prefix("pooler-").tempdir_in(base);
        let directory = directory.expect("a temporary directory can be made");
        let path = directory.path();
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("our own directory");
        let users = [OWNER, USER, SECURED].map(|user| format!("\"{user}\" \"\"\n")).concat();
        fs::write(path.join("users"), users).expect("our own directory");
        let settings = format!(
            "[databases]\n* = host={} port=5432\n[pgbouncer]\nlisten_port = {PORT}\n\
             unix_socket_dir = {path}\nauth_type = trust\nauth_file = {path}/users\n\
             pool_mode = {mode}\nmax_client_conn = 1000\ndefault_pool_size = {sessions}\n",
            cluster.directory().display(),
            path = path.display(),
        );
        fs::write(path.join("settings"), settings).expect("our own directory");
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER, "keeper"])
            .arg(program().expect("looked for before"))
            .arg(path.join("settings"))
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if geteuid().is_root() {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("root may give it away");
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut keeper = command.spawn().expect("a shell starts");
        let log = Log::follow(keeper.stderr.take().expect("standard error is piped"));
        let ready = log.wait_for(|line| line.contains("process up"));
        assert!(ready.is_some(), "the pooler does not start: {:#?}", log.until_end());
        Self { directory, mode, keeper }
    }

    /// Where a database is behind it.
    pub(crate) fn url(&self, database: &Database) -> String {
        database.url_at(self.directory.path().to_str().expect("a UTF-8 path"), PORT)
    }

    /// Has a service use the database through it.
    pub(crate) fn given_to(&self, database: &Database, launch: Launch) -> Launch {
        let pooler = if self.mode == "transaction" { "transaction" } else { "none" };
        launch.set("DATABASE_URL", self.url(database)).set("BILLING_PG_POOLER", pooler)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        self.keeper.wait().expect("our own child can be waited for");
    }
}

fn program() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Where Debian has it, which not everybody looks for programs.
    let folders = env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file())
}
