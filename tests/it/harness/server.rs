//! A service with a directory of its own, whose books must balance when a test is done with it.

use std::{net::SocketAddr, path::Path, thread};

use tempfile::TempDir;

use super::{Client, Database, Launch, RawConnection, process::Running, raw};

/// A running service. Dropping it kills it and checks [`Database::check_invariants`].
#[derive(Debug)]
pub(crate) struct Server {
    launch: Launch,
    running: Option<Running>,
    directory: TempDir,
}

impl Server {
    /// A service with default settings and a new database.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// A service with these settings besides the defaults, and a new database.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Self {
        let launch =
            settings.iter().fold(Launch::new(), |launch, (name, value)| launch.set(name, *value));
        Self::start_as(launch)
    }

    /// A service started in this way, and a new database.
    pub(crate) fn start_as(launch: Launch) -> Self {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let mut server = Self { launch, running: None, directory };
        server.start_again();
        server
    }

    /// Starts the stopped service again, on the same directory.
    pub(crate) fn start_again(&mut self) {
        self.start_again_with(&[]);
    }

    /// The same, with further settings.
    pub(crate) fn start_again_with(&mut self, settings: &[(&str, &str)]) {
        assert!(self.running.is_none(), "the service runs");
        for (name, value) in settings {
            self.launch = self.launch.clone().set(name, *value);
        }
        self.running = Some(self.launch.start(self.directory.path()));
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the service runs")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.running().address
    }

    /// A well-behaved client.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// A connection to which any bytes can be sent.
    pub(crate) fn connect(&self) -> RawConnection {
        RawConnection::open(self.address())
    }

    /// Idle connections, as many as asked for.
    pub(crate) fn connect_many(&self, count: usize) -> Vec<RawConnection> {
        raw::allow_connections();
        (0..count).map(|_| self.connect()).collect()
    }

    /// How much memory it holds, and the most it has held so far, in bytes.
    pub(crate) fn memory_bytes(&self) -> (u64, u64) {
        self.running().memory_bytes()
    }

    /// Its working directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its database file.
    pub(crate) fn database(&self) -> Database {
        Database::at(&self.directory.path().join("billing.db"))
    }

    /// Waits for a line of the log that holds `text`, and returns it.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let line = self.running().log.wait_for(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("the log ended without {text:?}"))
    }

    /// Sends SIGTERM and returns at once.
    pub(crate) fn terminate(&self) {
        self.running().terminate();
    }

    /// Lets it do nothing at all until [`Self::resume`].
    pub(crate) fn pause(&self) {
        self.running().signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.running().signal("-CONT");
    }

    /// Waits for the end of a service that was terminated: with success, and nothing on standard
    /// error. Returns its log.
    pub(crate) async fn ended(&mut self) -> Vec<String> {
        let mut running = self.running.take().expect("the service runs");
        let status = running.wait().await;
        let log = running.log.until_end();
        assert_eq!(status.code(), Some(0), "the end of the service: {log:#?}");
        assert_eq!(running.errors(), Vec::<String>::new(), "standard error");
        log
    }

    /// Stops the service as an init system does. Returns its log.
    pub(crate) async fn stop(&mut self) -> Vec<String> {
        self.terminate();
        self.ended().await
    }

    /// Ends the service with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.running.take().expect("the service runs").kill();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running = None;
        if thread::panicking() {
            return;
        }
        let database = self.database();
        // A runtime can't be entered from within another one, so on a thread.
        let checked = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made")
                .block_on(database.check_invariants());
        });
        checked.join().expect("the books balance");
    }
}
