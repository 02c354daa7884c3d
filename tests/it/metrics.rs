//! The numbers for monitoring: what they count, where they are read, and that the dashboard and the
//! alerts ask for nothing else.

use std::{collections::BTreeSet, net::TcpListener};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Client, Database, Engine, Launch, Reply, Server, eventually, on_both_engines,
    stores::{
        Flaw, GooglePurchase, StandIn, consumable, google_token, pushes::app_store_notification,
    },
};

on_both_engines![
    money_and_requests_are_counted,
    repeated_requests_count_no_money_twice,
    what_the_database_prevents_is_counted_by_code,
    requests_over_the_limit_are_counted_by_policy,
    purchases_and_requests_to_the_stores_are_counted,
    they_are_read_at_a_socket_of_their_own_only,
    dashboard_and_alerts_ask_for_what_is_there,
];

const MODEL: &str = "gemini-2.0-flash";
const SETTINGS: [(&str, &str); 3] = [
    ("BILLING_METRICS_LISTEN", "127.0.0.1:0"),
    ("BILLING_DATABASE_MAX_BYTES", "100000000"),
    ("BILLING_ALLOW_RESET", "true"),
];
/// What a histogram's name gets behind it.
const HISTOGRAM_SUFFIXES: [&str; 3] = ["_bucket", "_count", "_sum"];

/// A client of the socket where the numbers are.
fn scraper(server: &Server) -> Client {
    let line = server.wait_for_log("metrics=127.0.0.1:");
    let (_, address) = line.rsplit_once("metrics=").expect("just looked for");
    Client::new(address.trim().parse().expect("a socket address"))
}

