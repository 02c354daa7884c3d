//! Exchanges with Google as a whole: what is sent, what is tried again, and what comes out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use chrono::DateTime;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Google, service_account::tests::account};
use crate::{
    domain::StoreWord,
    outgoing::{Outgoing, Site},
    stores::StoreError,
};

pub(super) const TOKEN: &str = "aaaabbbbccccddddeeeeffff.AO-J1O:x/y";
const PURCHASE: &str = "GET /androidpublisher/v3/applications/com.example.app/purchases/productsv2/tokens/\
    aaaabbbbccccddddeeeeffff.AO-J1O%3Ax%2Fy";
const CHANGES: &str = "/androidpublisher/v3/applications/com.example.app/purchases/products/noteapp.credits/\
    tokens/aaaabbbbccccddddeeeeffff.AO-J1O%3Ax%2Fy";

/// What Google says next, and what it was asked.
#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<(u16, String)>,
    /// Method, path and body of each request.
    asked: Vec<String>,
    /// The access token of each request.
    tokens: Vec<String>,
    granted: usize,
}

#[derive(Clone, Default)]
pub(super) struct Stage(Arc<Mutex<Script>>);

impl Stage {
    fn with<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn say(&self, answers: impl IntoIterator<Item = (u16, String)>) {
        self.with(|script| {
            assert!(script.answers.is_empty(), "it was not asked: {script:?}");
            script.answers.extend(answers);
        });
    }

    /// What it was asked since it was asked this.
    pub(super) fn asked(&self) -> Vec<String> {
        self.with(|script| std::mem::take(&mut script.asked))
    }

    fn granted(&self) -> usize {
        self.with(|script| script.granted)
    }
}

async fn answer(State(stage): State<Stage>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let token = parts.headers[header::AUTHORIZATION].to_str().expect("ASCII").to_owned();
    let (status, body) = stage.with(|script| {
        let body = String::from_utf8_lossy(&body);
        script.asked.push(format!("{} {} {body}", parts.method, parts.uri).trim_end().to_owned());
        script.tokens.push(token);
        script.answers.pop_front().expect("an answer is left")
    });
    (StatusCode::from_u16(status).expect("a status"), body).into_response()
}

async fn grant(State(stage): State<Stage>) -> String {
    let number = stage.with(|script| {
        script.granted += 1;
        script.granted
    });
    json!({"access_token": format!("access-{number}"), "expires_in": 3_599}).to_string()
}

/// When all of it happens, in seconds.
pub(super) const NOW: i64 = 1_795_766_400;

/// Google, and the stage behind it.
pub(super) async fn google() -> (Google, Stage) {
    let stage = Stage::default();
    let router = Router::new().route("/token", post(grant)).fallback(answer);
    let router = router.with_state(stage.clone());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let origin = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let account = account(&format!("{origin}/token"));
    let api: Site = origin.parse().expect("an origin");
    let client = Outgoing::new().expect("there are authorities");
    let package = "com.example.app".to_owned();
    let clock = || DateTime::from_timestamp(NOW, 0).expect("a time");
    (Google::new(package, account, api, client, clock, None), stage)
}

pub(super) fn refusal(status: u16, reason: &str) -> (u16, String) {
    let error = json!({"code": status, "message": "A sentence.", "errors": [{"reason": reason}]});
    (status, json!({ "error": error }).to_string())
}

fn purchase(state: &str, acknowledgement: &str, consumption: &str) -> (u16, String) {
    let details = json!({"consumptionState": format!("CONSUMPTION_STATE_{consumption}")});
    let answer: Value = json!({
        "productLineItem": [{"productId": "noteapp.credits", "productOfferDetails": details}],
        "purchaseStateContext": {"purchaseState": state},
        "acknowledgementState": format!("ACKNOWLEDGEMENT_STATE_{acknowledgement}"),
    });
    (200, answer.to_string())
}

pub(super) fn paid() -> (u16, String) {
    purchase("PURCHASED", "PENDING", "YET_TO_BE_CONSUMED")
}

#[tokio::test]
async fn a_purchase_is_asked_for_by_its_token_alone() {
    let (google, stage) = google().await;
    stage.say([paid(), paid()]);
    for _ in 0..2 {
        assert!(matches!(google.purchase(TOKEN).await, Ok(StoreWord::Paid(_))));
    }
    assert_eq!(stage.asked(), [PURCHASE, PURCHASE]);
    assert_eq!(stage.granted(), 1);
    assert_eq!(stage.with(|script| script.tokens.clone()), ["Bearer access-1"; 2]);
}

#[tokio::test]
async fn one_that_is_not_known_is_asked_for_three_times() {
    let (google, stage) = google().await;
    let (missing, gone) =
        (refusal(404, "purchaseTokenNotFound"), refusal(410, "purchaseTokenNoLongerValid"));
    stage.say([missing.clone(), gone.clone(), paid()]);
    assert!(matches!(google.purchase(TOKEN).await, Ok(StoreWord::Paid(_))));
    stage.say([missing.clone(), missing, gone]);
    assert_eq!(google.purchase(TOKEN).await, Err(StoreError::Unknown));
    assert_eq!(stage.asked().len(), 6);
}

