//! The document at `/openapi.json` and the page at `/docs`: complete, unchanged by accident, and true.

use std::{collections::BTreeSet, env, fs};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Engine, Reply, Server, on_both_engines};

on_both_engines![
    the_document_is_the_one_that_was_reviewed,
    every_route_is_in_it_and_nothing_else,
    its_examples_are_the_readmes_answers,
    who_has_to_log_in_is_said_where_somebody_has_to,
    the_page_has_all_it_needs,
    both_answer_head_too,
];

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/openapi.json");
/// Set it to write the snapshot anew.
const RENEW: &str = "RENEW_OPENAPI";
const METHODS: [Method; 5] =
    [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH];

fn start_with_tokens(engine: Engine) -> Server {
    let secret = "a shared secret of thirty-two bytes";
    Server::start_with(engine, &[("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", secret)])
}

async fn get(server: &Server, path: &str) -> Reply {
    Reply::to(server.client().request(Method::GET, path)).await
}

async fn document(server: &Server) -> Value {
    get(server, "/openapi.json").await.ok()
}

/// The document's calls, as `GET /path`.
fn calls(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object().expect("an item").keys().map(move |method| (method.to_uppercase(), path))
    });
    operations.map(|(method, path)| format!("{method} {path}")).collect()
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().expect("paths");
    paths.values_mut().flat_map(|item| item.as_object_mut().expect("an item").values_mut())
}

async fn the_document_is_the_one_that_was_reviewed(engine: Engine) {
    let document = document(&start_with_tokens(engine)).await;
    let text = serde_json::to_string_pretty(&document).expect("it is JSON") + "\n";
    if env::var_os(RENEW).is_some() {
        fs::write(SNAPSHOT, &text).expect("the snapshot can be written");
    }
    let snapshot = fs::read_to_string(SNAPSHOT).expect("the snapshot can be read");
    let differs = text.lines().zip(snapshot.lines()).position(|(new, old)| new != old);
    assert!(
        text == snapshot,
        "/openapi.json differs from {SNAPSHOT} from line {} on. If it should, run \
         `{RENEW}=1 cargo test --test it openapi` and commit what `git diff` shows.",
        differs.map_or(snapshot.lines().count().min(text.lines().count()), |line| line) + 1
    );
}

async fn every_route_is_in_it_and_nothing_else(engine: Engine) {
    let server = Server::start(engine);
    let document = document(&server).await;
    let table = include_str!("../../README.md")
        .split_once("\n## API\n")
        .and_then(|(_, rest)| rest.split_once("\nEvery error is JSON"))
        .expect("the README has an API table")
        .0;
    let promised: BTreeSet<String> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(call, _)| call.replace("{quick\\|think}", "{category}"))
        .map(|call| match call.split_once(' ') {
            Some((method, path)) if !path.starts_with('/') => {
                format!("{method} /api/billing/{path}")
            }
            _ => call,
        })
        .collect();
    assert_eq!(calls(&document), promised, "the document and the README's table");
    for (path, item) in document["paths"].as_object().expect("paths") {
        let url = path.replace("{category}", "quick").replace("{file}", "swagger-ui.css");
        let hold = "019ac5c5-5c1f-7d7a-9a5e-3f2b8f0c1d2e";
        let url = url.replace("{hold_id}", hold);
        for method in METHODS {
            let reply = Reply::to(server.client().request(method.clone(), &url)).await;
            let exists = item.get(method.as_str().to_lowercase()).is_some();
            assert_eq!(reply.status != 405, exists, "{method} {url}: {reply:?}");
            let answered = reply.status != 404 || reply.json()["code"] == "hold_not_found";
            assert!(answered, "{method} {url}: {reply:?}");
        }
    }
}

async fn its_examples_are_the_readmes_answers(engine: Engine) {
    let document = document(&Server::start(engine)).await.to_string();
    let readme = include_str!("../../README.md");
    let mut compared = 0;
    for block in readme.split("```json\n").skip(1) {
        let text = block.split_once("```").expect("the block ends").0;
        let answer: Value = serde_json::from_str(text).expect("the README's answers are JSON");
        // Of what is answered more than once with other numbers, one answer is enough.
        if text.contains("1992500") {
            continue;
        }
        assert!(document.contains(&answer.to_string()), "no example is {answer}");
        compared += 1;
    }
    assert!(compared > 5, "the README has answers");
}

async fn who_has_to_log_in_is_said_where_somebody_has_to(engine: Engine) {
    let mut with_tokens = document(&start_with_tokens(engine)).await;
    let open = [
        "/api/billing/pricing",
        "/api/billing/products",
        "/api/billing/health",
        "/livez",
        "/readyz",
        "/openapi.json",
        "/docs",
        "/docs/{file}",
    ];
    for (path, item) in with_tokens["paths"].as_object().expect("paths") {
        for operation in item.as_object().expect("an item").values() {
            let closed = operation.get("security") == Some(&json!([{"bearer": []}]));
            assert_ne!(closed, open.contains(&path.as_str()), "{path}");
            assert_eq!(closed, operation["responses"].get("401").is_some(), "{path}");
        }
    }
    let without = document(&Server::start(engine)).await;
    for operation in operations(&mut with_tokens) {
        let operation = operation.as_object_mut().expect("an operation");
        operation.remove("security");
        operation["responses"].as_object_mut().expect("responses").remove("401");
    }
    let components = with_tokens["components"].as_object_mut().expect("components");
    assert!(components.remove("securitySchemes").is_some());
    assert_eq!(with_tokens, without, "nothing else differs");
}

async fn the_page_has_all_it_needs(engine: Engine) {
    let server = start_with_tokens(engine);
    let page = get(&server, "/docs").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'self';"), "other hosts are refused: {policy}");
    assert!(!page.text.contains("//"), "no other host: {}", page.text);
    let assets = page.text.split('"').filter(|text| text.starts_with("docs/"));
    let types = assets.map(async |asset| {
        let reply = get(&server, &format!("/{asset}")).await;
        assert!(reply.status == 200 && reply.text.len() > 100, "{asset}: {}", reply.status);
        reply.header("content-type").expect("a type").to_owned()
    });
    let types: Vec<String> = futures_util::future::join_all(types).await;
    let (css, js) = ("text/css; charset=utf-8", "text/javascript; charset=utf-8");
    assert_eq!(types, ["image/png", css, js, js]);
    for path in ["/docs/", "/docs/index.html", "/docs/../docs/x", "/docs/a/b", "/openapi.json/"] {
        get(&server, path).await.is(404, &json!({"detail": "Not Found"}));
    }
}

async fn both_answer_head_too(engine: Engine) {
    let server = Server::start(engine);
    for path in ["/openapi.json", "/docs", "/docs/swagger-ui.css"] {
        let head = Reply::to(server.client().request(Method::HEAD, path)).await;
        let get = get(&server, path).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        for header in ["content-type", "content-length"] {
            assert_eq!(head.header(header), get.header(header), "{path}");
        }
    }
}
