//! Starts and stops the service: settings, database, socket, signals, and the exit status.

use std::{
    env, net::SocketAddr, num::NonZero, process::ExitCode, sync::Arc, thread, time::Duration,
};

use chrono::Utc;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};
use tracing::{error, info, warn};

use token_billing::{
    config::{Config, ConfigError},
    http::{Authentication, Server},
    ledger::{Ledger, QUEUE_LIMIT},
    metrics::{Limits, Listener, Metrics, Sample},
    service::BillingService,
    store::{Reader, sqlite::SqliteDatabase},
    telemetry,
};

/// Every request allocates dozens of small pieces, which the system's allocator is slower at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit status for settings that can't be used.
const EXIT_USAGE: u8 = 2;
/// How long a stop waits for the ledger to write what is queued. What takes longer was not
/// acknowledged to anyone.
const LEDGER_GRACE: Duration = Duration::from_millis(2_900);

fn main() -> ExitCode {
    if let Err(error) = dotenvy::dotenv()
        && !error.not_found()
    {
        return usage(&format!("the file .env can't be read: {error}"));
    }
    let config = match Config::read(env::args_os()) {
        Ok(config) => config,
        Err(ConfigError::Answer(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(ConfigError::Invalid(line)) => return usage(&line),
    };
    let authentication = match config.authentication() {
        Ok(authentication) => authentication,
        Err(line) => return usage(&line),
    };
    let database = match SqliteDatabase::from_url(&config.database_url, config.database_max_bytes) {
        Ok(database) => database,
        Err(error) => return usage(&error.to_string()),
    };
    let _logs = match telemetry::start(&config.log, config.log_format) {
        Ok(guard) => guard,
        Err(reason) => return usage(&format!("BILLING_LOG: {reason}")),
    };
    let ran =
        runtime().and_then(|runtime| runtime.block_on(run(&config, authentication, &database)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("token-billing: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Threads for everything but SQLite, which has its own: one core is left to it, because every write
/// passes through it, and two threads on one core only take turns.
fn runtime() -> anyhow::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = Builder::new_multi_thread()
        .worker_threads(cores.saturating_sub(1).max(1))
        .enable_all()
        .build()?;
    Ok(runtime)
}

#[expect(clippy::disallowed_methods, reason = "the one place that gives the ledger its clock")]
async fn run(
    config: &Config,
    authentication: Authentication,
    database: &SqliteDatabase,
) -> anyhow::Result<()> {
    let stop = Stop::listen()?;
    let listener = bind("BILLING_LISTEN", config.listen).await?;
    let scraped = match config.metrics_listen {
        Some(address) => Some(bind("BILLING_METRICS_LISTEN", address).await?),
        None => None,
    };
    let metrics = scraped.as_ref().map(|_| {
        let limits = Limits { queue_depth: QUEUE_LIMIT, database_bytes: config.database_max_bytes };
        Arc::new(Metrics::new(limits))
    });
    let (writer, reader) = database.open().await?;
    let (ledger, mut writer_task) = Ledger::start(
        writer,
        config.capacity_limits(),
        config.retention(),
        Utc::now,
        metrics.clone(),
    );
    let scrapes = scraped
        .zip(metrics.clone())
        .map(|(socket, metrics)| scrapes(socket, metrics, &ledger, &reader));
    let service =
        BillingService::new(ledger, reader.clone(), config.allow_reset).counting(metrics.clone());
    let unprotected =
        matches!(authentication, Authentication::None) && !config.listen.ip().is_loopback();
    let server =
        Server::new(listener, service, authentication, &config.cors_origins).counting(metrics);
    info!(address = %server.local_addr()?, database = database.path(), "listening");
    if let Some(scrapes) = scrapes {
        info!(metrics = %scrapes.local_addr()?, "answering scrapes");
        tokio::spawn(scrapes.run());
    }
    if unprotected {
        warn!("nobody has to log in (BILLING_AUTH=none): whoever connects acts for default_user");
    }

    let died = {
        let serving = server.run(stop.requested());
        tokio::pin!(serving);
        tokio::select! {
            () = &mut serving => false,
            () = writer_task.died() => true,
        }
    };
    if died {
        error!("nothing can be written any more; the service ends so that it can be started again");
        anyhow::bail!("the ledger's writer died; see the log");
    }
    reader.close().await;
    if timeout(LEDGER_GRACE, writer_task.stop()).await.is_ok() {
        info!("stopped");
    } else {
        warn!("stopped without the last operations, for which the database was not free");
    }
    Ok(())
}

async fn bind(variable: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| anyhow::anyhow!("{variable}: cannot listen on {address}: {error}"))
}

fn scrapes(
    socket: TcpListener,
    metrics: Arc<Metrics>,
    ledger: &Ledger,
    reader: &Reader,
) -> Listener {
    let (queue, reader) = (ledger.queue_gauge(), reader.clone());
    Listener::new(socket, metrics, move || {
        let size = reader.size();
        Sample {
            queue_depth: queue.depth(),
            database_bytes: size.file_bytes,
            wal_bytes: size.wal_bytes,
        }
    })
}

fn usage(line: &str) -> ExitCode {
    eprintln!("token-billing: {line}");
    ExitCode::from(EXIT_USAGE)
}

/// The signals that ask the service to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn requested(mut self) {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "stopping: finishing what has arrived");
    }
}
