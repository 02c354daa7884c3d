//! Lanes: each user's operations are done in order, and those of others need not wait for them.

use tokio::task::JoinSet;

use crate::harness::{
    Client, Engine, Server, Sessions, begun, eventually, on_postgres, sessions::BLOCKED,
    token::SECRET,
};

on_postgres![
    a_user_who_has_to_wait_holds_up_one_lane_only,
    a_lane_that_gets_no_connection_leaves_all_to_the_others_until_it_does,
    one_lane_is_enough,
];

/// Enough to be in every lane.
const USERS: usize = 40;
const TOKENS: [(&str, &str); 2] = [("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET)];

/// Everybody buys a credit.
fn buy(client: &Client) -> JoinSet<u16> {
    let buy = |number| {
        let client = client.of(&format!("user {number}"));
        async move { begun(|| client.add(1, "")).await.status }
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
        sessions.reach_unless(|| waiting.is_finished(), BLOCKED).await;
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

async fn a_lane_that_gets_no_connection_leaves_all_to_the_others_until_it_does() {
    let settings = [&TOKENS[..], &[("BILLING_PG_LANES", "2")]].concat();
    let server = Server::start_with(Engine::Postgres, &settings);
    let (client, database) = (server.client(), server.database());
    let ann = client.of("ann");
    ann.add(1, "").await.ok();
    assert_eq!(buy(&client).join_all().await, [200; USERS]);
    let mut sessions = Sessions::at(&database).await;
    let connected = sessions.count("true").await;
    let mut superuser = database.connect_as_superuser().await;
    let mut lock = database.connect().await;
    let limit = |most| format!("ALTER DATABASE {} CONNECTION LIMIT {most}", database.name());

    lock.execute("BEGIN; SELECT user_id FROM credits WHERE user_id = 'ann' FOR UPDATE").await;
    let refused_and_ended = async {
        sessions.reach(BLOCKED).await;
        superuser.execute(&limit(0)).await;
        assert_eq!(sessions.terminate(BLOCKED).await, 1, "one lane waits");
    };
    let (reply, ()) = tokio::join!(ann.add(1, ""), refused_and_ended);
    assert_eq!(reply.status, 503, "{reply:?}");
    lock.execute("ROLLBACK").await;
    for _ in 0..5 {
        assert_eq!(buy(&client).join_all().await, [200; USERS]);
    }
    assert!(sessions.count("true").await < connected, "there is no other connection");

    superuser.execute(&limit(-1)).await;
    eventually("the lane is connected again", async || {
        (sessions.count("true").await == connected).then_some(())
    })
    .await;
    ann.add(1, "").await.ok();
    lock.close().await;
    superuser.close().await;
    sessions.close().await;
}

async fn one_lane_is_enough() {
    let settings = [&TOKENS[..], &[("BILLING_PG_LANES", "1")]].concat();
    let server = Server::start_with(Engine::Postgres, &settings);
    assert_eq!(buy(&server.client()).join_all().await, [200; USERS]);
}
