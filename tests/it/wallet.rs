//! The wallet: all that a user has in one answer, which is sent again only when it has changed.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Client, Engine, Reply, Server, on_both_engines};

on_both_engines![
    it_tells_all_that_an_account_has,
    it_is_not_sent_again_while_nothing_changes,
    a_lowered_limit_leaves_nothing_free,
];

async fn unless(client: &Client, tags: &str) -> Reply {
    Reply::to(client.request(Method::GET, "/api/billing/wallet").header("if-none-match", tags))
        .await
}

async fn it_tells_all_that_an_account_has(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let empty = json!({
        "credits": {"total": 0, "bonus": 0}, "tokens": {},
        "categories": {
            "quick": {"total_tokens": 0, "limit_tokens": 5_000_000, "free_tokens": 5_000_000},
            "think": {"total_tokens": 0, "limit_tokens": 1_000_000, "free_tokens": 1_000_000},
        },
        "frozen": false,
    });
    let reply = client.get("/wallet").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    reply.is(200, &empty);
    client.add(100, "GPA.1").await.ok();
    client.buy_tokens("gemini-2.0-flash", 150).await;
    client.consume("gemini-2.0-flash", 5_000, 2_000).await.ok();
    let expected = json!({
        "credits": {"total": 100, "bonus": 0},
        "tokens": {"gemini-2.0-flash": {"allocated": 1_993_000, "held": 0, "available": 1_993_000}},
        "categories": {
            "quick": {"total_tokens": 1_993_000, "limit_tokens": 5_000_000, "free_tokens": 3_007_000},
            "think": {"total_tokens": 0, "limit_tokens": 1_000_000, "free_tokens": 1_000_000},
        },
        "frozen": false,
    });
    client.get("/wallet").await.is(200, &expected);
}

async fn it_is_not_sent_again_while_nothing_changes(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(100, "GPA.1").await.ok();
    let first = client.get("/wallet").await;
    let tag = first.header("etag").expect("a tag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let reply = unless(&client, &known).await;
        assert_eq!((reply.status, reply.text.as_str()), (304, ""), "{known}");
        assert_eq!(reply.header("etag"), Some(tag.as_str()));
    }
    let reply = unless(&client, "\"other\"").await;
    assert_eq!((reply.status, &reply.text), (200, &first.text));
    client.add(1, "GPA.2").await.ok();
    let changed = unless(&client, &tag).await;
    assert_eq!((changed.status, &changed.json()["credits"]["total"]), (200, &json!(101)));
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
}

async fn a_lowered_limit_leaves_nothing_free(engine: Engine) {
    let mut server = Server::start(engine);
    server.client().buy_tokens("gemini-2.0-flash", 150).await;
    server.stop().await;
    server.start_again_with(&[("BILLING_CAPACITY_QUICK", "1000000")]);
    let wallet = server.client().get("/wallet").await.ok();
    let expected = json!({"total_tokens": 2_000_000, "limit_tokens": 1_000_000, "free_tokens": 0});
    assert_eq!(wallet["categories"]["quick"], expected);
}
