//! A way to a server over TCP that can fail without a word: what is sent arrives nowhere, and nobody is told.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{Cluster, Database};

/// A way that leads to a server.
#[derive(Debug)]
pub(crate) struct Network {
    address: SocketAddr,
    made: Arc<AtomicUsize>,
    /// How many of the connections made first are dead.
    dead: Arc<AtomicUsize>,
}

impl Network {
    /// A sound one.
    pub(crate) fn to(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (made, dead) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let socket = cluster.socket();
        let (count, deaths) = (Arc::clone(&made), Arc::clone(&dead));
        // It ends with the tests' process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, UnixStream::connect(&socket)) else {
                    continue;
                };
                let number = count.fetch_add(1, Ordering::SeqCst);
                carry(number, &deaths, &client, &server);
            }
        });
        Self { address, made, dead }
    }

    /// Where a database is at its end.
    pub(crate) fn url(&self, database: &Database) -> String {
        database.url_at(&self.address.ip().to_string(), self.address.port())
    }

    /// Has all connections there are die without a word. New ones work.
    pub(crate) fn cut(&self) {
        self.dead.store(self.made.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

fn carry(number: usize, dead: &Arc<AtomicUsize>, client: &TcpStream, server: &UnixStream) {
    let is_dead = |dead: Arc<AtomicUsize>| move || number < dead.load(Ordering::SeqCst);
    let twice = "sockets can be shared";
    let (from, to) = (client.try_clone().expect(twice), server.try_clone().expect(twice));
    let lost = is_dead(Arc::clone(dead));
    thread::spawn(move || {
        pump(&from, &to, lost);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (from, to) = (server.try_clone().expect(twice), client.try_clone().expect(twice));
    let lost = is_dead(Arc::clone(dead));
    thread::spawn(move || {
        pump(&from, &to, lost);
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// Carries what comes, or loses it.
fn pump(mut from: impl Read, mut to: impl Write, is_lost: impl Fn() -> bool) {
    let mut buffer = [0; 8_192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !is_lost() && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
}