async fn scrape(scraper: &Client) -> String {
    let reply = Reply::to(scraper.request(Method::GET, "/metrics")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    reply.text
}

/// The value of a series, by its name with all its labels.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// A request is counted after it was answered, so a scrape right behind it may be too early.
async fn reaches(scraper: &Client, series: &str, expected: f64) {
    eventually(&format!("{series} is {expected}"), async || {
        (value(&scrape(scraper).await, series) == Some(expected)).then_some(())
    })
    .await;
}

/// Every call of the API once, and some refusals.
async fn work(client: &Client) {
    client.add(300, "GPA.1").await.ok();
    assert!(client.add(300, "GPA.1").await.is_replayed());
    client.allocate(&[(MODEL, 100), ("gemini-2.5-pro", 50)]).await.ok();
    client.consume(MODEL, 1_000, 200).await.ok();
    client.consume(MODEL, 0, 34).await.ok();
    assert_eq!(client.consume("gemini-2.5-pro", 1_000_000, 0).await.status, 400);
    assert_eq!(client.consume("no such model", 1, 0).await.status, 400);
    for path in ["/balance", "/balance/category/quick", "/transactions", "/pricing", "/health"] {
        client.get(path).await.ok();
    }
    for path in ["/livez", "/readyz"] {
        Reply::to(client.request(Method::GET, path)).await.ok();
    }
}

async fn money_and_requests_are_counted(engine: Engine) {
    let server = Server::start_with(engine, &SETTINGS);
    let (client, scraper) = (server.client(), scraper(&server));
    work(&client).await;
    for number in 0..3 {
        assert_eq!(client.get(&format!("/guess/{number}")).await.status, 404);
    }
    assert_eq!(Reply::to(client.request(Method::GET, "/docs/nothing.js")).await.status, 404);
    let odd = Method::from_bytes(b"BREW").expect("a token");
    assert_eq!(Reply::to(client.request(odd, "/livez")).await.status, 405);
    let requests = |labels: &str| format!("token_billing_http_requests_total{{{labels}}}");
    for (labels, count) in [
        ("route=\"/api/billing/credits/add\",method=\"POST\",status=\"200\"", 2.0),
        ("route=\"/api/billing/tokens/consume\",method=\"POST\",status=\"400\"", 2.0),
        ("route=\"/api/billing/balance/category/{category}\",method=\"GET\",status=\"200\"", 1.0),
        ("route=\"other\",method=\"GET\",status=\"404\"", 3.0),
        ("route=\"/livez\",method=\"other\",status=\"405\"", 1.0),
        ("route=\"/docs/{file}\",method=\"GET\",status=\"404\"", 1.0),
    ] {
        reaches(&scraper, &requests(labels), count).await;
    }
    // For each lane.
    let queue_limit = if engine == Engine::Postgres { 4_096.0 } else { 1_024.0 };
    let consumed = format!("token_billing_tokens_consumed_total{{model=\"{MODEL}\"}}");
    for (series, expected) in [
        ("token_billing_credits_purchased_total", 300.0),
        ("token_billing_credits_allocated_total", 150.0),
        (consumed.as_str(), 1_234.0),
        ("token_billing_refusals_total{code=\"insufficient_tokens\"}", 1.0),
        ("token_billing_refusals_total{code=\"no_token_balance\"}", 1.0),
        ("token_billing_ledger_batch_operations_sum", 7.0),
        ("token_billing_ledger_queue_depth", 0.0),
        ("token_billing_ledger_queue_limit", queue_limit),
        ("token_billing_database_max_bytes", 100_000_000.0),
    ] {
        reaches(&scraper, series, expected).await;
    }
    // The database may just be growing.
    let text = eventually("its size is shown", async || {
        let text = scrape(&scraper).await;
        let shown = value(&text, "token_billing_database_bytes").map(|bytes| bytes.to_string());
        (shown == Some(size(&server.database()).await)).then_some(text)
    })
    .await;
    // The log of a PostgreSQL server is not one database's.
    let wal_bytes = value(&text, "token_billing_database_wal_bytes");
    assert_eq!(wal_bytes > Some(0.0), engine == Engine::Sqlite, "{text}");
    assert!(!text.contains("guess") && !text.contains("no such model"), "{text}");
}

/// How many bytes the database takes.
async fn size(database: &Database) -> String {
    match database {
        Database::Sqlite(path) => {
            std::fs::metadata(path).expect("the file is there").len().to_string()
        }
        Database::Postgres(_) => {
            let size = "SELECT CAST(pg_database_size(current_database()) AS TEXT)";
            database.texts(size).await.swap_remove(0)
        }
    }
}

async fn repeated_requests_count_no_money_twice(engine: Engine) {
    let server = Server::start_with(engine, &SETTINGS);
    let (client, scraper) = (server.client(), scraper(&server));
    client.buy_tokens(MODEL, 75).await;
    for _ in 0..3 {
        let body = crate::harness::client::consumption(MODEL, 10, 0);
        client.post_keyed("once", "/tokens/consume", &body).await.ok();
    }
    let consumed = format!("token_billing_tokens_consumed_total{{model=\"{MODEL}\"}}");
    assert_eq!(value(&scrape(&scraper).await, &consumed), Some(10.0));
}

async fn what_the_database_prevents_is_counted_by_code(engine: Engine) {
    let server = Server::start_with(engine, &SETTINGS);
    let scraper = scraper(&server);
    server.database().take_away().await;
    assert_eq!(server.client().add(1, "GPA.1").await.status, 503);
    let text = scrape(&scraper).await;
    let series = "token_billing_operations_unavailable_total{code=\"database_unavailable\"}";
    assert_eq!(value(&text, series), Some(1.0));
    assert_eq!(value(&text, "token_billing_database_bytes"), Some(0.0));
    server.database().give_back().await;
}

async fn requests_over_the_limit_are_counted_by_policy(engine: Engine) {
    let server =
        Server::start_with(engine, &[&SETTINGS[..], &[("BILLING_RATE_LIMIT", "1")]].concat());
    let (client, scraper) = (server.client(), scraper(&server));
    let over_limit = "token_billing_http_requests_over_limit_total";
    assert_eq!(
        value(&scrape(&scraper).await, &format!("{over_limit}{{policy=\"user\"}}")),
        Some(0.0)
    );
    let mut refused = 0.0;
    eventually("a request is over the limit", async || {
        for reply in join_all((0..20).map(|_| client.get("/balance"))).await {
            refused += f64::from(u8::from(reply.status == 429));
        }
        (refused > 0.0).then_some(())
    })
    .await;
    let route = "route=\"/api/billing/balance\",method=\"GET\",status=\"429\"";
    for (series, expected) in [
        (format!("token_billing_http_requests_total{{{route}}}"), refused),
        (format!("{over_limit}{{policy=\"user\"}}"), refused),
        (format!("{over_limit}{{policy=\"address\"}}"), 0.0),
    ] {
        reaches(&scraper, &series, expected).await;
    }
}

/// A service that asks the stores, which has granted a purchase of Google's and looked up one of Apple's whose
/// certificates lead nowhere, and which Apple has told of another.
async fn asked_stores(engine: Engine) -> (Server, StandIn) {
    const SMALL: &str = "noteapp.credits.small";
    let stores = StandIn::new();
    let launch = stores.known_to(Launch::new());
    let launch = SETTINGS.iter().fold(launch, |launch, (name, value)| launch.set(name, *value));
    let server = Server::start_as(engine, launch);
    let bring = async |token: &str| {
        let record = json!({"purchaseToken": token});
        let body = json!({"credits": 300, "purchase_record": record});
        server.client().post("/credits/add", &body).await
    };
    let token = google_token("a");
    stores.google.sell(GooglePurchase::paid(&token, SMALL));
    bring(&token).await.ok();
    let leads_nowhere = stores.apple.authority.flawed(Flaw::OtherRoot);
    assert_eq!(bring(&leads_nowhere.sign(&consumable("1001", SMALL))).await.status, 503);
    let transaction = stores.apple.signed(&consumable("1002", SMALL));
    let told = app_store_notification("REFUND_DECLINED", "1", &transaction);
    let told = json!({"signedPayload": stores.apple.signed(&told)});
    server.client().post("/notifications/apple", &told).await.is(200, &json!({}));
    (server, stores)
}

async fn purchases_and_requests_to_the_stores_are_counted(engine: Engine) {
    let (server, _stores) = asked_stores(engine).await;
    let scraper = scraper(&server);
    for (series, expected) in [
        ("token_billing_purchases{store=\"google\",state=\"granted\"}", 1.0),
        ("token_billing_purchases{store=\"apple\",state=\"received\"}", 1.0),
        ("token_billing_purchases{store=\"apple\",state=\"review\"}", 0.0),
        ("token_billing_acknowledgements_due", 0.0),
        ("token_billing_acknowledgements_oldest_seconds", 0.0),
    ] {
        reaches(&scraper, series, expected).await;
    }
    let requests = |labels: &str| format!("token_billing_store_requests_total{{{labels}}}");
    for (labels, expected) in [
        ("store=\"google\",call=\"purchase\",outcome=\"ok\"", 1.0),
        ("store=\"google\",call=\"acknowledge\",outcome=\"ok\"", 1.0),
        ("store=\"google\",call=\"purchase\",outcome=\"refused\"", 0.0),
        ("store=\"apple\",call=\"verify\",outcome=\"chain\"", 1.0),
    ] {
        reaches(&scraper, &requests(labels), expected).await;
    }
}

async fn they_are_read_at_a_socket_of_their_own_only(engine: Engine) {
    let server = Server::start_with(engine, &SETTINGS);
    let scraper = scraper(&server);
    assert_eq!(Reply::to(server.client().request(Method::GET, "/metrics")).await.status, 404);
    for (method, path, status) in [
        (Method::HEAD, "/metrics", 200),
        (Method::POST, "/metrics", 405),
        (Method::GET, "/", 404),
        (Method::GET, "/api/billing/balance", 404),
    ] {
        let reply = Reply::to(scraper.request(method, path)).await;
        assert_eq!((reply.status, reply.text.as_str()), (status, ""), "{path}: {reply:?}");
    }
}

#[test]
fn a_socket_that_is_taken_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let directory = TempDir::new().expect("a temporary directory can be made");
    let launch = Launch::new().set("BILLING_METRICS_LISTEN", address);
    let failed = launch.fail_to_start(directory.path());
    assert_eq!((failed.code, failed.stderr.len()), (Some(1), 1), "{failed:?}");
    assert!(failed.stderr[0].contains("BILLING_METRICS_LISTEN"), "{failed:?}");
}

