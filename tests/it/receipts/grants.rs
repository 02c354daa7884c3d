//! What a paid purchase brings, whom, and how often; and what is kept of it.

use serde_json::json;

use super::{
    LARGE, LATER, SMALL, SOON, Shop, anothers, bring, granted, invalid, later, receipt, repeated,
};
use crate::harness::{
    Engine, on_both_engines,
    stores::{Call, GooglePurchase, consumable, google_token},
};

on_both_engines![
    a_purchase_of_either_store_is_granted_once,
    a_purchase_that_is_known_costs_no_call,
    an_order_that_was_granted_is_known_by_any_token,
    the_original_transaction_is_known_too,
    a_purchase_of_an_unknown_product_is_granted_once_it_is_known,
    a_pending_purchase_is_granted_once_it_is_paid,
    what_was_granted_without_asking_is_not_granted_again,
    what_was_refused_stays_refused,
    a_key_is_used_up_by_a_grant_only,
    no_more_than_twenty_purchases_of_a_user_wait,
];

async fn a_purchase_of_either_store_is_granted_once(engine: Engine) {
    let mut shop = Shop::open(engine);
    let ann = shop.user("ann");
    let google = google_token("a");
    let sold = GooglePurchase::paid(&google, SMALL);
    let order = sold.order().to_owned();
    shop.stores.google.sell(sold);
    let apple = shop.stores.apple.signed(&consumable("2000000999000001", LARGE));
    granted(&bring(&ann, &google).await, 300);
    granted(&bring(&ann, &apple).await, 1_300);
    shop.all_acknowledged().await;
    shop.server.stop().await;
    shop.server.start_again();
    let [ann, bob] = ["ann", "bob"].map(|user| shop.user(user));
    for token in [&google, &apple] {
        repeated(&bring(&ann, token).await, 1_300);
        anothers(&bring(&bob, token).await);
    }
    assert_eq!(shop.stores.google.delivered(&google), (true, false));
    let ids = "SELECT transaction_id FROM transactions ORDER BY id";
    assert_eq!(shop.server.database().texts(ids).await, [&*order, "2000000999000001"]);
    assert_eq!(shop.states("ann").await, ["google granted", "apple granted"]);
    assert_eq!(shop.states("bob").await, [""; 0]);
}

async fn a_purchase_that_is_known_costs_no_call(engine: Engine) {
    let shop = Shop::open(engine);
    let [ann, bob] = ["ann", "bob"].map(|user| shop.user(user));
    let token = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
    let body = receipt(&token);
    granted(&ann.post_keyed("key", "/credits/add", &body).await, 300);
    shop.all_acknowledged().await;
    let calls = shop.stores.calls();
    assert_eq!(calls, [Call::Purchase, Call::Acknowledge]);
    repeated(&bring(&ann, &token).await, 300);
    repeated(&ann.post_keyed("key", "/credits/add", &body).await, 300);
    anothers(&bring(&bob, &token).await);
    // Neither does one who does not say who it is.
    let stranger = shop.server.client();
    assert_eq!(bring(&stranger, &google_token("b")).await.status, 401);
    assert_eq!(shop.stores.calls(), calls);
}

async fn an_order_that_was_granted_is_known_by_any_token(engine: Engine) {
    let shop = Shop::open(engine);
    let [ann, bob] = ["ann", "bob"].map(|user| shop.user(user));
    let [first, second, third] = ["a", "b", "c"].map(google_token);
    let sold = GooglePurchase::paid(&first, SMALL);
    let order = sold.order().to_owned();
    shop.stores.google.sell(sold);
    for token in [&second, &third] {
        let again = GooglePurchase::paid(token, SMALL).ordered_as(Some(&order));
        shop.stores.google.sell(again);
    }
    granted(&bring(&ann, &first).await, 300);
    for _ in 0..2 {
        repeated(&bring(&ann, &second).await, 300);
        anothers(&bring(&bob, &third).await);
    }
    assert_eq!(bob.balance().await["credits"], 0);
}

async fn the_original_transaction_is_known_too(engine: Engine) {
    let shop = Shop::open(engine);
    let [ann, bob] = ["ann", "bob"].map(|user| shop.user(user));
    let apple = &shop.stores.apple;
    granted(&bring(&ann, &apple.signed(&consumable("1001", SMALL))).await, 300);
    // One purchase may have two ids: the other is told as the original one.
    let mut payload = consumable("1002", SMALL);
    payload["originalTransactionId"] = json!("1001");
    let signed = apple.signed(&payload);
    repeated(&bring(&ann, &signed).await, 300);
    anothers(&bring(&bob, &signed).await);
    // The same id signed anew is the same purchase.
    repeated(&bring(&ann, &apple.signed(&consumable("1001", LARGE))).await, 300);
}

async fn a_purchase_of_an_unknown_product_is_granted_once_it_is_known(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let google = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&google, "noteapp.credits.new"));
    let apple = shop.stores.apple.signed(&consumable("1001", "noteapp.credits.new"));
    for token in [&google, &apple] {
        later(&bring(&ann, token).await, "purchase_in_review", LATER);
    }
    assert_eq!(ann.balance().await["credits"], 0);
    let add = "INSERT INTO products (product_id, credits) VALUES ('noteapp.credits.new', 40)";
    shop.server.database().execute(add).await;
    for (token, balance) in [(&google, 40), (&apple, 80)] {
        let reply = bring(&ann, token).await;
        // The service may have looked by itself meanwhile.
        reply.is(200, &json!({"success": true, "new_balance": balance}));
    }
    assert_eq!(shop.states("ann").await, ["google granted", "apple granted"]);
}

