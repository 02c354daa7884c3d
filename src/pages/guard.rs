//! What holds for every page: what the browser may do with it, and which requests may change something.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::failure::Failure;

/// Nothing of another host, no script and no style that stands in a page, and no page within another.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Headers of every answer. With `no-referrer` browsers would send `Origin: null` along with forms.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=()",
    ),
];
const FETCH_SITE: &str = "sec-fetch-site";

/// Gives an answer the headers of all. Pages are about people's money: no cache keeps them.
pub(super) fn headed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Lets a request through that changes nothing, or comes from a page of ours.
pub(super) async fn from_our_pages(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads || is_ours(request.headers()) {
        next.run(request).await
    } else {
        Failure::Foreign.into_response()
    }
}

/// Whether a page of ours sent it: browsers say so, and no page can make them say it falsely.
fn is_ours(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(FETCH_SITE) {
        return site == "same-origin";
    }
    // Browsers leave it out where neither https nor this machine is asked, and older ones everywhere.
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let (Some(origin), Some(host)) = (text(header::ORIGIN), text(header::HOST)) else {
        return false;
    };
    let uri = origin.parse::<Uri>().ok();
    let authority = uri.as_ref().and_then(Uri::authority);
    authority.is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(pairs: &[(&'static str, &'static str)]) -> bool {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        is_ours(&pairs.collect::<HeaderMap>())
    }

    #[test]
    fn only_our_own_pages_send_forms() {
        let host = ("host", "admin.example:8443");
        assert!(ours(&[("sec-fetch-site", "same-origin")]));
        for site in ["same-site", "cross-site", "none", ""] {
            let origin = ("origin", "https://admin.example:8443");
            assert!(!ours(&[host, origin, ("sec-fetch-site", site)]), "{site}");
        }
        assert!(ours(&[host, ("origin", "https://admin.example:8443")]));
        assert!(ours(&[host, ("origin", "http://Admin.example:8443")]));
        for origin in [
            "null",
            "",
            "https://admin.example",
            "https://evil.example:8443",
            "https://admin.example:8443.evil",
        ] {
            assert!(!ours(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!ours(&[host]));
    }
}
