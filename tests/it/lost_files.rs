//! A database file that is made read-only, taken away or replaced under the running service: nothing
//! is lost, nothing appears in its place, and it works again when the file is back.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::{Value, json};

use crate::harness::{Client, Load, Reply, Server};

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
    let client = server.client();
    client.get("/health").await.ok();
    assert_eq!(&client.balance().await, before);
    client.add(1, "GPA.refused").await.ok();
    client.consume(MODEL, 1, 0).await.ok();
}

#[tokio::test]
async fn a_database_made_read_only_is_read_and_not_written() {
    let server = Server::start();
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let before = client.balance().await;
    let path = server.database().path().to_owned();
    let set_mode = |mode| {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
    };
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    set_mode(0o444);
    nothing_can_be_written(&client).await;
    assert_eq!(client.balance().await, before);
    assert_eq!(client.get("/transactions").await.ok().as_array().map(Vec::len), Some(2));
    set_mode(mode);
    works_again(&server, &before).await;
}

#[tokio::test]
async fn a_database_that_was_taken_away_is_not_made_anew() {
    let server = Server::start();
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let before = client.balance().await;
    let path = server.database().path().to_owned();
    let away = server.directory().join("away.db");
    fs::rename(&path, &away).expect("the file can be moved");
    let left = files(server.directory());
    nothing_can_be_written(&client).await;
    nothing_can_be_read(&client).await;
    assert!(!path.exists(), "{:?}", files(server.directory()));
    assert!(files(server.directory()).is_subset(&left), "{left:?}");
    fs::rename(&away, &path).expect("the file can be moved");
    works_again(&server, &before).await;
}

#[tokio::test]
async fn another_file_in_its_place_is_left_alone() {
    let server = Server::start();
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let before = client.balance().await;
    let path = server.database().path().to_owned();
    let away = server.directory().join("away.db");
    fs::rename(&path, &away).expect("the file can be moved");
    let other = fs::read(&away).expect("it can be read");
    fs::write(&path, &other).expect("a file can be made");
    nothing_can_be_written(&client).await;
    nothing_can_be_read(&client).await;
    assert_eq!(fs::read(&path).expect("it can be read"), other);
    fs::rename(&away, &path).expect("the file can be moved");
    works_again(&server, &before).await;
}

#[tokio::test]
async fn a_database_taken_away_in_the_middle_of_the_work_loses_nothing() {
    let mut server = Server::start_with(&Load::SETTINGS);
    Load::prepare(&server.client()).await;
    let mut load = Load::start(&server.client());
    load.reach(500).await;
    let path = server.database().path().to_owned();
    let away = server.directory().join("away.db");
    fs::rename(&path, &away).expect("the file can be moved");
    let mut journal = load.journal().await;
    assert!(journal.unsettled() > 0, "they all got through");
    assert!(!path.exists());
    fs::rename(&away, &path).expect("the file can be moved");

    journal.compare(&server.database()).await;
    journal.settle(&server.client(), &server.database()).await;
    server.stop().await;
    journal.compare(&server.database()).await;
}
