//! The run every version must pass: buy, allocate, consume, look at the history.

use serde_json::json;

use crate::harness::{Engine, Server, on_both_engines};

on_both_engines![
    credits_become_tokens_and_tokens_are_used_up,
    health_and_prices_of_a_new_database,
    several_allocations_at_once_are_recorded_in_order,
    a_model_that_was_used_up_stays_in_the_balance,
    a_restart_keeps_everything,
];

async fn credits_become_tokens_and_tokens_are_used_up(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();

    client.add(100, "GPA.1").await.is(200, &json!({"success": true, "new_balance": 100}));
    client.add(200, "GPA.2").await.is(200, &json!({"success": true, "new_balance": 300}));
    client.get("/balance").await.is(200, &json!({"credits": 300, "allocated_tokens": {}}));

    client.allocate(&[("gemini-2.0-flash", 150)]).await.is(200, &json!({"success": true}));
    let balance = json!({"credits": 150, "allocated_tokens": {"gemini-2.0-flash": 2_000_000}});
    client.get("/balance").await.is(200, &balance);
    let total = json!({"category": "quick", "total_tokens": 2_000_000});
    client.get("/balance/category/quick").await.is(200, &total);
    let total = json!({"category": "think", "total_tokens": 0});
    client.get("/balance/category/think").await.is(200, &total);

    let remaining = json!({"success": true, "remaining_tokens": 1_993_000});
    client.consume("gemini-2.0-flash", 5_000, 2_000).await.is(200, &remaining);

    let reply = client.get("/transactions").await;
    assert_eq!(reply.header("link"), None, "nothing remains");
    let mut history = reply.ok();
    let entries = history.as_array_mut().expect("a plain array");
    for entry in entries.iter_mut() {
        let time = entry["created_at"].take();
        check_time(time.as_str().expect("a text"));
        entry.as_object_mut().expect("an object").remove("created_at");
    }
    let expected = json!([
        {"id": 4, "type": "consumption", "amount": 7_000, "model_id": "gemini-2.0-flash"},
        {"id": 3, "type": "allocation", "amount": 150, "model_id": "gemini-2.0-flash"},
        {"id": 2, "type": "purchase", "amount": 200, "model_id": null},
        {"id": 1, "type": "purchase", "amount": 100, "model_id": null},
    ]);
    assert_eq!(history, expected);
}

/// RFC 3339 in UTC with microseconds and `Z`, and not in the future.
#[expect(clippy::disallowed_methods, reason = "the service's time is compared with the real clock")]
fn check_time(text: &str) {
    let time = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.6fZ")
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(text.len(), "2026-11-23T13:14:14.900672Z".len(), "{text}");
    assert!(time <= chrono::Utc::now().naive_utc(), "{text}");
}

async fn health_and_prices_of_a_new_database(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.get("/health").await.is(200, &json!({"status": "ok", "service": "billing"}));
    let prices = json!({
        "gemini-2.5-flash": {"price_per_m_token": 255, "category": "quick"},
        "gemini-2.5-pro": {"price_per_m_token": 750, "category": "think"},
        "gemini-2.0-flash": {"price_per_m_token": 75, "category": "quick"},
    });
    client.get("/pricing").await.is(200, &prices);
}

async fn several_allocations_at_once_are_recorded_in_order(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(1_000, "GPA.1").await.ok();
    let items = [("gemini-2.5-flash", 1), ("gemini-2.5-pro", 50), ("gemini-2.5-flash", 2)];
    client.allocate(&items).await.is(200, &json!({"success": true}));

    // Rounded down per item: 3,921 + 7,843, not 11,764.7.
    let tokens = json!({"gemini-2.5-flash": 11_764, "gemini-2.5-pro": 66_666});
    let balance = json!({"credits": 947, "allocated_tokens": tokens});
    client.get("/balance").await.is(200, &balance);
    let history = client.get("/transactions?type=allocation").await.ok();
    let amounts: Vec<_> = history
        .as_array()
        .expect("an array")
        .iter()
        .rev()
        .map(|entry| (entry["model_id"].as_str(), entry["amount"].as_i64()))
        .collect();
    let expected: Vec<_> =
        items.iter().map(|(model, credits)| (Some(*model), Some(*credits))).collect();
    assert_eq!(amounts, expected);
}

async fn a_model_that_was_used_up_stays_in_the_balance(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens("gemini-2.5-pro", 750).await;
    let remaining = json!({"success": true, "remaining_tokens": 0});
    client.consume("gemini-2.5-pro", 0, 1_000_000).await.is(200, &remaining);
    client.consume("gemini-2.5-pro", 0, 0).await.is(200, &remaining);
    let balance = json!({"credits": 0, "allocated_tokens": {"gemini-2.5-pro": 0}});
    client.get("/balance").await.is(200, &balance);
}

async fn a_restart_keeps_everything(engine: Engine) {
    let mut server = Server::start(engine);
    server.client().buy_tokens("gemini-2.5-pro", 75).await;
    server.client().consume("gemini-2.5-pro", 1, 2).await.ok();
    let balance = server.client().balance().await;
    let history = server.client().get("/transactions").await.ok();
    let digest = server.database().digest().await;

    server.stop().await;
    server.start_again();

    assert_eq!(server.client().balance().await, balance);
    assert_eq!(server.client().get("/transactions").await.ok(), history);
    assert_eq!(server.database().digest().await, digest);
}
