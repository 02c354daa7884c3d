//! The connections: accepted, limited in number and in how long they may be idle, and ended in good order.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    ARRIVAL_GRACE, CONNECTION_LIMIT, HEADER_LIMIT_BYTES, SHUTDOWN_GRACE,
    admission::Peer,
    cors::Origin,
    request::{Api, App, InFlight, handle},
    wire::{Activity, Wire},
};
use crate::metrics::Metrics;

/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is looked for an idle connection while all places are taken.
const PLACE_POLL: Duration = Duration::from_millis(100);

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
    keep_alive: Duration,
    stopping: Stopping,
    metrics: Option<Arc<Metrics>>,
}

impl Server {
    /// Serves `api` on a bound socket, to web pages of `origins` too; `limited` says whether the addresses of
    /// clients are needed, `keep_alive` how long a connection may be idle. Nothing is accepted before
    /// [`Self::run`]; `stopping` learns of its end.
    #[must_use]
    pub(crate) fn new(
        listener: TcpListener,
        api: Api,
        limited: bool,
        origins: &[Origin],
        keep_alive: Duration,
        stopping: Stopping,
    ) -> Self {
        let app = App::new(api, origins);
        let (in_flight, places) = (InFlight::default(), CONNECTION_LIMIT);
        Self { listener, app, limited, in_flight, places, keep_alive, stopping, metrics: None }
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

    /// Serves one connection, on a task of its own.
    fn serve(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        place: Place,
        connections: &GracefulShutdown,
    ) {
        let peer = self.limited.then(|| Peer::at(address.ip()));
        let (app, in_flight) = (self.app.clone(), self.in_flight.clone());
        let (metrics, keep_alive) = (self.metrics.clone(), self.keep_alive);
        let activity = Arc::clone(&place.activity);
        let wire = TokioIo::new(Wire::new(stream, Arc::clone(&activity)));
        let service = service_fn(move |request| {
            let (app, activity) = (app.clone(), Arc::clone(&activity));
            handle(app, request, peer, activity, in_flight.clone(), metrics.clone())
        });
        let connection = connections.watch(connection().serve_connection(wire, service));
        tokio::spawn(async move {
            tokio::select! {
                // A client that breaks the protocol or goes away is no news.
                _ = connection => {}
                () = place.activity.over(keep_alive) => {}
            }
            drop(place);
        });
    }

    /// Serves until `stop` is ready, then refuses new connections, answers what has arrived, and waits
    /// a bounded time for what still arrives.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        let connections = GracefulShutdown::new();
        let places = Places::new(self.places);
        let serving = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, address)) => {
                        let place = places.take().await;
                        self.serve(stream, address, place, &connections);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = stop => {}
            () = serving => {}
        }
        self.stopping.begin();
        drop(self.listener);
        wait_for(connections, &self.in_flight).await;
    }
}

fn connection() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // How long a client may take is `Activity`'s.
    builder.header_read_timeout(None).max_buf_size(HEADER_LIMIT_BYTES).half_close(false);
    builder
}

/// The connections that are open, as many as there may be.
#[derive(Debug, Clone)]
struct Places {
    free: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    last: u64,
    open: HashMap<u64, Arc<Activity>>,
}

/// One of them, taken until it is dropped.
#[derive(Debug)]
struct Place {
    activity: Arc<Activity>,
    number: u64,
    all: Places,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    fn new(count: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), taken: Arc::default() }
    }

    /// A place for a new connection: a free one, or the one of the connection that has been idle for longest.
    /// So whoever opens many and asks nothing loses them first, and locks nobody out.
    async fn take(&self) -> Place {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                break permit;
            }
            self.close_longest_idle();
            let freed = timeout(PLACE_POLL, Arc::clone(&self.free).acquire_owned()).await;
            if let Ok(permit) = freed {
                break permit.expect("the semaphore is never closed");
            }
        };
        let activity = Activity::new();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.last = taken.last.wrapping_add(1);
        let number = taken.last;
        taken.open.insert(number, Arc::clone(&activity));
        Place { activity, number, all: self.clone(), _permit: permit }
    }

    fn close_longest_idle(&self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = taken.open.iter().filter_map(|(number, it)| Some((it.idle_since()?, *number)));
        if let Some((_, number)) = idle.min()
            && let Some(activity) = taken.open.remove(&number)
        {
            activity.close();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.taken.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.number);
    }
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
