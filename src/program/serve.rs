//! `token-billing serve`: starts the service, and stops it in good order when a signal says so.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tracing::{error, info, warn};

use super::{receipts::ReceiptSettings, settings::Config};
use crate::{
    api::{self, Language},
    database::{Database, OpenError, Opened, Reader},
    domain::{PurchaseState, Store},
    http::{self, Authentication, CONNECTION_LIMIT, Server, Stopping},
    ledger::{Ledger, WriterTasks},
    metrics::{Limits, Listener, Metrics, Sample, SampledMessages, SampledPurchases},
    pages,
    service::{BillingService, Errands, Notifications, Receipts},
};

/// How long a stop waits for the readers, and for the ledger to write what is queued. What takes longer was
/// not acknowledged to anyone.
const LEDGER_GRACE: Duration = Duration::from_millis(2_900);
/// How much of it the readers get to give their connections back. One on which nothing comes any more never
/// is, and what is still to be written must not wait for it.
const READER_GRACE: Duration = Duration::from_millis(300);
/// After how long it is said that the database is not open yet.
const OPENING_TOLD: Duration = Duration::from_secs(10);
/// Connections the system keeps for us until we accept them, as far as it may. By default it is 128,
/// and whoever comes next in a burst is dropped, and tries again a second later.
const BACKLOG: u32 = 4_096;
/// Open files that are no connections to clients: the database's, the log, the runtime's own.
const OTHER_FILES: usize = 64;

/// Serves until it is asked to stop.
pub(crate) async fn serve(
    config: &Config,
    authentication: Authentication,
    receipts: Option<ReceiptSettings>,
    database: &Database,
) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let started = tokio::select! {
        started = start(config, authentication, receipts, database) => started?,
        signal = stop.signal() => {
            info!(signal, "stopped before the database was open");
            return Ok(());
        }
    };
    let Started { server, pages, reader, mut writer_tasks, mut errands } = started;
    let died = {
        let serving = both(server, pages, stop.requested());
        tokio::pin!(serving);
        tokio::select! {
            () = &mut serving => false,
            () = writer_tasks.died() => true,
            _ = errands.join_next(), if !errands.is_empty() => true,
        }
    };
    if died {
        error!(
            "a task that never ends has ended; the service ends so that it can be started again"
        );
        anyhow::bail!("the ledger's writer or the stores' errands died; see the log");
    }
    // What is left to do is written down, and goes on at the next start.
    errands.shutdown().await;
    close(reader, writer_tasks).await;
    Ok(())
}

/// What runs once the service has started.
struct Started {
    server: Server,
    /// The admin pages, if there are any.
    pages: Option<Server>,
    reader: Reader,
    writer_tasks: WriterTasks,
    /// What is left to do at the stores, if they confirm purchases.
    errands: JoinSet<()>,
}

