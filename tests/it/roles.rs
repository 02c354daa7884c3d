//! Apps, backends and operators: what proves which of them somebody is, what each may do, and for whom.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{
    Client, Engine, Launch, Reply, Server,
    client::consumption,
    eventually, on_both_engines,
    token::{SECRET, claims, token},
};

on_both_engines![
    every_route_lets_in_whom_it_should,
    a_scope_that_is_no_text_makes_an_app,
    what_a_header_can_not_name_is_told,
    a_static_token_is_replaced_without_a_gap,
    what_a_backend_does_for_a_user_is_that_users_alone,
    where_nobody_logs_in_the_header_says_for_whom,
    requests_count_for_the_user_acted_for,
    no_token_is_in_the_log,
];

const BACKEND: &str = "backend-token-0123456789-abcdefgh";
const NEW_BACKEND: &str = "backend-token-replaces-the-other-one";
const OPERATOR: &str = "operator-token-0123456789-abcdefg";
const MODEL: &str = "gemini-2.0-flash";
/// A hold that nobody has.
const HOLD: &str = "019ac5c5-5c1f-7d7a-9a5e-3f2b8f0c1d2e";
const LOGINS: [(&str, &str); 5] = [
    ("BILLING_AUTH", "jwt"),
    ("BILLING_JWT_SECRET", SECRET),
    ("BILLING_BACKEND_TOKEN", BACKEND),
    ("BILLING_OPERATOR_TOKEN", OPERATOR),
    ("BILLING_ALLOW_RESET", "true"),
];

/// Whom a route asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Nobody.
    None,
    /// Whoever may act for the account.
    Account,
    /// The same, and whoever may consume.
    Consumer,
    /// A backend.
    Backend,
    /// An operator; to others it is not there.
    Operator,
}

