//! A database that is made read-only, taken away or replaced under the running service: nothing is lost,
//! nothing appears in its place, and it works again when the database is back.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use crate::harness::{Client, Engine, Load, Reply, Server, on_both_engines, reached};

on_both_engines![
    a_database_made_read_only_is_read_and_not_written,
    a_database_that_was_taken_away_is_not_made_anew,
    a_database_taken_away_in_the_middle_of_the_work_loses_nothing,
];

const MODEL: &str = "gemini-2.0-flash";

fn is_unavailable(reply: &Reply) {
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    assert_eq!(reply.json()["code"], "database_unavailable", "{reply:?}");
    // The app takes certain digits for the end of a purchase.
    let detail = reply.json()["detail"].as_str().expect("a text").to_owned();
    assert!(!detail.contains(|c: char| c.is_ascii_digit()), "{detail}");
}

/// Every write, and health, say that it can't be done now.
async fn nothing_can_be_written(client: &Client) {
    is_unavailable(&client.add(1, "GPA.refused").await);
    is_unavailable(&client.allocate(&[(MODEL, 1)]).await);
    is_unavailable(&client.consume(MODEL, 1, 0).await);
    let health = client.get("/health").await;
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("unavailable")));
}

async fn nothing_can_be_read(client: &Client) {
    for path in ["/balance", "/balance/category/quick", "/transactions", "/pricing"] {
        is_unavailable(&client.get(path).await);
    }
}

fn files(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect()
}

async fn works_again(server: &Server, before: &Value) {
    let (client, engine) = (server.client(), server.database().engine());
    client.get("/health").await.ok();
    assert_eq!(&client.balance().await, before);
    reached(engine, async || client.add(1, "GPA.refused").await).await.ok();
    reached(engine, async || client.consume(MODEL, 1, 0).await).await.ok();
}

async fn a_database_made_read_only_is_read_and_not_written(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let before = client.balance().await;
    server.database().set_read_only(true).await;
    nothing_can_be_written(&client).await;
    assert_eq!(client.balance().await, before);
    assert_eq!(client.get("/transactions").await.ok().as_array().map(Vec::len), Some(2));
    server.database().set_read_only(false).await;
    works_again(&server, &before).await;
}

async fn a_database_that_was_taken_away_is_not_made_anew(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let before = client.balance().await;
    server.database().take_away().await;
    let left = files(server.directory());
    nothing_can_be_written(&client).await;
    nothing_can_be_read(&client).await;
    assert!(files(server.directory()).is_subset(&left), "{left:?}");
    server.database().give_back().await;
    works_again(&server, &before).await;
}

/// A PostgreSQL database is found by its name, so another one there is the database.
#[tokio::test]
async fn another_file_in_its_place_is_left_alone() {
    let server = Server::start(Engine::Sqlite);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let before = client.balance().await;
    let path = server.database().path().to_owned();
    let other = fs::read(&path).expect("it can be read");
    server.database().take_away().await;
    fs::write(&path, &other).expect("a file can be made");
    nothing_can_be_written(&client).await;
    nothing_can_be_read(&client).await;
    assert_eq!(fs::read(&path).expect("it can be read"), other);
    server.database().give_back().await;
    works_again(&server, &before).await;
}

async fn a_database_taken_away_in_the_middle_of_the_work_loses_nothing(engine: Engine) {
    let mut server = Server::start_with(engine, &Load::SETTINGS);
    Load::prepare(&server.client()).await;
    let mut load = Load::start(&server.client());
    load.reach(500).await;
    server.database().take_away().await;
    let left = files(server.directory());
    let mut journal = load.journal().await;
    assert!(journal.unsettled() > 0, "they all got through");
    assert!(files(server.directory()).is_subset(&left), "{left:?}");
    server.database().give_back().await;

    journal.compare(&server.database()).await;
    journal.settle(&server.client(), &server.database()).await;
    server.stop().await;
    journal.compare(&server.database()).await;
}
