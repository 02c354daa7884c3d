//! Other processes at the same database: what they write counts from the next call, and nothing is
//! decided on what it was before.

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{
    Client, Database, Launch, Reply, Server,
    client::{consumption, purchase},
    clock::Clock,
    eventually,
};

const MODEL: &str = "gemini-2.0-flash";

/// What somebody with the `sqlite3` program does to give a user a credit.
const GIFT: &str = "BEGIN IMMEDIATE;
    INSERT INTO transactions (user_id, type, amount, metadata, credits_delta, tokens_delta, created_at)
    VALUES ('default_user', 'purchase', 1, '{}', 1, 0, '2026-01-01T00:00:00.000000Z');
    UPDATE credits SET credits = credits + 1;
    COMMIT";

#[tokio::test]
async fn a_gift_counts_from_the_next_call() {
    let server = Server::start();
    let client = server.client();
    client.add(74, "GPA.1").await.ok();
    let too_few = client.allocate(&[(MODEL, 75)]).await;
    assert_eq!(too_few.json()["code"], "insufficient_credits");
    server.database().execute(GIFT).await;
    client.allocate(&[(MODEL, 75)]).await.ok();
    let balance = json!({"credits": 0, "allocated_tokens": {MODEL: 1_000_000}});
    assert_eq!(client.balance().await, balance);
}

#[tokio::test]
async fn what_was_taken_away_is_gone() {
    let server = Server::start();
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    client.consume(MODEL, 1, 0).await.ok();
    server
        .database()
        .execute(
            "DELETE FROM transactions WHERE type IN ('allocation', 'consumption');
             UPDATE token_balances SET allocated_tokens = 0;
             UPDATE credits SET credits = 75",
        )
        .await;
    let reply = client.consume(MODEL, 1, 0).await;
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("insufficient_tokens")));
    client.allocate(&[(MODEL, 75)]).await.ok();
    let remaining = json!({"success": true, "remaining_tokens": 999_999});
    client.consume(MODEL, 1, 0).await.is(200, &remaining);
}

#[tokio::test]
async fn gifts_under_load_are_neither_lost_nor_doubled() {
    let server = Server::start();
    let client = server.client();
    let mut buyers = JoinSet::new();
    for buyer in 0..10 {
        let client = client.clone();
        buyers.spawn(async move {
            for number in 0..20 {
                client.add(1, &format!("GPA.{buyer}.{number}")).await.ok();
            }
        });
    }
    for _ in 0..30 {
        server.database().execute(GIFT).await;
    }
    buyers.join_all().await;
    assert_eq!(client.balance().await["credits"], 10 * 20 + 30);
}

/// Starts calls that can't be decided yet.
fn start_calls<F>(client: &Client, call: impl Fn(Client, i64) -> F) -> JoinSet<u16>
where
    F: Future<Output = u16> + Send + 'static,
{
    (0..40).map(|number| call(client.clone(), number)).collect()
}

async fn entries(database: &Database) -> usize {
    database.texts("SELECT type FROM transactions").await.len()
}

#[tokio::test]
async fn what_waited_for_a_lock_is_done_in_one_go() {
    let server = Server::start_with(&[("BILLING_CAPACITY_QUICK", "100000000")]);
    let client = server.client();
    client.add(40 * 50, "GPA.1").await.ok();
    let lock = server.database().lock().await;
    let calls = start_calls(&client, |client, _| async move {
        // More entries than one statement takes, once they come together.
        client.allocate(&[(MODEL, 1); 50]).await.status
    });
    client.get("/health").await.ok();
    lock.release().await;
    assert_eq!(calls.join_all().await, [200; 40]);
    assert_eq!(entries(&server.database()).await, 1 + 40 * 50);
    let tokens = json!({MODEL: 40 * 50 * 13_333});
    assert_eq!(client.balance().await, json!({"credits": 0, "allocated_tokens": tokens}));
}

