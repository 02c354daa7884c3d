//! What was used: by day, month and model, exactly and never behind, whether it is in the sums or not yet.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat};
use chrono_tz::Tz;
use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};

use crate::harness::{
    Client, Engine, Server, begun, client::consumption, eventually, on_both_engines, on_postgres,
};
use crate::verify::verify;

on_both_engines![
    what_was_used_is_told_by_day_month_and_model,
    days_are_those_of_the_time_zone,
    a_query_that_is_malformed_lists_every_problem,
    sums_and_entries_come_to_the_same,
    wrong_sums_are_found,
    what_is_reversed_counts_on_its_own_day,
    what_many_calls_used_is_summed_up_unasked,
    a_second_reading_comes_to_the_same,
];

on_postgres![two_instances_come_to_the_same_sums];

const FLASH: &str = "gemini-2.0-flash";
/// What tells of all that [`write_many`] wrote, and of nothing newer.
const MANY: &str = "from=2026-01-01&to=2026-02-28";

async fn usage(client: &Client, query: &str) -> Value {
    client.get(&format!("/usage?{query}")).await.ok()
}

/// The day of a user's newest entry.
async fn newest_day(client: &Client) -> String {
    let newest = client.get("/transactions?limit=1").await.ok();
    newest[0]["created_at"].as_str().expect("a time")[..10].to_owned()
}

/// Entries of a user in the past. They take no tokens that were not there: each has its allocation.
async fn write(server: &Server, user: &str, times: &[(&str, i64, Option<i64>)]) {
    for (at, tokens, price) in times {
        let price = price.map_or_else(|| "NULL".to_owned(), |price| price.to_string());
        let sql = format!(
            "INSERT INTO transactions (user_id, type, amount, model_id, input_tokens,
                 output_tokens, price_per_m_token, credits_delta, tokens_delta, created_at)
             VALUES ('{user}', 'consumption', {tokens}, '{FLASH}', 1, {tokens} - 1, {price}, 0,
                 -{tokens}, '{at}');
             UPDATE token_balances SET allocated_tokens = allocated_tokens - {tokens}
             WHERE user_id = '{user}' AND model_id = '{FLASH}'"
        );
        server.database().execute(&sql).await;
    }
}

fn sums(requests: i64, input: i64, output: i64, cost: i64) -> Value {
    json!({
        "requests": requests, "input_tokens": input, "output_tokens": output,
        "total_tokens": input + output, "reversed_tokens": 0, "cost_credits_micro": cost,
    })
}

fn item(key: &str, time: &str, model: &str, sums: Value) -> Value {
    let Value::Object(sums) = sums else { panic!("an object") };
    let mut item = serde_json::Map::new();
    if !key.is_empty() {
        item.insert(key.to_owned(), time.into());
    }
    item.insert("model_id".to_owned(), model.into());
    item.extend(sums);
    item.into()
}

async fn what_was_used_is_told_by_day_month_and_model(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(FLASH, 75).await;
    let times = [
        ("2026-01-31T23:59:59.999999Z", 10, Some(75)),
        ("2026-02-01T00:00:00.000000Z", 20, Some(80)),
        ("2026-02-01T00:20:00.000000Z", 30, None),
    ];
    write(&server, "default_user", &times).await;
    let by_day = usage(&client, "from=2026-01-31&to=2026-02-01").await;
    // What does not tell its price counts at today's.
    let cost = [10 * 75, 20 * 80 + 30 * 75];
    let expected = json!({
        "timezone": "UTC", "from": "2026-01-31", "to": "2026-02-01",
        "items": [
            item("day", "2026-01-31", FLASH, sums(1, 1, 9, cost[0])),
            item("day", "2026-02-01", FLASH, sums(2, 2, 48, cost[1])),
        ],
        "totals": sums(3, 3, 57, cost[0] + cost[1]),
    });
    assert_eq!(by_day, expected);
    let by_month = usage(&client, "from=2026-01-01&to=2026-02-28&by=month").await;
    let first = item("month", "2026-01", FLASH, sums(1, 1, 9, cost[0]));
    assert_eq!(by_month["items"][0], first);
    assert_eq!(by_month["items"][1]["month"], "2026-02");
    let by_model = usage(&client, "from=2026-01-01&to=2026-02-28&by=model").await;
    let all = item("", "", FLASH, sums(3, 3, 57, cost[0] + cost[1]));
    assert_eq!(by_model["items"], json!([all]));
    let nothing = usage(&client, "from=2020-01-01&to=2020-01-01").await;
    assert_eq!((&nothing["items"], &nothing["totals"]), (&json!([]), &sums(0, 0, 0, 0)));
    assert_eq!(usage(&client.of("ann"), "from=2026-01-01&to=2026-02-28").await["timezone"], "UTC");
}

