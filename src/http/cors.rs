//! Which web pages may call the API from a browser. Without any the layer is not there at all.

use std::{str::FromStr, time::Duration};

use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use tower_http::cors::{AllowOrigin, Cors};

use super::{
    rate_limit::{RATE_LIMIT, RATE_LIMIT_POLICY},
    request_id::REQUEST_ID,
};

/// How long browsers may remember what they are told here; some do for two hours at most.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_hours(1);
/// What tracing in browsers sends along (W3C Trace Context and Baggage).
const TRACING: [HeaderName; 3] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];
/// Has a tunnel's warning page left out.
const SKIP_WARNING: HeaderName = HeaderName::from_static("ngrok-skip-browser-warning");

/// Where a web page comes from, exactly as browsers send it: `https://app.example` or
/// `http://localhost:5173`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin(HeaderValue);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || "must be origins such as https://app.example, without a path".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong());
        };
        // One that no browser ever sends would be allowed in vain.
        let sent = format!("{scheme}://{authority}").to_ascii_lowercase();
        let default_port =
            matches!((scheme, authority.port_u16()), ("http", Some(80)) | ("https", Some(443)));
        if text != sent || default_port || authority.as_str().contains(['@', '*']) {
            return Err(wrong());
        }
        HeaderValue::from_str(text).map(Self).map_err(|_| wrong())
    }
}

/// The header fields of an API's own that web pages may send and read, in lower case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ApiHeaders {
    /// Of requests.
    pub(crate) sent: &'static [&'static str],
    /// Of answers.
    pub(crate) exposed: &'static [&'static str],
}

/// Lets pages of these origins call what `inner` answers.
pub(super) fn shared_with<S>(origins: &[Origin], own: ApiHeaders, inner: S) -> Cors<S> {
    Cors::new(inner)
        .allow_origin(AllowOrigin::list(origins.iter().map(|Origin(origin)| origin.clone())))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(with(
            [header::AUTHORIZATION, header::CONTENT_TYPE, REQUEST_ID],
            own.sent,
            TRACING.into_iter().chain([SKIP_WARNING]),
        ))
        .expose_headers(with(
            [header::LINK, REQUEST_ID],
            own.exposed,
            [header::RETRY_AFTER, RATE_LIMIT, RATE_LIMIT_POLICY],
        ))
        .max_age(PREFLIGHT_MAX_AGE)
}

fn with<const N: usize>(
    first: [HeaderName; N],
    own: &[&'static str],
    last: impl IntoIterator<Item = HeaderName>,
) -> Vec<HeaderName> {
    let own = own.iter().map(|name| HeaderName::from_static(name));
    first.into_iter().chain(own).chain(last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_browsers_send_is_an_origin() {
        for text in ["https://app.example", "http://localhost:5173", " capacitor://localhost"] {
            assert!(text.parse::<Origin>().is_ok(), "{text}");
        }
        for text in [
            "",
            "*",
            "null",
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/path",
            "https://*.example",
            "https://App.example",
            "https://app.example:443",
            "https://user@app.example",
            "https://app.example?",
            "https://äpp.example",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
