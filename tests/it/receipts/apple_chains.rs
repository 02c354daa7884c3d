//! Proofs of Apple's in which one thing is wrong. A signature that its own leaf did not make is final; a chain
//! that leads nowhere is not, for the root may be new: Apple is asked.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{LARGE, SMALL, SOON, Shop, bring, entries, granted, invalid, later};
use crate::harness::{
    Engine, on_both_engines,
    stores::{
        Call, Flaw, Market,
        chain::{message, with_signature},
        consumable,
    },
};

on_both_engines![
    a_chain_that_can_not_be_built_may_pass,
    of_a_chain_that_can_not_be_built_apples_answer_decides,
    without_a_key_to_ask_with_a_chain_may_still_pass,
    a_signature_of_another_is_final,
];

/// A purchase for each flaw, by a user of its own.
fn rows() -> impl Iterator<Item = (Flaw, String, String)> {
    let flaws = Flaw::ALL.into_iter().enumerate();
    flaws.map(|(row, flaw)| (flaw, format!("user-{row}"), format!("{}", 1_000 + row)))
}

async fn a_chain_that_can_not_be_built_may_pass(engine: Engine) {
    let shop = Shop::open(engine);
    let calls = rows().map(async |(flaw, user, id)| {
        let signed = shop.stores.apple.authority.flawed(flaw).sign(&consumable(&id, SMALL));
        let reply = bring(&shop.user(&user), &signed).await;
        println!("{flaw:?}: {reply:?}");
        later(&reply, "store_unavailable", SOON);
    });
    join_all(calls).await;
    assert_eq!(entries(&shop.server.database()).await, [""; 0]);
}

async fn of_a_chain_that_can_not_be_built_apples_answer_decides(engine: Engine) {
    let shop = Shop::open(engine);
    let apple = &shop.stores.apple;
    let calls = rows().map(async |(flaw, user, id)| {
        let mut payload = consumable(&id, SMALL);
        let signed = apple.authority.flawed(flaw).sign(&payload);
        payload["quantity"] = json!(2);
        apple.sell(Market::Sandbox, &id, &apple.signed(&payload));
        let reply = bring(&shop.user(&user), &signed).await;
        println!("{flaw:?}: {reply:?}");
        granted(&reply, 600);
    });
    join_all(calls).await;
    assert!(shop.stores.on(Call::SandboxTransaction).count() >= Flaw::ALL.len());
}

async fn without_a_key_to_ask_with_a_chain_may_still_pass(engine: Engine) {
    let unset = ["APPLE_ISSUER_ID", "APPLE_KEY_ID", "APPLE_PRIVATE_KEY"];
    let shop = Shop::open_without(engine, &unset, &[]);
    let ann = shop.user("ann");
    let apple = &shop.stores.apple;
    let signed = apple.authority.flawed(Flaw::OtherRoot).sign(&consumable("1001", SMALL));
    later(&bring(&ann, &signed).await, "store_unavailable", SOON);
    later(&bring(&ann, "2000000999000001").await, "store_not_configured", SOON);
    granted(&bring(&ann, &apple.signed(&consumable("1001", SMALL))).await, 300);
    assert_eq!(shop.stores.calls(), []);
}

async fn a_signature_of_another_is_final(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let apple = &shop.stores.apple;
    let chain = &apple.authority.chain;
    let payload = consumable("1001", SMALL);
    // Apple would confirm it, and is not asked.
    apple.sell(Market::Sandbox, "1001", &apple.signed(&payload));
    let bytes = payload.to_string();
    let signed = chain.sign(&payload);
    let (content, signature) = signed.rsplit_once('.').expect("a signature");
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64");
    let dearer = consumable("1001", LARGE).to_string();
    let dearer = message(&chain.header(), dearer.as_bytes());
    let algorithm = |name: &str| {
        let mut header = chain.header();
        header["alg"] = json!(name);
        chain.sign_as(&header, bytes.as_bytes())
    };
    let another = apple.authority.ending_elsewhere();
    let mut turned = signature.clone();
    turned[0] ^= 1;
    let rows: Vec<(&str, String)> = vec![
        ("another payload", with_signature(&dearer, &signature)),
        ("another leaf's", another.sign_as(&chain.header(), bytes.as_bytes())),
        ("a bit turned", with_signature(content, &turned)),
        ("zeros", with_signature(content, &[0; 64])),
        ("a byte short", with_signature(content, &signature[..63])),
        ("a byte long", with_signature(content, &[&signature[..], &[0]].concat())),
        ("as DER", with_signature(content, &der(&signature))),
        ("none", algorithm("none")),
        ("HS256", algorithm("HS256")),
        ("RS256", algorithm("RS256")),
        ("ES384", algorithm("ES384")),
        ("in small letters", algorithm("es256")),
    ];
    for (what, token) in rows {
        let reply = bring(&ann, &token).await;
        println!("{what}: {reply:?}");
        invalid(&reply);
    }
    assert_eq!(shop.states("ann").await, [""; 0]);
    assert_eq!(shop.stores.calls(), []);
    granted(&bring(&ann, &signed).await, 300);
}

/// A signature as certificates hold it.
fn der(fixed: &[u8]) -> Vec<u8> {
    let integer = |half: &[u8]| {
        // A leading zero keeps it positive.
        let value = [&[0], half].concat();
        [&[2, 33][..], &value].concat()
    };
    let both = [integer(&fixed[..32]), integer(&fixed[32..])].concat();
    [&[0x30, 70][..], &both].concat()
}

/// What is in a header besides `alg` and `x5c` is nothing that Apple writes.
#[tokio::test]
async fn a_header_of_another_shape_is_no_proof() {
    let shop = Shop::open(Engine::Sqlite);
    let ann = shop.user("ann");
    let chain = &shop.stores.apple.authority.chain;
    let payload = consumable("1001", SMALL).to_string();
    for (name, value) in [
        ("x5c", json!([])),
        ("x5c", json!("text")),
        ("x5c", json!([1, 2, 3])),
        ("x5c", json!(["", "", ""])),
        ("x5c", json!(["AAAA", "AAAA", "AAAA"])),
        ("crit", json!(["exp"])),
        ("alg", Value::Null),
    ] {
        let mut header = chain.header();
        header[name] = value;
        let reply = bring(&ann, &chain.sign_as(&header, payload.as_bytes())).await;
        assert!([400, 503].contains(&reply.status), "{header}: {reply:?}");
    }
    assert_eq!(ann.balance().await["credits"], 0);
}
