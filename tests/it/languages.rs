//! The language of what a person may read: asked for by the client, or else set. No SQL is involved, so one
//! engine is enough.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Engine, Reply, Server, client::purchase, token::SECRET};

const JAPANESE: &str = "カテゴリーは 'quick' または 'think' である必要があります";
const ENGLISH: &str = "The category must be 'quick' or 'think'";

fn start(settings: &[(&str, &str)]) -> Server {
    Server::start_with(Engine::Sqlite, settings)
}

/// Asks for a path below `/api/billing`, with an `Accept-Language` for each of these.
async fn get(server: &Server, path: &str, accepted: &[&str]) -> Reply {
    let request = server.client().request(Method::GET, &format!("/api/billing{path}"));
    let request =
        accepted.iter().fold(request, |request, value| request.header("accept-language", *value));
    Reply::to(request).await
}

/// Checks that a text for people is this one, and that the answer says in which language it is.
fn says(reply: &Reply, detail: &str, language: &str) {
    assert_eq!(reply.json()["detail"], detail, "{reply:?}");
    assert_eq!(reply.header("content-language"), Some(language), "{reply:?}");
    assert_eq!(reply.header("vary"), Some("accept-language"), "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
    assert_eq!(reply.header("content-length"), Some(&*reply.text.len().to_string()), "{reply:?}");
}

#[tokio::test]
async fn the_client_is_answered_in_its_language_or_the_one_set() {
    const PATH: &str = "/balance/category/slow";
    for (settings, otherwise) in [(&[][..], JAPANESE), (&[("BILLING_LANGUAGE", "en")][..], ENGLISH)]
    {
        let server = start(settings);
        for (accepted, expected) in [
            (&[][..], otherwise),
            (&["fr"], otherwise),
            (&["en;q=nonsense"], otherwise),
            (&["en"], ENGLISH),
            (&["ja"], JAPANESE),
            (&["en-US,en;q=0.9,ja;q=0.8"], ENGLISH),
            (&["ja-JP,ja;q=0.9,en;q=0.8"], JAPANESE),
            (&["fr", "en"], ENGLISH),
        ] {
            let reply = get(&server, PATH, accepted).await;
            let language = if expected == JAPANESE { "ja" } else { "en" };
            assert_eq!(reply.status, 400, "{accepted:?}");
            says(&reply, expected, language);
        }
    }
}

#[tokio::test]
async fn what_programs_know_is_the_same_in_every_language() {
    let server = start(&[("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET)]);
    server.client().of("ann").add(1, "GPA.1").await.ok();
    let client = server.client().of("bob");
    let post = async |path: &str, body: Value| {
        let request = client.request(Method::POST, &format!("/api/billing{path}"));
        Reply::to(request.header("accept-language", "ja").json(&body)).await
    };
    let duplicate =
        json!({"detail": "Purchase already processed", "code": "purchase_already_processed"});
    let switched_off = json!({
        "detail": "This endpoint is not available in production environment",
        "code": "reset_disabled",
    });
    let missing = json!({"detail": [
        {"type": "missing", "loc": ["body", "allocations"], "msg": "Field required"},
    ]});
    for (path, body, status, expected) in [
        ("/credits/add", purchase(1, "GPA.1"), 409, duplicate),
        ("/reset", json!({}), 403, switched_off),
        ("/credits/allocate", json!({}), 422, missing),
        ("/nothing", json!({}), 404, json!({"detail": "Not Found"})),
        ("/balance", json!({}), 405, json!({"detail": "Method Not Allowed"})),
    ] {
        let reply = post(path, body).await;
        reply.is(status, &expected);
        assert_eq!(reply.header("content-language"), None, "{reply:?}");
    }
    let pricing = get(&server, "/pricing", &["en"]).await;
    assert_eq!((pricing.header("content-language"), pricing.header("vary")), (None, None));
    pricing.ok();
}

#[tokio::test]
async fn numbers_and_names_stand_in_both_languages() {
    let server = start(&[]);
    let body = json!({"allocations": [{"model_id": "{available}", "credits": 7}]});
    for (language, detail) in [
        ("ja", "クレジット不足: 必要=7, 残高=0"),
        ("en", "Not enough credits: 7 required, 0 available"),
    ] {
        let request = server.client().request(Method::POST, "/api/billing/credits/allocate");
        let reply = Reply::to(request.header("accept-language", language).json(&body)).await;
        says(&reply, detail, language);
        let numbers = (reply.status, &reply.json()["required"], &reply.json()["available"]);
        assert_eq!(numbers, (400, &json!(7), &json!(0)), "{reply:?}");
    }
    server.client().add(7, "GPA.1").await.ok();
    let reply = server.client().post("/credits/allocate", &body).await;
    says(&reply, "モデル {available} の価格情報が見つかりません", "ja");
}

#[tokio::test]
async fn the_transport_speaks_the_language_too() {
    let server = start(&[("BILLING_RATE_LIMIT", "1")]);
    let busy = loop {
        let reply = get(&server, "/balance", &["en"]).await;
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!(busy.status, 429, "{busy:?}");
    says(&busy, "Too many requests, please wait a moment and try again", "en");

    let mut connection = server.connect();
    connection.send(
        "POST /api/billing/credits/add HTTP/1.1\r\nHost: billing\r\nAccept-Language: en\r\n\
         Content-Type: application/json\r\nContent-Length: 10000000000\r\n\r\n{",
    );
    let head = connection.read_head();
    assert!(head.starts_with("http/1.1 413 "), "{head}");
    assert!(head.contains("\r\ncontent-language: en\r\n"), "{head}");
}

#[tokio::test]
async fn an_error_in_answer_to_head_has_no_body() {
    let server = start(&[]);
    let mut connection = server.connect();
    connection.send(
        "HEAD /api/billing/balance/category/slow HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
    );
    let bytes = connection.read_to_end();
    let text = String::from_utf8(bytes).expect("UTF-8");
    assert!(text.starts_with("HTTP/1.1 400 ") && text.ends_with("\r\n\r\n"), "{text}");
    assert!(text.to_lowercase().contains("\r\ncontent-language: ja\r\n"), "{text}");
}
