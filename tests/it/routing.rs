//! What HTTP itself refuses or adds: paths, methods, media types, sizes, HEAD, request ids, gzip.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Engine, RawConnection, Reply, Server, client::purchase, on_both_engines};

on_both_engines![
    other_paths_are_not_found,
    other_methods_are_not_allowed,
    only_json_is_taken,
    a_body_has_a_limit,
    a_connection_that_ends_with_a_refused_body_says_so,
    a_body_over_the_limit_is_answered_without_being_read,
    headers_have_a_limit,
    head_works_like_get,
    harmless_request_ids_are_taken_over,
    a_long_history_is_compressed_for_who_can_read_it,
];

const BODY_LIMIT_BYTES: usize = 65_536;

async fn other_paths_are_not_found(engine: Engine) {
    let server = Server::start(engine);
    for path in [
        "/",
        "/api",
        "/api/billing",
        "/api/billing/",
        "/api/billing/balance/",
        "/api/billing/balance/category",
        "/api/billing/balance/category/quick/",
        "/api/billing/transactions/",
        "/api/billing/Balance",
        "//api/billing/balance",
    ] {
        let reply = Reply::to(server.client().request(Method::GET, path)).await;
        reply.is(404, &json!({"detail": "Not Found"}));
    }
    for path in ["/credits/add/", "/credits/allocate/", "/tokens/consume/", "/credits"] {
        let reply = server.client().post(path, &purchase(1, "GPA.1")).await;
        reply.is(404, &json!({"detail": "Not Found"}));
    }
}

async fn other_methods_are_not_allowed(engine: Engine) {
    let server = Server::start(engine);
    let reads = ["/balance", "/balance/category/quick", "/transactions", "/pricing", "/health"];
    let writes = ["/credits/add", "/credits/allocate", "/tokens/consume", "/reset"];
    let calls = reads.iter().map(|path| (path, "GET", [Method::POST, Method::DELETE]));
    let calls = calls.chain(writes.iter().map(|path| (path, "POST", [Method::GET, Method::PUT])));
    for (path, allowed, methods) in calls {
        for method in methods {
            let request = server.client().request(method, &format!("/api/billing{path}"));
            let reply = Reply::to(request).await;
            reply.is(405, &json!({"detail": "Method Not Allowed"}));
            let allow = reply.header("allow").unwrap_or_default();
            let mut names = allow.split(',').map(str::trim);
            assert!(names.any(|name| name == allowed), "{path}: {reply:?}");
        }
    }
}

async fn only_json_is_taken(engine: Engine) {
    let server = Server::start(engine);
    let body = purchase(1, "GPA.1").to_string();
    let before = server.database().digest().await;
    for content_type in [
        "text/plain",
        "application/problem+json",
        "application/x-www-form-urlencoded",
        "text/json",
        "application/jsonp",
        "application/json5",
        "application",
    ] {
        for path in ["/credits/add", "/credits/allocate", "/tokens/consume"] {
            let reply = server.client().post_as(path, content_type, body.clone()).await;
            assert_eq!(reply.status, 415, "{content_type}: {reply:?}");
            assert!(reply.json()["detail"].is_string(), "{reply:?}");
        }
    }
    assert_eq!(server.database().digest().await, before);
    for content_type in ["application/json; charset=utf-8", "Application/JSON"] {
        let body = purchase(1, content_type).to_string();
        server.client().post_as("/credits/add", content_type, body).await.ok();
    }
}

async fn a_body_has_a_limit(engine: Engine) {
    let server = Server::start(engine);
    let mut body = purchase(1, "GPA.1").to_string().into_bytes();
    body.resize(BODY_LIMIT_BYTES + 1, b' ');
    // On a connection each: what becomes of the refused one is the next test's business.
    for path in ["/credits/add", "/credits/allocate", "/tokens/consume"] {
        let reply = server.client().post_bytes(path, body.clone()).await;
        assert_eq!(reply.status, 413, "{reply:?}");
        assert!(reply.json()["detail"].is_string(), "{reply:?}");
    }
    assert_eq!(server.client().balance().await["credits"], 0);
    body.pop();
    server.client().post_bytes("/credits/add", body).await.ok();
}

