//! What the log says: one line per request, one per movement of money, and never a purchase token.

use std::{
    io::{BufRead, BufReader},
    process::Command,
};

use reqwest::Method;
use serde_json::json;

use crate::harness::{
    Client, Engine, Home, PATIENCE, Reply, Server, client::purchase, on_both_engines,
};

on_both_engines![
    one_request_line_and_one_money_line_per_operation,
    a_purchase_token_is_never_logged,
    a_log_that_nobody_reads_stops_nothing,
    a_line_break_in_a_path_makes_no_line_of_its_own,
];

const TOKEN: &str = "a-secret-token";

/// How many lines hold all of `words`.
fn count(log: &[String], words: &[&str]) -> usize {
    log.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

async fn one_request_line_and_one_money_line_per_operation(engine: Engine) {
    let mut server = Server::start(engine);
    let calls = [
        ("first", "/credits/add", purchase(4321, "GPA.1"), 200),
        ("second", "/credits/add", purchase(4321, "GPA.1"), 200),
        (
            "third",
            "/credits/allocate",
            json!({"allocations": [{"model_id": "gemini-2.5-pro", "credits": 321}]}),
            200,
        ),
        (
            "fourth",
            "/tokens/consume",
            json!({"model_id": "gemini-2.5-pro", "input_tokens": 1000, "output_tokens": 234}),
            200,
        ),
    ];
    for (id, path, body, status) in &calls {
        let request = server
            .client()
            .request(Method::POST, &format!("/api/billing{path}"))
            .header("x-request-id", format!("id-{id}"))
            .json(body);
        assert_eq!(Reply::to(request).await.status, *status, "{id}");
    }
    let log = server.stop().await;
    for (id, path, _, status) in &calls {
        let words = [format!("id-{id}"), format!("status={status}"), format!("/api/billing{path}")];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(count(&log, &words), 1, "{words:?}: {log:#?}");
        // The request's line and the money's, which bears the same id.
        assert_eq!(count(&log, &words[..1]), 2, "{id}: {log:#?}");
    }
    for words in [
        ["purchase", "credits=4321", "balance=4321", "result=ok"],
        ["purchase", "credits=4321", "balance=4321", "result=replayed"],
        ["allocation", "user=default_user", "credits=321", "gemini-2.5-pro"],
        ["consumption", "user=default_user", "tokens=1234", "remaining=426766"],
    ] {
        assert_eq!(count(&log, &words), 1, "{words:?}: {log:#?}");
    }
}

async fn a_purchase_token_is_never_logged(engine: Engine) {
    let mut server = Server::start_with(engine, &[("BILLING_LOG", "trace")]);
    let client = server.client();
    let mut malformed = purchase(0, "GPA.2");
    malformed["purchase_record"]["transactionId"] = json!([TOKEN]);
    assert!(purchase(1, "GPA.1").to_string().contains(TOKEN), "there is something to find");
    client.add(1, "GPA.1").await.ok();
    assert!(client.add(1, "GPA.1").await.is_replayed());
    assert_eq!(client.post("/credits/add", &malformed).await.status, 422);
    let truncated = format!("{{\"purchaseToken\": \"{TOKEN}\"");
    assert_eq!(client.post_bytes("/credits/add", truncated).await.status, 422);
    let log = server.stop().await;
    assert!(log.len() > 4, "the log says something: {log:#?}");
    assert_eq!(count(&log, &[TOKEN]), 0, "{log:#?}");
}

async fn a_log_that_nobody_reads_stops_nothing(engine: Engine) {
    let home = Home::new(engine);
    let mut child =
        home.launch().command(home.directory.path()).spawn().expect("the binary starts");
    let mut log = BufReader::new(child.stdout.take().expect("standard output is piped"));
    let mut first = String::new();
    log.read_line(&mut first).expect("the first line comes");
    let (_, address) = first.split_once("address=").expect("it names the address");
    let address = address.split_whitespace().next().expect("an address follows");
    let client = Client::new(address.parse().expect("a socket address"));
    // Far more than a pipe holds.
    for _ in 0..2_000 {
        client.get("/health").await.ok();
    }
    let pid = child.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().expect("kill starts");
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || ended.send(child.wait()));
    let Ok(status) = tokio::time::timeout(PATIENCE, end).await else {
        Command::new("kill").args(["-KILL", &pid]).status().expect("kill starts");
        panic!("the service waits for a reader of its log");
    };
    let status = status.expect("the thread sends").expect("our own child can be waited for");
    assert_eq!(status.code(), Some(0));
    drop(log);
}

async fn a_line_break_in_a_path_makes_no_line_of_its_own(engine: Engine) {
    let mut server = Server::start(engine);
    server.client().get("/forged%0Aline").await.is(404, &json!({"detail": "Not Found"}));
    let log = server.stop().await;
    assert_eq!(count(&log, &["forged"]), 1, "{log:#?}");
    assert!(!log.iter().any(|line| line.starts_with("line")), "{log:#?}");
}
