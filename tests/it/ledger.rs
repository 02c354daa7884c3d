//! The ledger: every entry with all it has to tell, in pages of JSON or whole as CSV.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Engine, RawConnection, Reply, Server, on_both_engines};

on_both_engines![
    each_entry_tells_all_of_it,
    it_filters_and_pages_as_the_history,
    as_csv_it_is_told_whole,
    a_long_book_is_told_to_its_end,
    a_download_that_a_reset_overtakes_is_cut_off,
    a_download_that_loses_its_database_is_cut_off,
];

const MODEL: &str = "gemini-2.0-flash";
const HEADER: &str = "id,type,amount,credits_delta,bonus_delta,tokens_delta,model_id,\
    price_per_m_token,input_tokens,output_tokens,shortfall_tokens,store_transaction_id,reverses,\
    allocation_id,hold_id,reason,actor,created_at";

/// A purchase, an allocation, a consumption, half of it reversed, and the rest returned.
async fn live(client: &Client, reason: &str) {
    client.add(75, "GPA.1").await.ok();
    client.allocate(&[(MODEL, 75)]).await.ok();
    client.consume(MODEL, 300_000, 100_000).await.ok();
    let id = client.get("/ledger").await.ok()["items"][0]["id"].clone();
    let reversal = json!({"transaction_id": id, "tokens": 200_000, "reason": reason});
    client.post("/tokens/reverse", &reversal).await.ok();
    client.post("/credits/return", &json!({"model_id": MODEL})).await.ok();
}

async fn csv(client: &Client, query: &str) -> Reply {
    let path = format!("/api/billing/ledger{query}");
    Reply::to(client.request(Method::GET, &path).header("accept", "text/csv")).await
}

async fn each_entry_tells_all_of_it(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    live(&client, "the answer \"broke\" off").await;
    let reply = client.get("/ledger").await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let ledger = reply.ok();
    let items = ledger["items"].as_array().expect("a list");
    let id = |place: usize| items[place]["id"].clone();
    let entry = |kind: &str, amount: i64, credits: i64, tokens: i64| {
        json!({
            "type": kind, "amount": amount, "credits_delta": credits, "bonus_delta": 0,
            "tokens_delta": tokens, "model_id": MODEL, "price_per_m_token": null,
            "input_tokens": null, "output_tokens": null, "shortfall_tokens": null,
            "store_transaction_id": null, "reverses": null, "allocation_id": null,
            "hold_id": null, "reason": null, "actor": null,
        })
    };
    let with = |mut entry: Value, members: Value| {
        for (name, value) in members.as_object().expect("an object") {
            entry[name] = value.clone();
        }
        entry
    };
    let expected = [
        with(entry("return", 60, 60, -800_000), json!({"allocation_id": id(3)})),
        with(
            entry("reversal", 200_000, 0, 200_000),
            json!({"reverses": id(2), "reason": "the answer \"broke\" off"}),
        ),
        with(
            entry("consumption", 400_000, 0, -400_000),
            json!({"input_tokens": 300_000, "output_tokens": 100_000, "price_per_m_token": 75}),
        ),
        with(entry("allocation", 75, -75, 1_000_000), json!({"price_per_m_token": 75})),
        with(
            entry("purchase", 75, 75, 0),
            json!({"model_id": null, "store_transaction_id": "GPA.1"}),
        ),
    ];
    assert_eq!(items.len(), expected.len());
    for (item, expected) in items.iter().zip(expected) {
        let mut item = item.clone();
        let members = item.as_object_mut().expect("an object");
        let created_at = members.remove("created_at").expect("a time");
        let created_at = created_at.as_str().expect("a text");
        assert_eq!((created_at.len(), &created_at[26..]), (27, "Z"));
        members.remove("id");
        assert_eq!(item, expected);
    }
}

async fn it_filters_and_pages_as_the_history(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    live(&client, "wrong").await;
    for query in [
        "?limit=2",
        "?type=reversal",
        "?type=return",
        "?type=purchase&model_id=m",
        "?type=grant",
        "?model_id=gemini-2.0-flash&limit=1",
        "?model_id=none",
    ] {
        let history = client.get(&format!("/transactions{query}")).await;
        let ledger = client.get(&format!("/ledger{query}")).await;
        let ids = |list: &Value| -> Vec<Value> {
            list.as_array().expect("a list").iter().map(|line| line["id"].clone()).collect()
        };
        assert_eq!(ids(&ledger.ok()["items"]), ids(&history.ok()), "{query}");
        let next = history.header("link").map(|link| link.replace("/transactions", "/ledger"));
        assert_eq!(ledger.header("link"), next.as_deref(), "{query}");
    }
    let reply = client.get("/ledger?limit=0").await;
    assert_eq!(
        (reply.status, &reply.json()["detail"][0]["loc"]),
        (422, &json!(["query", "limit"]))
    );
    let reply = csv(&client, "?type=nothing").await;
    assert_eq!((reply.status, reply.header("content-type")), (422, Some("application/json")));
}

