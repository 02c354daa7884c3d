//! Repeated requests under an `Idempotency-Key`: one effect, one answer.

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{
    Engine, Reply, Server,
    client::{consumption, purchase},
    eventually, on_both_engines,
};

on_both_engines![
    every_post_is_carried_out_once_and_answered_twice,
    the_same_request_may_be_written_differently,
    a_key_belongs_to_one_path,
    a_refusal_does_not_burn_the_key,
    what_would_be_refused_by_now_is_still_answered_as_it_was,
    malformed_and_repeated_keys_are_refused,
    of_many_equal_requests_at_once_one_is_carried_out,
    keys_survive_a_kill,
    a_reset_forgets_keys_but_its_own,
    a_purchase_granted_before_is_not_granted_in_front_of_a_reset,
    old_keys_are_forgotten_a_few_at_a_time,
];

const MODEL: &str = "gemini-2.0-flash";

fn allocation(credits: i64) -> Value {
    json!({"allocations": [{"model_id": MODEL, "credits": credits}]})
}

async fn every_post_is_carried_out_once_and_answered_twice(engine: Engine) {
    let server = Server::start_with(engine, &[("BILLING_ALLOW_RESET", "true")]);
    let client = server.client();
    let calls = [
        ("/credits/add", purchase(100, "GPA.1")),
        ("/credits/add", json!({"credits": 50, "purchase_record": {}})),
        ("/credits/allocate", allocation(75)),
        ("/tokens/consume", consumption(MODEL, 5_000, 2_000)),
        ("/reset", json!({})),
    ];
    for (number, (path, body)) in calls.iter().enumerate() {
        let key = format!("key-{number}");
        let first = client.post_keyed(&key, path, body).await;
        first.ok();
        assert!(!first.is_replayed(), "{path}: {first:?}");
        let after = server.database().digest().await;
        for _ in 0..2 {
            let again = client.post_keyed(&key, path, body).await;
            assert_eq!((again.status, &again.text), (first.status, &first.text), "{path}");
            assert!(again.is_replayed(), "{path}: {again:?}");
        }
        assert_eq!(server.database().digest().await, after, "{path}");
    }
}

async fn the_same_request_may_be_written_differently(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let write = async |body: &str| {
        let request = client.request(Method::POST, "/api/billing/credits/add");
        let request =
            request.header("idempotency-key", "k").header("content-type", "application/json");
        Reply::to(request.body(body.to_owned())).await
    };
    write(
        r#"{"credits":1,"purchase_record":{"a":[1,{"c":"\u00e9","b":1.50}],"transactionId":"G"}}"#,
    )
    .await
    .ok();
    for same in [
        r#" { "purchase_record" : {"transactionId":"\u0047", "a":[ 1, {"b":1.50,"c":"é"} ]},"credits":1 } "#,
        r#"{"\u0063redits":1,"purchase_record":{"a":[1,{"c":"é","b":1.50}],"transactionId":"G"}}"#,
    ] {
        let again = write(same).await;
        assert_eq!(again.status, 200, "{again:?}");
        assert!(again.is_replayed(), "{again:?}");
    }
    for other in [
        r#"{"credits":2,"purchase_record":{"a":[1,{"c":"é","b":1.50}],"transactionId":"G"}}"#,
        r#"{"credits":1,"purchase_record":{"a":[1,{"c":"é","b":1.5}],"transactionId":"G"}}"#,
        r#"{"credits":1,"purchase_record":{"a":[{"c":"é","b":1.50},1],"transactionId":"G"}}"#,
        r#"{"credits":1,"purchase_record":{"transactionId":"G"}}"#,
    ] {
        let reply = write(other).await;
        assert_eq!((reply.status, &reply.json()["code"]), (422, &json!("idempotency_key_reused")));
        assert!(reply.json()["detail"].is_string(), "{reply:?}");
    }
    assert_eq!(client.balance().await["credits"], 1);
}

async fn a_key_belongs_to_one_path(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let body = json!({
        "model_id": MODEL, "input_tokens": 1, "output_tokens": 0,
        "allocations": [{"model_id": MODEL, "credits": 1}], "credits": 1, "purchase_record": {},
    });
    client.post_keyed("k", "/tokens/consume", &body).await.ok();
    let before = server.database().digest().await;
    for path in ["/credits/add", "/credits/allocate"] {
        let reply = client.post_keyed("k", path, &body).await;
        assert_eq!((reply.status, &reply.json()["code"]), (422, &json!("idempotency_key_reused")));
    }
    assert_eq!(server.database().digest().await, before);
}

