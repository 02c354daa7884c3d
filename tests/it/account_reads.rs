//! Accounts that are asked for at the same time, which one statement reads: everybody is told of his own,
//! and an account that can't be read spoils nobody else's.

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{
    Engine, Launch, RawConnection, Server, on_both_engines,
    token::{SECRET, claims, token},
};

on_both_engines![everybody_is_told_of_his_own, an_impossible_account_spoils_nobody_elses];

const LOGIN: [(&str, &str); 2] = [("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET)];
const MODEL: &str = "gemini-2.0-flash";
/// Who ask at the same time, some for a balance, some for the total of a category.
const USERS: i64 = 60;
const ROUNDS: usize = 5;

async fn everybody_is_told_of_his_own(engine: Engine) {
    let server = Server::start_with(engine, &LOGIN);
    let client = server.client();
    for user in 1..=USERS {
        let client = client.of(&format!("user-{user}"));
        client.add(user + 75, &format!("GPA.{user}")).await.ok();
        client.allocate(&[(MODEL, 75)]).await.ok();
        client.consume(MODEL, user, 0).await.ok();
    }
    for _ in 0..ROUNDS {
        let mut asking = JoinSet::new();
        // As many again of whom nobody has heard, and everybody twice.
        for user in (1..=USERS * 2).chain(1..=USERS * 2) {
            let client = client.of(&format!("user-{user}"));
            asking.spawn(async move {
                let balance = client.balance().await;
                let total = client.get("/balance/category/quick").await.ok();
                (user, balance, total["total_tokens"].clone())
            });
        }
        for (user, balance, total) in asking.join_all().await {
            if user > USERS {
                assert_eq!(balance, json!({"credits": 0, "allocated_tokens": {}}));
                assert_eq!(total, 0);
            } else {
                let tokens = 1_000_000 - user;
                let own = json!({"credits": user, "allocated_tokens": {MODEL: tokens}});
                assert_eq!(balance, own, "user-{user}");
                assert_eq!(total, tokens, "user-{user}");
            }
        }
    }
}

async fn an_impossible_account_spoils_nobody_elses(engine: Engine) {
    let mut server = Server::start_with(engine, &LOGIN);
    for user in ["ann", "bob"] {
        server.client().of(user).add(7, &format!("GPA.{user}")).await.ok();
    }
    server.stop().await;
    let home = server.home().copy().await;
    let unhindered = match engine {
        Engine::Sqlite => "PRAGMA ignore_check_constraints = ON",
        Engine::Postgres => {
            "ALTER TABLE credits DROP CONSTRAINT credits_credits_check, DROP CONSTRAINT credits_check"
        }
    };
    let broken = "UPDATE credits SET credits = -1 WHERE user_id = 'bob'";
    home.database.execute(&format!("{unhindered}; {broken}")).await;
    let launch =
        LOGIN.into_iter().fold(Launch::new(), |launch, (name, value)| launch.set(name, value));
    let server = Server::start_at(home, launch);

    // What has arrived when the service goes on is read together.
    let asking = |user| {
        let mut connection = RawConnection::open(server.address());
        connection.send(format!(
            "GET /api/billing/balance HTTP/1.1\r\nhost: service\r\nauthorization: Bearer {}\r\n\r\n",
            token(&claims(user))
        ));
        connection
    };
    server.client().of("ann").balance().await;
    server.pause();
    let asked: Vec<_> =
        (0..8).flat_map(|_| ["ann", "bob"]).map(|user| (user, asking(user))).collect();
    server.resume();
    for (user, mut connection) in asked {
        let status = if user == "ann" { "http/1.1 200" } else { "http/1.1 500" };
        let head = connection.read_head();
        assert!(head.starts_with(status), "{user}: {head}");
    }

    server.database().execute("UPDATE credits SET credits = 7 WHERE user_id = 'bob'").await;
    assert_eq!(server.client().of("bob").balance().await["credits"], 7);
}
