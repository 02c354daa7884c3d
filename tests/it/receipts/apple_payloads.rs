//! What Apple signed about a purchase, and what follows from it. Nobody is asked: the signature is enough.

use serde_json::{Value, json};

use super::{LATER, SMALL, SOON, Shop, bring, entries, granted, invalid, later};
use crate::harness::{
    Engine, on_both_engines,
    stores::{Flaw, consumable},
    token::now,
};

on_both_engines![
    what_is_signed_decides,
    what_can_never_be_a_purchase_of_ours_is_refused,
    what_can_not_be_judged_may_pass,
    a_chain_counts_as_of_the_day_it_signed,
];

const DAY_MS: u64 = 86_400_000;

/// A purchase with other values in its payload; `null` takes one away.
fn changed(id: &str, changes: &[(&str, Value)]) -> Value {
    let mut payload = consumable(id, SMALL);
    let fields = payload.as_object_mut().expect("an object");
    for (name, value) in changes {
        match value {
            Value::Null => fields.remove(*name),
            value => fields.insert((*name).to_owned(), value.clone()),
        };
    }
    payload
}

async fn what_is_signed_decides(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let now_ms = now() * 1_000;
    let mut balance = 0;
    let rows: &[(&[(&str, Value)], i64)] = &[
        (&[], 300),
        (&[("quantity", json!(3))], 900),
        (&[("productId", json!("noteapp.credits.large"))], 1_000),
        (&[("price", json!(0)), ("offerDiscountType", json!("ONE_TIME"))], 300),
        (&[("price", Value::Null), ("currency", Value::Null)], 300),
        (&[("signedDate", Value::Null)], 300),
        // Apple's own clocks differ.
        (&[("purchaseDate", json!(now_ms + 33_000))], 300),
        (&[("signedDate", json!(now_ms + DAY_MS / 2))], 300),
        (&[("appTransactionId", Value::Null), ("storefront", Value::Null)], 300),
        (&[("somethingNew", json!({"a": [1, null]}))], 300),
        (&[("appAccountToken", json!("5f0c8a52-7d0e-4e1b-9a55-0123456789ab"))], 300),
    ];
    for (number, (changes, credits)) in rows.iter().enumerate() {
        println!("{changes:?}");
        balance += credits;
        let payload = changed(&format!("{}", 1_000 + number), changes);
        granted(&bring(&ann, &shop.stores.apple.signed(&payload)).await, balance);
    }
    let ids = "SELECT transaction_id FROM transactions ORDER BY id";
    assert_eq!(shop.server.database().texts(ids).await.len(), rows.len());
    assert_eq!(shop.stores.calls(), []);
}

async fn what_can_never_be_a_purchase_of_ours_is_refused(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let now_ms = now() * 1_000;
    granted(&bring(&ann, &shop.stores.apple.signed(&changed("1", &[]))).await, 300);
    let before = entries(&shop.server.database()).await;
    let rows: &[&[(&str, Value)]] = &[
        &[("bundleId", json!("com.example.other"))],
        &[("type", json!("Non-Consumable"))],
        &[("type", json!("Auto-Renewable Subscription"))],
        &[("type", json!("Non-Renewing Subscription"))],
        &[("inAppOwnershipType", json!("FAMILY_SHARED"))],
        &[("revocationDate", json!(now_ms)), ("revocationReason", json!(0))],
        &[
            ("revocationDate", json!(now_ms)),
            ("revocationReason", json!(1)),
            ("revocationType", json!("REFUND_FULL")),
            ("revocationPercentage", json!(100_000)),
        ],
    ];
    for (number, changes) in rows.iter().enumerate() {
        println!("{changes:?}");
        let signed = shop.stores.apple.signed(&changed(&format!("{}", 1_000 + number), changes));
        for _ in 0..2 {
            invalid(&bring(&ann, &signed).await);
        }
    }
    assert_eq!(entries(&shop.server.database()).await, before);
    assert_eq!(shop.stores.calls(), []);
}

async fn what_can_not_be_judged_may_pass(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let now_ms = now() * 1_000;
    let rows: &[&[(&str, Value)]] = &[
        // A root of our own says nothing about money.
        &[("environment", json!("Production"))],
        &[("environment", json!("SomethingNew"))],
        &[("environment", Value::Null)],
        &[("type", json!("Something New"))],
        &[("signedDate", json!(now_ms + 2 * DAY_MS))],
        &[("transactionId", Value::Null)],
        &[("productId", Value::Null)],
        &[("quantity", json!(-1))],
        &[("quantity", json!("3"))],
    ];
    for (number, changes) in rows.iter().enumerate() {
        println!("{changes:?}");
        let signed = shop.stores.apple.signed(&changed(&format!("{}", 1_000 + number), changes));
        let reply = bring(&ann, &signed).await;
        println!("{reply:?}");
        later(&reply, "store_unavailable", SOON);
    }
    let new = shop.stores.apple.signed(&changed("2000", &[("productId", json!("new"))]));
    later(&bring(&ann, &new).await, "purchase_in_review", LATER);
    assert_eq!(entries(&shop.server.database()).await, [""; 0]);
}

async fn a_chain_counts_as_of_the_day_it_signed(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let authority = &shop.stores.apple.authority;
    // In January 2025, when both were good.
    let old = [("signedDate", json!(1_735_689_600_000_u64))];
    for (number, flaw) in [(1, Flaw::LeafExpired), (2, Flaw::IntermediateExpired)] {
        let signed = authority.flawed(flaw).sign(&changed(&format!("{number}"), &old));
        granted(&bring(&ann, &signed).await, number * 300);
    }
    let signed = authority.ending_elsewhere().sign(&changed("3", &[]));
    granted(&bring(&ann, &signed).await, 900);
    assert_eq!(shop.stores.calls(), []);
}
