//! Accounts that are frozen, and the lines of the log that tell of it.

use reqwest::Method;
use serde_json::{Value, json};

use super::{MODEL, OPERATOR, Service, code, new_key, operator};
use crate::harness::{
    Client, Engine, Reply,
    client::consumption,
    on_both_engines,
    token::{claims, token},
};

on_both_engines![
    nothing_of_a_frozen_account_is_spent,
    every_act_is_in_the_log_once,
    a_key_is_an_operators_own,
    what_is_refused_leaves_no_line,
    the_log_has_pages,
];

fn because(reason: &str) -> Value {
    json!({"reason": reason})
}

async fn hold(app: &Client, tokens: i64) -> Reply {
    app.post("/holds", &json!({"model_id": MODEL, "tokens": tokens})).await
}

async fn nothing_of_a_frozen_account_is_spent(engine: Engine) {
    let mut service = Service::start(engine);
    let app = service.app("ann");
    app.buy_tokens(MODEL, 75).await;
    app.add(100, "more").await.ok();
    let held = hold(&app, 1000).await.ok()["hold_id"].as_str().expect("an id").to_owned();
    let other = hold(&app, 500).await.ok()["hold_id"].as_str().expect("an id").to_owned();
    let used = app.post("/tokens/consume", &consumption(MODEL, 10, 0)).await;
    let used: i64 = used.header("billing-transaction").expect("an id").parse().expect("a number");
    assert_eq!(app.get("/wallet").await.ok()["frozen"], false);
    let frozen = json!({"success": true, "frozen": true});
    for _ in 0..2 {
        service.post("/users/ann/freeze", &because("charged back")).await.is(200, &frozen);
    }
    for restart in [false, true] {
        if restart {
            service.server.kill();
            service.server.start_again();
            service.client = service.server.client();
        }
        let app = service.app("ann");
        assert_eq!(app.get("/wallet").await.ok()["frozen"], true);
        let refused = (403, "account_frozen".to_owned());
        // Before any other rule.
        for (path, body) in [
            ("/tokens/consume", consumption("unknown", 1, 0)),
            ("/tokens/consume", consumption(MODEL, 1, 0)),
            ("/credits/allocate", json!({"allocations": [{"model_id": "none", "credits": 1_000}]})),
            ("/credits/allocate", json!({"allocations": [{"model_id": MODEL, "credits": 1}]})),
            ("/holds", json!({"model_id": "unknown", "tokens": 1})),
            ("/holds", json!({"model_id": MODEL, "tokens": 1})),
            ("/reset", json!({})),
        ] {
            assert_eq!(code(&app.post(path, &body).await), refused, "{path} {body}");
        }
    }
    let app = service.app("ann");
    let quote = app.get("/quote?model_id=gemini-2.0-flash&credits=10").await.ok();
    assert_eq!((&quote["max_credits"], &quote["limited_by"]), (&json!(0), &json!("credits")));
    // The rest goes on.
    app.add(50, "paid meanwhile").await.ok();
    let usage = json!({"input_tokens": 100, "output_tokens": 0});
    app.post(&format!("/holds/{held}/settle"), &usage).await.ok();
    app.post(&format!("/holds/{other}/release"), &json!({})).await.ok();
    let reversal = json!({"transaction_id": used, "reason": "it failed"});
    let reversing = service.client.request(Method::POST, "/api/billing/tokens/reverse");
    let reversing = reversing.bearer_auth(OPERATOR).header("billing-user", "ann");
    Reply::to(reversing.json(&reversal)).await.ok();
    app.post("/credits/return", &json!({"model_id": MODEL})).await.ok();
    // Nobody else is frozen.
    service.app("bob").buy_tokens(MODEL, 1).await;
    let unfrozen = json!({"success": true, "frozen": false});
    service.post("/users/ann/unfreeze", &because("cleared up")).await.is(200, &unfrozen);
    app.allocate(&[(MODEL, 1)]).await.ok();
    app.consume(MODEL, 1, 0).await.ok();
    service.server.database().check_invariants().await;
}

async fn every_act_is_in_the_log_once(engine: Engine) {
    let service = Service::start(engine);
    service.app("ann").add(5, "first").await.ok();
    service.app("b/ö b").add(5, "second").await.ok();
    let request =
        operator(&service.client, Method::POST, "/users/ann/freeze", &because("charged back"));
    Reply::to(request.header("x-request-id", "the-request")).await.ok();
    // Another operator, by a token of theirs.
    let mut claims = claims("olga");
    claims["scope"] = json!("billing:operator");
    let path = "/api/billing/operator/users/b%2F%C3%B6%20b/unfreeze";
    let request = service.client.request(Method::POST, path).bearer_auth(token(&claims));
    Reply::to(request.json(&because("誤り"))).await.ok();
    let lines = service.log("").await;
    let told = |line: &Value| {
        ["actor", "action", "user_id", "before", "after", "reason"].map(|name| line[name].clone())
    };
    let expected = [
        [
            json!("olga"),
            json!("unfreeze"),
            json!("b/ö b"),
            json!({"frozen": false}),
            json!({"frozen": false}),
            json!("誤り"),
        ],
        [
            json!("operator"),
            json!("freeze"),
            json!("ann"),
            json!({"frozen": false}),
            json!({"frozen": true}),
            json!("charged back"),
        ],
    ];
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(lines[1]["request_id"], "the-request");
    let at = lines[1]["at"].as_str().expect("a time");
    assert!(at.len() == 27 && at.ends_with('Z') && at.as_bytes()[10] == b'T', "{at}");
    assert_eq!(lines[1].as_object().expect("a line").len(), 9);
    let of_ann = service.log("?user_id=ann").await;
    assert_eq!(of_ann, lines[1..]);
}

