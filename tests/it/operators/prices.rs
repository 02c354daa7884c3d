//! Prices and products, as an operator sets them.

use reqwest::Method;
use serde_json::{Value, json};

use super::{MODEL, Service, code, new_key, operator};
use crate::harness::{Client, Engine, Reply, begun, on_both_engines, on_postgres};

on_both_engines![
    a_price_counts_from_the_next_call_on,
    a_price_far_from_todays_must_be_meant,
    a_price_that_was_changed_meanwhile_is_told,
    every_change_is_in_the_history,
    a_model_that_is_taken_off_keeps_its_balances,
    of_many_who_expect_the_same_price_one_sets_it,
    products_are_set,
];
on_postgres![another_instance_sees_a_price_at_once];

async fn set(client: &Client, model: &str, body: &Value) -> Reply {
    let mut body = body.clone();
    body["reason"] = json!("why");
    if body.get("category").is_none() {
        body["category"] = json!("quick");
    }
    Reply::to(operator(client, Method::PUT, &format!("/prices/{model}"), &body)).await
}

/// What credits would buy, asked of those who allocate.
async fn bought(app: &Client, credits: i64) -> Value {
    let path = format!("/quote?model_id={MODEL}&credits={credits}");
    app.get(&path).await.ok()["tokens"].clone()
}

async fn history(service: &Service, model: &str) -> Vec<(Value, Value)> {
    let reply = service.get(&format!("/prices/{model}/history")).await.ok();
    let items = reply["items"].as_array().expect("items");
    for item in items {
        let at = item["at"].as_str().expect("a time");
        assert!(at.len() == 27 && at.ends_with('Z'), "{at}");
    }
    items.iter().map(|it| (it["price_per_m_token"].clone(), it["category"].clone())).collect()
}

async fn a_price_counts_from_the_next_call_on(engine: Engine) {
    let service = Service::start(engine);
    let app = service.app("ann");
    app.add(1_000, "credits").await.ok();
    // So that the price is remembered by whoever writes.
    app.allocate(&[(MODEL, 75)]).await.ok();
    for price in [100, 50] {
        let before = app.balance().await["allocated_tokens"][MODEL].as_i64().expect("tokens");
        set(&service.client, MODEL, &json!({"price_per_m_token": price}))
            .await
            .is(200, &json!({"model_id": MODEL, "price_per_m_token": price, "category": "quick"}));
        assert_eq!(bought(&app, 10).await, 10_000_000 / price);
        app.allocate(&[(MODEL, 10)]).await.ok();
        let after = app.balance().await["allocated_tokens"][MODEL].as_i64().expect("tokens");
        assert_eq!(after - before, 10_000_000 / price);
    }
    let path = format!("/prices/{}", "new%2Fmodel%20%C3%A9");
    let body = json!({"price_per_m_token": 1_000_000, "category": "think", "reason": "new"});
    let reply = service.operate(Method::PUT, &path, &body).await.ok();
    assert_eq!(reply["model_id"], "new/model é");
    app.allocate(&[("new/model é", 3)]).await.ok();
    let prices = service.get("/prices").await.ok();
    let models: Vec<_> = prices["items"].as_array().expect("items").iter().collect();
    assert_eq!(models.len(), 4);
    assert_eq!(
        models[0],
        &json!({"model_id": MODEL, "price_per_m_token": 50, "category": "quick"})
    );
    let line = &service.log("?limit=1").await[0];
    assert_eq!((&line["action"], &line["user_id"]), (&json!("set_price"), &Value::Null));
    let state = |price: Value, category: Value| json!({"model_id": "new/model é", "price_per_m_token": price, "category": category});
    assert_eq!(line["before"], state(Value::Null, Value::Null));
    assert_eq!(line["after"], state(json!(1_000_000), json!("think")));
    service.server.database().check_invariants().await;
}

async fn a_price_far_from_todays_must_be_meant(engine: Engine) {
    let service = Service::start(engine);
    for price in [376, 14, 9_007_199_254_740_991_i64, 1] {
        let reply = set(&service.client, MODEL, &json!({"price_per_m_token": price})).await;
        assert_eq!(code(&reply), (400, "price_jump".to_owned()), "{price}");
        assert_eq!(reply.json()["price_per_m_token"], 75);
        let body = json!({"price_per_m_token": price, "confirm": false});
        assert_eq!(set(&service.client, MODEL, &body).await.status, 400, "{price}");
    }
    set(&service.client, MODEL, &json!({"price_per_m_token": 376, "confirm": true})).await.ok();
    set(&service.client, MODEL, &json!({"price_per_m_token": 1_880, "confirm": null})).await.ok();
    set(&service.client, MODEL, &json!({"price_per_m_token": 376})).await.ok();
    for body in [
        json!({}),
        json!({"price_per_m_token": 0}),
        json!({"price_per_m_token": 9_007_199_254_740_992_i64}),
        json!({"price_per_m_token": 75.5}),
        json!({"price_per_m_token": 75, "category": "fast"}),
        json!({"price_per_m_token": 75, "category": 7}),
        json!({"price_per_m_token": 75, "confirm": "yes"}),
        json!({"price_per_m_token": 75, "if_price": 0}),
    ] {
        assert_eq!(set(&service.client, MODEL, &body).await.status, 422, "{body}");
    }
    let long = "m".repeat(129);
    for model in [long.as_str(), "%00"] {
        let reply = set(&service.client, model, &json!({"price_per_m_token": 75})).await;
        assert_eq!(reply.status, 422, "{model}");
        assert_eq!(reply.json()["detail"][0]["loc"], json!(["path", "model_id"]));
    }
    assert_eq!(service.log("").await.len(), 3);
}

