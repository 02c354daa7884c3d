//! Many clients at once: the outcome is one that some order of the calls would have had.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Engine, Reply, Server, begun, on_both_engines};

on_both_engines![
    a_balance_for_100_lets_exactly_100_consume,
    one_of_many_equal_purchases_is_granted,
    parallel_allocations_never_pass_the_capacity,
    parallel_allocations_never_spend_a_credit_twice,
];

/// Makes `calls` calls at once and counts the answers by status and code.
async fn count(calls: usize, call: impl AsyncFn(usize) -> Reply) -> BTreeMap<(u16, String), usize> {
    let mut counts = BTreeMap::new();
    let call = &call;
    let calls = (0..calls).map(async |number| begun(|| call(number)).await);
    for reply in join_all(calls).await {
        let code = reply.json()["code"].as_str().unwrap_or_default().to_owned();
        *counts.entry((reply.status, code)).or_insert(0) += 1;
    }
    counts
}

async fn a_balance_for_100_lets_exactly_100_consume(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens("gemini-2.0-flash", 150).await;
    let counts = count(300, async |number| {
        // All cost 20,000 tokens, in different shares.
        let input = i64::try_from(number).expect("small");
        client.consume("gemini-2.0-flash", input, 20_000 - input).await
    })
    .await;
    let expected = [((200, String::new()), 100), ((400, "insufficient_tokens".to_owned()), 200)];
    assert_eq!(counts, expected.into());
    let balance = json!({"credits": 0, "allocated_tokens": {"gemini-2.0-flash": 0}});
    assert_eq!(client.balance().await, balance);
}

async fn one_of_many_equal_purchases_is_granted(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let buy = async |_| begun(|| client.add(100, "GPA.1")).await;
    let replies = join_all((0..50).map(buy)).await;
    for reply in &replies {
        reply.is(200, &json!({"success": true, "new_balance": 100}));
    }
    assert_eq!(replies.iter().filter(|reply| !reply.is_replayed()).count(), 1);
    assert_eq!(client.balance().await["credits"], 100);
}

async fn parallel_allocations_never_pass_the_capacity(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(2_000, "GPA.1").await.ok();
    // 10 credits are 133,333 tokens, of which 37 fit into 5,000,000.
    let counts = count(100, async |_| client.allocate(&[("gemini-2.0-flash", 10)]).await).await;
    let expected = [((200, String::new()), 37), ((400, "capacity_exceeded".to_owned()), 63)];
    assert_eq!(counts, expected.into());
    let tokens = json!({"gemini-2.0-flash": 37 * 133_333});
    assert_eq!(client.balance().await, json!({"credits": 1_630, "allocated_tokens": tokens}));
}

async fn parallel_allocations_never_spend_a_credit_twice(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(100, "GPA.1").await.ok();
    let counts = count(60, async |_| {
        client.allocate(&[("gemini-2.5-flash", 3), ("gemini-2.5-pro", 2)]).await
    })
    .await;
    let expected = [((200, String::new()), 20), ((400, "insufficient_credits".to_owned()), 40)];
    assert_eq!(counts, expected.into());
    assert_eq!(client.balance().await["credits"], 0);
}
