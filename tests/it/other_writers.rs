//! Other processes at the same database: what they write counts from the next call, and nothing is
//! decided on what it was before.

use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{
    Client, Database, Engine, Home, Launch, RawConnection, Server, begun, client::consumption,
    clock::Clock, eventually, on_both_engines, raw::post,
};

on_both_engines![
    a_gift_counts_from_the_next_call,
    what_was_taken_away_is_gone,
    gifts_under_load_are_neither_lost_nor_doubled,
    what_waited_for_a_lock_is_done_in_one_go,
    a_lock_that_outlasts_the_patience_is_a_503_and_leaves_no_trace,
    a_stop_does_not_wait_for_a_lock_for_ever,
    two_services_share_a_database,
    several_services_start_at_once_on_a_new_database,
    keys_are_shared_after_all_were_forgotten_by_age,
    keys_are_shared_after_a_reset,
];

const MODEL: &str = "gemini-2.0-flash";

/// What somebody with the program `sqlite3` or `psql` does to give a user a credit.
const GIFT: &str = "BEGIN;
    INSERT INTO transactions (user_id, type, amount, metadata, credits_delta, tokens_delta, created_at)
    VALUES ('default_user', 'purchase', 1, '{}', 1, 0, '2026-01-01T00:00:00.000000Z');
    UPDATE credits SET credits = credits + 1;
    COMMIT";

async fn a_gift_counts_from_the_next_call(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(74, "GPA.1").await.ok();
    let too_few = client.allocate(&[(MODEL, 75)]).await;
    assert_eq!(too_few.json()["code"], "insufficient_credits");
    server.database().execute(GIFT).await;
    client.allocate(&[(MODEL, 75)]).await.ok();
    let balance = json!({"credits": 0, "allocated_tokens": {MODEL: 1_000_000}});
    assert_eq!(client.balance().await, balance);
}

