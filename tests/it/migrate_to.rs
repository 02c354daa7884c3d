//! `token-billing migrate-to`: all of an SQLite database arrives in an empty PostgreSQL one, or nothing.

use serde_json::json;

use crate::harness::{
    Database, Engine, Finished, Home, Launch, Server, client::consumption, on_postgres,
};

on_postgres![
    everything_arrives_and_goes_on,
    what_somebody_uses_is_left_alone,
    nothing_is_kept_of_books_that_do_not_balance,
];

/// What both engines show in the same way: times are not among it.
const ROWS: [&str; 5] = [
    "SELECT CAST(id AS TEXT) || ' ' || user_id FROM users ORDER BY id",
    "SELECT user_id || ' ' || CAST(credits AS TEXT) || ' ' || CAST(bonus AS TEXT)
     FROM credits ORDER BY user_id",
    "SELECT CAST(id AS TEXT) || ' ' || user_id || ' ' || model_id || ' '
         || CAST(allocated_tokens AS TEXT)
     FROM token_balances ORDER BY id",
    "SELECT CAST(id AS TEXT) || ' ' || user_id || ' ' || type || ' ' || CAST(amount AS TEXT) || ' '
         || COALESCE(model_id, '-') || ' ' || COALESCE(transaction_id, '-') || ' '
         || COALESCE(CAST(metadata AS TEXT), '-') || ' '
         || COALESCE(CAST(input_tokens AS TEXT), '-') || ' '
         || COALESCE(CAST(output_tokens AS TEXT), '-') || ' '
         || COALESCE(CAST(price_per_m_token AS TEXT), '-') || ' '
         || CAST(credits_delta AS TEXT) || ' ' || CAST(tokens_delta AS TEXT)
     FROM transactions ORDER BY id",
    "SELECT model_id || ' ' || CAST(price_per_m_token AS TEXT) || ' ' || category
     FROM token_pricing ORDER BY model_id",
];

/// Every table, with how many rows it has; what only SQLite has are indexes that it keeps as tables.
async fn sizes(source: &Database, target: &Database) -> Vec<[String; 2]> {
    let tables =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> '_sqlx_migrations'
        AND name NOT IN ('idempotency_index', 'idempotency_indexed') ORDER BY name";
    let mut sizes = Vec::new();
    for table in source.texts(tables).await {
        let sql = format!("SELECT '{table} ' || CAST(count(*) AS TEXT) FROM {table}");
        let size = async |database: &Database| database.texts(&sql).await.concat();
        sizes.push([size(source).await, size(target).await]);
    }
    sizes
}

async fn rows(database: &Database) -> Vec<String> {
    let mut rows = Vec::new();
    for sql in ROWS {
        rows.append(&mut database.texts(sql).await);
    }
    rows
}

async fn migrate(server: &Server, target: &Home) -> Finished {
    Launch::new().finish(server.directory(), &["migrate-to", &target.database.url()]).await
}

/// A stopped service's database: with names and texts that look like the copy's own marks, and a price
/// that was changed.
async fn books() -> Server {
    let mut server = Server::start(Engine::Sqlite);
    let client = server.client();
    let odd = json!({"credits": 100, "purchase_record": {
        "transactionId": "GPA\\N.1", "note": "tab\tline\n\\N \\. \u{0} \"quoted\" 日本", "b": 1, "a": 2,
    }});
    client.post("/credits/add", &odd).await.ok();
    client.buy_tokens("gemini-2.0-flash", 75).await;
    let chat = consumption("gemini-2.0-flash", 5_000, 2_000);
    client.post_keyed("k\\N", "/tokens/consume", &chat).await.ok();
    server.stop().await;
    let price = "UPDATE token_pricing SET price_per_m_token = 80 WHERE model_id = 'gemini-2.5-pro'";
    server.database().execute(price).await;
    server.database().give("default_user", 30).await;
    server
}

