//! Several instances at one database: together they do what one would.

use futures_util::future::join_all;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::harness::{
    Client, Connection, Engine, Reply, Server, Sessions,
    client::{consumption, purchase},
    eventually, on_postgres,
    sessions::BLOCKED,
    settled,
    token::SECRET,
};

on_postgres![
    a_storm_on_two_instances_comes_to_what_it_would_on_one,
    an_account_that_another_instance_opens_meanwhile_is_not_written_unlocked,
    an_account_that_another_instance_opens_meanwhile_is_not_reset_unlocked,
    one_that_is_killed_while_it_holds_locks_holds_up_nobody_for_long,
    one_that_hangs_while_it_holds_locks_loses_them,
];

const MODEL: &str = "gemini-2.0-flash";
const USERS: [&str; 5] = ["ann", "bob", "eve", "joe", "ユーザー"];
/// How often everybody does everything.
const ROUNDS: i64 = 25;
const CREDITS: i64 = 100_000;
/// What 100 credits buy, and what one does.
const TOKENS: (i64, i64) = (1_333_333, 13_333);
/// Keeps a writer that has locked its accounts from going on.
const STOP_WRITES: &str = "BEGIN; LOCK TABLE transactions IN EXCLUSIVE MODE";

/// What was done for a user, and not for the same user elsewhere.
#[derive(Debug, Default, Clone, Copy)]
struct Done {
    own: i64,
    shared: i64,
    repeated: i64,
    keyed_purchases: i64,
    keyed_consumptions: i64,
}

/// 1 when a purchase was granted, 0 when it had been before.
async fn granted(client: &Client, id: &str) -> i64 {
    let reply = settled(async || client.add(1, id).await).await;
    // It may be somebody else's.
    assert!([200, 409].contains(&reply.status), "{reply:?}");
    i64::from(reply.status == 200 && !reply.is_replayed())
}

/// 1 when a request was carried out, 0 when it had been before.
async fn first(client: &Client, key: &str, path: &str, body: &serde_json::Value) -> i64 {
    let reply = settled(async || client.post_keyed(key, path, body).await).await;
    reply.ok();
    i64::from(!reply.is_replayed())
}

/// What one user does on one instance.
async fn work(client: Client, user: &'static str) -> Done {
    let mut done = Done::default();
    // Nobody has seen the user before.
    let start = purchase(CREDITS, &format!("GPA.{user}"));
    first(&client, "start", "/credits/add", &start).await;
    settled(async || client.allocate(&[(MODEL, 100)]).await).await.ok();
    for round in 0..ROUNDS {
        done.own += granted(&client, &format!("GPA.{user}.{round}")).await;
        done.shared += granted(&client, &format!("GPA.everybody.{round}")).await;
        settled(async || client.allocate(&[(MODEL, 1)]).await).await.ok();
        let body = purchase(1, &format!("GPA.{user}.keyed.{round}"));
        let key = format!("purchase-{round}");
        done.keyed_purchases += first(&client, &key, "/credits/add", &body).await;
        let key = format!("consumption-{round}");
        let body = consumption(MODEL, 7, 0);
        done.keyed_consumptions += first(&client, &key, "/tokens/consume", &body).await;
        settled(async || client.consume(MODEL, 5, 6).await).await.ok();
        client.get("/transactions?limit=5").await.ok();
        done.repeated += 1;
    }
    done
}

async fn a_storm_on_two_instances_comes_to_what_it_would_on_one() {
    let settings = [
        ("BILLING_AUTH", "jwt"),
        ("BILLING_JWT_SECRET", SECRET),
        ("BILLING_CAPACITY_QUICK", "100000000"),
    ];
    let server = Server::start_with(Engine::Postgres, &settings);
    let other = server.launch().start(server.directory());
    let instances = [server.client(), Client::new(other.address)];
    let everybody =
        USERS.into_iter().flat_map(|user| instances.iter().map(move |instance| (user, instance)));
    let storm = everybody.map(async |(user, instance)| (user, work(instance.of(user), user).await));
    let done = join_all(storm).await;

    assert_eq!(done.iter().map(|(_, done)| done.shared).sum::<i64>(), ROUNDS);
    for user in USERS {
        let of_user = || done.iter().filter(|(whose, _)| *whose == user).map(|(_, done)| done);
        let sum = |what: fn(&Done) -> i64| of_user().map(what).sum::<i64>();
        assert_eq!(sum(|done| done.own), ROUNDS, "{user}");
        assert_eq!(sum(|done| done.keyed_purchases), ROUNDS, "{user}");
        assert_eq!(sum(|done| done.keyed_consumptions), ROUNDS, "{user}");
        let repeated = sum(|done| done.repeated);
        assert_eq!(repeated, 2 * ROUNDS, "{user}");
        let bought = CREDITS + 2 * ROUNDS + sum(|done| done.shared);
        let tokens = 2 * TOKENS.0 + repeated * TOKENS.1 - ROUNDS * 7 - repeated * 11;
        let balance = json!({
            "credits": bought - 2 * 100 - repeated, "allocated_tokens": {MODEL: tokens},
        });
        for instance in &instances {
            assert_eq!(instance.of(user).balance().await, balance, "{user}");
        }
    }
}

