//! What a rule refuses: the exact sentence, code and numbers, and no trace in the database.

use serde_json::{Value, json};

use crate::harness::{Engine, Reply, Server, on_both_engines};

on_both_engines![
    credits_do_not_suffice,
    a_model_has_no_price,
    a_category_is_full,
    the_largest_amount_that_fits_does_fit,
    a_category_over_a_lowered_limit_takes_nothing_more,
    an_item_would_buy_nothing,
    tokens_do_not_suffice,
    a_category_does_not_exist,
    a_balance_that_javascript_could_not_hold_may_come_later,
];

/// Checks that a refusal says this, and that it changed nothing.
async fn refused(server: &Server, before: &[String], reply: Reply, body: &Value) {
    reply.is(400, body);
    assert_eq!(server.database().digest().await, before, "after {body}");
}

async fn credits_do_not_suffice(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let body = |required: i64, available: i64| {
        json!({
            "detail": format!("クレジット不足: 必要={required}, 残高={available}"),
            "code": "insufficient_credits",
            "required": required,
            "available": available,
        })
    };
    let before = server.database().digest().await;
    let reply = client.allocate(&[("gemini-2.0-flash", 1)]).await;
    refused(&server, &before, reply, &body(1, 0)).await;

    client.add(100, "GPA.1").await.ok();
    let before = server.database().digest().await;
    // The sum counts, and it comes before the price.
    let reply = client.allocate(&[("gemini-2.0-flash", 60), ("nobody-knows", 41)]).await;
    refused(&server, &before, reply, &body(101, 100)).await;
    let items = vec![("gemini-2.0-flash", 1_000_000_000); 50];
    refused(&server, &before, client.allocate(&items).await, &body(50_000_000_000, 100)).await;
}

async fn a_model_has_no_price(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(1_000, "GPA.1").await.ok();
    let before = server.database().digest().await;
    let body = json!({
        "detail": "モデル gpt-\"9\" の価格情報が見つかりません",
        "code": "model_not_priced",
        "model_id": "gpt-\"9\"",
    });
    // The first item fits, but is not applied either.
    let reply = client.allocate(&[("gemini-2.0-flash", 10), ("gpt-\"9\"", 10)]).await;
    refused(&server, &before, reply, &body).await;
    // Item by item: the price of the first comes before the capacity of the second.
    let reply = client.allocate(&[("gpt-\"9\"", 10), ("gemini-2.5-pro", 900)]).await;
    refused(&server, &before, reply, &body).await;
}

fn capacity_exceeded(category: &str, limit: i64, available: i64, max_credits: i64) -> Value {
    json!({
        "detail": format!("容量制限超過: {category}カテゴリーの上限は{limit}トークンです"),
        "code": "capacity_exceeded",
        "category": category,
        "limit": limit,
        "available": available,
        "max_credits": max_credits,
    })
}

async fn a_category_is_full(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(10_000, "GPA.1").await.ok();
    let before = server.database().digest().await;

    let think = capacity_exceeded("think", 1_000_000, 1_000_000, 750);
    refused(&server, &before, client.allocate(&[("gemini-2.5-pro", 751)]).await, &think).await;
    let quick = capacity_exceeded("quick", 5_000_000, 5_000_000, 1_275);
    refused(&server, &before, client.allocate(&[("gemini-2.5-flash", 1_276)]).await, &quick).await;
    // Items before this one count: 150 credits are 2,000,000 tokens.
    let quick = capacity_exceeded("quick", 5_000_000, 3_000_000, 225);
    let items = [("gemini-2.0-flash", 150), ("gemini-2.0-flash", 226)];
    refused(&server, &before, client.allocate(&items).await, &quick).await;
    // The first item that does not fit is the one named.
    let items = [("gemini-2.5-pro", 751), ("gemini-2.0-flash", 376)];
    refused(&server, &before, client.allocate(&items).await, &think).await;

    // Landing exactly on the limit is allowed, over all models of the category.
    client.allocate(&[("gemini-2.5-flash", 510), ("gemini-2.0-flash", 225)]).await.ok();
    client.allocate(&[("gemini-2.5-pro", 750)]).await.ok();
    let before = server.database().digest().await;
    let quick = capacity_exceeded("quick", 5_000_000, 0, 0);
    refused(&server, &before, client.allocate(&[("gemini-2.0-flash", 1)]).await, &quick).await;
    let think = capacity_exceeded("think", 1_000_000, 0, 0);
    refused(&server, &before, client.allocate(&[("gemini-2.5-pro", 1)]).await, &think).await;
}

