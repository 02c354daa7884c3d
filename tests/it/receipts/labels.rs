//! What the client says of a purchase is a label: it decides nothing. What is kept of it holds no token.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{SMALL, SOON, Shop, bring, granted, later, receipt};
use crate::harness::{
    Engine, on_both_engines,
    stores::{GooglePurchase, consumable, google_token},
};

on_both_engines![
    the_record_is_kept_with_a_hash_for_the_token,
    a_token_is_forgotten_once_it_is_of_no_use,
    one_label_for_several_purchases_is_no_matter,
];

fn hash(token: &str) -> String {
    let digest = Sha256::digest(token);
    digest.iter().fold("sha256:".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

async fn the_record_is_kept_with_a_hash_for_the_token(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let google = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&google, SMALL));
    let apple = shop.stores.apple.signed(&consumable("1001", SMALL));
    let mut expected = Vec::new();
    for (token, id) in [(&google, &google), (&apple, &"1001".to_owned())] {
        let mut body = receipt(token);
        let record = &mut body["purchase_record"];
        record["transactionId"] = json!(id);
        let mut kept = record.clone();
        kept["purchaseToken"] = json!(hash(token));
        if id == token {
            kept["transactionId"] = json!(hash(token));
        }
        expected.push(kept);
        ann.post("/credits/add", &body).await.ok();
    }
    let sql = "SELECT CAST(metadata AS TEXT) FROM transactions ORDER BY id";
    let kept = shop.server.database().texts(sql).await;
    let kept: Vec<Value> =
        kept.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
    assert_eq!(kept, expected);
    let sql = "SELECT key FROM purchases WHERE store = 'apple' AND token IS NOT NULL";
    assert_eq!(shop.server.database().texts(sql).await, [""; 0]);
}

async fn a_token_is_forgotten_once_it_is_of_no_use(engine: Engine) {
    let mut shop = Shop::open(engine);
    let ann = shop.user("ann");
    let google = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&google, SMALL).consumed());
    let apple = shop.stores.apple.signed(&consumable("1001", SMALL));
    granted(&bring(&ann, &google).await, 300);
    granted(&bring(&ann, &apple).await, 600);
    shop.until_none("SELECT key FROM purchases WHERE token IS NOT NULL").await;
    let records = "SELECT key FROM purchases WHERE record IS NOT NULL AND record LIKE '%AO-J1O%'";
    assert_eq!(shop.server.database().texts(records).await, [""; 0]);
    let log = shop.server.stop().await;
    let (_, signature) = apple.rsplit_once('.').expect("a signature");
    for secret in [&google, signature, "ya29.", "PRIVATE KEY"] {
        assert!(!log.iter().any(|line| line.contains(secret)), "{secret} is in {log:#?}");
    }
}

async fn one_label_for_several_purchases_is_no_matter(engine: Engine) {
    let shop = Shop::open(engine);
    for (number, user, balance) in [(1, "ann", 300), (2, "ann", 600), (3, "bob", 300)] {
        let token = google_token(&format!("{number}"));
        shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
        granted(&bring(&shop.user(user), &token).await, balance);
    }
}

#[tokio::test]
async fn a_token_of_no_stores_form_is_malformed() {
    let shop = Shop::open(Engine::Sqlite);
    let ann = shop.user("ann");
    let ann = &ann;
    let post = async |token: Value| {
        let mut body = receipt("unused");
        body["purchase_record"]["purchaseToken"] = token;
        ann.post("/credits/add", &body).await
    };
    for (token, kind) in [
        (json!("with a space"), "value_error"),
        (json!("123456789012345678901x!"), "value_error"),
        (json!("short"), "value_error"),
        (json!("購入購入購入購入購入"), "value_error"),
        (json!("x".repeat(2_049)), "value_error"),
        (json!(null), "string_type"),
        (json!(12), "string_type"),
    ] {
        let reply = post(token.clone()).await;
        assert_eq!(reply.status, 422, "{token}: {reply:?}");
        let problem = &reply.json()["detail"][0];
        assert_eq!(
            problem["loc"],
            json!(["body", "purchase_record", "purchaseToken"]),
            "{reply:?}"
        );
        assert_eq!(problem["type"], kind, "{token}: {reply:?}");
    }
    for (token, kind) in [("", "string_too_short"), (&*"x".repeat(16_385), "string_too_long")] {
        let reply = post(json!(token)).await;
        assert_eq!((reply.status, &reply.json()["detail"][0]["type"]), (422, &json!(kind)));
    }
    let mut body = receipt("unused");
    body["purchase_record"].as_object_mut().expect("an object").remove("purchaseToken");
    let reply = ann.post("/credits/add", &body).await;
    assert_eq!((reply.status, &reply.json()["detail"][0]["type"]), (422, &json!("missing")));
    // A receipt of the old kind was perhaps paid.
    let legacy = BASE64_STANDARD.encode([&[0x30, 0x82, 0x0f, 0xff][..], &[7; 900]].concat());
    assert!(legacy.starts_with("MII"));
    later(&post(json!(legacy)).await, "store_unavailable", SOON);
    assert_eq!(shop.stores.calls(), []);
}
