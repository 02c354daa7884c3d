//! Connections as proxies and load balancers use them: answered while they still send, kept, left idle, and
//! broken.

use serde_json::json;

use crate::harness::{
    Engine, Launch, RawConnection, Server, client::purchase, clock::Clock, eventually,
    on_both_engines, raw, token::SECRET,
};

on_both_engines![
    an_early_refusal_keeps_the_connection_of_a_body_within_the_limit,
    an_early_refusal_of_a_longer_body_arrives_while_it_is_still_sent,
    a_body_that_is_not_sent_ends_the_connection_and_is_told,
    what_is_no_request_gets_no_answer,
    idle_connections_outlive_those_of_load_balancers,
    connections_are_kept_as_long_as_set,
    half_a_head_is_waited_for_no_longer_than_before,
    a_new_client_takes_the_place_of_the_longest_idle_one,
    a_hangup_is_no_stop,
];

fn head(method: &str, path: &str, headers: &str, length: usize) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: billing\r\n{headers}Content-Length: {length}\r\n\r\n"
    )
}

/// A request for the balance, which is answered.
fn ask(connection: &mut RawConnection) -> String {
    connection.send("GET /api/billing/pricing HTTP/1.1\r\nHost: billing\r\n\r\n");
    connection.read_answer()
}