async fn dashboard_and_alerts_ask_for_what_is_there(engine: Engine) {
    let server = Server::start_with(engine, &SETTINGS);
    let scraper = scraper(&server);
    let client = server.client();
    work(&client).await;
    let used = client.get("/transactions?type=consumption&limit=1").await.ok()[0]["id"].clone();
    let back = json!({"transaction_id": used, "reason": "the answer was cut off"});
    client.post("/tokens/reverse", &back).await.ok();
    let mut emitted = names(&scrape(&scraper).await);
    let (asking, _stores) = asked_stores(engine).await;
    emitted.extend(names(&scrape(&self::scraper(&asking)).await));
    let dashboard: Value = serde_json::from_str(include_str!("../../ops/grafana.json"))
        .expect("the dashboard is JSON");
    let shown: BTreeSet<String> =
        expressions(&dashboard).iter().flat_map(|text| names(text)).collect();
    let alerted = names(include_str!("../../ops/alerts.yml"));
    for (file, asked) in [("grafana.json", &shown), ("alerts.yml", &alerted)] {
        let unknown: Vec<_> = asked.difference(&emitted).collect();
        assert!(unknown.is_empty(), "{file} asks for {unknown:?}");
    }
    // What nobody looks at need not be counted.
    let families = |names: &BTreeSet<String>| -> BTreeSet<String> {
        names.iter().map(|name| family(name).to_owned()).collect()
    };
    assert_eq!(families(&shown), families(&emitted), "the dashboard shows everything");
}

/// The queries of all panels and variables.
fn expressions(dashboard: &Value) -> Vec<&str> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let queries = dashboard["templating"]["list"].as_array().expect("variables").iter();
    targets
        .map(|target| target["expr"].as_str().expect("an expression"))
        .chain(queries.filter_map(|variable| variable["query"]["query"].as_str()))
        .collect()
}

/// The names of series in a text: of the samples of a scrape, or in queries.
fn names(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .filter(|word| word.starts_with("token_billing_"))
        .map(ToOwned::to_owned)
        .collect()
}

/// The name under which a histogram's series belong together.
fn family(name: &str) -> &str {
    HISTOGRAM_SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}