/// What another instance writes for ann, whom nobody had seen: 75 credits, all of them spent on tokens.
const OPEN_ACCOUNT: &str = "
    INSERT INTO users (user_id, created_at) VALUES ('ann', now());
    INSERT INTO credits (user_id, credits, updated_at) VALUES ('ann', 0, now());
    INSERT INTO transactions
        (user_id, type, amount, model_id, metadata, price_per_m_token, credits_delta, tokens_delta,
         created_at)
    VALUES ('ann', 'purchase', 75, NULL, '{}', NULL, 75, 0, now()),
        ('ann', 'allocation', 75, 'gemini-2.0-flash', NULL, 75, -75, 1000000, now());
    INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
    VALUES ('ann', 'gemini-2.0-flash', 1000000, now())";
/// And what it writes next.
const CONSUME_500: &str = "
    UPDATE token_balances SET allocated_tokens = allocated_tokens - 500 WHERE user_id = 'ann';
    INSERT INTO transactions (user_id, type, amount, model_id, input_tokens, output_tokens,
        credits_delta, tokens_delta, created_at)
    VALUES ('ann', 'consumption', 500, 'gemini-2.0-flash', 500, 0, 0, -500, now())";

const WAITS_TO_WRITE: &str = "SELECT CAST(pid AS TEXT) FROM pg_locks
    WHERE relation = 'transactions'::regclass AND NOT granted";

/// A service that a call for ann, whom nobody has seen, takes to the point where it finds no account to lock.
/// Another instance opens one before the lane reads on, and the lane can't write until `writes` ends.
struct OpenedMeanwhile {
    server: Server,
    client: Client,
    asked: JoinHandle<Reply>,
    writes: Connection,
}

impl OpenedMeanwhile {
    async fn during<F>(call: impl FnOnce(Client) -> F) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let settings = [
            ("BILLING_AUTH", "jwt"),
            ("BILLING_JWT_SECRET", SECRET),
            ("BILLING_ALLOW_RESET", "true"),
        ];
        let server = Server::start_with(Engine::Postgres, &settings);
        let client = server.client().of("ann");
        let database = server.database();
        let (mut opener, mut writes) = (database.connect().await, database.connect().await);
        let mut sessions = Sessions::at(&database).await;
        opener.execute("BEGIN; LOCK TABLE token_balances IN ACCESS EXCLUSIVE MODE").await;
        let asked = tokio::spawn(call(client.clone()));
        sessions.reach_unless(|| asked.is_finished(), BLOCKED).await;
        opener.execute(OPEN_ACCOUNT).await;
        let opened = async {
            eventually("the next one waits for its turn", async || {
                (!database.texts(WAITS_TO_WRITE).await.is_empty()).then_some(())
            })
            .await;
            opener.execute("COMMIT").await;
        };
        tokio::join!(writes.execute(STOP_WRITES), opened);
        eventually("the lane has decided", async || {
            let waits = !database.texts(WAITS_TO_WRITE).await.is_empty();
            (waits || asked.is_finished()).then_some(())
        })
        .await;
        opener.close().await;
        sessions.close().await;
        Self { server, client, asked, writes }
    }
}

