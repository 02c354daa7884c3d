//! One purchase sent by many at once: one grant, to one user.

use futures_util::future::join_all;
use serde_json::json;

use super::{SMALL, SOON, Shop, anothers, bring, granted, later, receipt, repeated};
use crate::harness::{
    Client, Engine, Reply, Sessions, eventually, on_both_engines, on_postgres,
    sessions::BLOCKED,
    stores::{Call, GooglePurchase, Market, consumable, google_token},
};

on_both_engines![
    one_of_two_users_gets_what_both_send_again_and_again,
    one_of_two_tokens_of_an_order_is_granted,
    one_transaction_of_apples_is_granted_once,
    one_transaction_of_apples_is_granted_once_however_it_is_named,
];
on_postgres![
    one_of_two_users_gets_it_on_two_instances,
    what_another_instance_granted_meanwhile_is_told_with_its_balance,
];

/// How often each race is run.
const ROUNDS: usize = 100;
/// The same where each is signed, which takes its time without optimization.
const APPLE_ROUNDS: usize = 10;
/// Requests of a race, half of them each user's.
const SENDS: usize = 50;

/// Has two users send the same at once, in turns over the instances. `tokens` are ways to name one purchase.
async fn race(instances: &[Client], tokens: &[String], round: usize) {
    let users = ["ann", "bob"].map(|user| format!("{user}-{round}"));
    let calls = (0..SENDS).map(async |number| {
        let client = instances[number / 2 % instances.len()].of(&users[number % 2]);
        (number % 2, bring(&client, &tokens[number / 4 % tokens.len()]).await)
    });
    let replies = join_all(calls).await;
    let first = |(_, reply): &&(usize, Reply)| reply.status == 200 && !reply.is_replayed();
    let granted: Vec<_> = replies.iter().filter(first).collect();
    let [(winner, _)] = granted[..] else { panic!("{} grants: {replies:#?}", granted.len()) };
    for (user, reply) in &replies {
        check(reply, user == winner, tokens.len() > 1);
    }
    for token in tokens {
        for user in [0, 1] {
            let client = instances[0].of(&users[user]);
            let reply = eventually("it is settled", async || {
                Some(bring(&client, token).await).filter(|reply| reply.status != 503)
            })
            .await;
            check(&reply, user == *winner, tokens.len() > 1);
        }
    }
    let client = instances[0].of(&users[1 - winner]);
    assert_eq!(client.balance().await["credits"], 0);
}

/// Checks what the winner or the other one is told. Where a purchase has several names, the other user may have been
/// the first with one of them, and whoever comes while that is found out may be told to ask again.
fn check(reply: &Reply, has_won: bool, has_names: bool) {
    if has_names && reply.status == 503 {
        later(reply, "store_unavailable", SOON);
    } else if has_won && (reply.status == 200 || !has_names) {
        reply.is(200, &json!({"success": true, "new_balance": 300}));
    } else {
        anothers(reply);
    }
}

async fn one_of_two_users_gets_what_both_send_again_and_again(engine: Engine) {
    let shop = Shop::open(engine);
    for round in 0..ROUNDS {
        let token = google_token(&format!("{round}"));
        shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
        race(&[shop.server.client()], std::slice::from_ref(&token), round).await;
        // The others waited for the one who asked.
        assert_eq!(shop.stores.on(Call::Purchase).of(&token).count(), 1);
    }
    shop.all_acknowledged().await;
    assert_eq!(shop.stores.on(Call::Acknowledge).count(), ROUNDS);
}

async fn one_of_two_tokens_of_an_order_is_granted(engine: Engine) {
    let shop = Shop::open(engine);
    for round in 0..ROUNDS {
        let tokens = ["a", "b"].map(|name| google_token(&format!("{name}{round}")));
        let order = format!("GPA.3301-9999-9999-{round:05}");
        for token in &tokens {
            let sold = GooglePurchase::paid(token, SMALL).ordered_as(Some(&order));
            shop.stores.google.sell(sold);
        }
        race(&[shop.server.client()], &tokens, round).await;
    }
}

async fn one_transaction_of_apples_is_granted_once(engine: Engine) {
    let shop = Shop::open(engine);
    for round in 0..APPLE_ROUNDS {
        let signed = || shop.stores.apple.signed(&consumable(&format!("{}", 1_001 + round), SMALL));
        race(&[shop.server.client()], &[signed()], round).await;
    }
    assert_eq!(shop.stores.calls(), []);
}

async fn one_transaction_of_apples_is_granted_once_however_it_is_named(engine: Engine) {
    let shop = Shop::open(engine);
    for round in 0..APPLE_ROUNDS {
        let id = format!("{}", 1_001 + round);
        let signed = shop.stores.apple.signed(&consumable(&id, SMALL));
        shop.stores.apple.sell(Market::Sandbox, &id, &signed);
        race(&[shop.server.client()], &[signed, id], round).await;
    }
}

async fn one_of_two_users_gets_it_on_two_instances() {
    let shop = Shop::open(Engine::Postgres);
    let other = shop.server.launch().start(shop.server.directory());
    let instances = [shop.server.client(), Client::new(other.address)];
    for round in 0..ROUNDS {
        let token = google_token(&format!("{round}"));
        shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
        race(&instances, &[token], round).await;
    }
    shop.all_acknowledged().await;
    // Each by one of them.
    assert_eq!(shop.stores.on(Call::Acknowledge).count(), ROUNDS);
}

/// What a grant wrote, in an order in which each row finds what it belongs to.
const GRANTED: [&str; 6] =
    ["users", "credits", "transactions", "purchase_names", "purchases", "purchase_keys"];

async fn what_another_instance_granted_meanwhile_is_told_with_its_balance() {
    let shop = Shop::open(Engine::Postgres);
    let ann = shop.user("ann");
    let token = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
    granted(&bring(&ann, &token).await, 300);
    shop.all_acknowledged().await;
    // All of it is taken away, to be given back as another instance does: between two looks of this one.
    let mut other = shop.server.database().connect().await;
    for table in GRANTED {
        other.execute(&format!("CREATE TEMP TABLE kept_{table} AS SELECT * FROM {table}")).await;
    }
    for table in GRANTED.iter().rev() {
        other.execute(&format!("DELETE FROM {table}")).await;
    }
    other.execute("BEGIN; LOCK TABLE purchases IN ACCESS EXCLUSIVE MODE").await;
    let call = {
        let (ann, body) = (ann.clone(), receipt(&token));
        tokio::spawn(async move { ann.post("/credits/add", &body).await })
    };
    let mut sessions = Sessions::at(&shop.server.database()).await;
    sessions.reach(BLOCKED).await;
    for table in GRANTED {
        let kept = format!("OVERRIDING SYSTEM VALUE SELECT * FROM kept_{table}");
        other.execute(&format!("INSERT INTO {table} {kept}")).await;
    }
    other.execute("COMMIT").await;
    other.close().await;
    sessions.close().await;
    let reply = call.await.expect("the call ends");
    // It may also be told to ask again.
    if reply.status != 503 {
        repeated(&reply, 300);
    }
    repeated(&bring(&ann, &token).await, 300);
}
