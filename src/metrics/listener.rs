//! The socket at which the numbers are read. It is not the service's own: what the numbers say is
//! nobody's business but the operator's.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, http::header, routing::get};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tower_service::Service;

use super::{Metrics, Sample};

/// Most connections at a time; more wait to be accepted.
const CONNECTION_LIMIT: usize = 16;
/// How long a connection may last; each is for one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket that answers `GET /metrics`.
pub(crate) struct Listener {
    listener: TcpListener,
    router: Router,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl Listener {
    /// Answers on a bound socket with the numbers as they are then, `sample` among them.
    #[must_use]
    pub(crate) fn new<Sampling>(
        listener: TcpListener,
        metrics: Arc<Metrics>,
        sample: impl Fn() -> Sampling + Clone + Send + Sync + 'static,
    ) -> Self
    where
        Sampling: Future<Output = Sample> + Send + 'static,
    {
        let scrape = move || {
            let (metrics, sampling) = (Arc::clone(&metrics), sample());
            async move { ([(header::CONTENT_TYPE, CONTENT_TYPE)], metrics.render(sampling.await)) }
        };
        Self { listener, router: Router::new().route("/metrics", get(scrape)) }
    }

    /// The address it is reached at.
    ///
    /// # Errors
    /// When the system can't tell.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until it is dropped.
    pub(crate) async fn run(self) {
        let places = Arc::new(Semaphore::new(CONNECTION_LIMIT));
        loop {
            let place = Arc::clone(&places).acquire_owned().await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let answered = answer(stream, self.router.clone());
                    tokio::spawn(async move {
                        answered.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a scrape could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).keep_alive(false).serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| router.clone().call(request)),
        );
    // Who goes away, or never asks, is no news.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}
