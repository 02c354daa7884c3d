//! Holds: tokens put aside for a chat, settled by what it used, released, or over by themselves.

use std::{collections::BTreeMap, env};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{
    Client, Engine, Launch, Reply, Server, begun, client::consumption, clock::Clock, eventually,
    on_both_engines, token::SECRET,
};

on_both_engines![
    what_is_held_is_kept_from_others_until_it_is_settled,
    a_hold_may_be_smaller_than_asked_for,
    refusals_come_in_their_order,
    what_is_missing_is_told_and_never_taken,
    the_same_figures_are_answered_the_same,
    a_released_hold_stays_released,
    a_hold_ends_by_itself,
    an_expired_hold_is_settled_from_what_is_free,
    a_repeated_request_makes_one_hold,
    nobody_sees_the_holds_of_others,
    malformed_bodies_are_told,
    holds_outlive_restarts_and_kills,
    closed_holds_are_forgotten_after_a_week,
    a_reset_forgets_holds,
    a_consumption_tells_its_transaction,
    exactly_as_many_succeed_as_there_are_tokens_for,
    one_end_of_a_hold_wins,
];

const MODEL: &str = "gemini-2.0-flash";
/// What 75 credits buy.
const MILLION: i64 = 1_000_000;
/// A hold that nobody has.
const NO_HOLD: &str = "019ac5c5-5c1f-7d7a-9a5e-3f2b8f0c1d2e";
/// How often each race is run, if not told.
const ROUNDS: &str = "HOLD_ROUNDS";
const DAY: i64 = 24 * 60 * 60;

fn rounds() -> usize {
    env::var(ROUNDS).map_or(2, |rounds| rounds.parse().expect("a number of rounds"))
}

async fn hold(client: &Client, tokens: i64) -> Reply {
    client.post("/holds", &json!({"model_id": MODEL, "tokens": tokens})).await
}

/// Makes a hold; returns its id.
async fn held(client: &Client, tokens: i64) -> String {
    let id = hold(client, tokens).await.ok()["hold_id"].clone();
    id.as_str().expect("an id").to_owned()
}

async fn settle(client: &Client, id: &str, input: i64, output: i64) -> Reply {
    let body = json!({"input_tokens": input, "output_tokens": output});
    client.post(&format!("/holds/{id}/settle"), &body).await
}

async fn release(client: &Client, id: &str) -> Reply {
    Reply::to(client.request(Method::POST, &format!("/api/billing/holds/{id}/release"))).await
}

async fn look(client: &Client, id: &str) -> Value {
    client.get(&format!("/holds/{id}")).await.ok()
}

async fn tokens(client: &Client) -> Value {
    client.balance().await["allocated_tokens"][MODEL].clone()
}

fn settled(id: &str, [consumed, released, shortfall, remaining]: [i64; 4], reply: &Reply) {
    let body = reply.ok();
    let transaction = body["transaction_id"].as_i64().expect("an id");
    let expected = json!({
        "hold_id": id, "status": "settled", "consumed_tokens": consumed, "released_tokens": released,
        "shortfall_tokens": shortfall, "remaining_tokens": remaining, "transaction_id": transaction,
    });
    assert_eq!(body, expected);
}

fn released(id: &str, tokens: i64, remaining: i64) -> Value {
    json!({
        "hold_id": id, "status": "released", "released_tokens": tokens,
        "remaining_tokens": remaining,
    })
}

fn is_closed(reply: &Reply, status: &str) {
    assert_eq!(reply.status, 409, "{reply:?}");
    let body = reply.json();
    assert_eq!((&body["code"], &body["status"]), (&json!("hold_closed"), &json!(status)));
}

fn is_missing(reply: &Reply) {
    assert_eq!((reply.status, &reply.json()["code"]), (404, &json!("hold_not_found")), "{reply:?}");
}

fn lacks(reply: &Reply, required: i64, available: i64) {
    assert_eq!(reply.status, 400, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["code"], "insufficient_tokens", "{body}");
    assert_eq!((&body["required"], &body["available"]), (&json!(required), &json!(available)));
}

