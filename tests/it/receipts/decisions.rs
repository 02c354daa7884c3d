//! What an operator decides about purchases: those in review are granted or refused, those that wait are asked for
//! again, and granted ones are taken back.

use reqwest::Method;
use serde_json::{Value, json};

use super::{LATER, SMALL, SOON, Shop, anothers, bring, granted, invalid, later, repeated};
use crate::{
    harness::{
        Engine, Reply, eventually, on_both_engines,
        stores::{Answer, Call, GooglePurchase, consumable, google_token},
    },
    verify::check_clean,
};

on_both_engines![
    a_purchase_in_review_is_granted_or_refused,
    a_product_nobody_knows_is_granted_for_what_is_told,
    the_money_of_a_granted_purchase_goes_back,
    a_purchase_that_waits_is_asked_for_again,
    a_repeated_decision_is_told_as_the_first_time,
    what_a_store_keeps_waiting_is_in_the_whole,
];

const OPERATOR: &str = "operator-token-0123456789-abcdefg";

fn open(engine: Engine) -> Shop {
    Shop::open_with(engine, &[("BILLING_OPERATOR_TOKEN", OPERATOR)])
}

async fn ask(shop: &Shop, method: Method, path: &str, body: &Value) -> Reply {
    let path = format!("/api/billing/operator/purchases{path}");
    let request = shop.anybody().request(method, &path).bearer_auth(OPERATOR);
    Reply::to(if body.is_null() { request } else { request.json(body) }).await
}

async fn listed(shop: &Shop, query: &str) -> Vec<Value> {
    let reply = ask(shop, Method::GET, query, &Value::Null).await.ok();
    reply["items"].as_array().expect("items").clone()
}

async fn act(shop: &Shop, id: &Value, act: &str, body: Value) -> Reply {
    let mut body = body;
    body["reason"] = json!("I looked");
    ask(shop, Method::POST, &format!("/{id}/{act}"), &body).await
}

fn is_in(reply: &Reply, state: &str) {
    let told = (reply.status, reply.json()["code"].clone(), reply.json()["state"].clone());
    assert_eq!(told, (409, json!("purchase_state"), json!(state)), "{reply:?}");
}

async fn a_purchase_in_review_is_granted_or_refused(engine: Engine) {
    let shop = open(engine);
    let own = google_token("own");
    shop.stores.google.sell(GooglePurchase::paid(&own, SMALL).sold_to("bob"));
    granted(&bring(&shop.user("bob"), &own).await, 300);
    let ann = shop.user("ann");
    let tokens = ["a", "b"].map(google_token);
    for token in &tokens {
        shop.stores.google.sell(GooglePurchase::paid(token, SMALL).sold_to("bob"));
        later(&bring(&ann, token).await, "purchase_in_review", LATER);
    }
    let queue = listed(&shop, "?state=review").await;
    let [second, first] = &queue[..] else { panic!("two: {queue:?}") };
    assert_eq!((&first["user_id"], &first["reason"]), (&json!("ann"), &json!("another_account")));
    for token in &tokens {
        assert!(!json!(queue).to_string().contains(token.as_str()), "a token is told");
    }
    let reply = act(&shop, &first["id"], "approve", json!({})).await.ok();
    assert_eq!((&reply["state"], &reply["credits"]), (&json!("granted"), &json!(300)));
    assert_eq!(
        reply,
        ask(&shop, Method::GET, &format!("/{}", first["id"]), &Value::Null).await.ok()
    );
    assert_eq!(ann.balance().await["credits"], 300);
    repeated(&bring(&ann, &tokens[0]).await, 300);
    anothers(&bring(&shop.user("bob"), &tokens[0]).await);
    shop.all_acknowledged().await;
    let reply = act(&shop, &second["id"], "reject", json!({})).await.ok();
    assert_eq!(reply["state"], "refused");
    invalid(&bring(&ann, &tokens[1]).await);
    for (id, state) in [(&first["id"], "granted"), (&second["id"], "refused")] {
        for name in ["approve", "reject", "retry"] {
            is_in(&act(&shop, id, name, json!({})).await, state);
        }
    }
    is_in(&act(&shop, &second["id"], "refund", json!({})).await, "refused");
    for id in [json!(999), json!("x"), json!(0)] {
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        let reply =
            ask(&shop, Method::POST, &format!("/{id}/approve"), &json!({"reason": "why"})).await;
        assert_eq!((reply.status, &reply.json()["code"]), (404, &json!("purchase_not_found")));
    }
    assert!(listed(&shop, "?state=review").await.is_empty());
    assert_eq!(listed(&shop, "?limit=2").await.len(), 2);
    assert_eq!(listed(&shop, "").await.len(), 3);
    let log = "SELECT action || ' ' || user_id FROM operator_log JOIN users ON users.id = account ORDER BY operator_log.id";
    let lines = shop.server.database().texts(log).await;
    assert_eq!(lines, ["approve_purchase ann", "reject_purchase ann"]);
}

