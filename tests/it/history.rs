//! The history: pages, filters, and the link from one page to the next.

use serde_json::{Value, json};

use crate::harness::{Client, Engine, Reply, Server, on_both_engines};

on_both_engines![
    pages_add_up_to_the_whole_for_every_filter,
    a_page_holds_100_unless_told,
    entries_that_arrive_meanwhile_do_not_shift_the_pages,
];

/// Walks from page to page along the `Link` headers; checks every page's length.
async fn walk(client: &Client, query: &str, limit: usize) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut path = format!("/api/billing/transactions?{query}");
    loop {
        let reply = Reply::to(client.request(reqwest::Method::GET, &path)).await;
        let page = reply.ok();
        let page = page.as_array().expect("a plain array");
        entries.extend_from_slice(page);
        let Some(link) = reply.header("link") else {
            assert!(page.len() <= limit, "{path}: {} entries", page.len());
            return entries;
        };
        assert_eq!(page.len(), limit, "a page that is followed by another is full: {path}");
        let next = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\""));
        next.unwrap_or_else(|| panic!("a link: {link}")).clone_into(&mut path);
        let last = &page.last().expect("an entry")["id"];
        assert!(path.starts_with("/api/billing/transactions?"), "{path}");
        assert!(path.contains(&format!("before={last}")), "{path} goes on below {last}");
    }
}

/// A history of 5 purchases, 10 allocations of two models, and 12 consumptions.
async fn make_history(client: &Client) {
    for number in 0..5 {
        client.add(100, &format!("GPA.{number}")).await.ok();
        client.allocate(&[("gemini-2.0-flash", 7), ("gemini-2.5-pro", 8)]).await.ok();
        client.consume("gemini-2.0-flash", number, 1).await.ok();
        client.consume("gemini-2.5-pro", number, 2).await.ok();
    }
    client.consume("gemini-2.0-flash", 50, 50).await.ok();
    client.consume("gemini-2.0-flash", 60, 60).await.ok();
}

async fn pages_add_up_to_the_whole_for_every_filter(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    make_history(&client).await;
    let all = client.get("/transactions?limit=1000").await;
    assert_eq!(all.header("link"), None);
    let all = all.ok();
    let all = all.as_array().expect("an array");
    let ids: Vec<i64> = all.iter().map(|entry| entry["id"].as_i64().expect("an id")).collect();
    assert_eq!(ids, (1..=27).rev().collect::<Vec<_>>(), "newest first");

    let kinds = [None, Some("purchase"), Some("allocation"), Some("consumption")];
    let models = [None, Some("gemini-2.0-flash"), Some("gemini-2.5-pro"), Some("a&b c")];
    for (kind, model) in kinds.iter().flat_map(|kind| models.iter().map(move |model| (kind, model)))
    {
        let expected: Vec<&Value> = all
            .iter()
            .filter(|entry| kind.is_none_or(|kind| entry["type"] == kind))
            .filter(|entry| model.is_none_or(|model| entry["model_id"] == model))
            .collect();
        let mut filters = String::new();
        if let Some(kind) = kind {
            filters.push_str("&type=");
            filters.push_str(kind);
        }
        if let Some(model) = model {
            let encoded = model.replace('&', "%26").replace(' ', "%20");
            filters.push_str("&model_id=");
            filters.push_str(&encoded);
        }
        for limit in [1, 3, 5, 12, 1_000] {
            let found = walk(&client, &format!("limit={limit}{filters}"), limit).await;
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "limit={limit}{filters}");
        }
        let found = walk(&client, &format!("limit=4&before=20{filters}"), 4).await;
        let below: Vec<&Value> = expected
            .into_iter()
            .filter(|entry| entry["id"].as_i64().is_some_and(|id| id < 20))
            .collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), below, "before=20{filters}");
    }
}

async fn a_page_holds_100_unless_told(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    for number in 0..101 {
        client.add(1, &format!("GPA.{number}")).await.ok();
    }
    let page = client.get("/transactions").await;
    assert_eq!(page.ok().as_array().map(Vec::len), Some(100));
    assert!(page.header("link").is_some(), "{page:?}");
    let page = client.get("/transactions?limit=101").await;
    assert_eq!(page.ok().as_array().map(Vec::len), Some(101));
    assert_eq!(page.header("link"), None, "an exactly full last page has no next one");
}

async fn entries_that_arrive_meanwhile_do_not_shift_the_pages(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    for number in 0..4 {
        client.add(1, &format!("GPA.{number}")).await.ok();
    }
    let first = client.get("/transactions?limit=2").await;
    client.add(1, "GPA.late").await.ok();
    let link = first.header("link").expect("more remain");
    let next = link.trim_start_matches('<').split_once('>').expect("a link").0.to_owned();
    let second = Reply::to(client.request(reqwest::Method::GET, &next)).await.ok();
    let ids: Vec<_> =
        second.as_array().expect("an array").iter().map(|e| e["id"].clone()).collect();
    assert_eq!(ids, [json!(2), json!(1)]);
}
