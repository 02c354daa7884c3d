//! The binary as a process: started with exactly the environment a test names, signalled, waited for.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
};

use tokio::sync::oneshot;

use super::{PATIENCE, log::Log};

/// How to start the binary in a directory.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    settings: Vec<(String, OsString)>,
    unprivileged: bool,
    /// What a shell does first.
    limit: Option<String>,
}

/// A start that came to nothing.
#[derive(Debug)]
pub(crate) struct FailedStart {
    /// The exit status; `None` when it did start.
    pub(crate) code: Option<i32>,
    /// The lines on standard error.
    pub(crate) stderr: Vec<String>,
}

/// A command that has run to its end.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit status.
    pub(crate) code: Option<i32>,
    /// The lines on standard output.
    pub(crate) stdout: Vec<String>,
    /// The lines on standard error.
    pub(crate) stderr: Vec<String>,
}

/// A standard output that takes nothing: it is full.
pub(crate) fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("Linux has it").into()
}

/// A standard output that takes nothing: its reader has gone.
pub(crate) fn closed() -> Stdio {
    io::pipe().expect("a pipe can be made").1.into()
}

impl Launch {
    /// A free port, the database `billing.db` in the working directory, and purchases that are believed.
    pub(crate) fn new() -> Self {
        Self { settings: Vec::new(), unprivileged: false, limit: None }
            .set("BILLING_LISTEN", "127.0.0.1:0")
            .set("DATABASE_URL", "sqlite://billing.db")
            .set("BILLING_RECEIPTS", "off")
    }

    /// Sets an environment variable; the last value counts.
    pub(crate) fn set(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.settings.push((name.to_owned(), value.into()));
        self
    }

    /// The value that a variable is set to, if any.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let (_, value) = self.settings.iter().rfind(|(set, _)| set == name)?;
        value.to_str().map(str::to_owned)
    }

    /// As somebody who can't write to `directory`, whose mode says so: root could, and takes the place of a
    /// user without any rights.
    pub(crate) fn stopped_by_modes(mut self, directory: &Path) -> Self {
        let probe = directory.join("probe");
        if fs::write(&probe, "").is_ok() {
            fs::remove_file(probe).expect("just written");
            self.unprivileged = true;
            let help = self.command(directory).arg("--help").output();
            assert!(
                help.is_ok_and(|output| output.status.success()),
                "as root this test needs setpriv, and a binary that others can start"
            );
        }
        self
    }

    /// With a limit of open files, such as `-Sn 1024`.
    pub(crate) fn limit_open_files(mut self, options: &str) -> Self {
        self.limit = Some(format!("ulimit {options}"));
        self
    }

    /// With files that may not grow beyond so much, as on a full disk.
    pub(crate) fn limit_file_size(mut self, kib: usize) -> Self {
        // Whoever writes more is told, not killed.
        self.limit = Some(format!("trap '' XFSZ && ulimit -f {}", kib * 2));
        self
    }

    /// The command line, to which arguments may be added.
    pub(crate) fn command(&self, directory: &Path) -> Command {
        let binary = env!("CARGO_BIN_EXE_token-billing");
        let mut command = if self.unprivileged {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", binary]);
            command
        } else if let Some(limit) = &self.limit {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("{limit} && exec \"$0\" \"$@\""), binary]);
            command
        } else {
            Command::new(binary)
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command of the binary to its end; other tasks go on meanwhile.
    pub(crate) async fn finish(&self, directory: &Path, arguments: &[&str]) -> Finished {
        let mut command = self.command(directory);
        command.args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .expect("the thread ends")
            .expect("the binary starts");
        let lines =
            |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
        let code = output.status.code();
        Finished { code, stdout: lines(&output.stdout), stderr: lines(&output.stderr) }
    }

    /// Starts the service and waits until it listens.
    pub(crate) fn start(&self, directory: &Path) -> Running {
        let started = self.try_start(directory);
        started.unwrap_or_else(|errors| panic!("the service did not start: {errors:#?}"))
    }

    /// The same with a service that may not come to listen; returns what it says to that.
    pub(crate) fn try_start(&self, directory: &Path) -> Result<Running, Vec<String>> {
        let mut child = self.command(directory).spawn().expect("the binary starts");
        let log = Log::follow(child.stdout.take().expect("standard output is piped"));
        let errors = Log::follow(child.stderr.take().expect("standard error is piped"));
        let Some(line) = log.wait_for(|line| line.contains("address=")) else {
            child.wait().expect("our own child can be waited for");
            return Err(errors.until_end());
        };
        let (_, rest) = line.split_once("address=").expect("just looked for");
        let address = rest.split_whitespace().next().expect("an address follows");
        let address = address.parse().expect("a socket address");
        Ok(Running { child: Some(child), address, log, errors })
    }

    /// Starts the service, which need not listen for long.
    pub(crate) fn begin(&self, directory: &Path) -> Starting {
        let mut child = self.command(directory).spawn().expect("the binary starts");
        let log = Log::follow(child.stdout.take().expect("standard output is piped"));
        let errors = Log::follow(child.stderr.take().expect("standard error is piped"));
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        Starting(Running { child: Some(child), address, log, errors })
    }

    /// Starts what can't start, and waits for its end. A service that listens after all is killed.
    pub(crate) fn fail_to_start(&self, directory: &Path) -> FailedStart {
        let mut child = self.command(directory).spawn().expect("the binary starts");
        let log = Log::follow(child.stdout.take().expect("standard output is piped"));
        let errors = Log::follow(child.stderr.take().expect("standard error is piped"));
        if log.wait_for(|line| line.contains("address=")).is_some() {
            child.kill().expect("our own child can be killed");
        }
        let status = child.wait().expect("our own child can be waited for");
        FailedStart { code: status.code(), stderr: errors.until_end() }
    }
}