/// Takes the sockets, opens the database, and puts together all that serves.
#[expect(clippy::disallowed_methods, reason = "the one place that gives the ledger its clock")]
async fn start(
    config: &Config,
    authentication: Authentication,
    receipts: Option<ReceiptSettings>,
    database: &Database,
) -> anyhow::Result<Started> {
    let listener = listen("BILLING_LISTEN", config.listen)?;
    let listen_if = |variable, address: Option<SocketAddr>| {
        address.map(|address| listen(variable, address)).transpose()
    };
    let scraped = listen_if("BILLING_METRICS_LISTEN", config.metrics_listen)?;
    let operated = listen_if("BILLING_ADMIN_LISTEN", config.admin_listen)?;
    let Opened { lanes, reader } = open(database).await?;
    let metrics = scraped.as_ref().map(|_| {
        let queue_depth = Ledger::queue_limit(lanes.len());
        let limits = Limits { queue_depth, database_bytes: config.database_max_bytes };
        Arc::new(Metrics::new(limits, api::paths()))
    });
    let (capacity, retention) = (config.capacity_limits(), config.retention());
    let (ledger, writer_tasks) =
        Ledger::start(lanes, capacity, retention, Utc::now, metrics.as_ref());
    let scrapes = scraped
        .zip(metrics.clone())
        .map(|(socket, metrics)| scrapes(socket, metrics, &ledger, &reader, receipts.is_some()));
    let confirming = receipts
        .as_ref()
        .map(|settings| confirming(settings, &ledger, &reader, metrics.as_ref()))
        .transpose()?;
    let (confirming, notifications) = confirming.unzip();
    let service =
        BillingService::new(ledger, reader.clone(), database, config.allow_reset, config.max_holds)
            .counting(metrics.clone())
            .confirming(confirming.clone());
    let (summaries, verifications) = (service.summaries(), service.verifications());
    let erasures = service.erasures();
    let unprotected = authentication.is_open() && !config.listen.ip().is_loopback();
    let (rate_limit, origins) = (config.rate_limit, &config.cors_origins);
    let stopping = Stopping::default();
    let (language, consume_by) = (config.language, config.consume_by);
    let authentication = Arc::new(authentication);
    let api = api::api(
        service,
        notifications.clone(),
        Arc::clone(&authentication),
        rate_limit,
        stopping.clone(),
        language,
        consume_by,
    );
    let pages = operated.map(|socket| operated_on(socket, api.clone(), authentication, language));
    let keep_alive = Duration::from_secs(config.keep_alive_seconds.into());
    let limited = rate_limit.is_some();
    let server = Server::new(listener, api, limited, origins, keep_alive, stopping);
    // The first line of the log, before any warning.
    info!(address = %server.local_addr()?, database = database.name(), "listening");
    for note in &config.notes {
        warn!("{note}");
    }
    let mut errands = JoinSet::new();
    errands.spawn(summaries.run());
    errands.spawn(verifications.run());
    errands.spawn(erasures.run());
    if let Some(confirming) = confirming {
        errands.spawn(Errands::of(confirming).run());
    }
    if let Some(notifications) = notifications {
        errands.spawn(notifications.run());
    }
    if let Some(receipts) = &receipts {
        info!(stores = receipts.stores().join(","), "purchases are confirmed");
    }
    for warning in config.receipt_warnings() {
        warn!("{warning}");
    }
    let server = server.with_connections(allow_connections()).counting(metrics);
    if let Some(scrapes) = scrapes {
        info!(metrics = %scrapes.local_addr()?, "answering scrapes");
        tokio::spawn(scrapes.run());
    }
    if let Some(pages) = &pages {
        let address = pages.local_addr()?;
        info!(admin = %address, "serving the admin pages");
        if !address.ip().is_loopback() {
            warn!(%address, "others can connect to the admin pages: put a proxy with TLS in front of them");
        }
    }
    if unprotected {
        warn!("nobody has to log in (BILLING_AUTH=none): whoever connects acts for any user");
    }
    Ok(Started { server, pages, reader, writer_tasks, errands })
}

/// The admin pages on their socket, which wants the addresses of those who try tokens.
#[expect(clippy::disallowed_methods, reason = "sessions get their clock where the ledger does")]
fn operated_on(
    socket: TcpListener,
    api: http::Api,
    authentication: Arc<Authentication>,
    language: Language,
) -> Server {
    let pages = pages::pages(api, authentication, language, Utc::now);
    let server = Server::new(socket, pages, true, &[], pages::KEEP_ALIVE, Stopping::default());
    server.with_connections(pages::CONNECTION_LIMIT)
}

/// Serves on both sockets until `stop` is ready, and what has arrived on each to its end.
async fn both(server: Server, pages: Option<Server>, stop: impl Future<Output = ()>) {
    let (serving, mut stopped) = watch::channel(());
    let api = server.run(async {
        stop.await;
        drop(serving);
    });
    let pages = async {
        if let Some(pages) = pages {
            pages.run(async { drop(stopped.changed().await) }).await;
        }
    };
    tokio::join!(api, pages);
}

/// Opens the database, and says so again and again where that takes long.
async fn open(database: &Database) -> Result<Opened, OpenError> {
    let opening = database.open();
    tokio::pin!(opening);
    loop {
        if let Ok(opened) = timeout(OPENING_TOLD, &mut opening).await {
            return opened;
        }
        warn!(
            database = database.name(),
            "the start waits: the database is still being opened or migrated, or has no session to give"
        );
    }
}

/// What has the stores confirm purchases, and what takes what they push.
#[expect(clippy::disallowed_methods, reason = "the stores get their clock where the ledger does")]
fn confirming(
    settings: &ReceiptSettings,
    ledger: &Ledger,
    reader: &Reader,
    metrics: Option<&Arc<Metrics>>,
) -> anyhow::Result<(Arc<Receipts>, Arc<Notifications>)> {
    let stores = Arc::new(settings.asked(Utc::now, metrics).map_err(anyhow::Error::msg)?);
    let notifications = Notifications::new(
        ledger.clone(),
        reader.clone(),
        Arc::clone(&stores),
        settings.sandbox.clone(),
        Utc::now,
        metrics.cloned(),
    );
    let (ledger, reader, sandbox) = (ledger.clone(), reader.clone(), settings.sandbox.clone());
    let receipts = Receipts::new(ledger, reader, stores, sandbox, Utc::now, metrics.cloned());
    Ok((Arc::new(receipts), Arc::new(notifications)))
}