/// A server whose user has a million tokens.
async fn with_a_million(engine: Engine, settings: &[(&str, &str)]) -> (Server, Client) {
    let server = Server::start_with(engine, settings);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    (server, client)
}

async fn what_is_held_is_kept_from_others_until_it_is_settled(engine: Engine) {
    let (mut server, client) = with_a_million(engine, &[]).await;
    assert_eq!(client.get("/holds").await.ok(), json!([]));
    let reply = hold(&client, 600_000).await.ok();
    let id = reply["hold_id"].as_str().expect("an id").to_owned();
    let expected = json!({
        "hold_id": id, "status": "held", "model_id": MODEL, "held_tokens": 600_000,
        "available_tokens": 400_000, "expires_at": reply["expires_at"],
    });
    assert_eq!(reply, expected);
    assert_eq!(look(&client, &id).await, expected);
    let second = held(&client, 100_000).await;
    let list = client.get("/holds").await.ok();
    let ids: Vec<&Value> =
        list.as_array().expect("a list").iter().map(|it| &it["hold_id"]).collect();
    assert_eq!(ids, [&id, &second], "the oldest first");
    assert_eq!(list[0]["available_tokens"], 300_000, "today's");

    // It is no entry, and the balance does not dip.
    assert_eq!(tokens(&client).await, MILLION);
    assert_eq!(client.get("/transactions").await.ok().as_array().map(Vec::len), Some(2));
    lacks(&client.consume(MODEL, 300_001, 0).await, 300_001, 300_000);
    lacks(&hold(&client, 300_001).await, 300_001, 300_000);
    assert_eq!(client.consume(MODEL, 300_000, 0).await.ok()["remaining_tokens"], 700_000);

    settled(&id, [550_000, 50_000, 0, 150_000], &settle(&client, &id, 500_000, 50_000).await);
    let closed = look(&client, &id).await;
    assert_eq!(
        (&closed["status"], &closed["available_tokens"]),
        (&json!("settled"), &json!(50_000))
    );
    // Nothing used is a settlement, too.
    settled(&second, [0, 100_000, 0, 150_000], &settle(&client, &second, 0, 0).await);
    assert_eq!(client.get("/holds").await.ok(), json!([]));
    let history = client.get("/transactions").await.ok();
    assert_eq!((&history[0]["amount"], &history[1]["amount"]), (&json!(0), &json!(550_000)));
    server.stop().await;
    crate::verify::check_clean(server.home()).await;
}

async fn a_hold_may_be_smaller_than_asked_for(engine: Engine) {
    let (_server, client) = with_a_million(engine, &[]).await;
    held(&client, 900_000).await;
    let body = |min| json!({"model_id": MODEL, "tokens": 500_000, "min_tokens": min});
    lacks(&client.post("/holds", &body(100_001)).await, 100_001, 100_000);
    let reply = client.post("/holds", &body(100_000)).await.ok();
    let numbers = (&reply["held_tokens"], &reply["available_tokens"]);
    assert_eq!(numbers, (&json!(100_000), &json!(0)));
    lacks(&client.post("/holds", &body(1)).await, 1, 0);
}

async fn refusals_come_in_their_order(engine: Engine) {
    let (_server, client) = with_a_million(engine, &[("BILLING_MAX_HOLDS", "2")]).await;
    held(&client, 1).await;
    let last = held(&client, 1).await;
    let other = client.post("/holds", &json!({"model_id": "nobody-knows", "tokens": 1})).await;
    assert_eq!((other.status, &other.json()["code"]), (400, &json!("no_token_balance")));
    let reply = hold(&client, 1_000_000_000).await;
    reply.is(
        400,
        &json!({"detail": "同時に確保できるのは2件までです", "code": "too_many_holds", "limit": 2}),
    );
    release(&client, &last).await.ok();
    lacks(&hold(&client, 1_000_000_000).await, 1_000_000_000, 999_999);
    for id in [NO_HOLD, "x", "%00", "019AC5C5-5c1f-7d7a-9a5e-3f2b8f0c1d2e"] {
        is_missing(&settle(&client, id, 0, 0).await);
        is_missing(&release(&client, id).await);
        is_missing(&client.get(&format!("/holds/{id}")).await);
    }
}