async fn a_product_nobody_knows_is_granted_for_what_is_told(engine: Engine) {
    let shop = open(engine);
    let ann = shop.user("ann");
    let google = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&google, "noteapp.credits.new"));
    let apple = shop.stores.apple.signed(&consumable("1001", "noteapp.credits.new"));
    for token in [&google, &apple] {
        later(&bring(&ann, token).await, "purchase_in_review", LATER);
    }
    let queue = listed(&shop, "?state=review").await;
    for (item, balance) in queue.iter().zip([70, 140]) {
        let reply = act(&shop, &item["id"], "approve", json!({})).await;
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("unknown_product")));
        let reply = act(&shop, &item["id"], "approve", json!({"credits": 70})).await.ok();
        assert_eq!((&reply["state"], &reply["credits"]), (&json!("granted"), &json!(70)));
        assert_eq!(ann.balance().await["credits"], balance);
    }
    for token in [&google, &apple] {
        repeated(&bring(&ann, token).await, 140);
    }
    // Three pieces can't be worth the same.
    let three = google_token("three");
    shop.stores.google.sell(GooglePurchase::paid(&three, "noteapp.credits.new").times(3));
    later(&bring(&ann, &three).await, "purchase_in_review", LATER);
    let queue = listed(&shop, "?state=review").await;
    act(&shop, &queue[0]["id"], "approve", json!({"credits": 100})).await.ok();
    assert_eq!(ann.balance().await["credits"], 240);
    check_clean(shop.server.home()).await;
}

async fn the_money_of_a_granted_purchase_goes_back(engine: Engine) {
    let shop = open(engine);
    let ann = shop.user("ann");
    let tokens = ["a", "b"].map(google_token);
    for token in &tokens {
        shop.stores.google.sell(GooglePurchase::paid(token, SMALL));
        bring(&ann, token).await.ok();
    }
    let items = listed(&shop, "?state=granted").await;
    let reply = act(&shop, &items[0]["id"], "refund", json!({"credits": 301})).await;
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("insufficient_credits")));
    let reply = act(&shop, &items[0]["id"], "refund", json!({"credits": 100})).await.ok();
    assert_eq!((&reply["state"], &reply["taken_credits"]), (&json!("refunded"), &json!(100)));
    assert_eq!(ann.balance().await["credits"], 500);
    ann.allocate(&[("gemini-2.0-flash", 375)]).await.ok();
    ann.consume("gemini-2.0-flash", 4_000_000, 0).await.ok();
    // All that is left: 125 credits, and a million tokens that cost 75.
    let reply = act(&shop, &items[1]["id"], "refund", json!({})).await.ok();
    let told = ["taken_credits", "shortfall_credits", "refunded_by_operator"]
        .map(|name| reply[name].clone());
    assert_eq!(told, [json!(200), json!(100), json!(300)]);
    assert_eq!(ann.balance().await["credits"], 0);
    is_in(&act(&shop, &items[1]["id"], "refund", json!({})).await, "refunded");
}

async fn a_purchase_that_waits_is_asked_for_again(engine: Engine) {
    let shop = open(engine);
    let ann = shop.user("ann");
    let token = google_token("a");
    shop.stores.google.sell(GooglePurchase::pending(&token, SMALL));
    later(&bring(&ann, &token).await, "purchase_pending", LATER);
    shop.put_off().await;
    let item = &listed(&shop, "?state=pending").await[0];
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
    let asked = shop.stores.on(Call::Purchase).count();
    act(&shop, &item["id"], "retry", json!({})).await.ok();
    shop.balance_becomes("ann", 300).await;
    assert!(shop.stores.on(Call::Purchase).count() > asked, "the store was asked");
}

async fn a_repeated_decision_is_told_as_the_first_time(engine: Engine) {
    let shop = open(engine);
    let token = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&token, "unknown"));
    later(&bring(&shop.user("ann"), &token).await, "purchase_in_review", LATER);
    let id = listed(&shop, "?state=review").await[0]["id"].clone();
    let approve = async || {
        let path = format!("/api/billing/operator/purchases/{id}/approve");
        let request = shop.anybody().request(Method::POST, &path).bearer_auth(OPERATOR);
        let request = request.header("idempotency-key", "k-1");
        Reply::to(request.json(&json!({"credits": 300, "reason": "I looked"}))).await
    };
    let first = approve().await.ok();
    assert_eq!((&first["user_id"], &first["credits"]), (&json!("ann"), &json!(300)));
    assert!(!first.to_string().contains(token.as_str()), "a token is told: {first}");
    act(&shop, &id, "refund", json!({"credits": 100})).await.ok();
    shop.all_acknowledged().await;
    let again = approve().await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"), "{again:?}");
    assert_eq!(again.ok(), first);
    assert_eq!(shop.user("ann").balance().await["credits"], 200);
}

async fn what_a_store_keeps_waiting_is_in_the_whole(engine: Engine) {
    let mut shop = open(engine);
    let ann = shop.user("ann");
    let [untold, unconfirmed] = ["a", "b"].map(google_token);
    for token in [&untold, &unconfirmed] {
        shop.stores.google.sell(GooglePurchase::paid(token, SMALL));
    }
    shop.stores.on(Call::Acknowledge).always(Answer::html(500));
    granted(&bring(&ann, &untold).await, 300);
    shop.stores.on(Call::Purchase).always(Answer::html(500));
    later(&bring(&ann, &unconfirmed).await, "store_unavailable", SOON);
    waiting_becomes(&shop, json!([1, true, {"google": 1}])).await;
    shop.server.stop().await;
    for call in [Call::Acknowledge, Call::Purchase] {
        shop.stores.on(call).forget();
    }
    // All of it is due at a start.
    shop.server.start_again();
    waiting_becomes(&shop, json!([0, false, {}])).await;
}

/// Waits until the whole tells so many acknowledgements that are due, whether one is old, and what is unconfirmed.
async fn waiting_becomes(shop: &Shop, wanted: Value) {
    eventually("it is counted", async || {
        let request = shop.anybody().request(Method::GET, "/api/billing/operator/summary");
        let whole = Reply::to(request.bearer_auth(OPERATOR)).await.ok();
        let due = &whole["acknowledgements"];
        let told = json!([due["due"], due["oldest_at"].is_string(), whole["unconfirmed"]]);
        (told == wanted).then_some(())
    })
    .await;
}
