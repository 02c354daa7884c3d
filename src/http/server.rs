//! The connections: accepted, limited in number and in how long they may take to ask, and ended in good
//! order.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep, timeout_at},
};

use super::{
    ARRIVAL_GRACE, CONNECTION_LIMIT, HEADER_LIMIT_BYTES, HEADER_READ_TIMEOUT, SHUTDOWN_GRACE,
    admission::Peer,
    cors::Origin,
    request::{Api, App, InFlight, handle},
};
use crate::metrics::Metrics;

/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a stopping server looks whether anything is still being answered.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Whether the server was asked to stop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stopping(Arc<AtomicBool>);

impl Stopping {
    fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A listening socket, and what answers on it.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    app: App,
    limited: bool,
    in_flight: InFlight,
    places: usize,
    stopping: Stopping,
    metrics: Option<Arc<Metrics>>,
}

impl Server {
    /// Serves `api` on a bound socket, to web pages of `origins` too; `limited` says whether the addresses of
    /// clients are needed. Nothing is accepted before [`Self::run`]; `stopping` learns of its end.
    #[must_use]
    pub(crate) fn new(
        listener: TcpListener,
        api: Api,
        limited: bool,
        origins: &[Origin],
        stopping: Stopping,
    ) -> Self {
        let app = App::new(api, origins);
        let (in_flight, places) = (InFlight::default(), CONNECTION_LIMIT);
        Self { listener, app, limited, in_flight, places, stopping, metrics: None }
    }

    /// Leaves it at fewer connections than [`CONNECTION_LIMIT`].
    #[must_use]
    pub(crate) fn with_connections(mut self, most: usize) -> Self {
        self.places = self.places.min(most);
        self
    }

    /// The same, counting requests.
    #[must_use]
    pub(crate) fn counting(self, metrics: Option<Arc<Metrics>>) -> Self {
        Self { metrics, ..self }
    }

    /// The address clients reach it at.
    ///
    /// # Errors
    /// When the system can't tell.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` is ready, then refuses new connections, answers what has arrived, and waits
    /// a bounded time for what still arrives.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        let connections = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.places));
        tokio::pin!(stop);
        loop {
            let place = Arc::clone(&places).acquire_owned();
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = async { (place.await, self.listener.accept().await) } => accepted,
            };
            match accepted {
                (Ok(place), Ok((stream, address))) => {
                    let peer = self.limited.then(|| Peer::at(address.ip()));
                    let (app, in_flight) = (self.app.clone(), self.in_flight.clone());
                    let metrics = self.metrics.clone();
                    let connection = connection().serve_connection(
                        prepared(stream),
                        service_fn(move |request| {
                            handle(app.clone(), request, peer, in_flight.clone(), metrics.clone())
                        }),
                    );
                    let connection = connections.watch(connection);
                    tokio::spawn(async move {
                        // A client that breaks the protocol or goes away is no news.
                        let _ = connection.await;
                        drop(place);
                    });
                }
                (_, Err(error)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
                (Err(_), Ok(_)) => break,
            }
        }
        self.stopping.begin();
        drop(self.listener);
        wait_for(connections, &self.in_flight).await;
    }
}

fn connection() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEADER_LIMIT_BYTES)
        .half_close(false);
    builder
}

fn prepared(stream: TcpStream) -> TokioIo<TcpStream> {
    // Answers are small and written whole; waiting for more to send only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps Nagle's algorithm");
    }
    TokioIo::new(stream)
}

/// Waits for the connections: first for all, then only while something is being answered.
async fn wait_for(connections: GracefulShutdown, in_flight: &InFlight) {
    let started = Instant::now();
    let finished = connections.shutdown();
    tokio::pin!(finished);
    let arrival_over = started.checked_add(ARRIVAL_GRACE).unwrap_or(started);
    if timeout_at(arrival_over, &mut finished).await.is_ok() {
        return;
    }
    let over = started.checked_add(SHUTDOWN_GRACE).unwrap_or(started);
    let answered = async {
        while in_flight.count() > 0 {
            sleep(DRAIN_POLL).await;
        }
    };
    tokio::select! {
        _ = timeout_at(over, &mut finished) => {}
        () = answered => {}
    }
}