async fn what_is_missing_is_told_and_never_taken(engine: Engine) {
    let (mut server, client) = with_a_million(engine, &[]).await;
    let (first, second) = (held(&client, 300_000).await, held(&client, 600_000).await);
    // What the other one holds is out of reach.
    settled(&first, [400_000, 0, 100_000, 600_000], &settle(&client, &first, 0, 500_000).await);
    settled(&second, [600_000, 0, 1, 0], &settle(&client, &second, 600_001, 0).await);
    server.wait_for_log("more was used than there was");
    client.buy_tokens(MODEL, 150).await;
    assert_eq!(tokens(&client).await, 2 * MILLION);
    server.stop().await;
    crate::verify::check_clean(server.home()).await;
}

async fn the_same_figures_are_answered_the_same(engine: Engine) {
    let (_server, client) = with_a_million(engine, &[]).await;
    let id = held(&client, 10_000).await;
    let first = settle(&client, &id, 1_000, 500).await;
    settled(&id, [1_500, 8_500, 0, 998_500], &first);
    client.consume(MODEL, 1, 0).await.ok();
    let again = settle(&client, &id, 1_000, 500).await;
    assert_eq!((again.ok(), again.is_replayed()), (first.ok(), true));
    // The sum alone is not the same.
    is_closed(&settle(&client, &id, 500, 1_000).await, "settled");
    is_closed(&release(&client, &id).await, "settled");
    assert_eq!(tokens(&client).await, 998_499);
}

async fn a_released_hold_stays_released(engine: Engine) {
    let (_server, client) = with_a_million(engine, &[]).await;
    let id = held(&client, 10_000).await;
    for _ in 0..2 {
        release(&client, &id).await.is(200, &released(&id, 10_000, MILLION));
    }
    // The balance of its moment, as the settlement's.
    client.consume(MODEL, 1, 0).await.ok();
    let again = release(&client, &id).await;
    assert!(again.is_replayed(), "{again:?}");
    again.is(200, &released(&id, 10_000, MILLION));
    is_closed(&settle(&client, &id, 0, 0).await, "released");
    let seen = look(&client, &id).await;
    let numbers = (&seen["status"], &seen["available_tokens"]);
    assert_eq!(numbers, (&json!("released"), &json!(MILLION - 1)), "today's");
    client.consume(MODEL, MILLION - 1, 0).await.ok();
}

async fn a_hold_ends_by_itself(engine: Engine) {
    let clock = Clock::new();
    let server = Server::start_as(engine, clock.given_to(Launch::new()));
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let id = held(&client, 600_000).await;
    clock.shift(890);
    lacks(&client.consume(MODEL, 400_001, 0).await, 400_001, 400_000);
    clock.shift(901);
    let expired = look(&client, &id).await;
    assert_eq!(
        (&expired["status"], &expired["available_tokens"]),
        (&json!("expired"), &json!(MILLION))
    );
    assert_eq!(client.get("/holds").await.ok(), json!([]));
    client.consume(MODEL, 400_001, 0).await.ok();
    for _ in 0..2 {
        release(&client, &id).await.is(200, &released(&id, 0, 599_999));
    }
    is_closed(&settle(&client, &id, 0, 0).await, "released");
}

