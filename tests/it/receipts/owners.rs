//! Purchases that name an account of the app's: what was sold to one user is not another's for the asking.

use serde_json::json;

use super::{LATER, SMALL, Shop, bring, granted, later};
use crate::harness::{
    Engine, on_both_engines,
    stores::{GooglePurchase, consumable, google_token},
};

on_both_engines![
    what_names_another_known_user_waits_for_an_operator,
    an_account_of_nobody_we_know_is_no_matter,
];

/// A user as apps name theirs to Apple, which may write it in capitals.
const UUID: &str = "5f0c8a52-7d0e-4e1b-9a55-0123456789ab";

async fn what_names_another_known_user_waits_for_an_operator(engine: Engine) {
    let mut shop = Shop::open(engine);
    let own = google_token("own");
    shop.stores.google.sell(GooglePurchase::paid(&own, SMALL).sold_to("bob"));
    granted(&bring(&shop.user("bob"), &own).await, 300);
    let mut payload = consumable("1001", SMALL);
    payload["appAccountToken"] = json!(UUID.to_uppercase());
    granted(&bring(&shop.user(UUID), &shop.stores.apple.signed(&payload)).await, 300);

    let google = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&google, SMALL).sold_to("bob"));
    for id in ["transactionId", "originalTransactionId"] {
        payload[id] = json!("1002");
    }
    let apple = shop.stores.apple.signed(&payload);
    for token in [&google, &apple] {
        later(&bring(&shop.user("ann"), token).await, "purchase_in_review", LATER);
    }
    shop.server.stop().await;
    shop.server.start_again();
    for token in [&google, &apple] {
        later(&bring(&shop.user("ann"), token).await, "purchase_in_review", LATER);
    }
    assert_eq!(shop.states("ann").await, ["google review", "apple review"]);
    assert_eq!(shop.user("ann").balance().await["credits"], 0);
    assert_eq!(shop.stores.google.delivered(&google), (false, false));
}

async fn an_account_of_nobody_we_know_is_no_matter(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let google = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&google, SMALL).sold_to("eve"));
    granted(&bring(&ann, &google).await, 300);
    let mut payload = consumable("1001", SMALL);
    payload["appAccountToken"] = json!(UUID);
    granted(&bring(&ann, &shop.stores.apple.signed(&payload)).await, 600);
}
