//! A database file that may grow no further: writes are unavailable, and come back without a restart.
//!
//! How much room there is for a PostgreSQL database is not the service's to limit, nor a test's to take.

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Database, Engine, Launch, Load, Reply, Server, eventually};

const MAKE_ROOM: &str = "DROP TABLE junk";
const MODEL: &str = "gemini-2.0-flash";
/// More operations than fit into the room left to them.
const MOST: i64 = 5_000;

/// Starts the stopped service again with little room left. Once [`MAKE_ROOM`] was done there is more.
async fn start_with_little_room(server: &mut Server) {
    let database = server.database();
    database
        .execute("CREATE TABLE junk (x BLOB); INSERT INTO junk VALUES (zeroblob(1000000))")
        .await;
    let size = std::fs::metadata(database.path()).expect("the file is there").len();
    let cap = (size + 32_768).to_string();
    server.start_again_with(&[("BILLING_DATABASE_MAX_BYTES", &cap)]);
}

async fn ready(server: &Server) -> (u16, Value) {
    let reply = Reply::to(server.client().request(Method::GET, "/readyz")).await;
    (reply.status, reply.json()["code"].clone())
}

#[tokio::test]
async fn a_full_database_to_which_nobody_writes_is_not_ready() {
    let mut server = Server::start(Engine::Sqlite);
    server.stop().await;
    let size = std::fs::metadata(server.database().path()).expect("the file is there").len();
    server.start_again_with(&[("BILLING_DATABASE_MAX_BYTES", &size.to_string())]);
    assert_eq!(ready(&server).await, (503, json!("database_unavailable")));
    server.client().balance().await;
}

#[tokio::test]
async fn writes_come_back_when_there_is_room_again() {
    let mut server = Server::start(Engine::Sqlite);
    server.client().buy_tokens(MODEL, 375).await;
    server.stop().await;
    let database = server.database();
    start_with_little_room(&mut server).await;
    let client = server.client();

    let mut written = 0;
    let refusal = loop {
        let reply = client.consume(MODEL, 1, 0).await;
        if reply.status != 200 {
            break reply;
        }
        written += 1;
        assert!(written < MOST, "the disk never fills up");
    };
    assert_eq!(refusal.status, 503, "{refusal:?}");
    assert_eq!(ready(&server).await, (503, json!("database_unavailable")));
    assert!(refusal.header("retry-after").is_some(), "{refusal:?}");
    assert!(refusal.json()["code"].is_string(), "{refusal:?}");
    // What is refused writes nothing, and tells nothing of it.
    assert_eq!(client.consume("no such model", 1, 0).await.status, 400);
    assert_eq!(ready(&server).await, (503, json!("database_unavailable")));
    // Reading goes on, and shows exactly what was acknowledged.
    let tokens = client.balance().await["allocated_tokens"][MODEL].clone();
    assert_eq!(tokens, 5_000_000 - written);
    database.check_invariants().await;

    database.execute(MAKE_ROOM).await;
    // Nobody else writes, so the service itself has to try.
    eventually("the service is ready again", async || {
        (ready(&server).await.0 == 200).then_some(())
    })
    .await;
    let remaining = eventually("a write succeeds again", async || {
        let reply = client.consume(MODEL, 1, 0).await;
        (reply.status == 200).then(|| reply.json()["remaining_tokens"].clone())
    })
    .await;
    assert_eq!(remaining, 5_000_000 - written - 1);
    client.add(1, "GPA.1").await.ok();
}

#[tokio::test]
async fn idempotency_keys_that_are_old_make_room() {
    let mut server = Server::start(Engine::Sqlite);
    server.client().buy_tokens(MODEL, 375).await;
    server.stop().await;
    start_with_little_room(&mut server).await;
    let mut number = 0;
    let mut consume = async |server: &Server| {
        number += 1;
        assert!(number < MOST, "the disk never fills up");
        let body = json!({"model_id": MODEL, "input_tokens": 1, "output_tokens": 0});
        let key = format!("key-{number}");
        server.client().post_keyed(&key, "/tokens/consume", &body).await.status
    };
    // The disk is full, and stays so as long as the keys do.
    while consume(&server).await == 200 {}

    server.stop().await;
    server
        .database()
        .execute("UPDATE idempotency_keys SET created_at = '2026-01-01T00:00:00.000000Z'")
        .await;
    server.start_again();
    eventually("a write succeeds again", async || (consume(&server).await == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn what_many_clients_wrote_into_the_last_room_can_be_repeated() {
    let mut server = Server::start_with(Engine::Sqlite, &Load::SETTINGS);
    Load::prepare(&server.client()).await;
    server.stop().await;
    start_with_little_room(&mut server).await;
    let load = Load::start(&server.client());
    let mut journal = load.journal().await;
    assert!(journal.acknowledged() > 0, "the disk was full from the start");
    assert!(journal.unsettled() > 0, "the disk never fills up");
    journal.compare(&server.database()).await;

    server.database().execute(MAKE_ROOM).await;
    let happened = journal.settle(&server.client(), &server.database()).await;
    assert_eq!(happened, 0, "what was refused left a trace");
    assert_eq!(journal.unsettled(), 0);
}

/// Everything in a database, with what it starts with.
const MADE: [&str; 3] = [
    "SELECT name || ': ' || coalesce(sql, '') FROM sqlite_schema ORDER BY name",
    "SELECT version || ' ' || success FROM _sqlx_migrations ORDER BY version",
    "SELECT model_id FROM token_pricing ORDER BY model_id",
];

async fn made(database: &Database) -> Vec<String> {
    let mut made = Vec::new();
    for sql in MADE {
        made.append(&mut database.texts(sql).await);
    }
    made
}

/// Starts with ever more room on what `prepare` leaves, until there is enough. Whenever the service listens,
/// and whenever it is given room after it did not, everything must be there.
async fn check_made_whole(prepare: impl AsyncFn(&Database)) {
    let whole = Server::start(Engine::Sqlite);
    let whole = made(&whole.database()).await;
    let mut failures = 0;
    for kib in (4..).step_by(12) {
        let directory = TempDir::new().expect("a temporary directory can be made");
        let database = Database::at(&directory.path().join("billing.db"));
        prepare(&database).await;
        let cap = (kib * 1_024).to_string();
        let launch = Launch::new().set("BILLING_DATABASE_MAX_BYTES", cap);
        let ended = launch.fail_to_start(directory.path());
        let has_room = ended.code.is_none();
        if has_room {
            // With the room that it has, or without any limit.
            assert_eq!(made(&database).await, whole, "served with {kib} KiB");
        } else {
            failures += 1;
            assert_eq!((ended.code, ended.stderr.len()), (Some(1), 1), "{kib} KiB: {ended:?}");
            assert!(ended.stderr[0].contains("full"), "{kib} KiB: {ended:?}");
        }
        assert_eq!(Launch::new().fail_to_start(directory.path()).code, None, "after {kib} KiB");
        assert_eq!(made(&database).await, whole, "with room after {kib} KiB");
        if has_room {
            break;
        }
    }
    assert!(failures > 2, "there was always room");
}

#[tokio::test]
async fn a_new_database_is_made_whole_or_not_served() {
    check_made_whole(async |_| {}).await;
}

#[tokio::test]
async fn an_older_database_is_migrated_whole_or_not_served() {
    check_made_whole(async |database| database.make_as_of(2).await).await;
}
