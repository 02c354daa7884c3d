//! What a request costs the server: a few rows, however many there are, whatever the server counted before.

use reqwest::Method;
use serde_json::json;

use crate::harness::{
    Client, Connection, Database, Engine, Reply, Server, client::consumption, eventually,
    on_postgres, token::SECRET,
};

on_postgres![
    rows_counted_before_there_were_any_make_no_plan_walk_tables,
    rows_counted_before_the_first_consumption_make_no_plan_walk_tables,
    rows_counted_by_an_earlier_start_make_no_plan_walk_tables,
    an_erasure_walks_no_tables,
];

const MODEL: &str = "gemini-2.0-flash";
const USERS: usize = 40;
/// Chats of each user.
const ROUNDS: usize = 12;
/// How many rows a request may have the server look at, in tables and in indexes, on average. One walk through
/// the accounts alone looks at more.
const ROWS_PER_REQUEST: usize = 24;
const TOKENS: [(&str, &str); 2] = [("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET)];

/// Prices, and what `SQLx` reads at the start, are few rows that are read whole.
const ROWS_READ: &str = "
    SELECT CAST(sum(rows) AS TEXT) FROM (
        SELECT seq_tup_read AS rows FROM pg_stat_user_tables
        WHERE relname NOT IN ('token_pricing', '_sqlx_migrations')
        UNION ALL
        SELECT idx_tup_read FROM pg_stat_user_indexes) AS read";

/// Rows that the server looked at for sessions that have ended, which tell so at their end.
async fn rows_read(database: &Database) -> usize {
    read_by(database, ROWS_READ).await
}

async fn read_by(database: &Database, sql: &str) -> usize {
    database.left_by_all().await;
    let mut connection = database.connect().await;
    let rows = connection.texts(sql).await;
    connection.close().await;
    rows[0].parse().expect("a number of rows")
}

async fn analyze(database: &Database) {
    let mut connection: Connection = database.connect().await;
    connection.execute("ANALYZE").await;
    connection.close().await;
}

fn users(server: &Server) -> Vec<Client> {
    (0..USERS).map(|number| server.client().of(&format!("user {number}"))).collect()
}

/// Everybody opens an account. Returns the number of requests.
async fn open(users: &[Client]) -> usize {
    for user in users {
        user.add(1_000, "").await.ok();
        user.allocate(&[(MODEL, 75)]).await.ok();
    }
    2 * users.len()
}

/// Everybody does what users do, one request after the other. Returns their number.
async fn work(users: &[Client]) -> usize {
    let body = consumption(MODEL, 10, 20);
    for round in 0..ROUNDS {
        for user in users {
            user.post("/tokens/consume", &body).await.ok();
            let key = format!("round-{round}");
            user.post_keyed(&key, "/tokens/consume", &body).await.ok();
            let hold = json!({"model_id": MODEL, "tokens": 100});
            let hold = user.post("/holds", &hold).await.ok()["hold_id"].clone();
            let hold = hold.as_str().expect("an id");
            let used = json!({"input_tokens": 1, "output_tokens": 2});
            user.post(&format!("/holds/{hold}/settle"), &used).await.ok();
            user.get("/balance").await.ok();
            user.get("/transactions?limit=5").await.ok();
        }
    }
    6 * ROUNDS * users.len()
}

async fn check(database: &Database, before: usize, requests: usize) {
    let rows = rows_read(database).await - before;
    assert!(
        rows <= ROWS_PER_REQUEST * requests,
        "{requests} requests had the server look at {rows} rows"
    );
}

async fn rows_counted_before_there_were_any_make_no_plan_walk_tables() {
    let mut server = Server::start_with(Engine::Postgres, &TOKENS);
    analyze(&server.database()).await;
    let users = users(&server);
    let requests = open(&users).await + work(&users).await;
    server.stop().await;
    check(&server.database(), 0, requests).await;
}

async fn rows_counted_before_the_first_consumption_make_no_plan_walk_tables() {
    let mut server = Server::start_with(Engine::Postgres, &TOKENS);
    let users = users(&server);
    let mut requests = open(&users).await;
    analyze(&server.database()).await;
    requests += work(&users).await;
    server.stop().await;
    check(&server.database(), 0, requests).await;
}

async fn rows_counted_by_an_earlier_start_make_no_plan_walk_tables() {
    let mut server = Server::start_with(Engine::Postgres, &TOKENS);
    open(&users(&server)).await;
    server.stop().await;
    let before = rows_read(&server.database()).await;
    analyze(&server.database()).await;
    server.start_again();
    let requests = work(&users(&server)).await;
    server.stop().await;
    check(&server.database(), before, requests).await;
}

/// The same of entries alone.
const ENTRIES_READ: &str = "
    SELECT CAST(sum(rows) AS TEXT) FROM (
        SELECT seq_tup_read AS rows FROM pg_stat_user_tables WHERE relname = 'transactions'
        UNION ALL
        SELECT idx_tup_read FROM pg_stat_user_indexes WHERE relname = 'transactions') AS read";
/// How many entries the server may look at for a start, and the erasure of one of the [`USERS`], who has some forty. All
/// have more than a thousand, and it is done in several pieces.
const ENTRIES_PER_ERASURE: usize = 600;
const NOT_SUMMED_UP: &str = "
    SELECT CAST((SELECT max(id) FROM transactions) - summed_until AS TEXT) FROM summary_state";

async fn an_erasure_walks_no_tables() {
    const OPERATOR: &str = "operator-token-0123456789-abcdefg";
    let settings = [&TOKENS[..], &[("BILLING_OPERATOR_TOKEN", OPERATOR)]].concat();
    let mut server = Server::start_with(Engine::Postgres, &settings);
    open(&users(&server)).await;
    analyze(&server.database()).await;
    work(&users(&server)).await;
    // Nothing else is left to do.
    eventually("all entries are in the sums", async || {
        let left = server.database().texts(NOT_SUMMED_UP).await;
        (left == ["0"]).then_some(())
    })
    .await;
    server.stop().await;
    let before = read_by(&server.database(), ENTRIES_READ).await;
    server.start_again();
    let path = "/api/billing/operator/users/user%200/erase";
    let request = server.client().request(Method::POST, path).bearer_auth(OPERATOR);
    let body = json!({"reason": "asked by mail", "forfeit": true});
    assert_eq!(Reply::to(request.json(&body)).await.status, 202);
    let database = server.database();
    database.until_all_erased().await;
    server.stop().await;
    let entries = read_by(&database, ENTRIES_READ).await - before;
    assert!(entries <= ENTRIES_PER_ERASURE, "the server looked at {entries} entries");
}