async fn a_connection_that_ends_with_a_refused_body_says_so(engine: Engine) {
    let server = Server::start(engine);
    let mut connection = server.connect();
    connection.send(format!(
        "POST /api/billing/credits/add HTTP/1.1\r\nHost: billing\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        BODY_LIMIT_BYTES + 1
    ));
    let answer = connection.read_head();
    assert!(answer.starts_with("http/1.1 413 "), "{answer}");
    // Else a client sends its next request down a connection that is being closed.
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

async fn a_body_over_the_limit_is_answered_without_being_read(engine: Engine) {
    let server = Server::start(engine);
    let head = "POST /api/billing/credits/add HTTP/1.1\r\nHost: billing\r\n\
                Content-Type: application/json\r\n";
    let mut announced = server.connect();
    announced.send(format!("{head}Content-Length: 10000000000\r\n\r\n{{"));
    let answer = announced.read_head();
    assert!(answer.starts_with("http/1.1 413 "), "{answer}");

    let mut chunked = server.connect();
    chunked
        .send(format!("{head}Transfer-Encoding: chunked\r\n\r\n10001\r\n{}", " ".repeat(0x10001)));
    // The end of the body never comes.
    let answer = chunked.read_head();
    assert!(answer.starts_with("http/1.1 413 "), "{answer}");
    assert_eq!(server.client().balance().await["credits"], 0);
}

async fn headers_have_a_limit(engine: Engine) {
    let server = Server::start(engine);
    let mut connection = server.connect();
    // The service may hang up before all of it is sent.
    let _ = connection.try_send(format!(
        "GET /api/billing/balance HTTP/1.1\r\nHost: billing\r\nX-Long: {}\r\n\r\n",
        "x".repeat(70_000)
    ));
    let answer = connection.read_head();
    // An answer without a body would not be ours.
    let told = answer.starts_with("http/1.1 431 ") && answer.contains("\r\nx-request-id: ");
    assert!(answer.is_empty() || told, "{answer}");
    server.client().balance().await;
}

async fn head_works_like_get(engine: Engine) {
    let server = Server::start(engine);
    for path in ["/balance", "/balance/category/quick", "/transactions", "/pricing", "/health"] {
        let path = format!("/api/billing{path}");
        let reply = Reply::to(server.client().request(Method::HEAD, &path)).await;
        assert_eq!((reply.status, reply.text.as_str()), (200, ""), "{reply:?}");
        let get = Reply::to(server.client().request(Method::GET, &path)).await;
        assert_eq!(reply.header("content-type"), get.header("content-type"), "{reply:?}");
    }
    let mut connection = server.connect();
    connection.send("HEAD /api/billing/balance HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n");
    let bytes = connection.read_to_end();
    assert!(bytes.starts_with(b"HTTP/1.1 200 ") && bytes.ends_with(b"\r\n\r\n"), "no body");
}

async fn harmless_request_ids_are_taken_over(engine: Engine) {
    let server = Server::start(engine);
    let id_for = async |id: Option<&str>| {
        let mut request = server.client().request(Method::GET, "/api/billing/balance");
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        Reply::to(request).await.header("x-request-id").expect("an id").to_owned()
    };
    for id in ["abc-123", "01990b1c-6a5e-7d1f-8b5a-000000000000", "A_b.c"] {
        assert_eq!(id_for(Some(id)).await, id);
    }
    let made = id_for(None).await;
    assert_ne!(made, id_for(None).await, "every request has its own");
    for id in ["", "two words", "a\"b", "a=b;c", &"x".repeat(300)] {
        let used = id_for(Some(id)).await;
        assert!(used != id && !used.is_empty(), "{id:?} became {used:?}");
    }
    let missing = server.client().get("/nothing").await;
    assert!(missing.header("x-request-id").is_some(), "errors have one too: {missing:?}");
}

async fn a_long_history_is_compressed_for_who_can_read_it(engine: Engine) {
    let server = Server::start(engine);
    server.client().buy_tokens("gemini-2.0-flash", 75).await;
    for number in 0..60 {
        server.client().consume("gemini-2.0-flash", number, 0).await.ok();
    }
    let get = |header: &str| {
        let mut connection: RawConnection = server.connect();
        connection.send(format!(
            "GET /api/billing/transactions HTTP/1.1\r\nHost: b\r\n{header}Connection: close\r\n\r\n"
        ));
        let head = connection.read_head();
        (head, connection.read_to_end())
    };
    let (head, plain) = get("");
    assert!(!head.contains("content-encoding"), "{head}");
    let (head, packed) = get("Accept-Encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    assert!(head.contains("vary: accept-encoding"), "{head}");
    assert!(packed.len() < plain.len() / 2, "{} of {} bytes", packed.len(), plain.len());
}
