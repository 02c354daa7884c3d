//! Exchanges with Apple about money that goes back: the list of notifications, and the answer to how much was used.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::net::TcpListener;

use super::{
    HistoryPage, Span, Sweep,
    api::{ApiKey, AppleApi, Sites},
};
use crate::{
    domain::Environment,
    outgoing::{Outgoing, Site},
    stores::{Answered, RefundPreference},
};

const NOTHING: RefundPreference = RefundPreference::Nothing;
const HISTORY: &str = "POST /inApps/v1/notifications/history";
const EC: &str = include_str!("../../../tests/it/keys/ec.pem");
const FROM_S: i64 = 1_795_766_400;

/// What an environment's server says next, and what it was asked.
#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<(u16, String)>,
    /// Method, path, type and body of each request.
    asked: Vec<String>,
}

#[derive(Clone, Default)]
struct Stage(Arc<Mutex<Script>>);

impl Stage {
    fn with<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn say(&self, status: u16, body: impl Into<String>) {
        self.with(|script| script.answers.push_back((status, body.into())));
    }

    /// What it was asked since it was asked this.
    fn asked(&self) -> Vec<String> {
        self.with(|script| std::mem::take(&mut script.asked))
    }

    /// Where it is served, until the test's runtime ends.
    async fn site(&self) -> Site {
        let router = Router::new().fallback(answer).with_state(self.clone());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}").parse().expect("an origin")
    }
}

async fn answer(State(stage): State<Stage>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    assert!(parts.headers.contains_key(header::AUTHORIZATION));
    assert_eq!(parts.headers[header::CONTENT_TYPE], "application/json");
    let (status, body) = stage.with(|script| {
        let body = String::from_utf8_lossy(&body);
        script.asked.push(format!("{} {} {body}", parts.method, parts.uri));
        script.answers.pop_front().expect("an answer is left")
    });
    (StatusCode::from_u16(status).expect("a status"), body).into_response()
}

/// The API, and the stages behind it: production, and the sandbox.
async fn apple() -> (AppleApi, [Stage; 2]) {
    let stages = [Stage::default(), Stage::default()];
    let sites = Sites { production: stages[0].site().await, sandbox: stages[1].site().await };
    let key = ApiKey::new("issuer".to_owned(), "KEY1".to_owned(), EC.as_bytes()).expect("a key");
    let client = Outgoing::new().expect("there are authorities");
    let bundle = "com.example.app".to_owned();
    (AppleApi::new(bundle, key, sites, client, || DateTime::UNIX_EPOCH, None), stages)
}

fn span(which: Sweep, days: i64) -> Span {
    let from = DateTime::from_timestamp(FROM_S, 0).expect("a time");
    Span { from, to: from + TimeDelta::days(days), which }
}

fn error(code: i64) -> String {
    json!({"errorCode": code, "errorMessage": "A sentence."}).to_string()
}