async fn the_largest_amount_that_fits_does_fit(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(10_000, "GPA.1").await.ok();
    client.allocate(&[("gemini-2.0-flash", 101), ("gemini-2.5-pro", 7)]).await.ok();
    for model in ["gemini-2.5-flash", "gemini-2.0-flash", "gemini-2.5-pro"] {
        let refusal = client.allocate(&[(model, 5_000)]).await;
        assert_eq!(refusal.status, 400, "{refusal:?}");
        let most = refusal.json()["max_credits"].as_i64().expect("an integer");
        let refusal = client.allocate(&[(model, most + 1)]).await;
        assert_eq!(refusal.json()["max_credits"], most, "one more does not fit: {refusal:?}");
        if most > 0 {
            client.allocate(&[(model, most)]).await.ok();
        }
    }
}

async fn a_category_over_a_lowered_limit_takes_nothing_more(engine: Engine) {
    let mut server = Server::start(engine);
    server.client().add(1_000, "GPA.1").await.ok();
    server.client().allocate(&[("gemini-2.0-flash", 150)]).await.ok();
    server.stop().await;
    server.start_again_with(&[("BILLING_CAPACITY_QUICK", "1000000")]);

    let before = server.database().digest().await;
    let reply = server.client().allocate(&[("gemini-2.0-flash", 1)]).await;
    refused(&server, &before, reply, &capacity_exceeded("quick", 1_000_000, 0, 0)).await;
    server.client().consume("gemini-2.0-flash", 1_000_000, 999_999).await.ok();
    server.client().allocate(&[("gemini-2.0-flash", 1)]).await.ok();
}

async fn an_item_would_buy_nothing(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(100, "GPA.1").await.ok();
    server.database().execute("UPDATE token_pricing SET price_per_m_token = 2000001").await;
    let before = server.database().digest().await;
    let reply = client.allocate(&[("gemini-2.5-pro", 3), ("gemini-2.0-flash", 2)]).await;
    assert_eq!(reply.status, 400, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["code"], "allocation_too_small", "{body}");
    assert_eq!(body["model_id"], "gemini-2.0-flash", "{body}");
    let detail = body["detail"].as_str().expect("a text");
    assert!(detail.chars().any(|c| ('ぁ'..='ん').contains(&c)), "Japanese: {detail}");
    assert_eq!(server.database().digest().await, before);
}

async fn tokens_do_not_suffice(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens("gemini-2.0-flash", 75).await;
    let before = server.database().digest().await;
    // A price alone is no balance.
    for model in ["gemini-2.5-flash", "nobody-knows"] {
        let body = json!({
            "detail": format!("モデル {model} のトークン残高がありません"),
            "code": "no_token_balance",
            "model_id": model,
        });
        refused(&server, &before, client.consume(model, 0, 0).await, &body).await;
    }
    let body = json!({
        "detail": "トークン不足: 必要=1000001, 残高=1000000",
        "code": "insufficient_tokens",
        "required": 1_000_001,
        "available": 1_000_000,
    });
    let reply = client.consume("gemini-2.0-flash", 1_000_000, 1).await;
    refused(&server, &before, reply, &body).await;
    let body = json!({
        "detail": "トークン不足: 必要=2000000000, 残高=1000000",
        "code": "insufficient_tokens",
        "required": 2_000_000_000_i64,
        "available": 1_000_000,
    });
    let reply = client.consume("gemini-2.0-flash", 1_000_000_000, 1_000_000_000).await;
    refused(&server, &before, reply, &body).await;
}

async fn a_category_does_not_exist(engine: Engine) {
    let server = Server::start(engine);
    let body = json!({
        "detail": "カテゴリーは 'quick' または 'think' である必要があります",
        "code": "invalid_category",
    });
    for category in ["slow", "QUICK", "quick%20", "%E9%80%9F"] {
        server.client().get(&format!("/balance/category/{category}")).await.is(400, &body);
    }
}

async fn a_balance_that_javascript_could_not_hold_may_come_later(engine: Engine) {
    let mut server = Server::start(engine);
    server.stop().await;
    server
        .database()
        .execute(
            "INSERT INTO transactions
                 (user_id, type, amount, metadata, credits_delta, tokens_delta, created_at)
             VALUES ('default_user', 'purchase', 9007199254740986, '{}', 9007199254740986, 0,
                 '2026-11-23T13:14:14.900672Z');
             UPDATE credits SET credits = 9007199254740986",
        )
        .await;
    server.start_again();
    let client = server.client();
    let before = server.database().digest().await;

    let reply = client.add(6, "GPA.1").await;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    let body = reply.json();
    assert_eq!(body["code"], "balance_overflow", "{body}");
    let detail = body["detail"].as_str().expect("a text");
    assert!(!detail.contains(|c: char| c.is_numeric()), "no digits: {detail}");
    assert!(detail.chars().any(|c| ('ぁ'..='ん').contains(&c)), "Japanese: {detail}");
    assert_eq!(server.database().digest().await, before);

    let largest = json!({"success": true, "new_balance": 9_007_199_254_740_991_i64});
    client.add(5, "GPA.1").await.is(200, &largest);
}
