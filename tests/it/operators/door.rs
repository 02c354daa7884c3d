//! The door: whoever is no operator finds nothing behind it, and leaves nothing.

use std::collections::BTreeMap;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{BACKEND, LOGINS, OPERATOR};
use crate::harness::{
    Client, Engine, Reply, Server, on_both_engines,
    token::{claims, token},
};

on_both_engines![
    to_others_nothing_is_there,
    the_document_tells_of_it_to_operators_only,
    where_nobody_logs_in_the_static_token_does,
];

fn scoped(scope: &str) -> String {
    let mut claims = claims("somebody");
    claims["scope"] = json!(scope);
    token(&claims)
}

/// All that an answer tells, but for what every answer has of its own.
fn told(reply: &Reply) -> (u16, BTreeMap<String, String>, String) {
    let headers =
        reply.headers.iter().filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()));
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().expect("a text").to_owned()));
    (reply.status, headers.collect(), reply.text.clone())
}

/// The paths and methods that the operator's document tells of, and some more.
async fn calls(client: &Client) -> Vec<(Method, String)> {
    let request = client.request(Method::GET, "/openapi.json?role=operator");
    let document = Reply::to(request.bearer_auth(OPERATOR)).await.ok();
    let paths = document["paths"].as_object().expect("paths").keys();
    let paths: Vec<String> = paths
        .filter(|path| path.starts_with("/api/billing/operator/"))
        .map(|path| {
            path.replace("{user_id}", "ann")
                .replace("{model_id}", "gemini-2.0-flash")
                .replace("{purchase_id}", "7")
                .replace("{product_id}", "p")
        })
        .collect();
    assert!(paths.len() > 2, "{paths:?}");
    let more =
        ["", "/", "/nothing", "/users/%ff/freeze"].map(|end| format!("/api/billing/operator{end}"));
    let methods = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ];
    let paths = paths.into_iter().chain(more);
    paths.flat_map(|path| methods.clone().map(|method| (method, path.clone()))).collect()
}

async fn to_others_nothing_is_there(engine: Engine) {
    let settings = [&LOGINS[..], &[("BILLING_RATE_LIMIT", "100000")]].concat();
    let server = Server::start_with(engine, &settings);
    let client = server.client();
    client.of("ann").add(5, "first").await.ok();
    let calls = calls(&client).await;
    let before = server.database().digest().await;
    let bearers = [
        None,
        Some("garbage".to_owned()),
        Some(OPERATOR[1..].to_owned()),
        Some(BACKEND.to_owned()),
        Some(token(&claims("ann"))),
        Some(scoped("billing:backend")),
        Some(scoped("billing:operators")),
    ];
    for bearer in &bearers {
        for (method, path) in &calls {
            let ask = |path: &str| -> RequestBuilder {
                let request = client.request(method.clone(), path);
                let request = request.header("idempotency-key", "one").header("billing-user", "%");
                let request = match bearer {
                    Some(bearer) => request.bearer_auth(bearer),
                    None => request,
                };
                if [Method::GET, Method::HEAD].contains(method) {
                    return request;
                }
                request.json(&json!({"reason": "because", "credits": 5}))
            };
            let reply = Reply::to(ask(path)).await;
            let unknown = Reply::to(ask("/api/billing/no-such-thing")).await;
            assert_eq!(told(&reply), told(&unknown), "{method} {path} as {bearer:?}");
            assert_eq!(reply.status, 404, "{method} {path}");
        }
    }
    assert_eq!(server.database().digest().await, before, "it left a trace");
}

async fn the_document_tells_of_it_to_operators_only(engine: Engine) {
    let server = Server::start_with(engine, &LOGINS);
    let client = server.client();
    let document = async |query: &str, bearer: Option<&str>| {
        let request = client.request(Method::GET, &format!("/openapi.json{query}"));
        let request = match bearer {
            Some(bearer) => request.bearer_auth(bearer),
            None => request,
        };
        Reply::to(request).await
    };
    let public = document("", None).await;
    assert!(!public.text.contains("/api/billing/operator"), "{}", public.text);
    for bearer in [None, Some(BACKEND), Some("garbage")] {
        for query in ["?role=operator", "?role=operator&role=app", "?role=backend"] {
            assert_eq!(told(&document(query, bearer).await), told(&public), "{bearer:?} {query}");
        }
    }
    assert_eq!(told(&document("?role=app", Some(OPERATOR)).await), told(&public));
    let operators = document("?role=operator", Some(OPERATOR)).await.ok();
    let public: Value = public.ok();
    for (path, item) in public["paths"].as_object().expect("paths") {
        assert_eq!(&operators["paths"][path], item, "{path}");
    }
    let freeze = &operators["paths"]["/api/billing/operator/users/{user_id}/freeze"]["post"];
    assert_eq!(freeze["security"], json!([{"bearer": []}]));
    assert!(freeze["responses"].get("401").is_none(), "{freeze}");
}

async fn where_nobody_logs_in_the_static_token_does(engine: Engine) {
    for (token, status) in [(None, 404), (Some(OPERATOR), 200)] {
        let settings: Vec<_> = token.iter().map(|it| ("BILLING_OPERATOR_TOKEN", *it)).collect();
        let server = Server::start_with(engine, &settings);
        let client = server.client();
        let ask = || client.request(Method::GET, "/api/billing/operator/log");
        assert_eq!(Reply::to(ask()).await.status, 404);
        assert_eq!(Reply::to(ask().bearer_auth(OPERATOR)).await.status, status, "{token:?}");
    }
}