async fn a_refusal_does_not_burn_the_key(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let refused = client.post_keyed("k", "/credits/allocate", &allocation(75)).await;
    assert_eq!(refused.json()["code"], "insufficient_credits");
    client.add(75, "GPA.1").await.ok();
    let done = client.post_keyed("k", "/credits/allocate", &allocation(75)).await;
    assert!(done.status == 200 && !done.is_replayed(), "{done:?}");
}

async fn what_would_be_refused_by_now_is_still_answered_as_it_was(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let all = consumption(MODEL, 1_000_000, 0);
    client.post_keyed("consume", "/tokens/consume", &all).await.ok();
    let again = client.post_keyed("consume", "/tokens/consume", &all).await;
    again.is(200, &json!({"success": true, "remaining_tokens": 0}));

    // The key comes before the store's transaction id.
    client.post_keyed("add", "/credits/add", &purchase(1, "GPA.1")).await.ok();
    let again = client.post_keyed("add", "/credits/add", &purchase(1, "GPA.1")).await;
    again.is(200, &json!({"success": true, "new_balance": 1}));
    let other = client.post_keyed("other", "/credits/add", &purchase(1, "GPA.1")).await;
    assert!(other.is_replayed(), "{other:?}");
}

async fn malformed_and_repeated_keys_are_refused(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let before = server.database().digest().await;
    let long = "k".repeat(256);
    for keys in [&[""][..], &[" "], &["a b"], &["é"], &[&long], &["a", "a"], &["a", "b"]] {
        for path in ["/credits/add", "/credits/allocate", "/tokens/consume"] {
            let mut request = client.request(Method::POST, &format!("/api/billing{path}"));
            for key in keys {
                request = request.header("idempotency-key", *key);
            }
            let reply = Reply::to(request.json(&purchase(1, "GPA.1"))).await;
            assert_eq!(reply.status, 422, "{keys:?}: {reply:?}");
            assert_eq!(reply.json()["code"], "invalid_idempotency_key", "{keys:?}");
            assert!(reply.json()["detail"].is_string(), "{keys:?}");
        }
    }
    assert_eq!(server.database().digest().await, before);
    let longest = "k".repeat(255);
    for key in ["~", "!", &longest] {
        client
            .post_keyed(key, "/credits/add", &json!({"credits": 1, "purchase_record": {}}))
            .await
            .ok();
    }
}

async fn of_many_equal_requests_at_once_one_is_carried_out(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let client = client.clone();
        // Four keys, fifty times each, among requests without a key.
        calls.spawn(async move {
            let body = consumption(MODEL, 1_000, number % 4);
            let key = format!("key-{}", number % 4);
            client.consume(MODEL, 1, 0).await.ok();
            client.post_keyed(&key, "/tokens/consume", &body).await
        });
    }
    let replies = calls.join_all().await;
    let done: Vec<_> = replies.iter().filter(|reply| !reply.is_replayed()).collect();
    assert_eq!(done.len(), 4, "{done:?}");
    let mut answers: Vec<Value> = replies.iter().map(Reply::ok).collect();
    answers.sort_by_key(ToString::to_string);
    answers.dedup();
    assert_eq!(answers.len(), 4, "each key has one answer");
    let tokens = client.balance().await["allocated_tokens"][MODEL].clone();
    assert_eq!(tokens, 1_000_000 - 200 - (4_000 + 1 + 2 + 3));
}

async fn keys_survive_a_kill(engine: Engine) {
    let mut server = Server::start(engine);
    server.client().post_keyed("k", "/credits/add", &purchase(7, "GPA.1")).await.ok();
    server.kill();
    server.start_again();
    let again = server.client().post_keyed("k", "/credits/add", &purchase(7, "GPA.1")).await;
    assert!(again.is_replayed(), "{again:?}");
    again.is(200, &json!({"success": true, "new_balance": 7}));
}

