//! What becomes of purchases that stores confirm when their buyer is erased: they stay what they were, of nobody who has
//! a name, and what was waiting is for whoever brings it.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    LARGE, LATER, REGULAR, SMALL, anothers, bring,
    counter::{Counter, as_of, play_voided, refunded_as_of},
    granted, later,
};
use crate::{
    harness::{
        Engine, Reply, eventually, on_both_engines,
        stores::{GooglePurchase, google_token},
    },
    verify::check_clean,
};

on_both_engines![
    purchases_outlive_their_buyer,
    what_comes_back_after_an_erasure_is_on_the_erased_account,
];

const OPERATOR: &str = "operator-token-0123456789-abcdefg";
const BUYER: &str = "zoe.unmistakable";

async fn purchases_outlive_their_buyer(engine: Engine) {
    let counter = Counter::open_with(engine, |it| it.set("BILLING_OPERATOR_TOKEN", OPERATOR));
    let google = &counter.shop.stores.google;
    let buyer = counter.user(BUYER);
    let sold = |name: &str, product: &str| {
        GooglePurchase::paid(&google_token(name), product).sold_to(BUYER)
    };
    let (kept, refunded) = (sold("kept", SMALL), sold("refunded", REGULAR));
    for sold in [&kept, &refunded] {
        google.sell(sold.clone());
        bring(&buyer, sold.token()).await.ok();
    }
    counter.push("1", &play_voided(refunded.token(), refunded.order(), true)).await;
    counter.all_done().await;
    counter.shop.all_acknowledged().await;
    // Not paid yet, and for nothing that is in the list.
    let slow = google_token("slow");
    google.sell(GooglePurchase::pending(&slow, LARGE));
    later(&bring(&buyer, &slow).await, "purchase_pending", LATER);
    let odd = sold("odd", "no.such.product");
    google.sell(odd.clone());
    later(&bring(&buyer, odd.token()).await, "purchase_in_review", LATER);
    let operate = async |path: &str, body| {
        let path = format!("/api/billing/operator{path}");
        let request = counter.shop.anybody().request(Method::POST, &path).bearer_auth(OPERATOR);
        Reply::to(request.header("idempotency-key", &path).json(&body)).await
    };
    // An operator's decision is kept under its key, and what is told of the purchase.
    let review = "SELECT CAST(id AS TEXT) FROM purchases WHERE state = 'review'";
    let review = counter.shop.server.database().texts(review).await.concat();
    operate(&format!("/purchases/{review}/retry"), json!({"reason": "is it known?"})).await.ok();
    let body = json!({"reason": "by mail", "forfeit": true});
    let reply = operate(&format!("/users/{BUYER}/erase"), body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let name = reply.json()["user_id"].as_str().expect("a name").to_owned();
    counter.shop.until_none("SELECT user_id FROM erasures").await;
    check_clean(counter.shop.server.home()).await;
    let books = ["granted 0 0", "refunded 500 0"];
    assert_eq!(counter.books(&name).await, books);
    let database = counter.shop.server.database();
    let personal = "SELECT key FROM purchases WHERE record IS NOT NULL OR verified IS NOT NULL
        OR (token IS NOT NULL AND due_at IS NULL) OR (granted_at IS NULL AND user_id IS NOT NULL)
        UNION ALL SELECT CAST(id AS TEXT) FROM transactions WHERE CAST(metadata AS TEXT) LIKE '%label%'
        UNION ALL SELECT user_id FROM purchase_names WHERE user_id NOT LIKE 'erased:%'
        UNION ALL SELECT key FROM idempotency_keys WHERE CAST(outcome AS TEXT) LIKE '%unmistakable%'";
    assert_eq!(database.texts(personal).await, Vec::<String>::new());
    // A refund finds its purchase, of which nothing is left.
    counter.push("2", &play_voided(kept.token(), kept.order(), true)).await;
    counter.all_done().await;
    eventually("it is booked", async || {
        (counter.books(&name).await[0] == "refunded 0 300").then_some(())
    })
    .await;
    // What was granted is granted to nobody again; what was not is for whoever brings it.
    for sold in [&kept, &refunded] {
        anothers(&bring(&buyer, sold.token()).await);
        anothers(&bring(&counter.user("bob"), sold.token()).await);
    }
    google.sell(GooglePurchase::paid(&slow, LARGE));
    granted(&bring(&buyer, &slow).await, 1_000);
    later(&bring(&buyer, odd.token()).await, "purchase_in_review", LATER);
    counter.shop.put_off().await;
    let product = "INSERT INTO products (product_id, credits) VALUES ('no.such.product', 7)";
    database.execute(product).await;
    granted(&bring(&buyer, odd.token()).await, 1_007);
    counter.has(BUYER, 1_007, &["granted 0 0", "granted 0 0"]).await;
}

/// Nobody can log in as whoever was erased, so what comes back waits there until an operator knows whose it is.
async fn what_comes_back_after_an_erasure_is_on_the_erased_account(engine: Engine) {
    let counter = Counter::open_with(engine, |it| it.set("BILLING_OPERATOR_TOKEN", OPERATOR));
    granted(&counter.bring_signed(BUYER, &as_of("1001", SMALL, -60, None)).await, 300);
    counter.tell("REFUND", "uuid-1", &refunded_as_of("1001", SMALL, -50)).await;
    counter.all_done().await;
    let operate = async |method: Method, path: &str, body: Value| {
        let path = format!("/api/billing/operator/users/{path}");
        let request = counter.shop.anybody().request(method, &path).bearer_auth(OPERATOR);
        Reply::to(if body.is_null() { request } else { request.json(&body) }).await
    };
    let body = json!({"reason": "by mail"});
    let reply = operate(Method::POST, &format!("{BUYER}/erase"), body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let name = reply.json()["user_id"].as_str().expect("a name").to_owned();
    counter.shop.until_none("SELECT user_id FROM erasures").await;
    for uuid in ["uuid-2", "uuid-2", "uuid-3"] {
        counter.tell("REFUND_REVERSED", uuid, &as_of("1001", SMALL, -40, None)).await;
    }
    counter.all_done().await;
    assert_eq!(counter.books(&name).await, ["granted 0 0"]);
    check_clean(counter.shop.server.home()).await;
    let path = name.replace(':', "%3A");
    let has = async |credits: i64| {
        let user = operate(Method::GET, &path, Value::Null).await.ok();
        let expected = json!({"total": credits, "bonus": 0});
        assert_eq!(user["wallet"]["credits"], expected, "{user}");
    };
    has(300).await;
    // Whoever has the name now has none of it, and gets none by bringing it.
    let buyer = counter.user(BUYER);
    anothers(&counter.bring_signed(BUYER, &as_of("1001", SMALL, -30, None)).await);
    assert_eq!(buyer.balance().await["credits"], 0);
    // An operator may move it.
    let down = json!({"credits_delta": -300, "reason": "it is zoe's again"});
    operate(Method::POST, &format!("{path}/adjustments"), down).await.ok();
    has(0).await;
    assert_eq!(counter.books(&name).await, ["granted 0 0"]);
    check_clean(counter.shop.server.home()).await;
}