async fn an_expired_hold_is_settled_from_what_is_free(engine: Engine) {
    let clock = Clock::new();
    let mut server = Server::start_as(engine, clock.given_to(Launch::new()));
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let body = json!({"model_id": MODEL, "tokens": 600_000, "ttl_seconds": 10});
    let id = client.post("/holds", &body).await.ok()["hold_id"].clone();
    let id = id.as_str().expect("an id");
    clock.shift(11);
    held(&client, 900_000).await;
    settled(id, [100_000, 0, 50_000, 900_000], &settle(&client, id, 150_000, 0).await);
    settled(id, [100_000, 0, 50_000, 900_000], &settle(&client, id, 150_000, 0).await);
    server.stop().await;
    crate::verify::check_clean(server.home()).await;
    // A settlement of which less was taken than it says.
    let sql = "UPDATE holds SET consumed_tokens = 99999 WHERE status = 'settled'";
    let finished = crate::verify::verify(&crate::verify::spoiled(&server, sql).await).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let told = format!("its consumption of hold {id}");
    assert!(finished.stdout.iter().any(|line| line.contains(&told)), "{finished:?}");
}

async fn a_repeated_request_makes_one_hold(engine: Engine) {
    let (mut server, client) = with_a_million(engine, &[]).await;
    let body = json!({"model_id": MODEL, "tokens": 1_000});
    let first = client.post_keyed("hold", "/holds", &body).await.ok();
    server.kill();
    server.start_again();
    let client = server.client();
    let again = client.post_keyed("hold", "/holds", &body).await;
    assert_eq!((again.ok(), again.is_replayed()), (first.clone(), true));
    assert_eq!(client.get("/holds").await.ok(), json!([first]));
    let path = format!("/holds/{}/settle", first["hold_id"].as_str().expect("an id"));
    let body = json!({"input_tokens": 1, "output_tokens": 2});
    let settled = client.post_keyed("settle", &path, &body).await.ok();
    let again = client.post_keyed("settle", &path, &body).await;
    assert_eq!((again.ok(), again.is_replayed()), (settled, true));
    assert_eq!(tokens(&client).await, MILLION - 3);
}