/// Every route, in an order in which each finds what it needs.
fn routes() -> Vec<(Method, &'static str, Value, Asks)> {
    let add = json!({"credits": 2, "purchase_record": {}});
    let allocate = json!({"allocations": [{"model_id": MODEL, "credits": 1}]});
    let quote = "/api/billing/quote?model_id=gemini-2.0-flash&credits=1";
    let usage = "/api/billing/usage?from=2026-11-01&to=2026-11-30";
    let get = |path, asks| (Method::GET, path, Value::Null, asks);
    let post = |path, body, asks| (Method::POST, path, body, asks);
    vec![
        post("/api/billing/credits/add", add, Asks::Account),
        post("/api/billing/credits/allocate", allocate, Asks::Account),
        post("/api/billing/tokens/consume", consumption(MODEL, 1, 1), Asks::Consumer),
        post("/api/billing/holds", json!({"model_id": MODEL, "tokens": 1}), Asks::Consumer),
        get("/api/billing/holds", Asks::Account),
        get("/api/billing/holds/019ac5c5-5c1f-7d7a-9a5e-3f2b8f0c1d2e", Asks::Account),
        post(
            "/api/billing/holds/019ac5c5-5c1f-7d7a-9a5e-3f2b8f0c1d2e/settle",
            json!({"input_tokens": 1, "output_tokens": 1}),
            Asks::Consumer,
        ),
        post(
            "/api/billing/holds/019ac5c5-5c1f-7d7a-9a5e-3f2b8f0c1d2e/release",
            json!({}),
            Asks::Consumer,
        ),
        post(
            "/api/billing/tokens/reverse",
            json!({"transaction_id": 1_000_000_000, "reason": "it failed"}),
            Asks::Backend,
        ),
        post("/api/billing/credits/return", json!({"model_id": "none"}), Asks::Account),
        get("/api/billing/balance", Asks::Account),
        get("/api/billing/balance/category/quick", Asks::Account),
        get("/api/billing/transactions", Asks::Account),
        get(quote, Asks::Account),
        get("/api/billing/wallet", Asks::Account),
        get("/api/billing/ledger", Asks::Account),
        get(usage, Asks::Account),
        post("/api/billing/consent", json!({"apple_consumption": true}), Asks::Account),
        post("/api/billing/reset", json!({}), Asks::Account),
        get("/api/billing/pricing", Asks::None),
        get("/api/billing/products", Asks::None),
        get("/api/billing/health", Asks::None),
        post("/api/billing/operator/users/bob/freeze", json!({"reason": "why"}), Asks::Operator),
        post("/api/billing/operator/users/bob/unfreeze", json!({"reason": "why"}), Asks::Operator),
        post(
            "/api/billing/operator/users/bob/grants",
            json!({"credits": 1, "reason": "why"}),
            Asks::Operator,
        ),
        post(
            "/api/billing/operator/users/bob/adjustments",
            json!({"credits_delta": 1, "reason": "why"}),
            Asks::Operator,
        ),
        post("/api/billing/operator/users/bob/erase", json!({"reason": "why"}), Asks::Operator),
        get("/api/billing/operator/prices", Asks::Operator),
        (
            Method::PUT,
            "/api/billing/operator/prices/some-model",
            json!({"price_per_m_token": 75, "category": "quick", "reason": "why"}),
            Asks::Operator,
        ),
        (
            Method::DELETE,
            "/api/billing/operator/prices/some-model",
            json!({"reason": "why"}),
            Asks::Operator,
        ),
        get("/api/billing/operator/prices/some-model/history", Asks::Operator),
        get("/api/billing/operator/products", Asks::Operator),
        (
            Method::PUT,
            "/api/billing/operator/products/some-product",
            json!({"credits": 1, "active": false, "reason": "why"}),
            Asks::Operator,
        ),
        get("/api/billing/operator/purchases", Asks::Operator),
        get("/api/billing/operator/purchases/7", Asks::Operator),
        post("/api/billing/operator/purchases/7/approve", json!({"reason": "why"}), Asks::Operator),
        post("/api/billing/operator/purchases/7/reject", json!({"reason": "why"}), Asks::Operator),
        post("/api/billing/operator/purchases/7/retry", json!({"reason": "why"}), Asks::Operator),
        post("/api/billing/operator/purchases/7/refund", json!({"reason": "why"}), Asks::Operator),
        get("/api/billing/operator/ledger", Asks::Operator),
        get("/api/billing/operator/log", Asks::Operator),
        get("/api/billing/operator/summary", Asks::Operator),
        get("/api/billing/operator/users", Asks::Operator),
        get("/api/billing/operator/users/bob", Asks::Operator),
        get("/api/billing/operator/reports/unused-balance?at=2026-01-01", Asks::Operator),
        get("/api/billing/operator/verify", Asks::Operator),
        post(
            "/api/billing/operator/verify",
            json!({"reason": "the end of the month"}),
            Asks::Operator,
        ),
        get("/livez", Asks::None),
        get("/readyz", Asks::None),
        get("/openapi.json", Asks::None),
        get("/docs", Asks::None),
        get("/docs/swagger-ui.css", Asks::None),
    ]
}

/// A caller's headers: the bearer tokens and the names it sends.
#[derive(Debug, Clone, Default)]
struct Headers {
    bearer: Vec<String>,
    names: Vec<&'static str>,
}

fn with(bearer: impl Into<String>, names: &[&'static str]) -> Headers {
    Headers { bearer: vec![bearer.into()], names: names.to_vec() }
}

fn scoped(user: &str, scope: impl Into<Value>) -> String {
    let mut claims = claims(user);
    claims["scope"] = scope.into();
    token(&claims)
}

fn request(client: &Client, method: &Method, path: &str, headers: &Headers) -> RequestBuilder {
    let mut request = client.request(method.clone(), path);
    for bearer in &headers.bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    for name in &headers.names {
        request = request.header("billing-user", *name);
    }
    request
}

async fn call(client: &Client, path: &str, body: &Value, headers: &Headers) -> Reply {
    let method = if body.is_null() { Method::GET } else { Method::POST };
    let request = request(client, &method, &format!("/api/billing{path}"), headers);
    Reply::to(if body.is_null() { request } else { request.json(body) }).await
}

async fn balance(client: &Client, headers: &Headers) -> Reply {
    call(client, "/balance", &Value::Null, headers).await
}

/// What becomes of a caller at a route with an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unauthorized,
    Unprocessable,
    Forbidden,
    /// Let in, as an app.
    App,
    /// Let in, as more than that.
    Trusted,
}

