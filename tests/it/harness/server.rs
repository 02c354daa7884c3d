//! A service with a directory of its own, whose books must balance when a test is done with it.

use std::{net::SocketAddr, path::Path, thread};

use super::{
    Client, Database, Engine, Home, Launch, RawConnection, process::Running, raw, to_the_end,
};

/// A running service. Dropping it kills it and checks [`Database::check_invariants`].
#[derive(Debug)]
pub(crate) struct Server {
    launch: Launch,
    running: Option<Running>,
    home: Home,
}

impl Server {
    /// A service with default settings and a new database.
    pub(crate) fn start(engine: Engine) -> Self {
        Self::start_with(engine, &[])
    }

    /// A service with these settings besides the defaults, and a new database.
    pub(crate) fn start_with(engine: Engine, settings: &[(&str, &str)]) -> Self {
        let launch =
            settings.iter().fold(Launch::new(), |launch, (name, value)| launch.set(name, *value));
        Self::start_as(engine, launch)
    }

    /// A service started in this way, and a new database.
    pub(crate) fn start_as(engine: Engine, launch: Launch) -> Self {
        Self::start_at(Home::new(engine), launch)
    }

    /// A service started in this way, in surroundings that were made before.
    pub(crate) fn start_at(home: Home, launch: Launch) -> Self {
        let mut server = Self { launch: home.given_to(launch), running: None, home };
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
        self.running = Some(self.launch.start(self.directory()));
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
        self.home.directory.path()
    }

    /// Its surroundings.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Its database.
    pub(crate) fn database(&self) -> Database {
        self.home.database.clone()
    }

    /// What it is started with, for a second service at the same database or another command.
    pub(crate) fn launch(&self) -> &Launch {
        &self.launch
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

    /// Sends SIGHUP and returns at once.
    pub(crate) fn hang_up(&self) {
        self.running().signal("-HUP");
    }

    /// Lets it do nothing at all until [`Self::resume`].
    pub(crate) fn pause(&self) {
        self.running().signal("-STOP");
        // Its threads stop one after the other, and one may do much in that time.
        while !self.running().stands_still() {
            std::thread::yield_now();
        }
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

    /// Ends the service with SIGKILL, and waits until nothing that it began goes on.
    pub(crate) fn kill(&mut self) {
        self.running.take().expect("the service runs").kill();
        to_the_end(|| self.home.database.left_by_all());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running = None;
        if thread::panicking() {
            return;
        }
        to_the_end(|| self.home.database.check_invariants());
    }
}
