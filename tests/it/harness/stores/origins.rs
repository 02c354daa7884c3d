//! The three addresses of the stores, served on a thread with a runtime of its own, so that a test may block.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::{
    Answer, Apple, Google, Market,
    answer::{Reply, broken_off},
    asked::Asked,
    desk::{Desk, Place},
};

/// What is served.
#[derive(Debug)]
pub(super) struct Stores {
    pub(super) google: Arc<Google>,
    pub(super) apple: Arc<Apple>,
    pub(super) desk: Arc<Desk>,
}

/// Whose address it is.
#[derive(Debug, Clone, Copy)]
enum Origin {
    Google,
    Apple(Market),
}

/// Of each address whose it is.
const ORIGINS: [Origin; 3] =
    [Origin::Google, Origin::Apple(Market::Production), Origin::Apple(Market::Sandbox)];

/// Stores that are served.
#[derive(Debug)]
pub(super) struct Origins {
    addresses: [SocketAddr; 3],
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// Free addresses on this machine: Google's, Apple's, and that of Apple's sandbox.
pub(super) fn bind() -> ([TcpListener; 3], [SocketAddr; 3]) {
    let listeners = ORIGINS.map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let addresses = listeners.each_ref().map(|one| one.local_addr().expect("it is bound"));
    (listeners, addresses)
}

impl Origins {
    pub(super) fn serve(
        listeners: [TcpListener; 3],
        addresses: [SocketAddr; 3],
        stores: Stores,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            let stores = Arc::new(stores);
            runtime.block_on(async {
                for (listener, origin) in listeners.into_iter().zip(ORIGINS) {
                    listener.set_nonblocking(true).expect("a socket");
                    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                    tokio::spawn(accept(listener, origin, Arc::clone(&stores)));
                }
                // Dropped is as good as sent.
                let _ = stopped.await;
            });
        });
        Self { addresses, running: Some((stop, thread)) }
    }

    /// Where they are: Google's, Apple's, and that of Apple's sandbox.
    pub(super) fn urls(&self) -> [String; 3] {
        self.addresses.map(|address| format!("http://{address}"))
    }

    /// Ends all connections.
    pub(super) fn close(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            thread.join().expect("the stores do not panic");
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, origin: Origin, stores: Arc<Stores>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let stores = Arc::clone(&stores);
        tokio::spawn(async move {
            let service = service_fn(|request| stores.serve(origin, request));
            // A client may hang up at any time.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Stores {
    async fn serve(&self, origin: Origin, request: Request<Incoming>) -> io::Result<Reply> {
        let asked = Asked::read(request).await.ok_or_else(broken_off)?;
        let target = match origin {
            Origin::Google => self.google.target(&asked),
            Origin::Apple(market) => self.apple.target(market, &asked),
        };
        let Some(target) = target else {
            self.desk.fault(format!("{}: there is no such call", asked.line()));
            return Answer::empty(404).send().await;
        };
        let (call, subject) = (target.call, &*target.subject);
        self.desk.arrived(call, subject, &asked);
        if asked.query.is_some() && !call.takes_query() {
            self.desk.fault(format!("{}: the query is {:?}", asked.line(), asked.query));
        }
        if !self.desk.pass(Place::Before, call, subject).await {
            return Err(broken_off());
        }
        let refusal = match origin {
            Origin::Google => self.google.refusal(&asked, &target),
            Origin::Apple(_) => self.apple.refusal(&asked, call),
        };
        let scripted = self.desk.scripted(call, subject).or(refusal);
        let answer = scripted.unwrap_or_else(|| match origin {
            Origin::Google => self.google.carry_out(&asked, &target),
            Origin::Apple(market) => self.apple.carry_out(market, &asked, &target),
        });
        if !self.desk.pass(Place::After, call, subject).await {
            return Err(broken_off());
        }
        answer.send().await
    }
}