/// Writes what is queued, and closes the database.
async fn close(reader: Reader, writer_tasks: WriterTasks) {
    let closing = async {
        // Before the writer, which empties the write-ahead log when nobody reads from it any more.
        let _ = timeout(READER_GRACE, reader.close()).await;
        writer_tasks.stop().await;
    };
    if timeout(LEDGER_GRACE, closing).await.is_ok() {
        info!("stopped");
    } else {
        warn!("stopped without the last operations, for which the database was not free");
    }
}

fn listen(variable: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    bind(address)
        .map_err(|error| anyhow::anyhow!("{variable}: cannot listen on {address}: {error}"))
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A service that was just stopped leaves connections behind, which would keep the port for a minute.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn scrapes(
    socket: TcpListener,
    metrics: Arc<Metrics>,
    ledger: &Ledger,
    reader: &Reader,
    confirms: bool,
) -> Listener {
    let (queue, reader) = (ledger.clone(), reader.clone());
    Listener::new(socket, metrics, move || {
        let (queue, reader) = (queue.clone(), reader.clone());
        async move {
            let size = reader.size().await;
            Sample {
                queue_depth: queue.queue_depth(),
                database_bytes: size.file_bytes,
                wal_bytes: size.wal_bytes,
                purchases: if confirms { sampled_purchases(&reader).await } else { None },
            }
        }
    })
}

/// How many purchases there are now; where that can't be seen, what was seen the last time counts.
#[expect(clippy::disallowed_methods, reason = "ages are told as of now")]
async fn sampled_purchases(reader: &Reader) -> Option<SampledPurchases> {
    let counts = tokio::try_join!(reader.purchase_counts(), reader.message_counts());
    let (counts, messages) = match counts {
        Ok(counts) => counts,
        Err(error) => {
            warn!(%error, "purchases can't be counted");
            return None;
        }
    };
    let now = Utc::now();
    let age = |since: Option<DateTime<Utc>>| {
        let age = since.map(|since| now.signed_duration_since(since).num_seconds());
        age.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0)
    };
    let of = |store, state| {
        let found = counts.by_state.iter().find(|(one, other, _)| (*one, *other) == (store, state));
        found.map_or(0, |(.., purchases)| *purchases)
    };
    let all =
        Store::ALL.into_iter().flat_map(|store| PurchaseState::ALL.map(|state| (store, state)));
    Some(SampledPurchases {
        by_state: all
            .map(|(store, state)| (store.name(), state.name(), of(store, state)))
            .collect(),
        oldest_waiting_seconds: age(counts.oldest_waiting),
        acknowledgements_due: counts.unacknowledged,
        acknowledgements_oldest_seconds: age(counts.oldest_unacknowledged),
        messages: messages
            .into_iter()
            .map(|messages| SampledMessages {
                store: messages.store.name(),
                waiting: messages.waiting,
                oldest_seconds: age(messages.oldest),
                age_seconds: messages.last_pushed.map(|pushed| age(Some(pushed))),
            })
            .collect(),
    })
}

/// Raises the soft limit of open files to what [`CONNECTION_LIMIT`] takes, and returns how many
/// connections there may be: as many as leave SQLite the files it may have to open again. The soft limit
/// is 1,024 on most systems, for the sake of programs that use `select`.
fn allow_connections() -> usize {
    let wanted = u64::try_from(CONNECTION_LIMIT.saturating_add(OTHER_FILES)).unwrap_or(u64::MAX);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut files = current.unwrap_or(u64::MAX);
    if files < wanted {
        let raised = wanted.min(maximum.unwrap_or(u64::MAX));
        match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }) {
            Ok(()) => files = raised,
            Err(error) => warn!(%error, "the limit of open files can't be raised"),
        }
    }
    if files < wanted {
        warn!(files, wanted, "few files may be open, so few clients can be connected");
    }
    usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(OTHER_FILES).max(1)
}

/// The signals that ask the service to stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            // By default it would end the service, and an init system would take that for a stop in order.
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The name of the next signal that asks for it.
    async fn signal(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break "SIGTERM",
                _ = self.interrupt.recv() => break "SIGINT",
                _ = self.hangup.recv() => {
                    info!("SIGHUP is ignored: settings are read at the start only");
                }
            }
        }
    }

    async fn requested(mut self) {
        let signal = self.signal().await;
        info!(signal, "stopping: finishing what has arrived");
    }
}
