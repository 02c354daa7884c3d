//! A clock that jumps: the order of the history and the keys of repeated requests do not rest on it.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::harness::{
    Client, Engine, Launch, Server, client::purchase, clock::Clock, on_both_engines,
};

on_both_engines![a_clock_set_back_a_year_changes_neither_order_nor_repetition];

const YEAR: TimeDelta = TimeDelta::days(365);
/// More than the test takes, and less than the jump.
const TOLERANCE: TimeDelta = TimeDelta::days(1);

fn created_at(entry: &Value) -> DateTime<Utc> {
    entry["created_at"].as_str().and_then(|text| text.parse().ok()).expect("a time")
}

async fn is_repeated(client: &Client, number: i64) -> bool {
    let body = purchase(number, &format!("GPA.{number}"));
    let reply = client.post_keyed(&format!("key-{number}"), "/credits/add", &body).await;
    let total: i64 = (1..=number).sum();
    reply.is(200, &json!({"success": true, "new_balance": total}));
    reply.is_replayed()
}

async fn a_clock_set_back_a_year_changes_neither_order_nor_repetition(engine: Engine) {
    let clock = Clock::new();
    let mut server = Server::start_as(engine, clock.given_to(Launch::new()));
    let client = server.client();
    assert!(!is_repeated(&client, 1).await);
    clock.shift(-YEAR.num_seconds());
    assert!(!is_repeated(&client, 2).await);
    assert!(!is_repeated(&client, 3).await);

    let history = client.get("/transactions").await.ok();
    let amounts: Vec<&Value> =
        history.as_array().expect("a list").iter().map(|e| &e["amount"]).collect();
    assert_eq!(amounts, [3, 2, 1]);
    let jump = created_at(&history[2]) - created_at(&history[1]);
    assert!((jump - YEAR).abs() < TOLERANCE, "the clock was not set back: {history}");
    for number in 1..=3 {
        assert!(is_repeated(&client, number).await, "{number}");
    }

    server.stop().await;
    server.start_again();
    for number in 1..=3 {
        assert!(is_repeated(&server.client(), number).await, "{number}, after a restart");
    }
    assert_eq!(server.client().get("/transactions").await.ok(), history);
}
