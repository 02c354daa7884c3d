//! Quotes: they say what the allocation then does.

use serde_json::{Value, json};

use crate::harness::{Client, Engine, Server, on_both_engines};

on_both_engines![
    a_quote_tells_what_an_allocation_would_come_to,
    the_most_that_is_quoted_is_taken_and_one_more_is_not,
    a_quote_that_is_malformed_lists_every_problem,
];

async fn quote(client: &Client, query: &str) -> Value {
    client.get(&format!("/quote?{query}")).await.ok()
}

async fn a_quote_tells_what_an_allocation_would_come_to(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens("gemini-2.0-flash", 75).await;
    client.add(300, "GPA.1").await.ok();
    let flash = json!({
        "model_id": "gemini-2.5-flash", "category": "quick", "price_per_m_token": 255,
        "credits": 100, "tokens": 392_156, "available_credits": 300,
        "category_tokens": 1_000_000, "limit_tokens": 5_000_000, "free_tokens": 4_000_000,
        "max_credits": 300, "max_tokens": 1_176_470, "limited_by": null,
    });
    assert_eq!(quote(&client, "model_id=gemini-2.5-flash&credits=100").await, flash);
    // The fewest credits that buy so many tokens.
    assert_eq!(quote(&client, "model_id=gemini-2.5-flash&tokens=392156").await, flash);
    let more = quote(&client, "model_id=gemini-2.5-flash&tokens=392157").await;
    assert_eq!((&more["credits"], &more["tokens"]), (&json!(101), &json!(396_078)));
    for (query, limited_by) in [
        ("model_id=gemini-2.5-flash&credits=301", "credits"),
        ("model_id=gemini-2.0-flash&credits=301", "credits"),
        ("model_id=gemini-2.0-flash&credits=300", ""),
    ] {
        let expected = if limited_by.is_empty() { Value::Null } else { json!(limited_by) };
        assert_eq!(quote(&client, query).await["limited_by"], expected, "{query}");
    }
    // Nothing was spent.
    assert_eq!(client.balance().await["credits"], 300);
    let reply = client.get("/quote?model_id=no-such-model&credits=1").await;
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("model_not_priced")));
}

async fn the_most_that_is_quoted_is_taken_and_one_more_is_not(engine: Engine) {
    let server = Server::start_with(
        engine,
        &[("BILLING_CAPACITY_QUICK", "1000000"), ("BILLING_CAPACITY_THINK", "3000000")],
    );
    let client = server.client();
    client.add(1_000, "GPA.1").await.ok();
    let price = "INSERT INTO token_pricing VALUES
        ('dear', 5000000, 'think', 150, 20, CURRENT_TIMESTAMP)";
    server.database().execute(price).await;
    assert_eq!(quote(&client, "model_id=dear&credits=4").await["limited_by"], "too_small");
    assert_eq!(client.allocate(&[("dear", 4)]).await.json()["code"], "allocation_too_small");
    for (model, by_most, by_one_more) in
        [("gemini-2.0-flash", 75, "capacity"), ("gemini-2.5-pro", 925, "credits")]
    {
        let quoted = quote(&client, &format!("model_id={model}&credits=1")).await;
        assert_eq!(quoted["max_credits"], by_most, "{quoted}");
        let more = by_most + 1;
        let refused = quote(&client, &format!("model_id={model}&credits={more}")).await;
        assert_eq!(refused["limited_by"], by_one_more, "{refused}");
        assert_eq!(client.allocate(&[(model, more)]).await.status, 400, "{model}");
        client.allocate(&[(model, by_most)]).await.ok();
    }
}

async fn a_quote_that_is_malformed_lists_every_problem(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    for (query, problems) in [
        ("", &[("missing", "model_id"), ("missing", "credits")][..]),
        ("credits=1", &[("missing", "model_id")]),
        ("model_id=m", &[("missing", "credits")]),
        ("model_id=m&credits=1&tokens=1", &[("value_error", "tokens")]),
        ("model_id=&credits=0", &[("string_too_short", "model_id"), ("greater_than", "credits")]),
        ("credits=1000000001", &[("missing", "model_id"), ("less_than_equal", "credits")]),
        ("model_id=m&tokens=x", &[("int_parsing", "tokens")]),
        ("model_id=m&tokens=9007199254740992", &[("less_than_equal", "tokens")]),
    ] {
        let reply = client.get(&format!("/quote?{query}")).await;
        let listed = reply.json()["detail"].clone();
        let found: Vec<(&str, &str)> = listed
            .as_array()
            .expect("a list")
            .iter()
            .map(|problem| {
                let loc = problem["loc"][1].as_str().expect("a name");
                (problem["type"].as_str().expect("a type"), loc)
            })
            .collect();
        assert_eq!((reply.status, &found[..]), (422, problems), "{query}");
    }
}
