//! The one client for requests that the service itself sends: bounded in time and in bytes, and following no
//! redirects. Whom it asks, and what the answers mean, is the callers' business.

use std::{net::IpAddr, str::FromStr, time::Duration};

use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};

/// How long one request may take, its answer included, unless it says otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// Most bytes of an answer.
const BODY_MAX_BYTES: usize = 1_048_576;

/// Sends requests. Its clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing(Client);

/// What is sent.
#[derive(Debug)]
pub(crate) struct Request {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    time_limit: Duration,
}

/// What came back, whatever its status; a redirect is one, too.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// At most [`BODY_MAX_BYTES`].
    pub(crate) body: Vec<u8>,
}

/// Where a service is: scheme, host and port, without a path. Paths are put behind it, and lead nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site(Url);

impl Outgoing {
    /// A client without connections yet.
    ///
    /// # Errors
    /// A sentence when there can be none, such as without certificates of authorities.
    pub(crate) fn new() -> Result<Self, String> {
        let client = Client::builder().timeout(REQUEST_TIMEOUT).redirect(Policy::none()).build();
        client.map(Self).map_err(|error| whole(&error))
    }

    /// The answer to a request.
    ///
    /// # Errors
    /// A sentence when there is none in time, or one of more than [`BODY_MAX_BYTES`]; without the address and
    /// the headers, which may hold a secret.
    pub(crate) async fn send(&self, request: Request) -> Result<Reply, String> {
        let (status, body) = self.exchange(request, BODY_MAX_BYTES).await?;
        Ok(Reply { status, body })
    }

    /// The body at `url`, of at most `max_bytes`.
    ///
    /// # Errors
    /// A sentence, without the address, which may hold a secret.
    pub(crate) async fn get(&self, url: &Url, max_bytes: usize) -> Result<Vec<u8>, String> {
        let (status, body) = self.exchange(Request::get(url.clone()), max_bytes).await?;
        if !status.is_success() {
            return Err(format!("answered with status {status}"));
        }
        Ok(body)
    }

    async fn exchange(
        &self,
        request: Request,
        max_bytes: usize,
    ) -> Result<(StatusCode, Vec<u8>), String> {
        let Request { method, url, headers, body, time_limit } = request;
        let mut sent = self.0.request(method, url).headers(headers).timeout(time_limit);
        if let Some(body) = body {
            sent = sent.body(body);
        }
        let response = sent.send().await.map_err(|error| whole(&error.without_url()))?;
        let status = response.status();
        Ok((status, body_of(response, max_bytes).await?))
    }
}

async fn body_of(mut response: Response, max_bytes: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| whole(&error.without_url()))? {
        body.extend_from_slice(&piece);
        if body.len() > max_bytes {
            return Err(format!("more than {max_bytes} bytes"));
        }
    }
    Ok(body)
}

impl Request {
    /// Asks for what is there.
    pub(crate) fn get(url: Url) -> Self {
        let (method, headers) = (Method::GET, HeaderMap::new());
        Self { method, url, headers, body: None, time_limit: REQUEST_TIMEOUT }
    }

    /// Has something done, with this body, which may be empty.
    pub(crate) fn post(url: Url, body: impl Into<Vec<u8>>) -> Self {
        Self { method: Method::POST, body: Some(body.into()), ..Self::get(url) }
    }

    /// Has this body stand there.
    pub(crate) fn put(url: Url, body: impl Into<Vec<u8>>) -> Self {
        Self { method: Method::PUT, ..Self::post(url, body) }
    }

    /// With a header; the last of a name counts.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With a body of this type.
    pub(crate) fn of_type(self, media_type: &'static str) -> Self {
        self.with(header::CONTENT_TYPE, HeaderValue::from_static(media_type))
    }

    /// In at most so much time, the answer included.
    pub(crate) fn within(mut self, time_limit: Duration) -> Self {
        self.time_limit = time_limit;
        self
    }
}

impl FromStr for Site {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = address(text)?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err("must be an origin such as https://host.example, without a path".to_owned());
        }
        Ok(Self(url))
    }
}

impl Site {
    /// The address of a path that begins with `/`, and whose parts were made by [`segment`].
    ///
    /// # Errors
    /// A sentence when that is no plain path, such as one with a part `..`.
    pub(crate) fn at(&self, path: &str) -> Result<Url, String> {
        let mut url = self.0.clone();
        url.set_path(path);
        if url.path() == path { Ok(url) } else { Err("a name can't be part of a path".to_owned()) }
    }
}

