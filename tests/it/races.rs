//! Many clients at once: the outcome is one that some order of the calls would have had.

use std::collections::BTreeMap;

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{Client, Engine, Reply, Server, on_both_engines};

on_both_engines![
    a_balance_for_100_lets_exactly_100_consume,
    one_of_many_equal_purchases_is_granted,
    parallel_allocations_never_pass_the_capacity,
    parallel_allocations_never_spend_a_credit_twice,
];

/// Makes `calls` calls at once and counts the answers by status and code.
async fn count<F>(
    client: &Client,
    calls: usize,
    mut call: impl FnMut(Client, usize) -> F,
) -> BTreeMap<(u16, String), usize>
where
    F: Future<Output = Reply> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..calls {
        tasks.spawn(call(client.clone(), number));
    }
    let mut counts = BTreeMap::new();
    for reply in tasks.join_all().await {
        let code = reply.json()["code"].as_str().unwrap_or_default().to_owned();
        *counts.entry((reply.status, code)).or_insert(0) += 1;
    }
    counts
}

async fn a_balance_for_100_lets_exactly_100_consume(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens("gemini-2.0-flash", 150).await;
    let counts = count(&client, 300, |client, number| async move {
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
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        tasks.spawn(async move { client.add(100, "GPA.1").await });
    }
    let replies = tasks.join_all().await;
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
    let counts = count(&client, 100, |client, _| async move {
        client.allocate(&[("gemini-2.0-flash", 10)]).await
    })
    .await;
    let expected = [((200, String::new()), 37), ((400, "capacity_exceeded".to_owned()), 63)];
    assert_eq!(counts, expected.into());
    let tokens = json!({"gemini-2.0-flash": 37 * 133_333});
    assert_eq!(client.balance().await, json!({"credits": 1_630, "allocated_tokens": tokens}));
}

async fn parallel_allocations_never_spend_a_credit_twice(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(100, "GPA.1").await.ok();
    let counts = count(&client, 60, |client, _| async move {
        client.allocate(&[("gemini-2.5-flash", 3), ("gemini-2.5-pro", 2)]).await
    })
    .await;
    let expected = [((200, String::new()), 20), ((400, "insufficient_credits".to_owned()), 40)];
    assert_eq!(counts, expected.into());
    assert_eq!(client.balance().await["credits"], 0);
}
