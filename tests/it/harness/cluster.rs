//! The throw-away PostgreSQL server, as these tests use it: stopped and started, with databases.

use std::{
    env, fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::geteuid;
use sqlx::postgres::PgConnectOptions;

use super::{Connection, Database, to_the_end};

#[path = "../../cluster/mod.rs"]
mod server;

pub(crate) use server::{Cluster, NOBODY, OWNER, USER, is_here, new_name};
use server::{SOCKET, new_directory, programs};

/// A user who may do what the ordinary one may, but has to say the [`PASSWORD`].
pub(crate) const SECURED: &str = "secured";
pub(crate) const PASSWORD: &str = "a-secret-password";

impl Cluster {
    /// A new server.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// A new server that follows another one. None where the program that copies a server is missing, and says so.
    pub(crate) fn standby_of(primary: &Self) -> Option<Self> {
        let real = programs().expect("looked for before").join("postgres").canonicalize();
        let real = real.expect("it is there").with_file_name("pg_basebackup");
        let path = env::var_os("PATH").unwrap_or_default();
        let on_path = env::split_paths(&path).map(|folder| folder.join("pg_basebackup"));
        let Some(program) = [real].into_iter().chain(on_path).find(|program| program.is_file())
        else {
            let _ = writeln!(std::io::stderr(), "\n!!! SKIPPED: there is no pg_basebackup !!!\n");
            return None;
        };
        let directory = new_directory();
        let mut copying = Command::new(program);
        copying
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--username", OWNER])
            .arg("--host")
            .arg(&primary.directory)
            .arg("--pgdata")
            .arg(directory.join("data"))
            .current_dir(&directory);
        if geteuid().is_root() {
            copying.uid(NOBODY).gid(NOBODY);
        }
        let copied = copying.output().expect("pg_basebackup starts");
        assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
        let mut cluster = Self { directory, options: primary.options.clone(), keeper: None };
        cluster.start_again();
        Some(cluster)
    }

    /// Starts the stopped server again, and waits until it takes connections.
    pub(crate) fn start_again(&mut self) {
        assert!(self.keeper.is_none(), "the server runs");
        self.keeper = Some(self.keep("", Stdio::piped()));
    }

    /// Ends the server with a signal, named as for `kill`: `INT` ends all connections in good order,
    /// `QUIT` is a crash.
    pub(crate) fn stop(&mut self, signal: &str) {
        let mut keeper = self.keeper.take().expect("the server runs");
        let mut orders = keeper.stdin.take().expect("standard input is piped");
        writeln!(orders, "{signal}").expect("the keeper reads");
        keeper.wait().expect("our own child can be waited for");
    }

    /// Has the server become a standby, whose primary never says anything.
    pub(crate) fn become_standby(&mut self) {
        self.stop("INT");
        fs::write(self.directory.join("data/standby.signal"), "").expect("our own directory");
        self.start_again();
    }

    /// Where it can be connected to.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The path of its socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join(SOCKET)
    }

    /// A new database, owned by [`USER`].
    pub(super) fn create_database(&self) -> Database {
        self.create_database_named(&new_name())
    }

    /// The same with a name that no other has.
    pub(crate) fn create_database_named(&self, name: &str) -> Database {
        to_the_end(async || {
            let mut connection = Connection::to_postgres(&self.owner()).await;
            connection.execute(&format!("CREATE DATABASE {name} OWNER {USER}")).await;
            connection.close().await;
        });
        Database::Postgres(Box::new(self.owner().username(USER).database(name)))
    }

    /// How its owner connects. What a test sets for the sessions of a database is meant for the service's.
    fn owner(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.directory)
            .port(5432)
            .username(OWNER)
            .database(OWNER)
            .application_name("tests")
            .options([("statement_timeout", "0"), ("idle_session_timeout", "0")])
    }
}
