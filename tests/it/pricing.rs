//! Prices live in the database, and a change counts from the next call on.

use serde_json::json;

use crate::harness::{Engine, Server, on_both_engines};

on_both_engines![
    a_changed_price_counts_from_the_next_call,
    new_and_moved_and_removed_models,
    a_consumption_keeps_its_price,
];

async fn a_changed_price_counts_from_the_next_call(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(1_000, "GPA.1").await.ok();
    client.allocate(&[("gemini-2.5-pro", 75)]).await.ok();
    server
        .database()
        .execute(
            "UPDATE token_pricing SET price_per_m_token = 1500 WHERE model_id = 'gemini-2.5-pro'",
        )
        .await;
    let price = json!({"price_per_m_token": 1_500, "category": "think"});
    assert_eq!(client.get("/pricing").await.ok()["gemini-2.5-pro"], price);
    client.allocate(&[("gemini-2.5-pro", 75)]).await.ok();
    let tokens = json!({"gemini-2.5-pro": 150_000});
    assert_eq!(client.balance().await["allocated_tokens"], tokens, "100,000 and then 50,000");
}

async fn new_and_moved_and_removed_models(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(1_000, "GPA.1").await.ok();
    server
        .database()
        .execute(
            "INSERT INTO token_pricing VALUES ('new-model', 100, 'think', 150, 20, CURRENT_TIMESTAMP);
             UPDATE token_pricing SET category = 'quick' WHERE model_id = 'gemini-2.5-pro'",
        )
        .await;
    client.allocate(&[("new-model", 10), ("gemini-2.5-pro", 75)]).await.ok();
    let total = async |category: &str| {
        client.get(&format!("/balance/category/{category}")).await.ok()["total_tokens"].clone()
    };
    assert_eq!((total("think").await, total("quick").await), (json!(100_000), json!(100_000)));

    // Without a price a model can't be bought, but what was bought can be used.
    server.database().execute("DELETE FROM token_pricing WHERE model_id = 'new-model'").await;
    let reply = client.allocate(&[("new-model", 1)]).await;
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("model_not_priced")));
    let remaining = json!({"success": true, "remaining_tokens": 99_999});
    client.consume("new-model", 1, 0).await.is(200, &remaining);
}

async fn a_consumption_keeps_its_price(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens("gemini-2.0-flash", 75).await;
    let database = server.database();
    for change in ["price_per_m_token = 75", "price_per_m_token = 80", "model_id = 'another'"] {
        let sql = format!("UPDATE token_pricing SET {change} WHERE model_id = 'gemini-2.0-flash'");
        database.execute(&sql).await;
        for tokens in [1, 2] {
            client.consume("gemini-2.0-flash", tokens, 0).await.ok();
        }
    }
    let kept = "SELECT COALESCE(CAST(price_per_m_token AS TEXT), 'none') FROM transactions
        WHERE type = 'consumption' ORDER BY id";
    assert_eq!(database.texts(kept).await, ["75", "75", "80", "80", "none", "none"]);
}