async fn days_are_those_of_the_time_zone(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(FLASH, 75).await;
    let times = [
        ("2026-01-31T18:14:59.999999Z", 10, Some(75)),
        ("2026-01-31T18:15:00.000000Z", 20, Some(75)),
    ];
    write(&server, "default_user", &times).await;
    for (zone, days) in [
        ("UTC", vec!["2026-01-31"]),
        ("Asia/Kathmandu", vec!["2026-01-31", "2026-02-01"]),
        ("Asia/Tokyo", vec!["2026-02-01"]),
        ("America/New_York", vec!["2026-01-31"]),
    ] {
        let query = format!("from=2026-01-01&to=2026-02-28&timezone={zone}");
        let told = usage(&client, &query).await;
        let items = told["items"].as_array().expect("a list");
        let found: Vec<_> = items.iter().map(|item| item["day"].as_str().expect("a day")).collect();
        assert_eq!((&told["timezone"], found), (&json!(zone), days));
    }
}

async fn a_query_that_is_malformed_lists_every_problem(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    for (query, names) in [
        ("", vec!["from", "to"]),
        ("from=2026-1-01&to=2026-02-30", vec!["from", "to"]),
        ("from=2026-01-01&to=2026-01-01&by=year&timezone=Mars", vec!["by", "timezone"]),
        ("from=2026-01-02&to=2026-01-01", vec!["to"]),
        ("from=2026-01-01&to=2027-02-05", vec!["to"]),
        ("from=0000-01-01&to=%2B026-01-01", vec!["from", "to"]),
    ] {
        let reply = client.get(&format!("/usage?{query}")).await;
        assert_eq!(reply.status, 422, "{query}");
        let detail = reply.json()["detail"].as_array().cloned().expect("a list");
        let places: Vec<_> = detail.iter().map(|problem| problem["loc"].clone()).collect();
        let expected: Vec<_> = names.iter().map(|name| json!(["query", name])).collect();
        assert_eq!(places, expected, "{query}");
    }
    client.get("/usage?from=2026-01-01&to=2027-02-04").await.ok();
}

/// More than are left in no sums, in the 35 days of [`MANY`], with every number known by heart.
async fn write_many(server: &Server, count: i64) {
    let (numbers, time) = match server.database().engine() {
        Engine::Sqlite => (
            format!("(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})
                 SELECT i FROM n) AS numbers"),
            "strftime('%Y-%m-%dT%H:%M:%f000Z', 1767225600 + i * 600, 'unixepoch')",
        ),
        Engine::Postgres => {
            (format!("generate_series(1, {count}) AS numbers (i)"), "to_timestamp(1767225600 + i * 600)")
        }
    };
    let sql = format!(
        "INSERT INTO transactions (user_id, type, amount, model_id, input_tokens, output_tokens,
             price_per_m_token, credits_delta, tokens_delta, created_at)
         SELECT 'default_user', 'consumption', 2, '{FLASH}', 1, 1,
             CASE i % 3 WHEN 0 THEN NULL ELSE 70 + i % 3 END, 0, -2, {time} FROM {numbers};
         UPDATE token_balances SET allocated_tokens = allocated_tokens - 2 * {count}
         WHERE user_id = 'default_user' AND model_id = '{FLASH}'"
    );
    server.database().execute(&sql).await;
}