async fn a_reset_forgets_keys_but_its_own(engine: Engine) {
    let server = Server::start_with(engine, &[("BILLING_ALLOW_RESET", "true")]);
    let client = server.client();
    client.post_keyed("k", "/credits/add", &purchase(7, "GPA.1")).await.ok();
    client.post_keyed("reset", "/reset", &json!({})).await.ok();
    let anew = client.post_keyed("k", "/credits/add", &purchase(7, "GPA.1")).await;
    assert!(anew.status == 200 && !anew.is_replayed(), "{anew:?}");
    let again = client.post_keyed("reset", "/reset", &json!({})).await;
    assert!(again.is_replayed(), "{again:?}");
    assert_eq!(client.balance().await["credits"], 7, "the second reset changed nothing");
}

async fn a_purchase_granted_before_is_not_granted_in_front_of_a_reset(engine: Engine) {
    let server = Server::start_with(engine, &[("BILLING_ALLOW_RESET", "true")]);
    let client = server.client();
    for round in 0..20 {
        client.add(100, "GPA.1").await.ok();
        client
            .post_keyed(&format!("{round}"), "/credits/add", &purchase(1, &format!("K{round}")))
            .await
            .ok();
        let lock = server.database().lock().await;
        let opener = tokio::spawn({
            let client = client.clone();
            async move { client.add(1, &format!("opener {round}")).await }
        });
        client.get("/health").await.ok();
        let duplicate = tokio::spawn({
            let client = client.clone();
            async move { client.add(100, "GPA.1").await.is_replayed() }
        });
        client.get("/health").await.ok();
        let reset = tokio::spawn({
            let client = client.clone();
            async move { client.post("/reset", &json!({})).await.status }
        });
        client.get("/health").await.ok();
        lock.release().await;
        opener.await.expect("the call ends").ok();
        assert_eq!(reset.await.expect("the call ends"), 200);
        let duplicate = duplicate.await.expect("the call ends");
        let credits = client.balance().await["credits"].clone();
        // In front of the reset it is a repetition, behind it a purchase.
        let allowed =
            [(true, json!(0)), (false, json!(100)), (true, json!(1)), (false, json!(101))];
        assert!(allowed.contains(&(duplicate, credits.clone())), "{duplicate}, {credits}");
        client.post("/reset", &json!({})).await.ok();
    }
}

async fn old_keys_are_forgotten_a_few_at_a_time(engine: Engine) {
    let mut server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let (digest, from_now) = match engine {
        Engine::Sqlite => ("digest,", "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '? days')"),
        Engine::Postgres => ("", "now() + INTERVAL '? days'"),
    };
    let keys = |name: &str, count: usize, days: &str| {
        let digests = digest.replace("digest", "i");
        let created_at = from_now.replace('?', days);
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
             INSERT INTO idempotency_keys ({digest} user_id, key, fingerprint, outcome, created_at)
             SELECT {digests} 'default_user', '{name}-' || i, 1, '0', {created_at} FROM n;"
        )
    };
    // A clock that was ahead has left the oldest.
    let all = keys("ahead", 1, "+365") + &keys("old", 1_000, "-8") + &keys("young", 1, "-6");
    server.database().execute(&all).await;
    // The service may just have looked, and looks again after a minute, or a start.
    server.stop().await;
    server.start_again();
    let client = server.client();
    let left = eventually("the old keys are gone", async || {
        client.consume(MODEL, 0, 0).await.ok();
        let left = server.database().texts("SELECT key FROM idempotency_keys").await;
        (left.len() == 2).then_some(left)
    })
    .await;
    assert_eq!(left, ["ahead-1", "young-1"]);
}

