//! Credits that were given, beside those that were bought: which are spent first, which come back first, and that both
//! engines keep them.

use serde_json::{Value, json};

use crate::{
    harness::{Client, Engine, Server, on_both_engines},
    verify::check_clean,
};

on_both_engines![
    given_credits_are_spent_first_and_come_back_last,
    given_credits_are_counted_off_over_all_items_of_an_allocation,
    a_reset_forgets_that_credits_were_given,
];

const USER: &str = "default_user";
const QUICK: &str = "gemini-2.0-flash";
const THINK: &str = "gemini-2.5-pro";

async fn has(client: &Client, total: i64, bonus: i64) {
    let credits = client.get("/wallet").await.ok()["credits"].clone();
    assert_eq!(credits, json!({"total": total, "bonus": bonus}));
    assert_eq!(client.balance().await["credits"], total);
}

/// By how much the newest entries changed credits, and those of them that were given; the newest first.
async fn newest(client: &Client, entries: usize) -> Vec<[i64; 2]> {
    let ledger = client.get(&format!("/ledger?limit={entries}")).await.ok();
    let of = |line: &Value, name: &str| line[name].as_i64().expect("a number");
    let lines = ledger["items"].as_array().expect("a list").iter();
    lines.map(|line| [of(line, "credits_delta"), of(line, "bonus_delta")]).collect()
}

async fn give_back(client: &Client, model: &str) -> Value {
    client.post("/credits/return", &json!({ "model_id": model })).await.ok()
}

async fn given_credits_are_spent_first_and_come_back_last(engine: Engine) {
    let mut server = Server::start(engine);
    let client = server.client();
    client.add(40, "GPA.1").await.ok();
    server.database().give(USER, 60).await;
    has(&client, 100, 60).await;
    client.allocate(&[(QUICK, 50)]).await.ok();
    assert_eq!(newest(&client, 1).await, [[-50, -50]]);
    client.allocate(&[(THINK, 30)]).await.ok();
    assert_eq!(newest(&client, 1).await, [[-30, -10]]);
    has(&client, 20, 0).await;
    // 20,000 of 40,000 tokens are worth 15 of the 20 bought credits, the rest the other 5 and 10 given ones.
    client.consume(THINK, 20_000, 0).await.ok();
    assert_eq!(give_back(&client, THINK).await["returned_credits"], 15);
    assert_eq!(newest(&client, 1).await, [[15, 0]]);
    server.stop().await;
    server.start_again();
    let client = server.client();
    has(&client, 35, 0).await;
    let id = client.get("/transactions?type=consumption").await.ok()[0]["id"].clone();
    let body = json!({"transaction_id": id, "reason": "wrong"});
    client.post("/tokens/reverse", &body).await.ok();
    assert_eq!(give_back(&client, THINK).await["returned_credits"], 15);
    assert_eq!(newest(&client, 1).await, [[15, 10]]);
    // All of these were given.
    client.consume(QUICK, 333_333, 0).await.ok();
    assert_eq!(give_back(&client, QUICK).await["returned_credits"], 25);
    assert_eq!(newest(&client, 1).await, [[25, 25]]);
    has(&client, 75, 35).await;
    check_clean(server.home()).await;
}

async fn given_credits_are_counted_off_over_all_items_of_an_allocation(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(100, "GPA.1").await.ok();
    server.database().give(USER, 50).await;
    client.allocate(&[(QUICK, 30), (THINK, 30), (QUICK, 30)]).await.ok();
    assert_eq!(newest(&client, 3).await, [[-30, 0], [-30, -20], [-30, -30]]);
    has(&client, 60, 0).await;
    // What is refused spends none.
    server.database().give(USER, 5).await;
    assert_eq!(client.allocate(&[(QUICK, 3), ("no-such-model", 3)]).await.status, 400);
    has(&client, 65, 5).await;
}

async fn a_reset_forgets_that_credits_were_given(engine: Engine) {
    let server = Server::start_with(engine, &[("BILLING_ALLOW_RESET", "true")]);
    let client = server.client();
    client.add(1, "GPA.1").await.ok();
    server.database().give(USER, 60).await;
    has(&client, 61, 60).await;
    client.post("/reset", &json!({})).await.ok();
    has(&client, 0, 0).await;
    client.add(5, "GPA.1").await.ok();
    has(&client, 5, 0).await;
}