/// A service that may not listen yet.
#[derive(Debug)]
pub(crate) struct Starting(Running);

impl Starting {
    /// Waits for a line of the log that holds `text`, and returns it.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        let line = self.0.log.wait_for(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("no line with {text:?}: {:#?}", self.0.errors()))
    }

    /// Asks it to stop, as an init system does, and returns the exit status.
    pub(crate) async fn stop(mut self) -> Option<i32> {
        self.0.terminate();
        self.0.wait().await.code()
    }
}

/// A service that listens.
#[derive(Debug)]
pub(crate) struct Running {
    child: Option<Child>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its standard output.
    pub(crate) log: Arc<Log>,
    errors: Arc<Log>,
}

impl Running {
    fn id(&self) -> u32 {
        self.child.as_ref().expect("not waited for yet").id()
    }

    /// How much memory it holds, and the most it has held so far, in bytes.
    pub(crate) fn memory_bytes(&self) -> (u64, u64) {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("the service runs");
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("Linux tells");
            kib.parse::<u64>().expect("a number") * 1_024
        };
        (value("VmRSS:"), value("VmHWM:"))
    }

    /// Asks it to stop, as an init system does.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal, named as for `kill`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().expect("kill starts");
        assert!(status.success(), "the service can be signalled");
    }

    /// Whether each of its threads stands still, as far as this system tells.
    pub(crate) fn stands_still(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.id())) else { return true };
        threads.flatten().all(|thread| {
            let told = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            told.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
        })
    }

    /// Ends it at once, with no chance to tidy up.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }

    /// Waits until it ends; other tasks go on meanwhile.
    pub(crate) async fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("not waited for yet");
        let pid = child.id().to_string();
        let (ended, end) = oneshot::channel();
        thread::spawn(move || ended.send(child.wait()));
        let Ok(result) = tokio::time::timeout(PATIENCE, end).await else {
            Command::new("kill").args(["-KILL", &pid]).status().expect("kill starts");
            panic!("the service does not end: {:#?}", self.log.until_end());
        };
        result.expect("the thread sends").expect("our own child can be waited for")
    }

    /// What it printed to standard error, once it has ended.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.until_end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