/// In PostgreSQL there is no such way: its index takes every key at once.
#[tokio::test]
async fn keys_are_known_on_their_way_into_the_index_and_after_it() {
    let mut server = Server::start(Engine::Sqlite);
    // Allocations, because nothing but its key tells one from its repetition.
    let body = allocation(1);
    let bought = 1_000;
    server.client().add(bought, "GPA.0").await.ok();
    for number in 0..3 {
        let key = format!("key-{number}");
        server.client().post_keyed(&key, "/credits/allocate", &body).await.ok();
    }
    server.stop().await;
    // Enough to be worth the way; spread over all digests.
    server
        .database()
        .execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 70000)
             INSERT INTO idempotency_keys (digest, user_id, key, fingerprint, outcome, created_at)
             SELECT random(), 'somebody', 'key-' || i, 1, '0', strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
             FROM n",
        )
        .await;
    server.start_again();
    let client = server.client();
    let index = "SELECT CAST(id AS TEXT) FROM idempotency_indexed";
    let mut number = 3;
    eventually("all of them are in the index", async || {
        let key = format!("key-{number}");
        assert!(!client.post_keyed(&key, "/credits/allocate", &body).await.is_replayed(), "{key}");
        for known in [0, 1, 2, number / 2, number] {
            let key = format!("key-{known}");
            let again = client.post_keyed(&key, "/credits/allocate", &body).await;
            assert!(again.status == 200 && again.is_replayed(), "{key}: {again:?}");
        }
        number += 1;
        let up_to: i64 = server.database().texts(index).await[0].parse().expect("a number");
        (up_to >= 70_003).then_some(())
    })
    .await;

    let check = async |client: &crate::harness::Client| {
        for known in 0..number {
            let key = format!("key-{known}");
            let again = client.post_keyed(&key, "/credits/allocate", &body).await;
            assert!(again.status == 200 && again.is_replayed(), "{key}: {again:?}");
            let other = client.post_keyed(&key, "/credits/allocate", &allocation(2)).await;
            assert_eq!(other.json()["code"], "idempotency_key_reused", "{key}");
        }
        assert_eq!(client.balance().await["credits"], bought - number);
    };
    check(&client).await;
    server.kill();
    server.start_again();
    // Until all of the index has been read again, and after that: a part of it with every call.
    for _ in 0..10 {
        check(&server.client()).await;
    }
}

/// What another service does to forget every fifth key.
const FORGET_SOME: &str = "BEGIN IMMEDIATE;
    DELETE FROM idempotency_index WHERE id % 5 = 0;
    DELETE FROM idempotency_keys WHERE id % 5 = 0;
    COMMIT";

/// Has keys forgotten while they are on their way into the index, by age and by `forget`, and looks
/// whether those in the index are those that are left.
async fn check_forgetting_on_the_way(forget: impl AsyncFn(&Server)) {
    let mut server = Server::start_with(Engine::Sqlite, &[("BILLING_ALLOW_RESET", "true")]);
    server.stop().await;
    // Enough to be worth the way; spread over all digests. The first thousand are old.
    server
        .database()
        .execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 70000)
             INSERT INTO idempotency_keys (digest, user_id, key, fingerprint, outcome, created_at)
             SELECT random(), iif(i % 3, 'somebody', 'default_user'), 'key-' || i, 1, '0',
                 strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', iif(i > 1000, '0 days', '-8 days'))
             FROM n",
        )
        .await;
    server.start_again();
    let mut calls = 0;
    eventually("all that are left are in the index", async || {
        let body = purchase(1, &format!("GPA.{calls}"));
        server.client().post_keyed(&format!("new-{calls}"), "/credits/add", &body).await.ok();
        calls += 1;
        if calls == 10 {
            forget(&server).await;
        }
        let index = "SELECT CAST(id AS TEXT) FROM idempotency_indexed WHERE id > 70000";
        // Further calls, for what may still be on its way.
        server.database().texts(index).await.pop().filter(|_| calls > 20)
    })
    .await;
    for sql in [
        "SELECT key FROM idempotency_keys WHERE key = 'key-1'",
        "SELECT digest, id FROM idempotency_index EXCEPT SELECT digest, id FROM idempotency_keys",
        "SELECT digest, id FROM idempotency_keys WHERE id <= (SELECT id FROM idempotency_indexed)
         EXCEPT SELECT digest, id FROM idempotency_index",
    ] {
        let count = format!("SELECT CAST(count(*) AS TEXT) FROM ({sql})");
        assert_eq!(server.database().texts(&count).await, ["0"], "{sql}");
    }
}

#[tokio::test]
async fn old_keys_are_forgotten_on_their_way_into_the_index() {
    check_forgetting_on_the_way(async |_| {}).await;
}

#[tokio::test]
async fn keys_that_another_service_forgets_do_not_get_into_the_index() {
    check_forgetting_on_the_way(async |server| server.database().execute(FORGET_SOME).await).await;
}

#[tokio::test]
async fn keys_forgotten_before_a_call_without_a_key_do_not_get_into_the_index() {
    check_forgetting_on_the_way(async |server| {
        server.database().execute(FORGET_SOME).await;
        server.client().add(1, "GPA.no-key").await.ok();
    })
    .await;
}

#[tokio::test]
async fn keys_that_a_reset_forgets_do_not_get_into_the_index() {
    check_forgetting_on_the_way(async |server| {
        server.client().post_keyed("reset", "/reset", &json!({})).await.ok();
    })
    .await;
}
