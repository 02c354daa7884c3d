//! A request as a store sees it, and how its path must be written.

use std::collections::BTreeMap;

use http_body_util::BodyExt;
use hyper::{Method, Request, body::Incoming, header};
use serde_json::Value;
use url::form_urlencoded;

use super::{Call, desk::Desk};

/// A request, read to its end.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// As it was sent.
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) authorization: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) body: Vec<u8>,
}

/// What it asks for.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) call: Call,
    /// The purchase, as its store calls it, if there is one.
    pub(super) subject: String,
    /// The product that the request names, if any.
    pub(super) product: Option<String>,
}

impl Target {
    /// A call that is for no purchase.
    pub(super) fn plain(call: Call) -> Self {
        Self { call, subject: String::new(), product: None }
    }
}

impl Asked {
    /// Reads a request. `None` when it broke off.
    pub(super) async fn read(request: Request<Incoming>) -> Option<Self> {
        let (head, body) = request.into_parts();
        let text = |name| {
            let value = head.headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Some(Self {
            path: head.uri.path().to_owned(),
            query: head.uri.query().map(str::to_owned),
            authorization: text(header::AUTHORIZATION),
            content_type: text(header::CONTENT_TYPE),
            method: head.method,
            body: body.collect().await.ok()?.to_bytes().to_vec(),
        })
    }

    /// What is told about it where something is wrong; its secrets are a test's own.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The token that is asked with.
    pub(super) fn bearer(&self) -> Option<&str> {
        self.authorization.as_deref()?.strip_prefix("Bearer ")
    }

    /// The fields of its query. One that is there twice is there as none of its values.
    pub(super) fn fields(&self) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        let query = self.query.as_deref().unwrap_or_default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
            let known = fields.get(&name).map(|first| format!("{first} and {value}"));
            fields.insert(name, known.unwrap_or(value));
        }
        fields
    }

    /// Its body, or null if that is no JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether it says that its body is JSON.
    pub(super) fn is_json(&self) -> bool {
        let kind = self.content_type.as_deref();
        kind.is_some_and(|kind| kind.split(';').next() == Some("application/json"))
    }

    /// The text of a segment of its path.
    pub(super) fn segment(&self, raw: &str, desk: &Desk) -> String {
        let text = decoded(raw);
        if encoded(&text) != raw {
            desk.fault(format!("{}: {raw:?} is to be written {:?}", self.line(), encoded(&text)));
        }
        text
    }
}

/// A segment of a path in which only what needs no encoding anywhere stands as it is: `:` begins a verb.
fn encoded(text: &str) -> String {
    let mut raw = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                raw.push(char::from(byte));
            }
            _ => raw.extend(['%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
    raw
}

fn hex(digit: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(digit)])
}

fn decoded(raw: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = raw.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        let value = escaped.and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