async fn an_early_refusal_keeps_the_connection_of_a_body_within_the_limit(engine: Engine) {
    const LENGTH: usize = 60_000;
    let jwt = [("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET)];
    let server = Server::start_with(engine, &jwt);
    let json = "Content-Type: application/json\r\n";
    let add = "/api/billing/credits/add";
    for (method, path, headers, status) in [
        ("POST", add, json, 401),
        ("POST", "/api/billing/nothing", json, 404),
        ("POST", "/api/billing/balance", json, 405),
    ] {
        let head = head(method, path, headers, LENGTH);
        let mut connection = server.connect();
        for _ in 0..3 {
            connection.send(head.clone() + &" ".repeat(LENGTH));
            let answer = connection.read_answer();
            assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{answer}");
            assert!(!answer.contains("connection: close"), "{answer}");
        }
        assert!(ask(&mut connection).starts_with("http/1.1 200 "));
        // Where this machine stood still, the rest came so late that it was given up.
        eventually("what comes in pieces is waited for", async || {
            let mut connection = server.connect();
            connection.send(&head);
            for _ in 0..LENGTH / 1_000 {
                connection.try_send([b' '; 1_000]).ok()?;
            }
            let answer = connection.read_answer();
            assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{answer}");
            let kept = !answer.contains("connection: close");
            kept.then(|| assert!(ask(&mut connection).starts_with("http/1.1 200 ")))
        })
        .await;
    }
    drop(server);
    let server = Server::start(engine);
    let mut connection = server.connect();
    let head = head("POST", add, "Content-Type: text/plain\r\n", LENGTH);
    connection.send(head + &" ".repeat(LENGTH));
    let answer = connection.read_answer();
    assert!(answer.starts_with("http/1.1 415 "), "{answer}");
    assert!(ask(&mut connection).starts_with("http/1.1 200 "));
}

async fn an_early_refusal_of_a_longer_body_arrives_while_it_is_still_sent(engine: Engine) {
    let server = Server::start(engine);
    for length in [70_000, 1_000_000] {
        let mut connection = server.connect();
        let json = "Content-Type: application/json\r\n";
        connection.send(head("POST", "/api/billing/credits/add", json, length));
        // What a proxy does not look at before it has sent all of it.
        for _ in 0..length / 1_000 {
            connection.send([b' '; 1_000]);
        }
        let answer = String::from_utf8_lossy(&connection.read_to_end()).to_lowercase();
        assert!(answer.starts_with("http/1.1 413 "), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert!(answer.contains("\r\n\r\n{\"detail\":\"") && answer.ends_with("\"}"), "{answer}");
    }
}

async fn a_body_that_is_not_sent_ends_the_connection_and_is_told(engine: Engine) {
    let server = Server::start(engine);
    for headers in ["", "Expect: 100-continue\r\n"] {
        let mut connection = server.connect();
        connection.send(head("POST", "/nothing", headers, 1_000));
        let answer = connection.read_answer();
        assert!(answer.starts_with("http/1.1 404 "), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_eq!(connection.read_to_end(), b"");
    }
    // Who asks before sending is told to send what is wanted.
    let mut connection = server.connect();
    let body = purchase(1, "GPA.1").to_string();
    let headers = "Content-Type: application/json\r\nExpect: 100-continue\r\n";
    connection.send(head("POST", "/api/billing/credits/add", headers, body.len()));
    assert_eq!(connection.read_head(), "http/1.1 100 continue\r\n\r\n");
    connection.send(body);
    assert!(connection.read_answer().starts_with("http/1.1 200 "));
}

/// The app takes an empty 400 for the end of a purchase, and gives up on it.
async fn what_is_no_request_gets_no_answer(engine: Engine) {
    let server = Server::start(engine);
    let post = "POST /api/billing/credits/add HTTP/1.1\r\nHost: b\r\n";
    let many: Vec<String> = (0..200).map(|number| format!("X-{number}: a\r\n")).collect();
    let many = many.concat();
    for bytes in [
        format!("{post}X-A: a\0b\r\n\r\n"),
        format!("{post}X-A\r\n\r\n"),
        format!("{post}X A: b\r\n\r\n"),
        format!("{post}: b\r\n\r\n"),
        format!("{post}X-A: a\r\n folded\r\n\r\n"),
        format!("{post}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"),
        format!("{post}Content-Length: -1\r\n\r\n"),
        format!("{post}Content-Length: 1x\r\n\r\n"),
        format!("{post}Content-Length: 99999999999999999999\r\n\r\n"),
        format!("{post}Transfer-Encoding: gzip\r\n\r\n"),
        format!("{post}{many}\r\n"),
        format!("{post}X-Long: {}\r\n\r\n", "x".repeat(200_000)),
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)),
        "PO(T /api/billing/credits/add HTTP/1.1\r\n\r\n".to_owned(),
        "POST /api/billing/cre dits/add HTTP/1.1\r\n\r\n".to_owned(),
        "POST /api/\u{7f}billing/credits/add HTTP/1.1\r\n\r\n".to_owned(),
        "POST /api/billing/credits/add HTTP/3.0\r\n\r\n".to_owned(),
        "POST /api/billing/credits/add\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\0\u{1}a TLS hello\r\n\r\n".to_owned(),
    ] {
        let mut connection = server.connect();
        // The service may hang up before all of it is sent.
        let _ = connection.try_send(&bytes);
        let answer = connection.read_head();
        assert_eq!(answer, "", "{bytes:.200?}");
        // Behind a request that is one too.
        let mut connection = server.connect();
        let good = "GET /api/billing/pricing HTTP/1.1\r\nHost: billing\r\n\r\n";
        let _ = connection.try_send(format!("{good}{bytes}"));
        let answer = connection.read_answer();
        assert!(answer.is_empty() || answer.starts_with("http/1.1 200 "), "{answer}");
        assert_eq!(connection.read_head(), "", "{bytes:.200?}");
    }
}

async fn idle_connections_outlive_those_of_load_balancers(engine: Engine) {
    let clock = Clock::new();
    let server = Server::start_as(engine, clock.timing(Launch::new()));
    let (mut used, mut unused) = (server.connect(), server.connect());
    assert!(ask(&mut used).starts_with("http/1.1 200 "));
    clock.pass(62);
    assert!(ask(&mut used).starts_with("http/1.1 200 "), "most balancers keep theirs for 60 s");
    assert!(ask(&mut unused).starts_with("http/1.1 200 "));
    clock.pass(62 + 76);
    // Which has the service look at the clock.
    server.client().get("/pricing").await.ok();
    assert_eq!((used.read_to_end(), unused.read_to_end()), (vec![], vec![]));
}

async fn connections_are_kept_as_long_as_set(engine: Engine) {
    let clock = Clock::new();
    let launch = Launch::new().set("BILLING_KEEP_ALIVE_SECONDS", "3600");
    let server = Server::start_as(engine, clock.timing(launch));
    let mut connection = server.connect();
    assert!(ask(&mut connection).starts_with("http/1.1 200 "));
    clock.pass(3_500);
    assert!(ask(&mut connection).starts_with("http/1.1 200 "));
    clock.pass(3_500 + 3_601);
    // Which has the service look at the clock.
    server.client().get("/pricing").await.ok();
    assert_eq!(connection.read_to_end(), b"");
}

async fn half_a_head_is_waited_for_no_longer_than_before(engine: Engine) {
    let clock = Clock::new();
    let server = Server::start_as(engine, clock.timing(Launch::new()));
    let mut connection = server.connect();
    assert!(ask(&mut connection).starts_with("http/1.1 200 "));
    connection.send("GET /api/billing/pri");
    // When this is answered, what was sent before it has arrived.
    server.client().get("/pricing").await.ok();
    clock.pass(16);
    // Which has the service look at the clock.
    server.client().get("/pricing").await.ok();
    assert_eq!(connection.read_to_end(), b"");
}

async fn a_new_client_takes_the_place_of_the_longest_idle_one(engine: Engine) {
    // 64 files are left to others than clients.
    let launch = Launch::new().limit_open_files("-n 84").set("BILLING_KEEP_ALIVE_SECONDS", "3600");
    let server = Server::start_as(engine, launch);
    let mut first = server.connect();
    assert!(ask(&mut first).starts_with("http/1.1 200 "));
    let _silent = server.connect_many(40);
    server.client().add(1, "GPA.1").await.is(200, &json!({"success": true, "new_balance": 1}));
    assert_eq!(first.read_to_end(), b"", "the first to have been idle");
    let mut half = server.connect();
    half.send(&raw::post("/credits/add", &purchase(1, "GPA.2").to_string())[..20]);
    server.client().add(1, "GPA.3").await.ok();
}

async fn a_hangup_is_no_stop(engine: Engine) {
    let mut server = Server::start(engine);
    server.hang_up();
    server.wait_for_log("SIGHUP");
    server.client().add(1, "GPA.1").await.ok();
    server.hang_up();
    server.stop().await;
}
