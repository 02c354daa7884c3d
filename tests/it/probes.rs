//! The probes: one that always answers, one that says whether requests would be carried out.

use std::net::TcpStream;

use reqwest::Method;
use serde_json::json;

use crate::harness::{Reply, Server, eventually};

async fn probe(server: &Server, method: Method, path: &str) -> Reply {
    Reply::to(server.client().request(method, path)).await
}

#[tokio::test]
async fn both_answer_without_login() {
    let server = Server::start_with(&[
        ("BILLING_AUTH", "jwt"),
        ("BILLING_JWT_SECRET", "a secret of at least thirty-two bytes"),
    ]);
    for path in ["/livez", "/readyz"] {
        probe(&server, Method::GET, path).await.is(200, &json!({"status": "ok"}));
        let head = probe(&server, Method::HEAD, path).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{head:?}");
        let post = probe(&server, Method::POST, path).await;
        post.is(405, &json!({"detail": "Method Not Allowed"}));
    }
}

#[tokio::test]
async fn without_its_database_the_service_lives_but_is_not_ready() {
    let server = Server::start();
    let away = server.directory().join("away.db");
    std::fs::rename(server.database().path(), &away).expect("the file can be moved");
    let ready = probe(&server, Method::GET, "/readyz").await;
    assert_eq!((ready.status, &ready.json()["code"]), (503, &json!("database_unavailable")));
    assert!(ready.header("retry-after").is_some(), "{ready:?}");
    assert_eq!(probe(&server, Method::HEAD, "/readyz").await.status, 503);
    probe(&server, Method::GET, "/livez").await.ok();
    std::fs::rename(&away, server.database().path()).expect("the file can be moved");
    probe(&server, Method::GET, "/readyz").await.ok();
}

#[tokio::test]
async fn a_database_that_was_made_read_only_is_not_ready() {
    let server = Server::start();
    let path = server.database().path().to_owned();
    let writable = std::fs::metadata(&path).expect("the file is there").permissions();
    let mut readonly = writable.clone();
    readonly.set_readonly(true);
    std::fs::set_permissions(&path, readonly).expect("the file is ours");
    let ready = probe(&server, Method::GET, "/readyz").await;
    assert_eq!((ready.status, &ready.json()["code"]), (503, &json!("database_unavailable")));
    std::fs::set_permissions(&path, writable).expect("the file is ours");
    probe(&server, Method::GET, "/readyz").await.ok();
}

#[tokio::test]
async fn a_service_that_stops_is_not_ready() {
    let mut server = Server::start();
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
