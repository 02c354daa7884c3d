//! More clients than usual, idle or all at once: the service serves on, in bounded memory.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::harness::{
    Engine, Launch, RawConnection, Server, client::purchase, eventually, on_both_engines, raw,
};

on_both_engines![
    many_idle_connections_hold_up_nobody,
    a_low_soft_limit_of_open_files_is_raised,
    idle_connections_leave_the_database_its_files,
    a_burst_of_connections_can_wait_to_be_accepted,
    whoever_finds_the_queue_full_is_told_so_in_bounded_memory,
];

/// Connections that ask for nothing.
const IDLE: usize = 2_000;
/// Connections made before any is accepted.
const BURST: usize = 1_000;
/// Requests at once, each on a connection of its own; about as many as the service takes.
const CROWD: usize = 9_990;
/// Held by who makes many connections: two crowds at a time may be more sockets than a process may have.
static CROWDED: Mutex<()> = Mutex::const_new(());
/// Most operations in one transaction.
const BATCH_MOST: usize = 512;
/// Most operations of a user the ledger takes at a time: what waits, and what it is at.
const QUEUED_MOST: usize = 1_024 + BATCH_MOST;
/// The least time that a batch waits for a lock, after which there is room for as many as it had.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Most memory their requests may cost besides the connections.
const REQUESTS_LIMIT_BYTES: u64 = 100 * 1_024 * 1_024;

async fn serve_beside_idle_connections(server: &Server) {
    let idle = server.connect_many(IDLE);
    let client = server.client();
    client.add(1, "GPA.1").await.ok();
    assert_eq!(client.balance().await["credits"], 1);
    // It was not served because one of them had to go.
    let open = idle.iter().filter(|connection| connection.is_idle()).count();
    assert_eq!(open, IDLE);
}

async fn many_idle_connections_hold_up_nobody(engine: Engine) {
    let _alone = CROWDED.lock().await;
    serve_beside_idle_connections(&Server::start(engine)).await;
}

async fn a_low_soft_limit_of_open_files_is_raised(engine: Engine) {
    let _alone = CROWDED.lock().await;
    let server = Server::start_as(engine, Launch::new().limit_open_files("-Sn 1024"));
    serve_beside_idle_connections(&server).await;
}

async fn idle_connections_leave_the_database_its_files(engine: Engine) {
    let _alone = CROWDED.lock().await;
    let server = Server::start_as(engine, Launch::new().limit_open_files("-n 128"));
    let client = server.client();
    client.add(1, "GPA.1").await.ok();
    let idle = server.connect_many(500);
    // The connection that the other client has kept is the longest idle.
    let client = server.client();
    // After a failure the database is opened anew.
    let lock = server.database().lock().await;
    assert_eq!(client.add(1, "GPA.2").await.status, 503);
    lock.release().await;
    client.add(1, "GPA.3").await.ok();
    assert_eq!(client.balance().await["credits"], 2);
    assert!(idle.iter().any(RawConnection::is_idle), "they were there all the while");
}

async fn a_burst_of_connections_can_wait_to_be_accepted(engine: Engine) {
    let _alone = CROWDED.lock().await;
    let server = Server::start(engine);
    server.pause();
    // The system refuses by not answering, for minutes.
    let waiting = server.connect_many(BURST);
    server.resume();
    server.client().add(1, "GPA.1").await.ok();
    assert!(waiting.iter().all(RawConnection::is_idle));
}

/// Asks on every connection to buy a credit.
fn ask_all(connections: &mut [RawConnection]) {
    for (number, connection) in connections.iter_mut().enumerate() {
        let body = purchase(1, &format!("GPA.crowd.{number}")).to_string();
        connection.send(raw::last_post("/credits/add", &body));
    }
}

/// Reads a refusal to its end, and returns its code.
fn code_of_refusal(connection: &mut RawConnection) -> String {
    let answer = String::from_utf8(connection.read_to_end()).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(head.to_lowercase().contains("\r\nretry-after: "), "{answer}");
    let body: Value = serde_json::from_str(body).expect("JSON");
    body["code"].as_str().expect("a code").to_owned()
}

async fn whoever_finds_the_queue_full_is_told_so_in_bounded_memory(engine: Engine) {
    let _alone = CROWDED.lock().await;
    let server = Server::start(engine);
    let client = server.client();
    client.add(1, "GPA.1").await.ok();
    let mut crowd = server.connect_many(CROWD);
    // When this new client is answered, those before it have been accepted.
    server.client().get("/health").await.ok();
    let (connected, _) = server.memory_bytes();
    let lock = server.database().lock().await;
    let asked = Instant::now();
    ask_all(&mut crowd);
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    for connection in &mut crowd {
        *told.entry(code_of_refusal(connection)).or_default() += 1;
    }
    // What was begun waited for the lock; a slow machine may let some wait past the deadline.
    let begun = told.remove("database_unavailable").unwrap_or_default();
    let given_up = usize::try_from(asked.elapsed().as_secs() / LOCK_WAIT.as_secs()).expect("small");
    assert!(begun <= QUEUED_MOST + given_up * BATCH_MOST, "{begun} begun, {told:?}");
    assert!(told.remove("overloaded").is_some_and(|overloaded| overloaded > 0), "{told:?}");
    told.remove("deadline_exceeded");
    assert!(told.is_empty(), "{told:?}");
    let (_, peak) = server.memory_bytes();
    assert!(peak < connected + REQUESTS_LIMIT_BYTES, "from {connected} to {peak} bytes");
    lock.release().await;
    // What was begun for those who wait no longer may be in the way.
    eventually("there is room again", async || {
        let reply = client.add(1, "GPA.2").await;
        (reply.status != 503).then(|| reply.ok())
    })
    .await;
    client.get("/balance").await.is(200, &json!({"credits": 2, "allocated_tokens": {}}));
}