fn callers() -> Vec<(&'static str, Headers, Fate)> {
    let app = || token(&claims("ann"));
    let backend = || scoped("srv", "openid billing:backend");
    let operator = || scoped("ops", "billing:backend billing:operator");
    let nobody = |names: &[&'static str]| Headers { bearer: Vec::new(), names: names.to_vec() };
    let twice = |bearer: &str| Headers {
        bearer: vec![bearer.to_owned(), bearer.to_owned()],
        names: vec!["ann"],
    };
    vec![
        ("nobody", nobody(&[]), Fate::Unauthorized),
        ("nobody who names somebody", nobody(&["ann"]), Fate::Unauthorized),
        ("nobody who names nobody", nobody(&["%"]), Fate::Unauthorized),
        ("garbage", with("garbage", &[]), Fate::Unauthorized),
        ("garbage for somebody", with("garbage", &["ann"]), Fate::Unauthorized),
        ("half a token", with(&BACKEND[1..], &["ann"]), Fate::Unauthorized),
        ("two static tokens", twice(BACKEND), Fate::Unauthorized),
        ("an app", with(app(), &[]), Fate::App),
        ("an app for itself", with(app(), &["ann"]), Fate::App),
        ("an app for itself, encoded", with(app(), &["%61n%6E"]), Fate::App),
        ("an app for another", with(app(), &["bob"]), Fate::Forbidden),
        ("an app for almost itself", with(app(), &["Ann"]), Fate::Forbidden),
        ("an app for nobody", with(app(), &["%"]), Fate::Unprocessable),
        ("an app for itself, twice", with(app(), &["ann", "ann"]), Fate::Unprocessable),
        ("a backend", with(backend(), &[]), Fate::Trusted),
        ("a backend for a user", with(backend(), &["bob"]), Fate::Trusted),
        ("a backend for nobody", with(backend(), &[""]), Fate::Unprocessable),
        ("a static backend", with(BACKEND, &[]), Fate::Unprocessable),
        ("a static backend for a user", with(BACKEND, &["bob"]), Fate::Trusted),
        ("an operator", with(operator(), &[]), Fate::Trusted),
        ("an operator for a user", with(operator(), &["bob"]), Fate::Trusted),
        ("a static operator", with(OPERATOR, &[]), Fate::Unprocessable),
        ("a static operator for a user", with(OPERATOR, &["bob"]), Fate::Trusted),
    ]
}

async fn every_route_lets_in_whom_it_should(engine: Engine) {
    for consume_by in ["app", "backend"] {
        let settings = [&LOGINS[..], &[("BILLING_CONSUME_BY", consume_by)]].concat();
        let server = Server::start_with(engine, &settings);
        let client = server.client();
        all_are_known(&client).await;
        for (who, headers, fate) in callers() {
            let before = server.database().digest().await;
            for (method, path, body, asks) in routes() {
                let request = request(&client, &method, path, &headers);
                let request = if body.is_null() { request } else { request.json(&body) };
                let reply = Reply::to(request).await;
                let expected = match (asks, fate) {
                    (Asks::Operator, _) if who.contains("operator") => (200, None),
                    (Asks::Operator, _) => (404, None),
                    (Asks::None, _) | (_, Fate::Trusted) => (200, None),
                    (_, Fate::Unauthorized) => (401, Some("unauthorized")),
                    (_, Fate::Unprocessable) => (422, None),
                    (_, Fate::Forbidden) | (Asks::Backend, Fate::App) => (403, Some("forbidden")),
                    (Asks::Consumer, Fate::App) if consume_by == "backend" => {
                        (403, Some("forbidden"))
                    }
                    (_, Fate::App) => (200, None),
                };
                let expected = match expected {
                    (200, None) if path.contains("/purchases/7") => {
                        (404, Some("purchase_not_found"))
                    }
                    (200, None) if path.contains(HOLD) => (404, Some("hold_not_found")),
                    (200, None) if path.ends_with("/reverse") => {
                        (404, Some("transaction_not_found"))
                    }
                    (200, None) if path.ends_with("/erase") => (400, Some("paid_balance_remains")),
                    (200, None) if path.ends_with("/return") => (400, Some("insufficient_tokens")),
                    (200, None) if path.ends_with("/verify") && method == Method::POST => {
                        (202, None)
                    }
                    expected => expected,
                };
                let code = (reply.status != 200).then(|| reply.json()["code"].clone());
                let code = code.as_ref().and_then(Value::as_str);
                assert_eq!((reply.status, code), expected, "{who} at {method} {path}: {reply:?}");
                if reply.status == 422 {
                    let at = &reply.json()["detail"][0]["loc"];
                    assert_eq!(at, &json!(["header", "billing-user"]), "{who}: {reply:?}");
                }
            }
            if !matches!(fate, Fate::App | Fate::Trusted) && !who.contains("operator") {
                assert_eq!(server.database().digest().await, before, "{who} left a trace");
            }
        }
    }
}

/// Checks that [`routes`] has every one that the document has.
async fn all_are_known(client: &Client) {
    let request = client.request(Method::GET, "/openapi.json?role=operator");
    let document = Reply::to(request.bearer_auth(OPERATOR)).await.ok();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            let path = path
                .replace("{category}", "quick")
                .replace("{file}", "swagger-ui.css")
                .replace("{hold_id}", HOLD)
                .replace("{user_id}", "bob")
                .replace("{purchase_id}", "7")
                .replace("{model_id}", "some-model")
                .replace("{product_id}", "some-product");
            let methods = item.as_object().expect("an item").keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let known = routes().into_iter().map(|(method, path, ..)| {
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        (method.to_string(), path.to_owned())
    });
    assert_eq!(known.collect::<BTreeSet<_>>(), documented);
}

async fn a_scope_that_is_no_text_makes_an_app(engine: Engine) {
    let server = Server::start_with(engine, &LOGINS);
    let client = server.client();
    for scope in [
        json!(null),
        json!(7),
        json!(["billing:backend"]),
        json!({"billing:backend": true}),
        json!(""),
        json!("billing:backends"),
        json!("BILLING:BACKEND"),
        json!("billing:backend,email"),
    ] {
        let bearer = scoped("ann", scope.clone());
        balance(&client, &with(bearer.clone(), &[])).await.ok();
        let reply = balance(&client, &with(bearer, &["bob"])).await;
        assert_eq!(reply.status, 403, "{scope}: {reply:?}");
    }
    // Whoever is refused learns why in a language of theirs.
    let app = with(token(&claims("ann")), &["bob"]);
    for (language, detail) in
        [("ja", "この操作を行う権限がありません"), ("en", "This login is not allowed to do that")]
    {
        let request = request(&client, &Method::GET, "/api/billing/balance", &app);
        let reply = Reply::to(request.header("accept-language", language)).await;
        reply.is(403, &json!({"detail": detail, "code": "forbidden"}));
        assert_eq!(reply.header("content-language"), Some(language));
    }
}

async fn what_a_header_can_not_name_is_told(engine: Engine) {
    let server = Server::start_with(engine, &LOGINS);
    let client = server.client();
    let problem = |kind: &str, msg: &str| json!({"detail": [{"type": kind, "loc": ["header", "billing-user"], "msg": msg}]});
    let too_long: &'static str = "u".repeat(129).leak();
    let too_long_encoded: &'static str = "%E3%83%A2".repeat(129).leak();
    let of_length = problem("string_too_long", "String should have at most 128 characters");
    let not_encoded = problem(
        "value_error",
        "Value error, must be visible ASCII characters, all others and % percent-encoded as UTF-8",
    );
    let control = problem("value_error", "Value error, control characters are not allowed");
    for (names, answer) in [
        (&[][..], problem("missing", "Field required")),
        (&[""], problem("string_too_short", "String should have at least 1 character")),
        (&["ann", "ann"], problem("value_error", "Value error, the header is given twice")),
        (&[too_long], of_length.clone()),
        (&[too_long_encoded], of_length),
        (&["%zz"], not_encoded.clone()),
        (&["ann%"], not_encoded.clone()),
        (&["ann%4"], not_encoded.clone()),
        (&["%C3%28"], not_encoded.clone()),
        (&["%ED%A0%80"], not_encoded.clone()),
        (&["ann bob"], not_encoded.clone()),
        (&["アン"], not_encoded),
        (&["%00"], control.clone()),
        (&["a%0Ab"], control.clone()),
        (&["%C2%85"], control),
    ] {
        balance(&client, &with(BACKEND, names)).await.is(422, &answer);
    }
    let longest: &'static str = "%F0%9F%92%B4".repeat(128).leak();
    for name in ["%E3%82%A2%E3%83%B3", "100%25", "a%20b", longest] {
        balance(&client, &with(BACKEND, &[name])).await.ok();
    }
}

async fn a_static_token_is_replaced_without_a_gap(engine: Engine) {
    // No other key is needed.
    let both = format!("{BACKEND},{NEW_BACKEND}");
    let settings = [("BILLING_AUTH", "jwt"), ("BILLING_BACKEND_TOKEN", BACKEND)];
    let mut server = Server::start_with(engine, &settings);
    for (set, taken) in
        [(BACKEND, [200, 401]), (both.as_str(), [200, 200]), (NEW_BACKEND, [401, 200])]
    {
        server.stop().await;
        server.start_again_with(&[("BILLING_BACKEND_TOKEN", set)]);
        let client = server.client();
        for (bearer, status) in [BACKEND, NEW_BACKEND].into_iter().zip(taken) {
            assert_eq!(balance(&client, &with(bearer, &["ann"])).await.status, status, "{set}");
        }
        for bearer in [both.clone(), token(&claims("ann")), scoped("srv", "billing:backend")] {
            assert_eq!(balance(&client, &with(bearer, &["ann"])).await.status, 401, "{set}");
        }
        // The scheme is told in any letters, the token to the letter.
        let any_case = client.request(Method::GET, "/api/billing/balance");
        let any_case = any_case.header("billing-user", "ann");
        let good = if taken[1] == 200 { NEW_BACKEND } else { BACKEND };
        let sent = any_case.header("authorization", format!("bearer {good}"));
        assert_eq!(Reply::to(sent).await.status, 200);
        let other = with(good.to_uppercase(), &["ann"]);
        assert_eq!(balance(&client, &other).await.status, 401);
        assert_eq!(Reply::to(client.request(Method::GET, "/readyz")).await.status, 200);
    }
}

async fn keyed(client: &Client, key: &str, headers: &Headers) -> Reply {
    let request = request(client, &Method::POST, "/api/billing/credits/add", headers);
    let request = request.header("idempotency-key", key);
    Reply::to(request.json(&json!({"credits": 5, "purchase_record": {}}))).await
}

async fn what_a_backend_does_for_a_user_is_that_users_alone(engine: Engine) {
    let mut server = Server::start_with(engine, &LOGINS);
    let client = server.client();
    let alice = with(token(&claims("アリス")), &[]);
    let by_static = with(BACKEND, &["%E3%82%A2%E3%83%AA%E3%82%B9"]);
    let by_scope = with(scoped("srv", "billing:backend"), &["%e3%82%a2%e3%83%aa%e3%82%b9"]);
    let by_operator = with(OPERATOR, &["%E3%82%A2%E3%83%AA%E3%82%B9"]);
    let others = [
        with(token(&claims("bob")), &[]),
        with(scoped("srv", "billing:backend"), &[]),
        with(BACKEND, &["bob"]),
        with(OPERATOR, &["%25E3%2582%25A2"]),
        with(BACKEND, &["default_user"]),
    ];
    call(&client, "/credits/add", &json!({"credits": 100, "purchase_record": {}}), &alice)
        .await
        .ok();
    let allocation = json!({"allocations": [{"model_id": MODEL, "credits": 75}]});
    call(&client, "/credits/allocate", &allocation, &by_static).await.ok();
    call(&client, "/tokens/consume", &consumption(MODEL, 600, 400), &by_scope).await.ok();
    let expected = json!({"credits": 25, "allocated_tokens": {MODEL: 999_000}});
    for headers in [&alice, &by_static, &by_scope] {
        balance(&client, headers).await.is(200, &expected);
        let history = call(&client, "/transactions", &Value::Null, headers).await.ok();
        assert_eq!(history.as_array().map(Vec::len), Some(3), "{history}");
    }
    for headers in &others {
        let empty = json!({"credits": 0, "allocated_tokens": {}});
        balance(&client, headers).await.is(200, &empty);
        call(&client, "/transactions", &Value::Null, headers).await.is(200, &json!([]));
    }
    // A key is of the user acted for, whoever sends it.
    for (headers, again) in [
        (&by_static, false),
        (&by_scope, true),
        (&alice, true),
        (&others[1], false),
        (&others[2], false),
        (&others[0], true),
    ] {
        let reply = keyed(&client, "k", headers).await;
        assert_eq!((reply.status, reply.is_replayed()), (200, again), "{headers:?}: {reply:?}");
    }
    let mut users = server.database().texts("SELECT user_id FROM users").await;
    users.sort();
    assert_eq!(users, ["bob", "default_user", "srv", "アリス"]);
    call(&client, "/credits/add", &json!({"credits": 7, "purchase_record": {}}), &by_operator)
        .await
        .ok();
    let entries = "SELECT type || ' ' || coalesce(actor, 'user') FROM transactions
                   WHERE user_id = 'アリス' ORDER BY id";
    assert_eq!(
        server.database().texts(entries).await,
        [
            "purchase user",
            "allocation backend",
            "consumption backend",
            "purchase backend",
            "purchase operator",
        ]
    );

    let log = server.stop().await;
    let logged = |words: &[&str]| {
        log.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
    };
    assert_eq!(logged(&["consumption", "アリス", "actor=backend", "result=ok"]), 1, "{log:#?}");
    assert_eq!(logged(&["allocation", "アリス", "actor=backend"]), 1, "{log:#?}");
    assert_eq!(logged(&["purchase", "credits=100", "アリス"]), 1, "{log:#?}");
    assert_eq!(logged(&["purchase", "credits=100", "actor="]), 0, "{log:#?}");
    assert_eq!(logged(&["purchase", "user=srv", "actor=backend"]), 1, "{log:#?}");
}

async fn where_nobody_logs_in_the_header_says_for_whom(engine: Engine) {
    let settings = [("BILLING_OPERATOR_TOKEN", OPERATOR), ("BILLING_CONSUME_BY", "backend")];
    let mut server = Server::start_with(engine, &settings);
    let client = server.client();
    let named = |names: &[&'static str]| Headers { bearer: Vec::new(), names: names.to_vec() };
    let purchase = |credits: i64| json!({"credits": credits, "purchase_record": {}});
    call(&client, "/credits/add", &purchase(1), &named(&[])).await.ok();
    call(&client, "/credits/add", &purchase(2), &named(&["ann"])).await.ok();
    call(&client, "/credits/add", &purchase(4), &with(OPERATOR, &["ann"])).await.ok();
    // What proves nothing else does not matter here.
    call(&client, "/credits/add", &purchase(8), &with("garbage", &[])).await.ok();
    for (headers, credits) in [
        (named(&[]), 9),
        (named(&["default_user"]), 9),
        (named(&["ann"]), 6),
        (named(&["Ann"]), 0),
        (with(OPERATOR, &["ann"]), 6),
    ] {
        assert_eq!(balance(&client, &headers).await.ok()["credits"], credits, "{headers:?}");
    }
    let allocation = json!({"allocations": [{"model_id": MODEL, "credits": 1}]});
    call(&client, "/credits/allocate", &allocation, &named(&[])).await.ok();
    call(&client, "/tokens/consume", &consumption(MODEL, 1, 1), &named(&[])).await.ok();
    assert_eq!(balance(&client, &named(&["%"])).await.status, 422);
    let unnamed = balance(&client, &with(OPERATOR, &[])).await;
    assert_eq!(unnamed.json()["detail"][0]["type"], "missing", "{unnamed:?}");

    let log = server.stop().await;
    let by_somebody: Vec<_> = log.iter().filter(|line| line.contains("actor=")).collect();
    let [line] = by_somebody[..] else { panic!("one line: {by_somebody:#?}") };
    for word in ["purchase", "user=ann", "actor=operator", "credits=4"] {
        assert!(line.contains(word), "{line}");
    }
}

async fn requests_count_for_the_user_acted_for(engine: Engine) {
    let settings = [&LOGINS[..], &[("BILLING_RATE_LIMIT", "1")]].concat();
    let server = Server::start_with(engine, &settings);
    let client = server.client();
    // No number of users uses up a backend's own.
    for login in [BACKEND.to_owned(), scoped("srv", "billing:backend")] {
        for _ in 0..5 {
            let of_new = async || is_full(&balance(&client, &with(&*login, &[new_user()])).await);
            once_of_three(of_new).await;
        }
    }
    // What a backend asks for a user and what the user asks is out of one budget. A second fills it up, so
    // another user is taken where the two were not sent within one.
    eventually("a user finds what the backend left", async || {
        let user = new_user();
        let first = balance(&client, &with(BACKEND, &[user])).await;
        let own = balance(&client, &with(token(&claims(user)), &[])).await;
        (is_full(&first) && own.header("ratelimit") == Some("\"user\";r=0;t=1")).then_some(())
    })
    .await;
    // Who may not act for a user does not use up what the user has.
    once_of_three(async || {
        let victim = new_user();
        for (intruder, status) in [
            (with(token(&claims("mallory")), &[victim]), 403),
            (with("garbage", &[victim]), 401),
            (with(BACKEND, &[victim, victim]), 422),
        ] {
            eventually("the intruder is over the limit", async || {
                let tries = (0..20).map(|_| balance(&client, &intruder));
                let replies = join_all(tries).await;
                assert!(replies.iter().all(|reply| [status, 429].contains(&reply.status)));
                replies.iter().any(|reply| reply.status == 429).then_some(())
            })
            .await;
        }
        is_full(&balance(&client, &with(BACKEND, &[victim])).await)
    })
    .await;
    // Prices are nobody's: they count for whoever asks, and the header is not looked at.
    once_of_three(async || {
        let (named, reader) = (new_user(), new_user());
        for headers in [with(OPERATOR, &[named]), with(token(&claims(reader)), &["%", named])] {
            let reply = call(&client, "/pricing", &Value::Null, &headers).await;
            let policy = reply.header("ratelimit-policy");
            assert_eq!((reply.status, policy), (200, Some("\"user\";q=2;w=2")));
        }
        is_full(&balance(&client, &with(BACKEND, &[named])).await)
    })
    .await;
}

/// A name that nobody had before.
fn new_user() -> &'static str {
    static USERS: AtomicUsize = AtomicUsize::new(0);
    format!("user-{}", USERS.fetch_add(1, Ordering::Relaxed)).leak()
}

/// Whether of a budget of two nothing had been used up before.
fn is_full(reply: &Reply) -> bool {
    assert!([200, 429].contains(&reply.status), "{reply:?}");
    reply.header("ratelimit") == Some("\"user\";r=1;t=1")
}

/// Checks that something is so for new users. Of many, two share a budget now and then, but not three times running.
async fn once_of_three(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..3 {
        if is_so().await {
            return;
        }
    }
    panic!("it is not so");
}

async fn no_token_is_in_the_log(engine: Engine) {
    let settings = [&LOGINS[..], &[("BILLING_LOG", "trace"), ("BILLING_RATE_LIMIT", "1")]].concat();
    let mut server = Server::start_with(engine, &settings);
    let client = server.client();
    for bearer in [BACKEND, OPERATOR, &BACKEND[1..]] {
        for names in [&["ann"][..], &[], &["%"]] {
            balance(&client, &with(bearer, names)).await;
        }
    }
    let log = server.stop().await;
    assert!(log.len() > 4, "the log says something: {log:#?}");
    for line in &log {
        assert!(!line.contains("token-0123456789"), "{line}");
    }
}

#[test]
fn tokens_that_are_none_stop_the_start_and_are_not_told() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let good = "q7-secret-token-of-thirty-two-chars";
    for variable in ["BILLING_BACKEND_TOKEN", "BILLING_OPERATOR_TOKEN"] {
        for value in [
            "q7-secret".to_owned(),
            good[..31].to_owned(),
            format!("{good},"),
            format!(",{good}"),
            format!("{good},q7-secret"),
            format!("{good}, {good}"),
            format!("{good},{good}-2,{good}-3"),
            format!("\"{good}\""),
            format!("'{good}'"),
            format!("{good} q7-secret"),
            format!("{good}\n{good}"),
            format!("{good}é"),
        ] {
            let launch = Launch::new().set("BILLING_AUTH", "jwt").set("BILLING_JWT_SECRET", SECRET);
            let failed = launch.set(variable, &value).fail_to_start(directory.path());
            assert_eq!((failed.code, failed.stderr.len()), (Some(2), 1), "{value}: {failed:?}");
            assert!(failed.stderr[0].contains(variable), "{failed:?}");
            assert!(!failed.stderr[0].contains("q7"), "{failed:?}");
        }
    }
    for (variable, settings) in [
        // One who is both would be an operator by a backend's token.
        ("BILLING_OPERATOR_TOKEN", &[("BILLING_OPERATOR_TOKEN", BACKEND)][..]),
        ("BILLING_AUTH", &[("BILLING_AUTH", "")]),
        ("BILLING_AUTH", &[("BILLING_BACKEND_TOKEN", ""), ("BILLING_OPERATOR_TOKEN", OPERATOR)]),
        ("BILLING_CONSUME_BY", &[("BILLING_CONSUME_BY", "operator")]),
        ("BILLING_CONSUME_BY", &[("BILLING_CONSUME_BY", "Backend")]),
    ] {
        let launch = Launch::new().set("BILLING_AUTH", "jwt").set("BILLING_BACKEND_TOKEN", BACKEND);
        let launch = settings.iter().fold(launch, |launch, (name, value)| launch.set(name, *value));
        let failed = launch.fail_to_start(directory.path());
        assert_eq!((failed.code, failed.stderr.len()), (Some(2), 1), "{failed:?}");
        assert!(failed.stderr[0].contains(variable), "{failed:?}");
        assert!(!failed.stderr[0].contains("0123456789"), "{failed:?}");
    }
    for option in ["--backend-token=q7-secret", "--operator-token=q7-secret"] {
        let output = Launch::new().command(directory.path()).arg(option).output();
        let output = output.expect("the binary starts");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains("_TOKEN: ") && !told.contains("q7"), "{told}");
    }
}

#[test]
fn tokens_are_not_in_the_help() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    for around in ["", "\n"] {
        let launch = Launch::new()
            .set("BILLING_JWT_SECRET", format!("{SECRET}{around}"))
            .set("BILLING_BACKEND_TOKEN", format!("{BACKEND}{around}"))
            .set("BILLING_OPERATOR_TOKEN", format!("{OPERATOR}{around}"));
        let output = launch.command(directory.path()).arg("--help").output();
        let told = String::from_utf8(output.expect("the binary starts").stdout).expect("UTF-8");
        assert!(told.contains("--backend-token"), "{told}");
        for secret in ["0123456789", "thirty-two"] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}
