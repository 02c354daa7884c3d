//! A connection for clients that do not behave: any bytes, in any portions, or none.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::PATIENCE;

/// A TCP connection to the service.
#[derive(Debug)]
pub(crate) struct RawConnection(TcpStream);

impl RawConnection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the service accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_nodelay(true).expect("a TCP socket");
        Self(stream)
    }

    /// Sends what must arrive.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).expect("the service reads");
    }

    /// Sends what the service may refuse to take.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.write_all(bytes.as_ref())
    }

    /// Reads up to the end of the response's headers, in lower case; less when the service hangs up.
    pub(crate) fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(0) => break,
                Ok(_) => head.extend_from_slice(&byte),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("no answer: {error}"),
            }
        }
        String::from_utf8_lossy(&head).to_lowercase()
    }

    /// Reads a whole response whose length is told, in lower case; less when the service hangs up.
    pub(crate) fn read_answer(&mut self) -> String {
        let head = self.read_head();
        let length = head.split_once("\r\ncontent-length: ").and_then(|(_, rest)| {
            let (digits, _) = rest.split_once('\r')?;
            digits.parse().ok()
        });
        let mut body = vec![0; length.unwrap_or_default()];
        self.0.read_exact(&mut body).expect("a whole body");
        head + &String::from_utf8_lossy(&body).to_lowercase()
    }

    /// Whether the service has neither sent anything nor hung up.
    pub(crate) fn is_idle(&self) -> bool {
        self.0.set_nonblocking(true).expect("a TCP socket");
        let result = self.0.peek(&mut [0]);
        self.0.set_nonblocking(false).expect("a TCP socket");
        matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads until the service hangs up.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).expect("the service answers and closes");
        bytes
    }
}

/// Lets this process have as many sockets as the system allows; it may have been started with few.
pub(crate) fn allow_connections() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .expect("a process may raise its soft limit");
}

/// A POST of JSON, as bytes.
pub(crate) fn post(path: &str, body: &str) -> String {
    post_with("", path, body)
}

/// A POST of JSON after which the service hangs up, as bytes.
pub(crate) fn last_post(path: &str, body: &str) -> String {
    post_with("Connection: close\r\n", path, body)
}

fn post_with(header: &str, path: &str, body: &str) -> String {
    format!(
        "POST /api/billing{path} HTTP/1.1\r\nHost: billing\r\nContent-Type: application/json\r\n\
         {header}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