async fn an_account_that_another_instance_opens_meanwhile_is_not_written_unlocked() {
    let call = async |client: Client| client.consume(MODEL, 10, 0).await;
    let OpenedMeanwhile { server, client, asked, mut writes } = OpenedMeanwhile::during(call).await;
    writes.execute(&format!("{CONSUME_500}; COMMIT")).await;
    writes.close().await;
    let asked = asked.await.expect("the call ends");
    assert!([200, 400, 503].contains(&asked.status), "{asked:?}");
    let left = 1_000_000 - 500 - if asked.status == 200 { 10 } else { 0 };
    let balance = json!({"credits": 0, "allocated_tokens": {MODEL: left}});
    assert_eq!(client.balance().await, balance, "{asked:?}");
    // Whatever it was told, the account is of use now.
    let again = settled(async || client.consume(MODEL, 10, 0).await).await;
    again.is(200, &json!({"success": true, "remaining_tokens": left - 10}));
    drop(server);
}

async fn an_account_that_another_instance_opens_meanwhile_is_not_reset_unlocked() {
    let call = async |client: Client| client.post("/reset", &json!({})).await;
    let OpenedMeanwhile { server, client, asked, mut writes } = OpenedMeanwhile::during(call).await;
    let mut consumer = server.database().connect().await;
    let mut sessions = Sessions::at(&server.database()).await;
    consumer.execute("BEGIN; SELECT user_id FROM credits WHERE user_id = 'ann' FOR UPDATE").await;
    writes.execute("ROLLBACK").await;
    writes.close().await;
    sessions.reach_unless(|| asked.is_finished(), BLOCKED).await;
    consumer.execute(&format!("{CONSUME_500}; COMMIT")).await;
    consumer.close().await;
    sessions.close().await;
    let asked = asked.await.expect("the call ends");
    assert!([200, 503].contains(&asked.status), "{asked:?}");
    let entries = client.get("/transactions").await.ok();
    assert_eq!(entries == json!([]), asked.status == 200, "{entries}");
    settled(async || client.post("/reset", &json!({})).await).await.ok();
    assert_eq!(client.get("/transactions").await.ok(), json!([]));
    drop(server);
}

async fn one_that_is_killed_while_it_holds_locks_holds_up_nobody_for_long() {
    let server = Server::start(Engine::Postgres);
    let mut doomed = server.launch().start(server.directory());
    server.client().add(1, "GPA.1").await.ok();
    let mut sessions = Sessions::at(&server.database()).await;
    let mut stop = server.database().connect().await;
    stop.execute(STOP_WRITES).await;
    let client = Client::new(doomed.address);
    let lost = tokio::spawn(async move {
        let request = client.request(reqwest::Method::POST, "/api/billing/credits/add");
        Reply::try_to(request.json(&purchase(10, "GPA.lost"))).await
    });
    sessions.reach_unless(|| lost.is_finished(), BLOCKED).await;
    doomed.kill();
    stop.execute("ROLLBACK").await;
    stop.close().await;
    // A slow machine may have let it wait so long that it gave up itself.
    let lost = lost.await.expect("the call ends");
    assert!(lost.is_err() || lost.is_ok_and(|reply| reply.status == 503));

    let bought = settled(async || server.client().add(100, "GPA.2").await).await;
    bought.is(200, &json!({"success": true, "new_balance": 101}));
    sessions.close().await;
    // What was not answered did not happen, and can be repeated.
    let bought = server.client().add(10, "GPA.lost").await;
    bought.is(200, &json!({"success": true, "new_balance": 111}));
}

async fn one_that_hangs_while_it_holds_locks_loses_them() {
    let server = Server::start(Engine::Postgres);
    let other = server.launch().start(server.directory());
    server.client().add(1, "GPA.1").await.ok();
    let mut sessions = Sessions::at(&server.database()).await;
    let mut stop = server.database().connect().await;
    stop.execute(STOP_WRITES).await;
    let client = server.client();
    let lost = tokio::spawn(async move { client.add(10, "GPA.lost").await });
    sessions.reach_unless(|| lost.is_finished(), BLOCKED).await;
    server.pause();
    stop.execute("ROLLBACK").await;
    stop.close().await;

    // As long as it has the locks, everybody else is told to come again.
    let client = Client::new(other.address);
    let bought = settled(async || client.add(100, "GPA.2").await).await;
    bought.is(200, &json!({"success": true, "new_balance": 101}));
    server.resume();
    assert_eq!(lost.await.expect("the call ends").status, 503);
    sessions.close().await;
    let bought = settled(async || server.client().add(10, "GPA.lost").await).await;
    bought.ok();
    assert_eq!(server.client().balance().await["credits"], 111);
}
