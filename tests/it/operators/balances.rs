//! Credits that are given, and balances that are put right.

use reqwest::Method;
use serde_json::{Value, json};

use super::{MODEL, Service, code, new_key, operator};
use crate::harness::{Engine, Reply, on_both_engines};

on_both_engines![
    credits_are_given_to_whoever_is_named,
    a_balance_is_put_right,
    a_repeated_adjustment_is_told_as_the_first_time,
    what_can_not_be_put_right_is_refused,
];

async fn credits_are_given_to_whoever_is_named(engine: Engine) {
    let service = Service::start(engine);
    let give = async |user: &str, credits: Value| {
        let body = json!({"credits": credits, "reason": "a gift"});
        service.post(&format!("/users/{user}/grants"), &body).await
    };
    give("new", json!(100)).await.is(200, &json!({"success": true, "credits": 100, "bonus": 100}));
    service.app("new").add(50, "bought").await.ok();
    give("new", json!(1)).await.is(200, &json!({"success": true, "credits": 151, "bonus": 101}));
    // Frozen or not.
    service.post("/users/new/freeze", &json!({"reason": "why"})).await.ok();
    give("new", json!(1)).await.ok();
    for credits in [json!(0), json!(-1), json!(1.5), json!("1"), json!(1_000_000_001), Value::Null]
    {
        assert_eq!(give("other", credits.clone()).await.status, 422, "{credits}");
    }
    assert_eq!(code(&give("%00", json!(1)).await), (404, "user_not_found".to_owned()));
    assert_eq!(code(&service.get("/log?user_id=other").await), (404, "user_not_found".to_owned()));
    let lines = service.log("?user_id=new").await;
    let told: Vec<_> =
        lines.iter().map(|line| (&line["action"], &line["before"], &line["after"])).collect();
    let state = |credits, bonus| json!({"credits": credits, "bonus": bonus});
    assert_eq!(told[0], (&json!("grant"), &state(151, 101), &state(152, 102)));
    assert_eq!(told[3], (&json!("grant"), &state(0, 0), &state(100, 100)));
    let ledger = service.app("new").get("/ledger?type=grant").await.ok();
    let newest = &ledger["items"][0];
    assert_eq!((&newest["reason"], &newest["actor"]), (&json!("a gift"), &json!("operator")));
    service.server.database().check_invariants().await;
}

async fn a_balance_is_put_right(engine: Engine) {
    let service = Service::start(engine);
    let app = service.app("ann");
    app.buy_tokens(MODEL, 75).await;
    app.post("/holds", &json!({"model_id": MODEL, "tokens": 400_000})).await.ok();
    let adjust = async |body: &Value| service.post("/users/ann/adjustments", body).await;
    for body in [
        json!({"credits_delta": 30, "reason": "lost"}),
        json!({"credits_delta": -10, "reason": "too much"}),
        json!({"model_id": MODEL, "tokens_delta": -600_000, "reason": "counted wrong"}),
        json!({"model_id": MODEL, "tokens_delta": 5_000_000, "reason": "capacity may be passed"}),
    ] {
        let reply = adjust(&body).await.ok();
        assert_eq!(reply["success"], true);
        assert_eq!(reply["wallet"], app.get("/wallet").await.ok(), "{body}");
    }
    let wallet = app.get("/wallet").await.ok();
    assert_eq!(wallet["credits"]["total"], 20);
    assert_eq!(wallet["tokens"][MODEL]["allocated"], 5_400_000);
    let lines = service.log("").await;
    assert_eq!(lines[3]["after"], json!({"credits": 30, "bonus": 0}));
    assert_eq!(lines[1]["before"], json!({"model_id": MODEL, "tokens": 1_000_000}));
    assert_eq!(lines[1]["after"], json!({"model_id": MODEL, "tokens": 400_000}));
    service.server.database().check_invariants().await;
}

async fn a_repeated_adjustment_is_told_as_the_first_time(engine: Engine) {
    let service = Service::start(engine);
    let app = service.app("ann");
    app.buy_tokens(MODEL, 75).await;
    let (key, path) = (new_key(), "/users/ann/adjustments");
    let body = json!({"model_id": MODEL, "tokens_delta": -1, "reason": "counted twice"});
    let adjust = async || {
        let request = operator(&service.client, Method::POST, path, &body);
        Reply::to(request.header("idempotency-key", &key)).await
    };
    let first = adjust().await.ok();
    app.consume(MODEL, 500, 500).await.ok();
    app.add(7, "later").await.ok();
    let again = adjust().await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"), "{again:?}");
    assert_eq!(again.ok(), first);
    assert_eq!(app.get("/wallet").await.ok()["tokens"][MODEL]["allocated"], 998_999);
}

async fn what_can_not_be_put_right_is_refused(engine: Engine) {
    let service = Service::start(engine);
    let app = service.app("ann");
    app.buy_tokens(MODEL, 75).await;
    app.post("/holds", &json!({"model_id": MODEL, "tokens": 400_000})).await.ok();
    for (user, body, status, expected) in [
        ("ann", json!({"credits_delta": -1}), 400, "insufficient_credits"),
        ("ann", json!({"model_id": MODEL, "tokens_delta": -600_001}), 400, "insufficient_tokens"),
        ("ann", json!({"model_id": "none", "tokens_delta": -1}), 400, "no_token_balance"),
        ("ann", json!({"model_id": "none", "tokens_delta": 1}), 400, "model_not_priced"),
        ("nobody", json!({"credits_delta": 1}), 404, "user_not_found"),
        ("ann", json!({"credits_delta": 0}), 422, ""),
        ("ann", json!({"credits_delta": 1, "tokens_delta": 1}), 422, ""),
        ("ann", json!({"credits_delta": 1, "model_id": MODEL}), 422, ""),
        ("ann", json!({"tokens_delta": 1}), 422, ""),
        ("ann", json!({"model_id": MODEL}), 422, ""),
        ("ann", json!({}), 422, ""),
        ("ann", json!({"credits_delta": 0.5}), 422, ""),
    ] {
        let mut body = body;
        body["reason"] = json!("why");
        let reply = service.post(&format!("/users/{user}/adjustments"), &body).await;
        assert_eq!(code(&reply), (status, expected.to_owned()), "{user} {body}");
    }
    let reply = service.post("/users/ann/adjustments", &json!({"credits_delta": 1})).await;
    assert_eq!(reply.json()["detail"][0]["loc"], json!(["body", "reason"]));
    assert!(service.log("").await.is_empty());
}