async fn sums_and_entries_come_to_the_same(engine: Engine) {
    let mut server = Server::start_with(engine, &[("BILLING_ALLOW_RESET", "true")]);
    server.client().buy_tokens(FLASH, 75).await;
    write_many(&server, 5_000).await;
    let query = &format!("{MANY}&timezone=Asia/Kathmandu");
    let told = usage(&server.client(), query).await;
    assert_eq!(told["totals"]["requests"], 5_000);
    // Whoever asked has them summed up meanwhile.
    let mut summed = Vec::new();
    while summed != ["5000"] {
        assert_eq!(usage(&server.client(), query).await, told);
        let sql = "SELECT CAST(coalesce(sum(requests), 0) AS text) FROM usage_sums";
        summed = server.database().texts(sql).await;
    }
    assert_eq!(usage(&server.client(), query).await, told);
    server.stop().await;
    server.start_again();
    assert_eq!(usage(&server.client(), query).await, told);
    let verified = verify(server.home()).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    // Today's price counts for what has none.
    let price =
        format!("UPDATE token_pricing SET price_per_m_token = 1000 WHERE model_id = '{FLASH}'");
    server.database().execute(&price).await;
    let dearer = usage(&server.client(), query).await;
    let cost = |told: &Value| told["totals"]["cost_credits_micro"].as_i64().expect("a number");
    assert_eq!(cost(&dearer) - cost(&told), (5_000 / 3) * 2 * (1_000 - 75));
    server.client().post("/reset", &json!({})).await.ok();
    let nothing = usage(&server.client(), query).await;
    assert_eq!((&nothing["items"], &nothing["totals"]), (&json!([]), &sums(0, 0, 0, 0)));
}