async fn everything_arrives_and_goes_on() {
    let (source, target) = (books().await, Home::new(Engine::Postgres));
    let finished = migrate(&source, &target).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(0), 0), "{finished:?}");
    let [done] = &finished.stdout[..] else { panic!("one line: {finished:?}") };
    let counts = "1 user, 2 balances, 5 transactions, 1 idempotency key, checked";
    assert!(done.starts_with("done: postgres://") && done.ends_with(counts), "{done}");
    let copied = rows(&source.database()).await;
    assert_eq!(rows(&target.database).await, copied);
    for [source, target] in sizes(&source.database(), &target.database).await {
        assert_eq!(target, source);
    }

    let server = Server::start_at(target, Launch::new());
    let client = server.client();
    let chat = consumption("gemini-2.0-flash", 5_000, 2_000);
    let again = client.post_keyed("k\\N", "/tokens/consume", &chat).await;
    assert!(again.is_replayed(), "{again:?}");
    again.is(200, &json!({"success": true, "remaining_tokens": 993_000}));
    assert!(client.add(1, "GPA\\N.1").await.is_replayed());
    client.add(1, "GPA.new").await.ok();
    client.allocate(&[("gemini-2.5-pro", 80)]).await.ok();
    assert_eq!(client.get("/wallet").await.ok()["credits"], json!({"total": 51, "bonus": 0}));
    let history = client.get("/transactions").await.ok();
    let first = copied.iter().filter(|row| row.contains(" purchase ")).count();
    assert_eq!((first, &history[0]["type"]), (2, &json!("allocation")));
    let ids: Vec<i64> = history
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|transaction| transaction["id"].as_i64())
        .collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older), "{ids:?}");
    assert_eq!(ids.len(), 7);
    let verified = server.home().launch().finish(server.directory(), &["verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

/// Migrates, which must fail with one line that gives this reason, and leave the target as it is.
async fn check_refused(source: &Server, target: &Home, reason: &str) {
    let before = rows(&target.database).await;
    let finished = migrate(source, target).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(3), 1), "{finished:?}");
    assert!(finished.stderr[0].contains(reason), "{finished:?}");
    assert_eq!(rows(&target.database).await, before);
}

async fn what_somebody_uses_is_left_alone() {
    let source = books().await;
    let mut used = Server::start(Engine::Postgres);
    used.client().add(5, "GPA.9").await.ok();
    used.stop().await;
    check_refused(&source, used.home(), "is not empty; nothing was copied").await;
}

async fn nothing_is_kept_of_books_that_do_not_balance() {
    let source = books().await;
    let mut fresh = Server::start(Engine::Postgres);
    fresh.stop().await;
    source.database().execute("UPDATE credits SET credits = credits + 1").await;
    let finished = migrate(&source, fresh.home()).await;
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let found = "expected 130 credits, found 131";
    assert!(finished.stdout.iter().any(|line| line.contains(found)), "{finished:?}");
    assert!(fresh.database().texts("SELECT type FROM transactions").await.is_empty());
    source.database().execute("UPDATE credits SET credits = credits - 1").await;
    assert_eq!(migrate(&source, fresh.home()).await.code, Some(0));
}

#[tokio::test]
async fn where_to_is_said_plainly_and_no_password_is_repeated() {
    let source = books().await;
    for (url, code, reason) in [
        ("sqlite://other.db", 2, "migrate-to: must begin with postgres://"),
        ("mysql://u:hidden@localhost/x", 2, "migrate-to: must begin with"),
        ("postgres://u:hidden@[x", 2, "migrate-to: is not the URL of a database"),
        (
            "postgres://u:hidden@127.0.0.1:1/x",
            3,
            "cannot open the database 'postgres://127.0.0.1:1/x'",
        ),
    ] {
        let finished = Launch::new().finish(source.directory(), &["migrate-to", url]).await;
        assert_eq!((finished.code, finished.stderr.len()), (Some(code), 1), "{finished:?}");
        assert!(finished.stderr[0].contains(reason), "{finished:?}");
        assert!(!finished.stderr[0].contains("hidden"), "{finished:?}");
    }
}
