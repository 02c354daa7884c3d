//! A bare transaction id of Apple's: every answer of its servers, and what the client gets for it.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    LATER, SMALL, SOON, Shop, anothers, bring, entries, granted, invalid, later, repeated,
};
use crate::harness::{
    Engine, on_both_engines,
    stores::{Answer, Call, Flaw, Market, apple::unauthenticated, consumable},
};

on_both_engines![
    an_id_is_looked_up_in_production_and_then_in_the_sandbox,
    errors_of_apples_may_pass_but_for_the_malformed_id,
    what_apple_tells_of_an_id_is_judged_like_any_proof,
];

fn unknown() -> Answer {
    Answer::apple(404, 4_040_010, "Transaction id not found.")
}

async fn an_id_is_looked_up_in_production_and_then_in_the_sandbox(engine: Engine) {
    let shop = Shop::open(engine);
    let [ann, bob] = ["ann", "bob"].map(|user| shop.user(user));
    let apple = &shop.stores.apple;
    // An app that has not been released may not ask in production.
    for (id, production, balance) in [("1001", unknown(), 300), ("1002", unauthenticated(), 600)] {
        let signed = apple.signed(&consumable(id, SMALL));
        apple.sell(Market::Sandbox, id, &signed);
        shop.stores.on(Call::Transaction).of(id).always(production);
        granted(&bring(&ann, id).await, balance);
        for (call, least) in [(Call::Transaction, 1), (Call::SandboxTransaction, 1)] {
            assert!(shop.stores.on(call).of(id).count() >= least, "{call:?}");
        }
        let calls = shop.stores.calls();
        // However it is named, it is the same.
        for token in [id, &signed] {
            repeated(&bring(&ann, token).await, balance);
            anothers(&bring(&bob, token).await);
        }
        assert_eq!(shop.stores.calls(), calls);
    }
    assert_eq!(shop.states("ann").await, ["apple granted", "apple granted"]);
}

async fn errors_of_apples_may_pass_but_for_the_malformed_id(engine: Engine) {
    let shop = Shop::open(engine);
    let rows: Vec<(Answer, Answer, bool)> = vec![
        (Answer::apple(400, 4_000_006, "Invalid transaction id."), unknown(), true),
        (unknown(), unknown(), false),
        (unauthenticated(), unauthenticated(), false),
        (unauthenticated(), unknown(), false),
        (unknown(), unauthenticated(), false),
        (Answer::apple(400, 4_000_000, "Bad request."), unknown(), false),
        (Answer::apple(400, 4_009_999, "Something new."), unknown(), false),
        (Answer::html(400), unknown(), false),
        (Answer::apple(403, 4_030_000, "Forbidden."), unknown(), false),
        (Answer::apple(404, 4_040_002, "Account not found. Please try again."), unknown(), false),
        (Answer::apple(404, 4_040_003, "App not found."), unknown(), false),
        (Answer::apple(404, 4_040_006, "Please try again."), unknown(), false),
        (Answer::html(404), unknown(), false),
        (
            Answer::apple(429, 4_290_000, "Rate limit exceeded.")
                .with("retry-after", "1795766460000"),
            unknown(),
            false,
        ),
        (Answer::apple(500, 5_000_000, "An unknown error occurred."), unknown(), false),
        (Answer::apple(500, 5_000_001, "Please try again."), unknown(), false),
        (Answer::html(200), unknown(), false),
        (Answer::json(200, &json!({})), unknown(), false),
        (Answer::json(200, &json!({"signedTransactionInfo": "a.b.c"})), unknown(), false),
        (Answer::json(200, &json!({"signedTransactionInfo": null})), unknown(), false),
        (Answer::redirect(302, "/elsewhere"), unknown(), false),
        (Answer::huge(50), unknown(), false),
        (Answer::closed(), unknown(), false),
        (Answer::nothing(), unknown(), false),
        (unknown(), Answer::html(503), false),
        (unknown(), Answer::nothing(), false),
    ];
    let calls = rows.into_iter().enumerate().map(async |(row, (production, sandbox, never))| {
        let id = format!("{}", 1_000 + row);
        println!("{row}: {production:?}, {sandbox:?}");
        shop.stores.on(Call::Transaction).of(&id).always(production);
        shop.stores.on(Call::SandboxTransaction).of(&id).always(sandbox);
        let reply = bring(&shop.user(&format!("user-{row}")), &id).await;
        println!("{row}: {reply:?}");
        if never { invalid(&reply) } else { later(&reply, "store_unavailable", SOON) }
    });
    join_all(calls).await;
    assert_eq!(entries(&shop.server.database()).await, [""; 0]);
}

async fn what_apple_tells_of_an_id_is_judged_like_any_proof(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let apple = &shop.stores.apple;
    let told = async |id: &str, signed: &str| {
        apple.sell(Market::Sandbox, id, signed);
        let reply = bring(&ann, id).await;
        println!("{id}: {reply:?}");
        reply
    };
    let changed = |id: &str, name: &str, value: Value| {
        let mut payload = consumable(id, SMALL);
        payload[name] = value;
        payload
    };
    for (id, name, value) in [
        ("1001", "bundleId", json!("com.example.other")),
        ("1002", "type", json!("Non-Consumable")),
        ("1003", "revocationDate", json!(1_795_900_000_000_u64)),
    ] {
        invalid(&told(id, &apple.signed(&changed(id, name, value))).await);
    }
    let new = apple.signed(&changed("1004", "productId", json!("new")));
    later(&told("1004", &new).await, "purchase_in_review", LATER);
    let other_root = apple.authority.flawed(Flaw::OtherRoot);
    let flawed = other_root.sign(&consumable("1005", SMALL));
    later(&told("1005", &flawed).await, "store_unavailable", SOON);
    // It tells of another purchase than it was asked about.
    let another = apple.signed(&consumable("1", SMALL));
    later(&told("1006", &another).await, "store_unavailable", SOON);
    assert_eq!(entries(&shop.server.database()).await, [""; 0]);
}