/// A text as one part of a path: percent-encoded but for `A–Z a–z 0–9 - . _ ~`. A colon or a slash would
/// make another request of it.
pub(crate) fn segment(text: &str) -> String {
    const HEX_DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| char::from(HEX_DIGITS[usize::from(value)]);
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}

/// An address that may be asked: https, or http on this machine.
///
/// # Errors
/// A sentence when it is another one.
pub(crate) fn address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let loopback = url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    });
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err("must begin with https:// (http:// on this machine)".to_owned()),
    }
}

/// An error with all of its causes: the first alone says little.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.extend([": ", &error.to_string()]);
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Bytes, http, response::Redirect, routing};
    use proptest::prelude::*;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_part_of_a_path_holds_nothing_that_means_something_there() {
        for (text, encoded) in [
            ("abc.AO-J1Ox_~9", "abc.AO-J1Ox_~9"),
            ("token:consume", "token%3Aconsume"),
            ("a/b?c#d%e f+g", "a%2Fb%3Fc%23d%25e%20f%2Bg"),
            ("円\0", "%E5%86%86%00"),
        ] {
            assert_eq!(segment(text), encoded);
        }
    }

    #[test]
    fn a_site_is_an_origin_and_nothing_else() {
        for text in
            ["https://a.example", "https://a.example/", "http://127.0.0.1:9", "http://[::1]:9"]
        {
            assert!(text.parse::<Site>().is_ok(), "{text}");
        }
        for text in [
            "http://a.example",
            "ftp://a.example",
            "a.example",
            "https://a.example/path",
            "https://a.example/?query",
            "https://a.example/#fragment",
            "https://user@a.example",
            "https://:secret@a.example",
        ] {
            assert!(text.parse::<Site>().is_err(), "{text}");
        }
    }

    #[test]
    fn no_path_leads_elsewhere() {
        let site: Site = "https://a.example:8443".parse().expect("an origin");
        let url = site.at(&format!("/tokens/{}:consume", segment("a:b"))).expect("a plain path");
        assert_eq!(url.as_str(), "https://a.example:8443/tokens/a%3Ab:consume");
        for name in ["..", "."] {
            assert!(site.at(&format!("/products/{}/tokens", segment(name))).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_part_says_the_host_stays(text in ".*") {
            let site: Site = "https://a.example".parse().expect("an origin");
            if let Ok(url) = site.at(&format!("/x/{}/y", segment(&text))) {
                prop_assert_eq!(url.host_str(), Some("a.example"));
                prop_assert_eq!(url.path_segments().map(Iterator::count), Some(3));
                prop_assert!(url.query().is_none() && url.fragment().is_none());
            }
        }
    }

    /// A server of this router, which ends with the test's runtime.
    async fn site(router: Router) -> Site {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}").parse().expect("an origin")
    }

    #[tokio::test]
    async fn a_request_goes_out_whole_and_its_answer_comes_back() {
        let echo = |headers: http::HeaderMap, body: Bytes| async move {
            let name = headers.get("x-name").and_then(|value| value.to_str().ok()).unwrap_or("");
            (http::StatusCode::IM_A_TEAPOT, format!("{name} {}", String::from_utf8_lossy(&body)))
        };
        let site = site(Router::new().route("/echo", routing::post(echo))).await;
        let client = Outgoing::new().expect("there are authorities");
        let request = Request::post(site.at("/echo").expect("a plain path"), "body")
            .with(HeaderName::from_static("x-name"), HeaderValue::from_static("value"));
        let reply = client.send(request).await.expect("it answers");
        assert_eq!((reply.status.as_u16(), reply.body.as_slice()), (418, &b"value body"[..]));
    }

    #[tokio::test]
    async fn what_is_too_large_too_slow_or_elsewhere_is_no_answer() {
        let site = site(
            Router::new()
                .route("/large", routing::get(|| async { vec![b'x'; BODY_MAX_BYTES + 1] }))
                .route("/never", routing::get(std::future::pending::<()>))
                .route("/moved", routing::get(|| async { Redirect::temporary("/large") })),
        )
        .await;
        let client = Outgoing::new().expect("there are authorities");
        let request = |path: &str| Request::get(site.at(path).expect("a plain path"));
        let error = client.send(request("/large")).await.expect_err("it is too large");
        assert!(error.starts_with("more than"), "{error}");
        let hurried = request("/never").within(Duration::from_millis(50));
        let error = client.send(hurried).await.expect_err("it never comes");
        assert!(!error.contains("never"), "{error}");
        assert_eq!(client.send(request("/moved")).await.expect("it answers").status.as_u16(), 307);
        let moved = site.at("/moved").expect("a plain path");
        assert!(client.get(&moved, 10).await.is_err());
    }
}
