//! The one client for requests that the service itself sends: bounded in time and in bytes, and following no
//! redirects. Whom it asks, and what the answers mean, is the callers' business.

use std::{net::IpAddr, time::Duration};

use reqwest::{Client, Url, redirect::Policy};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Sends requests.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing(Client);

impl Outgoing {
    /// A client without connections yet.
    ///
    /// # Errors
    /// A sentence when there can be none, such as without certificates of authorities.
    pub(crate) fn new() -> Result<Self, String> {
        let client = Client::builder().timeout(REQUEST_TIMEOUT).redirect(Policy::none()).build();
        client.map(Self).map_err(|error| whole(&error))
    }

    /// The body at `url`, of at most `max_bytes`.
    ///
    /// # Errors
    /// A sentence, without the address, which may hold a secret.
    pub(crate) async fn get(&self, url: &Url, max_bytes: usize) -> Result<Vec<u8>, String> {
        let sent = self.0.get(url.clone()).send().await;
        let mut response = sent.map_err(|error| whole(&error.without_url()))?;
        if !response.status().is_success() {
            return Err(format!("answered with status {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) =
            response.chunk().await.map_err(|error| whole(&error.without_url()))?
        {
            body.extend_from_slice(&piece);
            if body.len() > max_bytes {
                return Err(format!("more than {max_bytes} bytes"));
            }
        }
        Ok(body)
    }
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