async fn a_price_that_was_changed_meanwhile_is_told(engine: Engine) {
    let service = Service::start(engine);
    set(&service.client, MODEL, &json!({"price_per_m_token": 80, "if_price": 75})).await.ok();
    let reply =
        set(&service.client, MODEL, &json!({"price_per_m_token": 90, "if_price": 75})).await;
    assert_eq!(code(&reply), (409, "price_changed".to_owned()));
    let told = (reply.json()["price_per_m_token"].clone(), reply.json()["category"].clone());
    assert_eq!(told, (json!(80), json!("quick")));
    let reply =
        set(&service.client, "none", &json!({"price_per_m_token": 90, "if_price": 75})).await;
    assert_eq!(code(&reply), (409, "price_changed".to_owned()));
    assert_eq!(reply.json()["price_per_m_token"], Value::Null);
    // Whoever changed it.
    service.server.database().execute("UPDATE token_pricing SET price_per_m_token = 85").await;
    let reply =
        set(&service.client, MODEL, &json!({"price_per_m_token": 90, "if_price": 80})).await;
    assert_eq!(reply.json()["price_per_m_token"], 85);
    // A repetition is no change.
    let key = new_key();
    let body =
        json!({"price_per_m_token": 90, "if_price": 85, "category": "quick", "reason": "why"});
    for replayed in [None, Some("true")] {
        let request = operator(&service.client, Method::PUT, &format!("/prices/{MODEL}"), &body);
        let reply = Reply::to(request.header("idempotency-key", &key)).await;
        assert_eq!((reply.status, reply.header("idempotency-replayed")), (200, replayed));
    }
}

async fn every_change_is_in_the_history(engine: Engine) {
    let service = Service::start(engine);
    let quick = |price: i64| (json!(price), json!("quick"));
    let none = || (Value::Null, Value::Null);
    assert_eq!(history(&service, MODEL).await, [quick(75)]);
    set(&service.client, MODEL, &json!({"price_per_m_token": 80})).await.ok();
    let database = service.server.database();
    database
        .execute(
            "UPDATE token_pricing SET price_per_m_token = 81 WHERE model_id = 'gemini-2.0-flash'",
        )
        .await;
    // Nothing changes.
    database.execute("UPDATE token_pricing SET margin_percent = 21").await;
    database
        .execute("UPDATE token_pricing SET category = 'think' WHERE model_id = 'gemini-2.0-flash'")
        .await;
    let body = json!({"reason": "its maker ends it"});
    let path = format!("/prices/{MODEL}");
    service.operate(Method::DELETE, &path, &body).await.is(200, &json!({"success": true}));
    let gone = service.operate(Method::DELETE, &path, &body).await;
    assert_eq!(code(&gone), (400, "model_not_priced".to_owned()));
    set(&service.client, MODEL, &json!({"price_per_m_token": 7_000_000})).await.ok();
    database.execute("DELETE FROM token_pricing WHERE model_id = 'gemini-2.0-flash'").await;
    let expected = [
        none(),
        quick(7_000_000),
        none(),
        (json!(81), json!("think")),
        quick(81),
        quick(80),
        quick(75),
    ];
    assert_eq!(history(&service, MODEL).await, expected);
    database
        .execute(
            "UPDATE token_pricing SET model_id = 'renamed' WHERE model_id = 'gemini-2.5-flash'",
        )
        .await;
    assert_eq!(history(&service, "gemini-2.5-flash").await, [none(), quick(255)]);
    assert_eq!(history(&service, "renamed").await, [quick(255)]);
    assert_eq!(history(&service, "unknown").await, []);
    // In pages.
    let mut next = Some(format!("/prices/{MODEL}/history?limit=3"));
    let mut prices = Vec::new();
    while let Some(path) = next {
        let reply = service.get(&path).await;
        let items = reply.ok()["items"].as_array().expect("items").clone();
        prices.extend(items.into_iter().map(|it| it["price_per_m_token"].clone()));
        next = reply.header("link").map(|link| {
            let (path, _) = link.split_once('>').expect("a link");
            path.strip_prefix("</api/billing/operator").expect("a path").to_owned()
        });
    }
    assert_eq!(prices, expected.map(|(price, _)| price));
}

