//! What a store may answer, the strange things included.

use std::{convert::Infallible, future, io};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Response, body::Frame};
use serde_json::{Value, json};

/// What a connection of a store's sends.
pub(super) type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Size of the pieces of a large body, in bytes.
const PIECE_BYTES: usize = 64 * 1_024;

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Whole(Bytes),
    /// So many pieces of spaces.
    Pieces(usize),
    /// The beginning, and then the connection is closed.
    CutOff(Bytes),
    /// The beginning, and then nothing comes.
    Stalled(Bytes),
    /// The connection is closed without an answer.
    Closed,
    /// No answer comes.
    Nothing,
}

impl Answer {
    fn new(status: u16, kind: &str, body: Body) -> Self {
        Self { status, headers: vec![("content-type", kind.to_owned())], body }
    }

    /// JSON.
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json; charset=UTF-8", &body.to_string())
    }

    /// Text of a kind.
    pub(crate) fn text(status: u16, kind: &str, body: &str) -> Self {
        Self::new(status, kind, Body::Whole(Bytes::copy_from_slice(body.as_bytes())))
    }

    /// No body.
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(Bytes::new()) }
    }

    /// A page for people, as proxies send it.
    pub(crate) fn html(status: u16) -> Self {
        Self::text(status, "text/html", "<!DOCTYPE html><title>Sorry</title><p>Try again later.")
    }

    /// Blanks only, so many MiB of them.
    pub(crate) fn huge(mebibytes: usize) -> Self {
        let pieces = mebibytes * 1_024 * 1_024 / PIECE_BYTES;
        Self::new(200, "application/json", Body::Pieces(pieces))
    }

    /// To another place.
    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        Self::empty(status).with("location", location)
    }

    /// A body that breaks off.
    pub(crate) fn cut_off(beginning: &str) -> Self {
        let beginning = Bytes::copy_from_slice(beginning.as_bytes());
        Self::new(200, "application/json", Body::CutOff(beginning))
    }

    /// A body that does not come to its end.
    pub(crate) fn stalled(beginning: &str) -> Self {
        let beginning = Bytes::copy_from_slice(beginning.as_bytes());
        Self::new(200, "application/json", Body::Stalled(beginning))
    }

    /// A connection that is closed instead.
    pub(crate) fn closed() -> Self {
        Self { status: 500, headers: Vec::new(), body: Body::Closed }
    }

    /// None at all, however long one waits.
    pub(crate) fn nothing() -> Self {
        Self { status: 500, headers: Vec::new(), body: Body::Nothing }
    }

    /// An error as Google's `androidpublisher` tells it.
    pub(crate) fn google(status: u16, domain: &str, reason: &str, message: &str) -> Self {
        let error = json!({"domain": domain, "reason": reason, "message": message});
        let body = json!({"code": status, "message": message, "errors": [error]});
        Self::json(status, &json!({ "error": body }))
    }

    /// An error as Apple's server tells it.
    pub(crate) fn apple(status: u16, code: u32, message: &str) -> Self {
        Self::json(status, &json!({"errorCode": code, "errorMessage": message}))
    }

    /// The same with a header.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends it. An error closes the connection.
    pub(super) async fn send(self) -> io::Result<Reply> {
        let bytes = |bytes| Ok::<_, io::Error>(Frame::data(bytes));
        let body = match self.body {
            Body::Whole(whole) => {
                Full::new(whole).map_err(|never: Infallible| match never {}).boxed_unsync()
            }
            Body::Pieces(count) => {
                let piece = Bytes::from(vec![b' '; PIECE_BYTES]);
                let pieces = (0..count).map(move |_| bytes(piece.clone()));
                StreamBody::new(stream::iter(pieces)).boxed_unsync()
            }
            Body::CutOff(beginning) => {
                let pieces = [bytes(beginning), Err(broken_off())];
                StreamBody::new(stream::iter(pieces)).boxed_unsync()
            }
            Body::Stalled(beginning) => {
                let end = stream::once(future::pending());
                let pieces = stream::StreamExt::chain(stream::iter([bytes(beginning)]), end);
                StreamBody::new(pieces).boxed_unsync()
            }
            Body::Closed => return Err(broken_off()),
            Body::Nothing => return future::pending().await,
        };
        let response = Response::builder().status(self.status);
        let headers = self.headers.into_iter();
        let response =
            headers.fold(response, |response, (name, value)| response.header(name, value));
        Ok(response.body(body).expect("a status and headers of a test's own"))
    }
}

/// Why a connection is closed before its answer has ended.
pub(super) fn broken_off() -> io::Error {
    io::Error::other("the test wants it so")
}
