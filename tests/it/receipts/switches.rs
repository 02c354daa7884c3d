//! The settings that decide which purchases are believed: which stores are asked, and who may buy in the sandbox.

use serde_json::json;

use super::{LATER, SMALL, SOON, Shop, bring, granted, later, repeated};
use crate::harness::{
    Engine,
    client::purchase,
    on_both_engines,
    stores::{Call, GooglePurchase, consumable, google_token},
};

on_both_engines![
    test_purchases_are_refused_unless_they_are_wanted,
    the_named_users_may_buy_in_the_sandbox,
    a_refused_test_purchase_is_granted_once_it_is_wanted,
    a_store_that_is_not_named_is_not_asked,
    without_receipts_everything_is_believed_and_nobody_asked,
    with_receipts_there_is_no_reset,
];

/// A test purchase of each store.
fn test_purchases(shop: &Shop, name: &str, id: &str) -> [String; 2] {
    let token = google_token(name);
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL).by_a_tester());
    [token, shop.stores.apple.signed(&consumable(id, SMALL))]
}

async fn test_purchases_are_refused_unless_they_are_wanted(engine: Engine) {
    for (unset, rule) in
        [(&["SANDBOX_PURCHASES"][..], &[][..]), (&[], &[("BILLING_SANDBOX_PURCHASES", "refuse")])]
    {
        let shop = Shop::open_without(engine, unset, rule);
        let ann = shop.user("ann");
        for token in test_purchases(&shop, "a", "1001") {
            for _ in 0..2 {
                later(&bring(&ann, &token).await, "sandbox_refused", LATER);
            }
        }
        let paid = google_token("paid");
        shop.stores.google.sell(GooglePurchase::paid(&paid, SMALL));
        granted(&bring(&ann, &paid).await, 300);
        shop.all_acknowledged().await;
        assert_eq!(shop.stores.google.delivered(&google_token("a")), (false, false));
    }
}

async fn the_named_users_may_buy_in_the_sandbox(engine: Engine) {
    let shop = Shop::open_with(engine, &[("BILLING_SANDBOX_PURCHASES", "users:ann,bob")]);
    for (user, id) in [("ann", "1001"), ("bob", "1002")] {
        let [google, apple] = test_purchases(&shop, user, id);
        granted(&bring(&shop.user(user), &google).await, 300);
        granted(&bring(&shop.user(user), &apple).await, 600);
    }
    for token in test_purchases(&shop, "eve", "1003") {
        later(&bring(&shop.user("eve"), &token).await, "sandbox_refused", LATER);
    }
    let sql = "SELECT DISTINCT environment FROM purchases WHERE state = 'granted'";
    assert_eq!(shop.server.database().texts(sql).await, ["sandbox"]);
}

async fn a_refused_test_purchase_is_granted_once_it_is_wanted(engine: Engine) {
    let refuse = [("BILLING_SANDBOX_PURCHASES", "refuse")];
    let mut shop = Shop::open_with(engine, &refuse);
    let tokens = test_purchases(&shop, "a", "1001");
    for token in &tokens {
        later(&bring(&shop.user("ann"), token).await, "sandbox_refused", LATER);
    }
    shop.server.stop().await;
    shop.server.start_again_with(&[("BILLING_SANDBOX_PURCHASES", "users:ann")]);
    for (token, balance) in tokens.iter().zip([300, 600]) {
        let reply = bring(&shop.user("ann"), token).await;
        // The service may have looked by itself meanwhile.
        reply.is(200, &json!({"success": true, "new_balance": balance}));
    }
}

async fn a_store_that_is_not_named_is_not_asked(engine: Engine) {
    let google = google_token("a");
    for (named, other) in [("google", "apple"), ("apple", "google")] {
        let shop = Shop::open_with(engine, &[("BILLING_RECEIPTS", named)]);
        let ann = shop.user("ann");
        shop.stores.google.sell(GooglePurchase::paid(&google, SMALL));
        let signed = shop.stores.apple.signed(&consumable("1001", SMALL));
        let token = |store| if store == "google" { &google } else { &signed };
        later(&bring(&ann, token(other)).await, "store_not_configured", SOON);
        granted(&bring(&ann, token(named)).await, 300);
        if named == "apple" {
            assert_eq!(shop.stores.calls(), []);
        } else {
            later(&bring(&ann, "2000000999000001").await, "store_not_configured", SOON);
            assert_eq!(shop.stores.on(Call::Transaction).count(), 0);
        }
    }
}

async fn without_receipts_everything_is_believed_and_nobody_asked(engine: Engine) {
    let shop = Shop::open_with(engine, &[("BILLING_RECEIPTS", "off")]);
    let ann = shop.user("ann");
    granted(&ann.add(100, "GPA.1").await, 100);
    repeated(&ann.add(999, "GPA.1").await, 100);
    granted(&ann.post("/credits/add", &purchase(5, "")).await, 105);
    let body = json!({"credits": 1, "purchase_record": {}});
    granted(&ann.post("/credits/add", &body).await, 106);
    assert_eq!(shop.stores.calls(), []);
    let sql = "SELECT CAST(metadata AS TEXT) FROM transactions ORDER BY id";
    let kept = shop.server.database().texts(sql).await;
    assert_eq!(kept[0], purchase(100, "GPA.1")["purchase_record"].to_string());
    assert_eq!(shop.states("ann").await, [""; 0]);
}

async fn with_receipts_there_is_no_reset(engine: Engine) {
    let shop = Shop::open_with(engine, &[("BILLING_ALLOW_RESET", "true")]);
    let ann = shop.user("ann");
    let token = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
    granted(&bring(&ann, &token).await, 300);
    let body = json!({
        "detail": "This endpoint is not available in production environment",
        "code": "reset_disabled",
    });
    ann.post("/reset", &json!({})).await.is(403, &body);
    assert_eq!(ann.balance().await["credits"], 300);
}