async fn a_model_that_is_taken_off_keeps_its_balances(engine: Engine) {
    let mut service = Service::start(engine);
    let app = service.app("ann");
    app.buy_tokens(MODEL, 75).await;
    app.add(100, "more").await.ok();
    for model in [MODEL, "gemini-2.5-flash", "gemini-2.5-pro"] {
        let path = format!("/prices/{model}");
        service.operate(Method::DELETE, &path, &json!({"reason": "why"})).await.ok();
    }
    for restart in [false, true] {
        if restart {
            // Without any price, too.
            service.server.stop().await;
            service.server.start_again();
            service.client = service.server.client();
        }
        let app = service.app("ann");
        let wallet = app.get("/wallet").await.ok();
        assert_eq!(wallet["categories"]["quick"]["total_tokens"], 0);
        let sold = app.allocate(&[(MODEL, 1)]).await;
        assert_eq!(code(&sold), (400, "model_not_priced".to_owned()));
        app.consume(MODEL, 100, 0).await.ok();
        let hold = app.post("/holds", &json!({"model_id": MODEL, "tokens": 100})).await.ok();
        let path = format!("/holds/{}/settle", hold["hold_id"].as_str().expect("an id"));
        app.post(&path, &json!({"input_tokens": 50, "output_tokens": 0})).await.ok();
    }
    let app = service.app("ann");
    let back = app.post("/credits/return", &json!({"model_id": MODEL})).await.ok();
    assert_eq!(
        (&back["returned_tokens"], &back["returned_credits"]),
        (&json!(999_700), &json!(74))
    );
    service.server.database().check_invariants().await;
}

async fn of_many_who_expect_the_same_price_one_sets_it(engine: Engine) {
    let service = Service::start(engine);
    let tries = (80..100).map(|price| {
        let client = service.client.clone();
        async move {
            let body = json!({"price_per_m_token": price, "if_price": 75});
            begun(|| set(&client, MODEL, &body)).await.status
        }
    });
    let mut statuses = futures_util::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (200, &[409; 19][..]));
    assert_eq!(history(&service, MODEL).await.len(), 2);
    assert_eq!(service.log("").await.len(), 1);
}

async fn products_are_set(engine: Engine) {
    let service = Service::start(engine);
    let put = async |product: &str, body: Value| {
        let mut body = body;
        body["reason"] = json!("why");
        service.operate(Method::PUT, &format!("/products/{product}"), &body).await
    };
    let item = |id: &str, credits: i64, active: bool| json!({"product_id": id, "credits": credits, "active": active});
    let small = "noteapp.credits.small";
    put(small, json!({"credits": 350, "active": true})).await.is(200, &item(small, 350, true));
    put("new", json!({"credits": 7, "active": false})).await.is(200, &item("new", 7, false));
    let offered = service.client.get("/products").await.ok();
    assert_eq!((&offered[small]["credits"], offered.get("new")), (&json!(350), None));
    let all = service.get("/products").await.ok();
    assert_eq!(all["items"].as_array().expect("items").len(), 4);
    assert_eq!(all["items"][0], item("new", 7, false));
    for body in [
        json!({"credits": 0, "active": true}),
        json!({"credits": 1_000_000_001, "active": true}),
        json!({"credits": 7}),
        json!({"credits": 7, "active": 1}),
    ] {
        assert_eq!(put(small, body.clone()).await.status, 422, "{body}");
    }
    let lines = service.log("").await;
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["before"], item(small, 300, true));
    assert_eq!(lines[0]["before"], json!({"product_id": "new", "credits": null, "active": null}));
}

async fn another_instance_sees_a_price_at_once() {
    let service = Service::start(Engine::Postgres);
    let other = service.server.launch().start(service.server.directory());
    let there = Client::new(other.address);
    let app = there.of("ann");
    app.add(1_000, "credits").await.ok();
    app.allocate(&[(MODEL, 1)]).await.ok();
    set(&service.client, MODEL, &json!({"price_per_m_token": 100})).await.ok();
    let before = app.balance().await["allocated_tokens"][MODEL].as_i64().expect("tokens");
    app.allocate(&[(MODEL, 10)]).await.ok();
    let after = app.balance().await["allocated_tokens"][MODEL].as_i64().expect("tokens");
    assert_eq!(after - before, 100_000);
    // Of both who expect the same price one sets it.
    let clients = [service.client.clone(), there];
    let tries = (0..20).map(|number| {
        let client = clients[number % 2].clone();
        async move {
            let body = json!({"price_per_m_token": 101 + number, "if_price": 100});
            begun(|| set(&client, MODEL, &body)).await.status
        }
    });
    let mut statuses = futures_util::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (200, &[409; 19][..]));
}
