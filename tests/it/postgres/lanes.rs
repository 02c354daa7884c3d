//! Lanes: each user's operations are done in order, and those of others need not wait for them.

use tokio::task::JoinSet;

use crate::harness::{
    Client, Engine, Server, Sessions, eventually, on_postgres, sessions::BLOCKED, token::SECRET,
};

on_postgres![a_user_who_has_to_wait_holds_up_one_lane_only, one_lane_is_enough];

/// Enough to be in every lane.
const USERS: usize = 40;
const TOKENS: [(&str, &str); 2] = [("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET)];

/// Everybody buys a credit.
fn buy(client: &Client) -> JoinSet<u16> {
    let buy = |number| {
        let client = client.of(&format!("user {number}"));
        async move { client.add(1, "").await.status }
    };
    (0..USERS).map(buy).collect()
}

async fn a_user_who_has_to_wait_holds_up_one_lane_only() {
    let server = Server::start_with(Engine::Postgres, &TOKENS);
    let client = server.client();
    client.of("ann").add(1, "").await.ok();
    let mut sessions = Sessions::at(&server.database()).await;
    eventually("somebody is served while she waits", async || {
        let mut lock = server.database().connect().await;
        lock.execute("BEGIN; SELECT user_id FROM credits WHERE user_id = 'ann' FOR UPDATE").await;
        let ann = client.of("ann");
        let waiting = tokio::spawn(async move { ann.add(1, "").await });
        sessions.reach(BLOCKED).await;
        let mut others = buy(&client);
        let served = others.join_next().await.is_some_and(|status| matches!(status, Ok(200)));
        // Whoever waits too long is told so, and the lane goes on.
        let waits = !waiting.is_finished();
        lock.execute("ROLLBACK").await;
        lock.close().await;
        others.join_all().await;
        waiting.await.expect("the call ends");
        (served && waits).then_some(())
    })
    .await;
    sessions.close().await;
}

async fn one_lane_is_enough() {
    let settings = [&TOKENS[..], &[("BILLING_PG_LANES", "1")]].concat();
    let server = Server::start_with(Engine::Postgres, &settings);
    assert_eq!(buy(&server.client()).join_all().await, [200; USERS]);
}
