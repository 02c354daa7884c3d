//! What the log says: one line per request, one per movement of money, and never a purchase token.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Reply, Server, client::purchase};

const TOKEN: &str = "a-secret-token";

/// How many lines hold all of `words`.
fn count(log: &[String], words: &[&str]) -> usize {
    log.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

#[tokio::test]
async fn one_request_line_and_one_money_line_per_operation() {
    let mut server = Server::start();
    let calls = [
        ("first", "/credits/add", purchase(4321, "GPA.1"), 200),
        ("second", "/credits/add", purchase(4321, "GPA.1"), 409),
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
        ["purchase", "user=default_user", "credits=4321", "balance=4321"],
        ["purchase", "user=default_user", "credits=4321", "purchase_already_processed"],
        ["allocation", "user=default_user", "credits=321", "gemini-2.5-pro"],
        ["consumption", "user=default_user", "tokens=1234", "remaining=426766"],
    ] {
        assert_eq!(count(&log, &words), 1, "{words:?}: {log:#?}");
    }
}

#[tokio::test]
async fn a_purchase_token_is_never_logged() {
    let mut server = Server::start_with(&[("BILLING_LOG", "trace")]);
    let client = server.client();
    let mut malformed = purchase(0, "GPA.2");
    malformed["purchase_record"]["transactionId"] = json!([TOKEN]);
    assert!(purchase(1, "GPA.1").to_string().contains(TOKEN), "there is something to find");
    client.add(1, "GPA.1").await.ok();
    assert_eq!(client.add(1, "GPA.1").await.status, 409);
    assert_eq!(client.post("/credits/add", &malformed).await.status, 422);
    let truncated = format!("{{\"purchaseToken\": \"{TOKEN}\"");
    assert_eq!(client.post_bytes("/credits/add", truncated).await.status, 422);
    let log = server.stop().await;
    assert!(log.len() > 4, "the log says something: {log:#?}");
    assert_eq!(count(&log, &[TOKEN]), 0, "{log:#?}");
}

#[tokio::test]
async fn a_line_break_in_a_path_makes_no_line_of_its_own() {
    let mut server = Server::start();
    server.client().get("/forged%0Aline").await.is(404, &json!({"detail": "Not Found"}));
    let log = server.stop().await;
    assert_eq!(count(&log, &["forged"]), 1, "{log:#?}");
    assert!(!log.iter().any(|line| line.starts_with("line")), "{log:#?}");
}