async fn a_pending_purchase_is_granted_once_it_is_paid(engine: Engine) {
    let mut shop = Shop::open(engine);
    let ann = shop.user("ann");
    let [paid, cancelled] = ["a", "b"].map(google_token);
    for token in [&paid, &cancelled] {
        shop.stores.google.sell(GooglePurchase::pending(token, SMALL));
        later(&bring(&ann, token).await, "purchase_pending", LATER);
    }
    assert_eq!(shop.states("ann").await, ["google pending", "google pending"]);
    shop.stores.google.sell(GooglePurchase::paid(&paid, SMALL));
    shop.stores.google.sell(GooglePurchase::pending(&cancelled, SMALL).cancelled());
    // The app does not come back; everything is due at a start.
    shop.server.stop().await;
    shop.server.start_again();
    shop.balance_becomes("ann", 300).await;
    shop.all_acknowledged().await;
    let waiting = "SELECT key FROM purchases WHERE state NOT IN ('granted', 'refused')";
    shop.until_none(waiting).await;
    repeated(&bring(&shop.user("ann"), &paid).await, 300);
    invalid(&bring(&shop.user("ann"), &cancelled).await);
}

async fn what_was_granted_without_asking_is_not_granted_again(engine: Engine) {
    let mut shop = Shop::open_with(engine, &[("BILLING_RECEIPTS", "off")]);
    let [by_token, by_order, fresh] = ["a", "b", "c"].map(google_token);
    let sold = GooglePurchase::paid(&by_order, SMALL);
    let order = sold.order().to_owned();
    shop.stores.google.sell(sold);
    for token in [&by_token, &fresh] {
        shop.stores.google.sell(GooglePurchase::paid(token, SMALL));
    }
    let ann = shop.user("ann");
    granted(&bring(&ann, &by_token).await, 7);
    let record = json!({"transactionId": order, "purchaseToken": ""});
    let body = json!({"credits": 5, "purchase_record": record});
    granted(&ann.post("/credits/add", &body).await, 12);
    let signed = shop.stores.apple.signed(&consumable("1001", SMALL));
    let record = json!({"transactionId": "1001", "purchaseToken": ""});
    let body = json!({"credits": 1, "purchase_record": record});
    granted(&ann.post("/credits/add", &body).await, 13);
    assert_eq!(shop.stores.calls(), []);

    shop.server.stop().await;
    shop.server.start_again_with(&[("BILLING_RECEIPTS", "google,apple")]);
    let [ann, bob] = ["ann", "bob"].map(|user| shop.user(user));
    for token in [&by_token, &by_order, &signed] {
        repeated(&bring(&ann, token).await, 13);
        anothers(&bring(&bob, token).await);
    }
    granted(&bring(&ann, &fresh).await, 313);
}

async fn what_was_refused_stays_refused(engine: Engine) {
    let shop = Shop::open(engine);
    let token = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL).cancelled());
    for user in ["ann", "ann", "bob"] {
        invalid(&bring(&shop.user(user), &token).await);
    }
    assert_eq!(shop.stores.on(Call::Acknowledge).count(), 0);
}

async fn a_key_is_used_up_by_a_grant_only(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let [token, other] = ["a", "b"].map(google_token);
    let send = async |token: &str| ann.post_keyed("key", "/credits/add", &receipt(token)).await;
    shop.stores.google.sell(GooglePurchase::pending(&token, SMALL));
    later(&send(&token).await, "purchase_pending", LATER);
    shop.put_off().await;
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
    shop.stores.google.sell(GooglePurchase::paid(&other, SMALL));
    granted(&send(&token).await, 300);
    granted(&bring(&ann, &other).await, 600);
    // The stored answer, of which the balance is a part.
    repeated(&send(&token).await, 300);
    let reused = send(&other).await;
    assert_eq!((reused.status, &reused.json()["code"]), (422, &json!("idempotency_key_reused")));
    shop.all_acknowledged().await;
}

/// Most purchases of a user that may wait.
const WAITING_MOST: usize = 20;

async fn no_more_than_twenty_purchases_of_a_user_wait(engine: Engine) {
    let shop = Shop::open(engine);
    let [ann, bob] = ["ann", "bob"].map(|user| shop.user(user));
    for number in 0..WAITING_MOST {
        let token = google_token(&format!("{number}"));
        shop.stores.google.sell(GooglePurchase::pending(&token, SMALL));
        later(&bring(&ann, &token).await, "purchase_pending", LATER);
    }
    let token = google_token("one-more");
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
    later(&bring(&ann, &token).await, "store_unavailable", SOON);
    assert_eq!(shop.stores.on(Call::Purchase).of(&token).count(), 0);
    assert_eq!(shop.states("ann").await.len(), WAITING_MOST);
    // What is verified needs not wait, and others may.
    granted(&bring(&ann, &shop.stores.apple.signed(&consumable("1001", SMALL))).await, 300);
    granted(&bring(&bob, &token).await, 300);
}