async fn wrong_sums_are_found(engine: Engine) {
    let server = Server::start(engine);
    server.client().buy_tokens(FLASH, 75).await;
    let time = ("2026-01-31T18:14:59.999999Z", 10, Some(75));
    write(&server, "default_user", &[time]).await;
    let sums = format!(
        "INSERT INTO usage_sums VALUES ('default_user', 1966536, '{FLASH}', 1, 1, 9, 10, 0, 0, 749, 0);
         INSERT INTO usage_state SELECT 'default_user', max(id) FROM transactions"
    );
    server.database().execute(&sums).await;
    let verified = verify(server.home()).await;
    assert_eq!(verified.code, Some(1), "{verified:?}");
    assert!(format!("{verified:?}").contains("sums of usage"), "{verified:?}");
    server.database().execute("UPDATE usage_sums SET cost_low = 750").await;
    let verified = verify(server.home()).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

/// What comes back counts on the day on which it does, and apart from what was used.
async fn what_is_reversed_counts_on_its_own_day(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(FLASH, 75).await;
    write(&server, "default_user", &[("2026-01-31T12:00:00.000000Z", 10, Some(75))]).await;
    let id = client.get("/transactions?limit=1").await.ok()[0]["id"].clone();
    let body = json!({"transaction_id": id, "tokens": 4, "reason": "the answer broke off"});
    client.post("/tokens/reverse", &body).await.ok();
    let today = newest_day(&client).await;
    let used = usage(&client, "from=2026-01-31&to=2026-01-31").await;
    assert_eq!(used["totals"], sums(1, 1, 9, 750));
    let reversed = usage(&client, &format!("from={today}&to={today}")).await;
    let mut expected = item("day", &today, FLASH, sums(0, 0, 0, 0));
    expected["reversed_tokens"] = 4.into();
    assert_eq!(reversed["items"], json!([expected]));
}

/// Consumptions that nobody asks about are summed up as well, some of the newest excepted.
async fn what_many_calls_used_is_summed_up_unasked(engine: Engine) {
    const CALLS: i64 = 4_200;
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(FLASH, 75).await;
    let first_day = newest_day(&client).await;
    let calls = stream::iter(0..CALLS).map(|_| begun(|| client.consume(FLASH, 1, 1)));
    calls.for_each_concurrent(64, async |call| drop(call.await.ok())).await;
    eventually("they are in the sums", async || {
        let sql = "SELECT CAST(coalesce(sum(requests), 0) AS text) FROM usage_sums";
        let summed: i64 = server.database().texts(sql).await[0].parse().expect("a number");
        (summed >= 4_096).then_some(())
    })
    .await;
    let last_day = newest_day(&client).await;
    let told = usage(&client, &format!("from={first_day}&to={last_day}")).await;
    assert_eq!(told["totals"], sums(CALLS, CALLS, CALLS, 2 * CALLS * 75));
}

/// A consumption, made again as long as it can't be carried out now: the instances wait for each other's locks. It has
/// a key, for it may have been carried out all the same.
async fn carried_out(client: &Client, key: &str) {
    let body = consumption(FLASH, 1, 1);
    eventually("it is carried out", async || {
        let reply = client.post_keyed(key, "/tokens/consume", &body).await;
        assert!(reply.status == 200 || reply.header("retry-after").is_some(), "{reply:?}");
        (reply.status == 200).then_some(())
    })
    .await;
}

/// The instances sum up the same users, and both go on writing.
async fn two_instances_come_to_the_same_sums() {
    let server = Server::start(Engine::Postgres);
    let other = server.launch().start(server.directory());
    let clients = [server.client(), Client::new(other.address)];
    clients[0].buy_tokens(FLASH, 75).await;
    let first_day = newest_day(&clients[0]).await;
    write_many(&server, 5_000).await;
    let told = join_all(clients.iter().cycle().take(8).map(|client| usage(client, MANY))).await;
    assert!(told.iter().all(|told| told["totals"]["requests"] == 5_000), "{told:?}");
    let calls = stream::iter(clients.iter().cycle().take(200).zip(0..));
    calls
        .for_each_concurrent(16, async |(client, number)| {
            carried_out(client, &format!("call-{number}")).await;
        })
        .await;
    let now = format!("from={first_day}&to={}", newest_day(&clients[0]).await);
    eventually("they are in the sums", async || {
        for (query, requests) in [(MANY, 5_000), (&*now, 200)] {
            let told = join_all(clients.iter().map(|client| usage(client, query))).await;
            assert!(told.iter().all(|told| told["totals"]["requests"] == requests), "{told:?}");
        }
        let sql = "SELECT CAST(coalesce(sum(requests), 0) AS text) FROM usage_sums";
        let summed: i64 = server.database().texts(sql).await[0].parse().expect("a number");
        (summed >= 5_000).then_some(())
    })
    .await;
    let verified = verify(server.home()).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
}

/// Around the days on which clocks are changed, in zones near and far, as one adds up by hand.
async fn a_second_reading_comes_to_the_same(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(FLASH, 75).await;
    // Steps that don't repeat within a day, over a year.
    let time = |step: i64| 1_767_225_600 + step * 86_400 + (step * 40_503) % 86_400;
    let times: Vec<_> = (0..365).map(|step| DateTime::from_timestamp(time(step), 0)).collect();
    let times: Vec<_> = times.into_iter().map(|time| time.expect("a time")).collect();
    let texts: Vec<_> =
        times.iter().map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, true)).collect();
    let rows: Vec<_> =
        texts.iter().zip(2..).map(|(text, tokens)| (text.as_str(), tokens, Some(tokens))).collect();
    write(&server, "default_user", &rows).await;
    for zone in ["UTC", "Asia/Tokyo", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut"] {
        let tz: Tz = zone.parse().expect("a zone");
        let mut expected: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for (time, tokens) in times.iter().zip(2..) {
            let day = time.with_timezone(&tz).date_naive().to_string();
            let sum = expected.entry(day).or_default();
            *sum = (sum.0 + tokens, sum.1 + tokens * tokens);
        }
        let told = usage(&client, &format!("from=2025-12-31&to=2027-01-01&timezone={zone}")).await;
        let numbers = |item: &Value| {
            let number = |name: &str| item[name].as_i64().expect("a number");
            let day = item["day"].as_str().expect("a day").to_owned();
            (day, (number("total_tokens"), number("cost_credits_micro")))
        };
        let told: BTreeMap<_, _> =
            told["items"].as_array().expect("a list").iter().map(numbers).collect();
        assert_eq!(told, expected, "{zone}");
    }
}