async fn as_csv_it_is_told_whole(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let empty = csv(&client, "").await;
    assert_eq!(empty.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!((empty.status, empty.text), (200, format!("{HEADER}\r\n")));
    live(&client, "=1+\"1\", 誤り").await;
    let items = client.get("/ledger").await.ok()["items"].clone();
    let whole = csv(&client, "?limit=1").await;
    assert!(whole.header("vary").is_some_and(|vary| vary.contains("accept")));
    let mut lines = whole.text.split("\r\n");
    assert_eq!(lines.next(), Some(HEADER));
    for item in items.as_array().expect("a list") {
        let fields = HEADER.split(',').map(|name| match &item[name] {
            Value::Null => String::new(),
            Value::String(text) if text.starts_with('=') => {
                format!("\"'{}\"", text.replace('"', "\"\""))
            }
            Value::String(text) => text.clone(),
            number => number.to_string(),
        });
        assert_eq!(lines.next(), Some(&*fields.collect::<Vec<_>>().join(",")));
    }
    assert_eq!((lines.next(), lines.next()), (Some(""), None));
    let some = csv(&client, "?type=reversal").await.text;
    assert_eq!(some.matches("\r\n").count(), 2);
    assert_eq!(csv(&client, "?type=purchase&model_id=m").await.text, format!("{HEADER}\r\n"));
}

/// A purchase, an allocation and so many consumptions, each with a text.
async fn write_a_book(server: &Server, consumptions: usize, reason: &str) {
    let client = server.client();
    client.add(75, "GPA.1").await.ok();
    client.allocate(&[(MODEL, 75)]).await.ok();
    let database = server.database();
    let numbers = match database.engine() {
        Engine::Sqlite => format!(
            "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {consumptions})
                SELECT i FROM n)"
        ),
        Engine::Postgres => format!("(SELECT generate_series(1, {consumptions}) AS i)"),
    };
    database
        .execute(&format!(
            "INSERT INTO transactions (user_id, type, amount, model_id, input_tokens, output_tokens,
                credits_delta, tokens_delta, reason, created_at)
             SELECT user_id, 'consumption', 1, '{MODEL}', 1, 0, 0, -1, '{reason}', created_at
             FROM {numbers} AS numbers, (SELECT user_id, created_at FROM users LIMIT 1) AS one"
        ))
        .await;
    database
        .execute(&format!(
            "UPDATE token_balances SET allocated_tokens = allocated_tokens - {consumptions}"
        ))
        .await;
}

async fn a_long_book_is_told_to_its_end(engine: Engine) {
    const CONSUMPTIONS: usize = 12_288;
    let server = Server::start(engine);
    write_a_book(&server, CONSUMPTIONS, "x").await;
    let client = server.client();
    let text = csv(&client, "").await.text;
    let lines: Vec<&str> = text.split_terminator("\r\n").skip(1).collect();
    assert_eq!(lines.len(), CONSUMPTIONS + 2);
    let ids: Vec<i64> = lines
        .iter()
        .map(|line| line.split(',').next().expect("a field").parse().expect("an id"))
        .collect();
    assert!(ids.is_sorted_by(|newer, older| newer > older));
    assert!(lines[lines.len() - 1].contains(",purchase,"));
}

/// What only a whole download ends with.
const END: &[u8] = b"\r\n0\r\n\r\n";
/// Together with [`LONG`] more than a connection takes that nobody reads from.
const LINES: usize = 16_384;

fn ask_for_all(server: &Server) -> RawConnection {
    let mut connection = server.connect();
    connection.send(
        "GET /api/billing/ledger HTTP/1.1\r\nHost: billing\r\nAccept: text/csv\r\n\
         Connection: close\r\n\r\n",
    );
    let head = connection.read_head();
    assert!(head.starts_with("http/1.1 200 ") && head.contains("chunked"), "{head}");
    connection
}

/// The download of a long book, in the middle of which something happens.
async fn cut_off(server: &Server, reason: &str, event: impl AsyncFnOnce(&Client)) {
    let long = "とても".repeat(64);
    write_a_book(server, LINES, &long).await;
    assert!(ask_for_all(server).read_to_end().ends_with(END), "nothing happens");
    let mut connection = ask_for_all(server);
    event(&server.client()).await;
    let told = connection.read_to_end();
    assert!(!told.ends_with(END), "{} bytes", told.len());
    let lines = String::from_utf8_lossy(&told).matches(&long).count();
    assert!((1..LINES).contains(&lines), "{lines}");
    let line = server.wait_for_log("a ledger was cut off");
    assert!(line.contains(reason), "{line}");
}

async fn a_download_that_a_reset_overtakes_is_cut_off(engine: Engine) {
    let server = Server::start_with(engine, &[("BILLING_ALLOW_RESET", "true")]);
    cut_off(&server, "the account was reset", async |client| {
        client.post("/reset", &json!({})).await.ok();
        // What comes after it does not make it whole again.
        live(client, "anew").await;
    })
    .await;
    let whole = ask_for_all(&server).read_to_end();
    assert!(whole.ends_with(END), "{}", String::from_utf8_lossy(&whole));
}

async fn a_download_that_loses_its_database_is_cut_off(engine: Engine) {
    let server = Server::start(engine);
    let database = server.database();
    cut_off(&server, "a ledger was cut off", async |_| database.take_away().await).await;
    database.give_back().await;
}