#[tokio::test]
async fn a_list_is_asked_for_in_its_environment_and_alike_for_each_page() {
    let (apple, [production, sandbox]) = apple().await;
    let last_179_days = FROM_S + (200 - 179) * 86_400;
    for (which, days, from_s, filter) in [
        (Sweep::Missed, 1, FROM_S, r#""onlyFailures":true"#),
        (Sweep::Refunds, 179, FROM_S, r#""notificationType":"REFUND""#),
        (Sweep::Reversals, 200, last_179_days, r#""notificationType":"REFUND_REVERSED""#),
    ] {
        let span = span(which, days);
        let to_s = FROM_S + days * 86_400;
        let body = format!(r#"{{"startDate":{from_s}000,"endDate":{to_s}000,{filter}}}"#);
        for (environment, asked) in
            [(Environment::Production, &production), (Environment::Sandbox, &sandbox)]
        {
            let more = r#"{"hasMore":true,"paginationToken":"a+/=&b","notificationHistory":[]}"#;
            asked.say(200, more);
            asked.say(200, "{}");
            let first = apple.history_page(environment, &span, None, true).await.expect("a page");
            assert_eq!(first.next.as_deref(), Some("a+/=&b"));
            let last =
                apple.history_page(environment, &span, first.next, true).await.expect("a page");
            assert_eq!(last, HistoryPage { payloads: Vec::new(), next: None });
            let further = format!("{HISTORY}?paginationToken=a%2B%2F%3D%26b {body}");
            assert_eq!(asked.asked(), [format!("{HISTORY} {body}"), further]);
        }
    }
}

#[tokio::test]
async fn a_page_holds_what_was_signed_and_leaves_out_what_can_not_be_read() {
    let (apple, [production, _]) = apple().await;
    let attempts = json!([{"attemptDate": 1, "sendAttemptResult": "TIMED_OUT"}]);
    // As large as they come, and all attempts.
    let large = "e".repeat(19_000);
    let entries = [
        json!({"signedPayload": large, "sendAttempts": attempts}),
        json!({"signedPayload": 7}),
        json!({}),
        json!("a.b.c"),
        json!(null),
        json!({"signedPayload": "a.b.c", "more": [{}]}),
    ];
    let body = json!({"hasMore": false, "paginationToken": "t", "notificationHistory": entries});
    production.say(200, body.to_string());
    let missed = span(Sweep::Missed, 1);
    let page =
        apple.history_page(Environment::Production, &missed, None, true).await.expect("a page");
    assert_eq!(
        (page.payloads.as_slice(), page.next.as_ref()),
        (&[large, "a.b.c".to_owned()][..], None)
    );
    assert!(!format!("{page:?}").contains("a.b.c"));
}

#[tokio::test]
async fn no_answer_is_taken_for_an_empty_list_that_is_none() {
    let (apple, [production, _]) = apple().await;
    let missed = span(Sweep::Missed, 1);
    let empty = [
        (404, error(4_040_007)),
        (200, String::new()),
        (200, "{}".to_owned()),
        (200, r#"{"notificationHistory":null,"hasMore":null}"#.to_owned()),
    ];
    for (status, body) in empty {
        production.say(status, &*body);
        let page = apple.history_page(Environment::Production, &missed, None, true).await;
        assert_eq!(page, Ok(HistoryPage { payloads: Vec::new(), next: None }), "{body}");
    }
    for (status, body, name) in [
        (200, "[]".to_owned(), "unreachable"),
        (200, "<html></html>".to_owned(), "unreachable"),
        // There is more, and no way to it.
        (200, r#"{"hasMore":true}"#.to_owned(), "unreachable"),
        (200, r#"{"hasMore":true,"paginationToken":""}"#.to_owned(), "unreachable"),
        (200, r#"{"notificationHistory":{}}"#.to_owned(), "unreachable"),
        (400, error(4_000_017), "unreachable"),
        (404, error(4_040_003), "unreachable"),
        (404, "<html></html>".to_owned(), "unreachable"),
        (401, String::new(), "refused"),
        (429, error(4_290_000), "limited"),
        (500, error(5_000_001), "unreachable"),
        (302, String::new(), "unreachable"),
    ] {
        production.say(status, &*body);
        let page = apple.history_page(Environment::Production, &missed, None, true).await;
        assert_eq!(page.expect_err("no page").name(), name, "{status} {body}");
    }
}

#[tokio::test]
async fn what_was_used_is_told_to_the_environment_that_asks() {
    let (apple, [production, sandbox]) = apple().await;
    for (environment, asked, delivered, used, status, told) in [
        (
            Environment::Production,
            &production,
            true,
            62_500,
            202,
            r#""DELIVERED","consumptionPercentage":62500"#,
        ),
        (
            Environment::Production,
            &production,
            true,
            0,
            200,
            r#""DELIVERED","consumptionPercentage":0"#,
        ),
        (
            Environment::Sandbox,
            &sandbox,
            true,
            100_001,
            204,
            r#""DELIVERED","consumptionPercentage":100000"#,
        ),
        (
            Environment::Sandbox,
            &sandbox,
            false,
            62_500,
            202,
            r#""UNDELIVERED_OTHER","consumptionPercentage":0"#,
        ),
    ] {
        asked.say(status, "");
        let answered = apple.consumption_answer(environment, "4/2", delivered, used, NOTHING).await;
        assert_eq!(answered, Ok(Answered::Taken));
        let body = format!(
            r#"{{"customerConsented":true,"sampleContentProvided":false,"deliveryStatus":{told}}}"#
        );
        let path = "PUT /inApps/v2/transactions/consumption/4%2F2";
        assert_eq!(asked.asked(), [format!("{path} {body}")]);
    }
}

#[tokio::test]
async fn what_is_preferred_is_told_of_what_was_delivered() {
    let (apple, [production, _]) = apple().await;
    for (delivered, preference, told) in [
        (
            true,
            RefundPreference::Decline,
            r#""DELIVERED","consumptionPercentage":7,"refundPreference":"DECLINE""#,
        ),
        (
            true,
            RefundPreference::Grant,
            r#""DELIVERED","consumptionPercentage":7,"refundPreference":"GRANT_FULL""#,
        ),
        (false, RefundPreference::Decline, r#""UNDELIVERED_OTHER","consumptionPercentage":0"#),
    ] {
        production.say(202, "");
        let answered =
            apple.consumption_answer(Environment::Production, "42", delivered, 7, preference).await;
        assert_eq!(answered, Ok(Answered::Taken));
        let body = format!(
            r#"{{"customerConsented":true,"sampleContentProvided":false,"deliveryStatus":{told}}}"#
        );
        assert_eq!(
            production.asked(),
            [format!("PUT /inApps/v2/transactions/consumption/42 {body}")]
        );
    }
}

#[tokio::test]
async fn an_answer_that_will_never_be_taken_is_told_from_one_that_may_be() {
    let (apple, [production, _]) = apple().await;
    for (status, body, name) in [
        (400, error(4_000_006), "final"),
        (400, error(4_000_035), "final"),
        (400, error(4_000_036), "final"),
        (400, error(4_000_041), "final"),
        (400, error(4_000_047), "final"),
        (400, error(4_000_048), "final"),
        (404, error(4_040_010), "final"),
        (400, error(4_000_000), "unreachable"),
        (400, error(4_000_002), "unreachable"),
        (400, String::new(), "unreachable"),
        (404, error(4_000_035), "unreachable"),
        (500, error(4_000_035), "unreachable"),
        (404, error(4_040_002), "unreachable"),
        (404, error(4_040_003), "unreachable"),
        (404, "<html></html>".to_owned(), "unreachable"),
        (401, String::new(), "refused"),
        (429, error(4_290_000), "limited"),
        (500, error(5_000_000), "unreachable"),
        (302, String::new(), "unreachable"),
    ] {
        production.say(status, &*body);
        let answered =
            apple.consumption_answer(Environment::Production, "42", true, 0, NOTHING).await;
        let outcome = match answered {
            Ok(Answered::Final(_)) => "final",
            Ok(Answered::Taken) => "taken",
            Err(error) => error.name(),
        };
        assert_eq!(outcome, name, "{status} {body}");
    }
}
