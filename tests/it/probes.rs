//! The probes: one that always answers, one that says whether requests would be carried out.

use std::net::TcpStream;

use reqwest::Method;
use serde_json::json;

use crate::harness::{Engine, Reply, Server, eventually, on_both_engines};

on_both_engines![
    both_answer_without_login,
    without_its_database_the_service_lives_but_is_not_ready,
    a_database_that_was_made_read_only_is_not_ready,
    a_service_that_stops_is_not_ready,
];

async fn probe(server: &Server, method: Method, path: &str) -> Reply {
    Reply::to(server.client().request(method, path)).await
}

async fn becomes_ready(server: &Server) {
    eventually("the service is ready again", async || {
        (probe(server, Method::GET, "/readyz").await.status == 200).then_some(())
    })
    .await;
}

async fn both_answer_without_login(engine: Engine) {
    let server = Server::start_with(
        engine,
        &[("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", "a secret of at least thirty-two bytes")],
    );
    for path in ["/livez", "/readyz"] {
        probe(&server, Method::GET, path).await.is(200, &json!({"status": "ok"}));
        let head = probe(&server, Method::HEAD, path).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{head:?}");
        let post = probe(&server, Method::POST, path).await;
        post.is(405, &json!({"detail": "Method Not Allowed"}));
    }
}

async fn without_its_database_the_service_lives_but_is_not_ready(engine: Engine) {
    let server = Server::start(engine);
    server.database().take_away().await;
    let ready = probe(&server, Method::GET, "/readyz").await;
    assert_eq!((ready.status, &ready.json()["code"]), (503, &json!("database_unavailable")));
    assert!(ready.header("retry-after").is_some(), "{ready:?}");
    assert_eq!(probe(&server, Method::HEAD, "/readyz").await.status, 503);
    probe(&server, Method::GET, "/livez").await.ok();
    server.database().give_back().await;
    becomes_ready(&server).await;
}

async fn a_database_that_was_made_read_only_is_not_ready(engine: Engine) {
    let server = Server::start(engine);
    server.database().set_read_only(true).await;
    let ready = probe(&server, Method::GET, "/readyz").await;
    assert_eq!((ready.status, &ready.json()["code"]), (503, &json!("database_unavailable")));
    server.database().set_read_only(false).await;
    becomes_ready(&server).await;
}

async fn a_service_that_stops_is_not_ready(engine: Engine) {
    let mut server = Server::start(engine);
    let mut connection = server.connect();
    connection.send("GET /readyz HTTP/1.1\r\nHost: billing\r\n");
    // When this is answered, the connection before it has been accepted.
    server.client().balance().await;
    server.terminate();
    eventually("nobody is accepted any more", async || {
        TcpStream::connect(server.address()).is_err().then_some(())
    })
    .await;
    connection.send("\r\n");
    let head = connection.read_head();
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert!(head.contains("\r\nretry-after: "), "{head}");
    let body = String::from_utf8(connection.read_to_end()).expect("UTF-8");
    assert!(body.contains("\"code\":\"shutting_down\""), "{body}");
    server.ended().await;
}