async fn nobody_sees_the_holds_of_others(engine: Engine) {
    let logins = [("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET)];
    let server = Server::start_with(engine, &logins);
    let (ann, bob) = (server.client().of("ann"), server.client().of("bob"));
    ann.buy_tokens(MODEL, 75).await;
    bob.add(75, "GPA.bob").await.ok();
    bob.allocate(&[(MODEL, 75)]).await.ok();
    let id = held(&ann, 600_000).await;
    is_missing(&settle(&bob, &id, 1, 1).await);
    is_missing(&release(&bob, &id).await);
    is_missing(&bob.get(&format!("/holds/{id}")).await);
    assert_eq!(bob.get("/holds").await.ok(), json!([]));
    bob.consume(MODEL, MILLION, 0).await.ok();
    // Both at once, too.
    let (mine, theirs) = tokio::join!(settle(&ann, &id, 5, 5), settle(&bob, &id, 5, 5));
    settled(&id, [10, 599_990, 0, MILLION - 10], &mine);
    is_missing(&theirs);
    let nobody = server.client().get("/holds").await;
    assert_eq!(nobody.status, 401, "{nobody:?}");
}

async fn malformed_bodies_are_told(engine: Engine) {
    let (_server, client) = with_a_million(engine, &[]).await;
    let new = |field: &str, value: Value| {
        let mut body = json!({"model_id": MODEL, "tokens": 1_000});
        body[field] = value;
        body
    };
    for (field, value, kind) in [
        ("model_id", json!(""), "string_too_short"),
        ("tokens", json!(0), "greater_than_equal"),
        ("tokens", json!(1_000_000_001), "less_than_equal"),
        ("tokens", json!(1.5), "int_from_float"),
        ("tokens", json!(null), "int_type"),
        ("min_tokens", json!(0), "greater_than_equal"),
        ("min_tokens", json!(1_001), "less_than_equal"),
        ("min_tokens", json!("7"), "int_type"),
        ("ttl_seconds", json!(9), "greater_than_equal"),
        ("ttl_seconds", json!(86_401), "less_than_equal"),
    ] {
        let reply = client.post("/holds", &new(field, value.clone())).await;
        let problem = &reply.json()["detail"][0];
        assert_eq!(reply.status, 422, "{field} {value}: {reply:?}");
        assert_eq!(problem["type"], kind, "{field} {value}");
        assert_eq!(problem["loc"], json!(["body", field]), "{value}");
    }
    client.post("/holds", &new("min_tokens", json!(1_000))).await.ok();
    client.post("/holds", &new("ttl_seconds", json!(null))).await.ok();
    let id = held(&client, 1_000).await;
    for body in [json!({"input_tokens": 1}), json!({"input_tokens": -1, "output_tokens": 0})] {
        let reply = client.post(&format!("/holds/{id}/settle"), &body).await;
        assert_eq!(reply.status, 422, "{body}: {reply:?}");
    }
    assert_eq!(look(&client, &id).await["status"], "held");
}

async fn holds_outlive_restarts_and_kills(engine: Engine) {
    let (mut server, client) = with_a_million(engine, &[]).await;
    let (first, second) = (held(&client, 600_000).await, held(&client, 100_000).await);
    server.kill();
    server.start_again();
    let client = server.client();
    lacks(&client.consume(MODEL, 300_001, 0).await, 300_001, 300_000);
    let told = settle(&client, &first, 7, 0).await;
    settled(&first, [7, 599_993, 0, MILLION - 7], &told);
    server.kill();
    server.start_again();
    let client = server.client();
    let again = settle(&client, &first, 7, 0).await;
    assert_eq!(again.ok(), told.ok());
    release(&client, &second).await.is(200, &released(&second, 100_000, MILLION - 7));
    server.kill();
    server.start_again();
    let client = server.client();
    is_closed(&settle(&client, &second, 7, 0).await, "released");
    client.consume(MODEL, MILLION - 7, 0).await.ok();
}

async fn closed_holds_are_forgotten_after_a_week(engine: Engine) {
    let clock = Clock::new();
    let server = Server::start_as(engine, clock.given_to(Launch::new()));
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let ids = [held(&client, 1).await, held(&client, 2).await, held(&client, 3).await];
    settle(&client, &ids[0], 1, 0).await.ok();
    release(&client, &ids[1]).await.ok();
    clock.shift(7 * DAY - 10);
    client.consume(MODEL, 1, 0).await.ok();
    for id in &ids {
        look(&client, id).await;
    }
    clock.shift(7 * DAY + 901);
    let young = held(&client, 1).await;
    for id in &ids {
        eventually("an old hold is forgotten", async || {
            client.consume(MODEL, 0, 0).await.ok();
            let reply = client.get(&format!("/holds/{id}")).await;
            (reply.status == 404).then_some(())
        })
        .await;
        is_missing(&release(&client, id).await);
    }
    assert_eq!(look(&client, &young).await["status"], "held");
}

async fn a_reset_forgets_holds(engine: Engine) {
    let (_server, client) = with_a_million(engine, &[("BILLING_ALLOW_RESET", "true")]).await;
    let id = held(&client, 600_000).await;
    client.post("/reset", &json!({})).await.ok();
    is_missing(&settle(&client, &id, 1, 0).await);
    assert_eq!(client.get("/holds").await.ok(), json!([]));
    client.buy_tokens(MODEL, 75).await;
    client.consume(MODEL, MILLION, 0).await.ok();
}

async fn a_consumption_tells_its_transaction(engine: Engine) {
    let (mut server, client) = with_a_million(engine, &[]).await;
    let body = consumption(MODEL, 5, 2);
    let first = client.post_keyed("k", "/tokens/consume", &body).await;
    let newest = client.get("/transactions").await.ok()[0]["id"].to_string();
    assert_eq!(first.header("billing-transaction"), Some(newest.as_str()), "{first:?}");
    let again = client.post_keyed("k", "/tokens/consume", &body).await;
    assert!(again.is_replayed());
    assert_eq!(again.header("billing-transaction"), Some(newest.as_str()), "{again:?}");
    assert_eq!(first.text, again.text);
    let other = client.consume(MODEL, 0, 0).await;
    assert_ne!(other.header("billing-transaction"), Some(newest.as_str()));
    // What an older version kept of a request.
    server.stop().await;
    server
        .database()
        .execute("UPDATE idempotency_keys SET outcome = '999993' WHERE key = 'k'")
        .await;
    server.start_again();
    let again = server.client().post_keyed("k", "/tokens/consume", &body).await;
    again.is(200, &json!({"success": true, "remaining_tokens": 999_993}));
    assert_eq!(again.header("billing-transaction"), None, "{again:?}");
}

/// Makes calls at once and counts the answers by status and code.
async fn count<F>(calls: impl Iterator<Item = F>) -> BTreeMap<(u16, String), usize>
where
    F: Future<Output = Reply> + Send + 'static,
{
    let tasks: JoinSet<Reply> = calls.collect();
    let mut counts = BTreeMap::new();
    for reply in tasks.join_all().await {
        let code = reply.json()["code"].as_str().unwrap_or_default().to_owned();
        *counts.entry((reply.status, code)).or_insert(0) += 1;
    }
    counts
}

async fn exactly_as_many_succeed_as_there_are_tokens_for(engine: Engine) {
    for _ in 0..rounds() {
        let (mut server, client) = with_a_million(engine, &[("BILLING_MAX_HOLDS", "10000")]).await;
        let counts = count((0..500).map(|number| {
            let client = client.clone();
            async move {
                if number % 2 == 0 {
                    begun(|| hold(&client, 10_000)).await
                } else {
                    begun(|| client.consume(MODEL, 10_000, 0)).await
                }
            }
        }))
        .await;
        let expected =
            [((200, String::new()), 100), ((400, "insufficient_tokens".to_owned()), 400)];
        assert_eq!(counts, expected.into());
        let open = client.get("/holds").await.ok();
        let open = open.as_array().expect("a list");
        let left = tokens(&client).await.as_i64().expect("a number");
        assert_eq!(i64::try_from(open.len() * 10_000).expect("few"), left);
        lacks(&client.consume(MODEL, 1, 0).await, 1, 0);
        // All are settled at once, each with more than it holds.
        let ids: Vec<String> =
            open.iter().map(|hold| hold["hold_id"].as_str().expect("an id").to_owned()).collect();
        let settlements = ids.iter().map(|id| {
            let (client, id) = (client.clone(), id.clone());
            async move { begun(|| settle(&client, &id, 10_000, 1)).await }
        });
        assert_eq!(count(settlements).await, [((200, String::new()), ids.len())].into());
        assert_eq!(tokens(&client).await, 0);
        server.stop().await;
        crate::verify::check_clean(server.home()).await;
    }
}

async fn one_end_of_a_hold_wins(engine: Engine) {
    let clock = Clock::new();
    let mut server = Server::start_as(engine, clock.given_to(Launch::new()));
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    for round in 0..rounds() * 10 {
        let before = tokens(&client).await.as_i64().expect("a number");
        let id = held(&client, 1_000).await;
        let mut ends = JoinSet::new();
        for number in 0..6 {
            let (client, id) = (client.clone(), id.clone());
            ends.spawn(async move {
                if number % 2 == 0 {
                    release(&client, &id).await
                } else {
                    settle(&client, &id, 700, 0).await
                }
            });
        }
        // Every other time its end comes by itself, somewhere in between.
        if round % 2 == 1 {
            clock.shift(i64::try_from(round).expect("few") * 1_000);
        }
        let replies = ends.join_all().await;
        let status = look(&client, &id).await["status"].clone();
        let won: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 200).collect();
        assert_eq!(won.len(), 3, "all of one kind: {replies:?}");
        for reply in &won {
            assert_eq!(reply.json(), won[0].json(), "the same answer");
            assert_eq!(reply.json()["status"], status);
        }
        for reply in replies.iter().filter(|reply| reply.status != 200) {
            is_closed(reply, status.as_str().expect("a text"));
        }
        let taken = if status == "settled" { 700 } else { 0 };
        assert_eq!(tokens(&client).await, before - taken);
    }
    server.stop().await;
    crate::verify::check_clean(server.home()).await;
}