#[tokio::test]
async fn a_lock_that_outlasts_the_patience_is_a_503_and_leaves_no_trace() {
    let server = Server::start();
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let before = server.database().digest().await;
    let lock = server.database().lock().await;
    let calls = start_calls(&client, |client, number| async move {
        let reply = client.consume(MODEL, number, 0).await;
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        reply.status
    });
    assert_eq!(calls.join_all().await, [503; 40]);
    // Reading goes on all the while.
    assert_eq!(client.balance().await["credits"], 0);
    lock.release().await;
    assert_eq!(server.database().digest().await, before);
    eventually("writes succeed again", async || {
        (client.consume(MODEL, 1, 0).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(client.balance().await["allocated_tokens"][MODEL], 999_999);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_lock_for_ever() {
    let mut server = Server::start();
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let before = server.database().digest().await;
    let lock = server.database().lock().await;
    let calls = start_calls(&client, |client, number| async move {
        let request = client.request(Method::POST, "/api/billing/tokens/consume");
        let request = request.json(&consumption(MODEL, number, 0));
        Reply::try_to(request).await.map_or(0, |reply| reply.status)
    });
    client.get("/health").await.ok();
    server.stop().await;
    let mut statuses = calls.join_all().await;
    // Those whose requests had not arrived before the stop get no answer.
    statuses.retain(|status| *status != 0);
    assert!(!statuses.is_empty() && statuses.iter().all(|status| *status == 503), "{statuses:?}");
    lock.release().await;
    assert_eq!(server.database().digest().await, before);
}

#[tokio::test]
async fn two_services_share_a_database() {
    let server = Server::start();
    let other = Launch::new().start(server.directory());
    let clients = [server.client(), Client::new(other.address)];
    clients[0].buy_tokens(MODEL, 75).await;
    let mut calls = JoinSet::new();
    for number in 0..200_i64 {
        let client = clients[usize::from(number % 2 == 1)].clone();
        calls.spawn(async move {
            // Each key and each purchase on both services, several times.
            let key = format!("key-{}", number / 2 % 10);
            let used = client.post_keyed(&key, "/tokens/consume", &consumption(MODEL, 7, 0)).await;
            used.ok();
            let id = format!("GPA.{}", number / 2 % 10);
            let bought = client.post("/credits/add", &purchase(1, &id)).await;
            assert!([200, 409].contains(&bought.status), "{bought:?}");
            (!used.is_replayed(), bought.status == 200)
        });
    }
    let done = calls.join_all().await;
    assert_eq!(done.iter().filter(|(used, _)| *used).count(), 10);
    assert_eq!(done.iter().filter(|(_, bought)| *bought).count(), 10);
    for client in clients {
        let balance = json!({"credits": 10, "allocated_tokens": {MODEL: 1_000_000 - 70}});
        assert_eq!(client.balance().await, balance);
    }
}

#[tokio::test]
async fn several_services_start_at_once_on_a_new_database() {
    for _ in 0..5 {
        let directory = tempfile::TempDir::new().expect("a temporary directory can be made");
        let path = directory.path().to_owned();
        let starts: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || Launch::new().start(&path))
            })
            .collect();
        for start in starts {
            let running = start.join().expect("it starts");
            Client::new(running.address).get("/health").await.ok();
        }
    }
}

/// The first service carries out a request, and `forget` makes it forget its key. Another service that
/// starts now carries out one more, of which the first has to learn.
async fn check_keys_after(forget: impl AsyncFn(&Server, &Clock)) {
    let clock = Clock::new();
    let launch = clock.given_to(Launch::new().set("BILLING_ALLOW_RESET", "true"));
    let server = Server::start_as(launch.clone());
    let body = json!({"credits": 1, "purchase_record": {}});
    server.client().post_keyed("forgotten", "/credits/add", &body).await.ok();
    forget(&server, &clock).await;
    let other = launch.start(server.directory());
    let first = Client::new(other.address).post_keyed("new", "/credits/add", &body).await;
    assert!(first.status == 200 && !first.is_replayed(), "{first:?}");
    let again = server.client().post_keyed("new", "/credits/add", &body).await;
    assert!(again.status == 200 && again.is_replayed(), "{again:?}");
}

#[tokio::test]
async fn keys_are_shared_after_all_were_forgotten_by_age() {
    check_keys_after(async |server, clock| {
        clock.shift(chrono::TimeDelta::days(8).num_seconds());
        // Forgetting comes after the answer, and what is asked next waits for it.
        server.client().add(1, "GPA.1").await.ok();
        server.client().add(1, "GPA.2").await.ok();
    })
    .await;
}

#[tokio::test]
async fn keys_are_shared_after_a_reset() {
    check_keys_after(async |server, _| {
        server.client().post("/reset", &json!({})).await.ok();
    })
    .await;
}
