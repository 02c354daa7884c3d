//! The processes that are measured: how they are started, looked at, and ended.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    client::{PATIENCE, send},
    guard::guarded,
    requests::Call,
};

/// The release binary.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_token-billing");

/// Where databases go, below what cargo builds. Not to /tmp, which may be memory: there a durable commit
/// costs nothing.
pub(crate) const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");

/// A process of ours that listens on `address`, ended with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts it and waits for the line that says where it listens.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let stdout = child.stdout.take().context("the server's output")?;
        let mut server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(stdout);
            let address = output.by_ref().lines().map_while(Result::ok).find_map(|line| {
                line.split_whitespace().find_map(|word| word.strip_prefix("address=")?.parse().ok())
            });
            let _ = address.map(|address| sender.send(address));
            // It goes on reading, because a full pipe would stop the log; and does no more than that,
            // because it takes the processor from what is measured.
            io::copy(&mut output, &mut io::sink())
        });
        let named = receiver.recv_timeout(PATIENCE);
        server.address = named.context("the server named no address=127.0.0.1:PORT")?;
        ensure!(server.address.ip().is_loopback(), "{} is not this machine", server.address);
        Ok(server)
    }

    /// Memory it has now, in MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: u32 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(f64::from(kib) / 1024.0)
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status()?;
        ensure!(asked.success(), "kill failed");
        let asked_at = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(asked_at.elapsed() < PATIENCE, "the service did not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "the service ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The service on the database in `directory`, as it is told by further settings. `command` runs the
/// release binary, in whatever it is to run.
pub(crate) fn configured(
    command: &mut Command,
    directory: &Path,
    settings: &[(&str, &str)],
) -> Result<Server> {
    let database = format!("sqlite://{}", directory.join("billing.db").display());
    command
        .current_dir(directory)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "PATH"))
        .env("BILLING_LISTEN", "127.0.0.1:0")
        .env("DATABASE_URL", database)
        .env("BILLING_RECEIPTS", "off")
        .env("BILLING_CAPACITY_QUICK", "9000000000000000")
        .env("NO_COLOR", "1")
        .envs(settings.iter().copied());
    Server::spawn(command)
}

/// Starts the service; the time is that from the spawn to the first healthy answer.
pub(crate) async fn start_service(
    program: &Path,
    directory: &Path,
    settings: &[(&str, &str)],
) -> Result<(Server, Duration)> {
    let started = Instant::now();
    let server = configured(&mut guarded(program)?, directory, settings)?;
    await_healthy(&server).await?;
    Ok((server, started.elapsed()))
}

pub(crate) async fn await_healthy(server: &Server) -> Result<()> {
    let started = Instant::now();
    let health = Call::health().with("");
    while send(server.address, &health).await.is_err() {
        ensure!(started.elapsed() < PATIENCE, "the service never became healthy");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
