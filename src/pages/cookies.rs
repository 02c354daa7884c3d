//! The pages' two cookies: the session's, and the language that was chosen. What is in them is judged elsewhere.

use axum::http::{HeaderMap, HeaderValue, header};

/// Keeps other hosts and plain http from setting it (RFC 6265bis); only sent over https.
const SECURE_NAME: &str = "__Host-billing";
/// On this machine, without TLS.
const LOCAL_NAME: &str = "billing";
const LANGUAGE_NAME: &str = "billing-language";
/// A year, in seconds.
const LANGUAGE_MAX_AGE: u32 = 31_536_000;

/// Whether the browser talks to this machine itself, through a tunnel for instance. Browsers trust that as they
/// trust https, but not all of them keep its cookies if they are `Secure`.
pub(super) fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let loopback = |address: std::net::IpAddr| address.is_loopback();
    name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(loopback)
}

/// The value of the session's cookie.
pub(super) fn session(headers: &HeaderMap) -> Option<&str> {
    value(headers, name(headers))
}

/// The value of the language's.
pub(super) fn language(headers: &HeaderMap) -> Option<&str> {
    value(headers, LANGUAGE_NAME)
}

/// Has the browser that sent these headers keep a session.
pub(super) fn keep_session(headers: &HeaderMap, secret: &str) -> HeaderValue {
    cookie(&format!("{}={secret}; {}", name(headers), attributes(headers)))
}

/// Has it forget the session.
pub(super) fn forget_session(headers: &HeaderMap) -> HeaderValue {
    cookie(&format!("{}=; Max-Age=0; {}", name(headers), attributes(headers)))
}

/// Has it keep a language.
pub(super) fn keep_language(headers: &HeaderMap, tag: &str) -> HeaderValue {
    let attributes = attributes(headers);
    cookie(&format!("{LANGUAGE_NAME}={tag}; Max-Age={LANGUAGE_MAX_AGE}; {attributes}"))
}

fn cookie(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names and values are visible ASCII")
}

fn name(headers: &HeaderMap) -> &'static str {
    if is_local(headers) { LOCAL_NAME } else { SECURE_NAME }
}

fn attributes(headers: &HeaderMap) -> &'static str {
    if is_local(headers) {
        "Path=/; HttpOnly; SameSite=Strict"
    } else {
        "Path=/; HttpOnly; SameSite=Strict; Secure"
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, cookie: &str) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).expect("a header");
        HeaderMap::from_iter([(header::HOST, value(host)), (header::COOKIE, value(cookie))])
    }

    #[test]
    fn only_this_machine_goes_without_tls() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:80", "127.1.2.3", "[::1]:9", "[::1]"]
        {
            assert!(is_local(&headers(host, "")), "{host}");
        }
        for host in [
            "",
            "example.com",
            "localhost.example.com:80",
            "10.0.0.1:80",
            "[::2]:80",
            "127.0.0.1.example",
        ] {
            assert!(!is_local(&headers(host, "")), "{host}");
        }
    }

    #[test]
    fn a_session_is_known_by_the_name_that_fits_its_host() {
        let both = "a=1; __Host-billing=far; billing=near";
        assert_eq!(session(&headers("admin.example", both)), Some("far"));
        assert_eq!(session(&headers("localhost:1", both)), Some("near"));
        assert_eq!(session(&headers("admin.example", "billing=near; x")), None);
        let kept = keep_session(&headers("admin.example", ""), "s");
        assert_eq!(kept, "__Host-billing=s; Path=/; HttpOnly; SameSite=Strict; Secure");
        let kept = keep_session(&headers("localhost:1", ""), "s");
        assert_eq!(kept, "billing=s; Path=/; HttpOnly; SameSite=Strict");
    }
}