async fn what_was_taken_away_is_gone(engine: Engine) {
    let server = Server::start(engine);
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

async fn gifts_under_load_are_neither_lost_nor_doubled(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let mut buyers = JoinSet::new();
    for buyer in 0..10 {
        let client = client.clone();
        buyers.spawn(async move {
            for number in 0..20 {
                let id = format!("GPA.{buyer}.{number}");
                begun(|| client.add(1, &id)).await.ok();
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

async fn what_waited_for_a_lock_is_done_in_one_go(engine: Engine) {
    eventually("a lock is held no longer than it is waited for", async || {
        let server = Server::start_with(engine, &[("BILLING_CAPACITY_QUICK", "100000000")]);
        let client = server.client();
        client.add(40 * 50, "GPA.1").await.ok();
        let lock = server.database().lock().await;
        let calls = start_calls(&client, |client, _| async move {
            // More entries than one statement takes, once they come together.
            client.allocate(&[(MODEL, 1); 50]).await.status
        });
        client.get("/health").await.ok();
        lock.release().await;
        let answers = calls.join_all().await;
        if answers.contains(&503) {
            return None;
        }
        assert_eq!(answers, [200; 40]);
        assert_eq!(entries(&server.database()).await, 1 + 40 * 50);
        let tokens = json!({MODEL: 40 * 50 * 13_333});
        assert_eq!(client.balance().await, json!({"credits": 0, "allocated_tokens": tokens}));
        Some(())
    })
    .await;
}

async fn a_lock_that_outlasts_the_patience_is_a_503_and_leaves_no_trace(engine: Engine) {
    let server = Server::start(engine);
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

async fn a_stop_does_not_wait_for_a_lock_for_ever(engine: Engine) {
    let mut server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let before = server.database().digest().await;
    let lock = server.database().lock().await;
    // Sent before the service is asked for its health, so they arrive before.
    let mut calls: Vec<RawConnection> = (0..10).map(|_| server.connect()).collect();
    for call in &mut calls {
        call.send(post("/tokens/consume", &consumption(MODEL, 1, 0).to_string()));
    }
    client.get("/health").await.ok();
    server.stop().await;
    let mut heads: Vec<String> = calls.iter_mut().map(RawConnection::read_head).collect();
    // Those that were not read before the stop get no answer.
    heads.retain(|head| !head.is_empty());
    assert!(!heads.is_empty(), "nobody was answered");
    assert!(heads.iter().all(|head| head.starts_with("http/1.1 503 ")), "{heads:?}");
    lock.release().await;
    assert_eq!(server.database().digest().await, before);
}

async fn two_services_share_a_database(engine: Engine) {
    let server = Server::start(engine);
    let other = server.launch().start(server.directory());
    let clients = [server.client(), Client::new(other.address)];
    clients[0].buy_tokens(MODEL, 75).await;
    let mut calls = JoinSet::new();
    for number in 0..200_i64 {
        let client = clients[usize::from(number % 2 == 1)].clone();
        calls.spawn(async move {
            // Each key and each purchase on both services, several times.
            let key = format!("key-{}", number / 2 % 10);
            let use_up = consumption(MODEL, 7, 0);
            let used = begun(|| client.post_keyed(&key, "/tokens/consume", &use_up)).await;
            used.ok();
            let id = format!("GPA.{}", number / 2 % 10);
            let bought = begun(|| client.add(1, &id)).await;
            bought.ok();
            (!used.is_replayed(), !bought.is_replayed())
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

async fn several_services_start_at_once_on_a_new_database(engine: Engine) {
    const MIGRATIONS: &str = "SELECT description FROM _sqlx_migrations ORDER BY version";
    let once = Server::start(engine).database().texts(MIGRATIONS).await;
    for _ in 0..5 {
        let home = Home::new(engine);
        let starts: Vec<_> = (0..4)
            .map(|_| {
                let (launch, directory) = (home.launch(), home.directory.path().to_owned());
                std::thread::spawn(move || launch.start(&directory))
            })
            .collect();
        for start in starts {
            let running = start.join().expect("it starts");
            Client::new(running.address).get("/health").await.ok();
        }
        assert_eq!(home.database.texts(MIGRATIONS).await, once);
        assert_eq!(home.database.texts("SELECT user_id FROM users").await, ["default_user"]);
        home.database.check_invariants().await;
    }
}

/// The first service carries out a request, and `forget` makes it forget its key. Another service that
/// starts now carries out one more, of which the first has to learn.
async fn check_keys_after(engine: Engine, forget: impl AsyncFn(&Server, &Clock)) {
    let clock = Clock::new();
    let launch = clock.given_to(Launch::new().set("BILLING_ALLOW_RESET", "true"));
    let server = Server::start_as(engine, launch.clone());
    let body = json!({"credits": 1, "purchase_record": {}});
    server.client().post_keyed("forgotten", "/credits/add", &body).await.ok();
    forget(&server, &clock).await;
    let other = server.home().given_to(launch).start(server.directory());
    let first = Client::new(other.address).post_keyed("new", "/credits/add", &body).await;
    assert!(first.status == 200 && !first.is_replayed(), "{first:?}");
    let again = server.client().post_keyed("new", "/credits/add", &body).await;
    assert!(again.status == 200 && again.is_replayed(), "{again:?}");
}

async fn keys_are_shared_after_all_were_forgotten_by_age(engine: Engine) {
    check_keys_after(engine, async |server, clock| {
        clock.shift(chrono::TimeDelta::days(8).num_seconds());
        // Forgetting comes after the answer, and what is asked next waits for it.
        server.client().add(1, "GPA.1").await.ok();
        server.client().add(1, "GPA.2").await.ok();
    })
    .await;
}

async fn keys_are_shared_after_a_reset(engine: Engine) {
    check_keys_after(engine, async |server, _| {
        server.client().post("/reset", &json!({})).await.ok();
    })
    .await;
}
