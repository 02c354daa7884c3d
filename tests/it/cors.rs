//! Browsers: pages of the origins that are set may call the API, and nobody else's.

use reqwest::{Method, RequestBuilder};

use crate::harness::{Engine, Reply, Server, on_both_engines};

on_both_engines![pages_of_the_origins_set_may_call, other_pages_may_not, by_default_nobody_may];

const ADD: &str = "/api/billing/credits/add";
const PAGE: &str = "https://app.example";
const SETTINGS: [(&str, &str); 1] =
    [("BILLING_CORS_ORIGINS", "https://app.example, http://localhost:5173")];

/// What a browser asks before a page may send a POST.
fn preflight(server: &Server, origin: &str) -> RequestBuilder {
    server
        .client()
        .request(Method::OPTIONS, ADD)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,idempotency-key,billing-user")
}

fn allowed_origin(reply: &Reply) -> Option<&str> {
    reply.header("access-control-allow-origin")
}

/// A header's list, in lower case.
fn list(reply: &Reply, name: &str) -> Vec<String> {
    let value = reply.header(name).unwrap_or_default().to_lowercase();
    value.split(',').map(|item| item.trim().to_owned()).collect()
}

async fn pages_of_the_origins_set_may_call(engine: Engine) {
    let server = Server::start_with(engine, &SETTINGS);
    for origin in [PAGE, "http://localhost:5173"] {
        let reply = Reply::to(preflight(&server, origin)).await;
        assert_eq!((reply.status, allowed_origin(&reply)), (200, Some(origin)), "{reply:?}");
        assert_eq!(list(&reply, "access-control-allow-methods"), ["get", "post"]);
        assert_eq!(
            list(&reply, "access-control-allow-headers"),
            [
                "authorization",
                "content-type",
                "x-request-id",
                "idempotency-key",
                "billing-user",
                "if-none-match",
                "traceparent",
                "tracestate",
                "baggage",
                "ngrok-skip-browser-warning"
            ]
        );
        assert!(list(&reply, "vary").contains(&"origin".to_owned()), "{reply:?}");
    }
    // Errors too, or a page could not tell what happened; also those from before the router.
    let too_long = "x".repeat(70_000);
    for (path, body, status) in
        [("/api/billing/balance", "", 200), ("/nothing", "", 404), (ADD, too_long.as_str(), 413)]
    {
        let method = if body.is_empty() { Method::GET } else { Method::POST };
        let request = server.client().request(method, path).header("origin", PAGE);
        let reply = Reply::to(request.body(body.to_owned())).await;
        assert_eq!((reply.status, allowed_origin(&reply)), (status, Some(PAGE)), "{reply:?}");
        assert_eq!(
            list(&reply, "access-control-expose-headers"),
            [
                "link",
                "x-request-id",
                "idempotency-replayed",
                "billing-transaction",
                "etag",
                "retry-after",
                "ratelimit",
                "ratelimit-policy"
            ]
        );
    }
}

async fn other_pages_may_not(engine: Engine) {
    let server = Server::start_with(engine, &SETTINGS);
    for origin in ["https://evil.example", "https://app.example.evil", "http://app.example", "null"]
    {
        let reply = Reply::to(preflight(&server, origin)).await;
        assert_eq!(allowed_origin(&reply), None, "{origin}: {reply:?}");
        let request = server.client().request(Method::GET, "/api/billing/balance");
        let reply = Reply::to(request.header("origin", origin)).await;
        assert_eq!((reply.status, allowed_origin(&reply)), (200, None), "{origin}: {reply:?}");
    }
    // Without the question of a browser it is a method like any other.
    let plain = Reply::to(server.client().request(Method::OPTIONS, ADD)).await;
    assert_eq!(plain.status, 405, "{plain:?}");
}

async fn by_default_nobody_may(engine: Engine) {
    let server = Server::start(engine);
    let reply = Reply::to(preflight(&server, PAGE)).await;
    assert_eq!((reply.status, allowed_origin(&reply)), (405, None), "{reply:?}");
    assert_eq!(reply.header("vary"), None, "{reply:?}");
}