async fn a_key_is_an_operators_own(engine: Engine) {
    let mut service = Service::start(engine);
    let app = service.app("ann");
    let key = new_key();
    app.post_keyed(&key, "/credits/add", &json!({"credits": 5, "purchase_record": {}})).await.ok();
    let freeze = async |service: &Service, path: &str, reason: &str| {
        let request = operator(&service.client, Method::POST, path, &because(reason));
        Reply::to(request.header("idempotency-key", &key)).await
    };
    let first = freeze(&service, "/users/ann/freeze", "why").await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (200, None), "{first:?}");
    service.post("/users/ann/unfreeze", &because("cleared up")).await.ok();
    for restart in [false, true] {
        if restart {
            service.server.kill();
            service.server.start_again();
            service.client = service.server.client();
        }
        let again = freeze(&service, "/users/ann/freeze", "why").await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{again:?}");
        assert_eq!(again.ok(), first.ok());
        for (path, reason) in [("/users/ann/freeze", "because"), ("/users/ann/unfreeze", "why")] {
            let other = freeze(&service, path, reason).await;
            assert_eq!(code(&other), (422, "idempotency_key_reused".to_owned()));
        }
    }
    assert_eq!(service.log("").await.len(), 2);
    // A reset of the user leaves them alone.
    service.app("ann").post("/reset", &json!({})).await.ok();
    let again = freeze(&service, "/users/ann/freeze", "why").await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"), "{again:?}");
    assert_eq!(service.app("ann").get("/wallet").await.ok()["frozen"], false);
}

async fn what_is_refused_leaves_no_line(engine: Engine) {
    let service = Service::start(engine);
    service.app("ann").add(5, "first").await.ok();
    let unknown = (404, "user_not_found".to_owned());
    let long = "u".repeat(129);
    for user in ["nobody", "%00", "%ff", &long, "Ann"] {
        let path = format!("/users/{user}/freeze");
        assert_eq!(code(&service.post(&path, &because("why")).await), unknown, "{user}");
    }
    assert_eq!(code(&service.get("/log?user_id=nobody").await), unknown);
    for body in [
        json!({}),
        because(""),
        because(&"é".repeat(201)),
        because("a\nb"),
        json!({"reason": 7}),
        json!([]),
    ] {
        assert_eq!(service.post("/users/ann/freeze", &body).await.status, 422, "{body}");
    }
    for query in ["?limit=0", "?before=0", "?user_id=", "?limit=x"] {
        assert_eq!(service.get(&format!("/log{query}")).await.status, 422, "{query}");
    }
    assert_eq!(service.operate(Method::PUT, "/log", &Value::Null).await.status, 405);
    assert!(service.log("").await.is_empty());
    assert_eq!(service.app("ann").get("/wallet").await.ok()["frozen"], false);
    service.post("/users/ann/freeze", &because(&"é".repeat(200))).await.ok();
    assert_eq!(service.log("").await.len(), 1);
}

async fn the_log_has_pages(engine: Engine) {
    let service = Service::start(engine);
    for user in ["ann", "bob"] {
        service.app(user).add(5, user).await.ok();
    }
    for number in 0..5 {
        for user in ["ann", "bob"] {
            let path = format!("/users/{user}/freeze");
            service.post(&path, &because(&format!("{user} {number}"))).await.ok();
        }
    }
    let mut next = Some("/log?limit=2&user_id=ann".to_owned());
    let mut reasons = Vec::new();
    while let Some(path) = next {
        let reply = service.get(&path).await;
        let items = reply.ok()["items"].as_array().expect("items").clone();
        reasons.extend(items.iter().map(|it| it["reason"].as_str().expect("a text").to_owned()));
        next = reply.header("link").map(|link| {
            let (path, rel) = link.split_once('>').expect("a link");
            assert_eq!(rel, "; rel=\"next\"");
            path.strip_prefix("</api/billing/operator").expect("a path").to_owned()
        });
    }
    assert_eq!(reasons, ["ann 4", "ann 3", "ann 2", "ann 1", "ann 0"]);
    assert_eq!(service.log("").await.len(), 10);
}