#[tokio::test]
async fn an_access_token_that_is_not_taken_is_replaced_once() {
    let (google, stage) = google().await;
    stage.say([refusal(401, "authError"), paid()]);
    assert!(google.purchase(TOKEN).await.is_ok());
    assert_eq!(stage.with(|script| script.tokens.clone()), ["Bearer access-1", "Bearer access-2"]);
    stage.say([refusal(401, "authError"), refusal(401, "authError")]);
    assert!(matches!(google.purchase(TOKEN).await, Err(StoreError::Refused(_))));
    // Another one would not be taken either.
    stage.say([refusal(401, "authError")]);
    assert!(matches!(google.purchase(TOKEN).await, Err(StoreError::Refused(_))));
    assert_eq!(stage.granted(), 3);
}

#[tokio::test]
async fn what_is_refused_is_not_asked_again_and_costs_no_access_token() {
    let (google, stage) = google().await;
    for (answer, name) in [
        (refusal(401, "permissionDenied"), "refused"),
        (refusal(403, "forbidden"), "refused"),
        (refusal(404, "applicationNotFound"), "refused"),
        (refusal(400, "purchaseTokenDoesNotMatchProductId"), "unreachable"),
        (refusal(429, "rateLimitExceeded"), "limited"),
        (refusal(500, "backendError"), "unreachable"),
        ((302, String::new()), "unreachable"),
        ((200, "<html></html>".to_owned()), "unreachable"),
        ((200, "x".repeat(2_000_000)), "unreachable"),
    ] {
        stage.say([answer.clone()]);
        let error = google.purchase(TOKEN).await.expect_err("it is refused");
        assert_eq!(error.name(), name, "{:.80}", answer.1);
        assert_eq!(stage.asked(), [PURCHASE]);
    }
    assert_eq!(stage.granted(), 1);
}

#[tokio::test]
async fn only_a_malformed_token_and_another_app_are_the_end() {
    let (google, stage) = google().await;
    let other_app = refusal(400, "purchaseTokenDoesNotMatchPackageName");
    stage.say([refusal(400, "invalid")]);
    assert!(matches!(google.purchase(TOKEN).await, Ok(StoreWord::Never(_))));
    // As long as nothing shows that our package is right, it may be that which is wrong.
    stage.say([other_app.clone()]);
    match google.purchase(TOKEN).await {
        Err(StoreError::Refused(line)) => {
            assert!(line.contains("BILLING_GOOGLE_PACKAGE"), "{line}");
        }
        other => panic!("{other:?}"),
    }
    stage.say([paid(), other_app]);
    assert!(google.purchase(TOKEN).await.is_ok());
    assert!(matches!(google.purchase(TOKEN).await, Ok(StoreWord::Never(_))));
}

#[tokio::test]
async fn a_change_is_a_verb_behind_the_token() {
    let (google, stage) = google().await;
    for (status, body) in [(200, ""), (204, ""), (200, "{}")] {
        stage.say([(status, body.to_owned()), (status, body.to_owned())]);
        assert_eq!(google.acknowledge("noteapp.credits", TOKEN).await, Ok(()));
        assert_eq!(google.consume("noteapp.credits", TOKEN).await, Ok(()));
        let expected =
            [format!("POST {CHANGES}:acknowledge {{}}"), format!("POST {CHANGES}:consume")];
        assert_eq!(stage.asked(), expected);
    }
}

#[tokio::test]
async fn what_was_done_before_is_done() {
    let (google, stage) = google().await;
    let state = || refusal(400, "invalidPurchaseState");
    // What the purchase is found to be, and whether it then is acknowledged, and consumed.
    for (found, acknowledged, consumed) in [
        (paid(), false, false),
        (purchase("PURCHASED", "ACKNOWLEDGED", "YET_TO_BE_CONSUMED"), true, false),
        (purchase("PURCHASED", "ACKNOWLEDGED", "CONSUMED"), true, true),
        (purchase("PURCHASED", "PENDING", "CONSUMED"), true, true),
        (purchase("CANCELLED", "PENDING", "YET_TO_BE_CONSUMED"), true, true),
        (purchase("PENDING", "PENDING", "YET_TO_BE_CONSUMED"), false, false),
        (refusal(404, "purchaseTokenNotFound"), false, false),
        (refusal(500, "backendError"), false, false),
    ] {
        stage.say([state(), found.clone(), state(), found.clone()]);
        let told = google.acknowledge("noteapp.credits", TOKEN).await;
        assert_eq!(told.is_ok(), acknowledged, "{found:?}");
        let told = google.consume("noteapp.credits", TOKEN).await;
        assert_eq!(told.is_ok(), consumed, "{found:?}");
    }
}

#[tokio::test]
async fn a_change_that_can_not_be_made_now_is_an_error() {
    let (google, stage) = google().await;
    for (answer, name) in [
        (refusal(404, "purchaseTokenNotFound"), "unknown"),
        (refusal(410, "purchaseTokenNoLongerValid"), "unknown"),
        (refusal(409, "concurrentUpdate"), "unreachable"),
        (refusal(400, "invalid"), "unreachable"),
        (refusal(429, "rateLimitExceeded"), "limited"),
        (refusal(503, "backendError"), "unreachable"),
    ] {
        stage.say([answer.clone(), answer]);
        let error = google.acknowledge("noteapp.credits", TOKEN).await.expect_err("refused");
        assert_eq!(error.name(), name);
        assert_eq!(google.consume("noteapp.credits", TOKEN).await, Err(error));
    }
    assert!(google.consume("..", TOKEN).await.is_err());
}
