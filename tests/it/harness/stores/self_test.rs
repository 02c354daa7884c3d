//! That the stand-in answers as the stores do, and sees what is wrong with a request.

use std::sync::LazyLock;

use app_store_server_library::{
    models::app_store_environment::Environment, signed_data_verifier::SignedDataVerifier,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    super::{Reply, token::now},
    APP, Answer, Call, Flaw, GooglePurchase, Market, StandIn,
    apple::{ISSUER, KEY_ID},
    consumable, google_token,
};

const SMALL: &str = "noteapp.credits.small";

/// Keeps no connections, for they end with the test that made them.
static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
    client.build().expect("a client can be made")
});

/// Sends one request; `path` is the whole address.
pub(super) async fn ask(method: Method, url: &str, bearer: &str, body: Option<&str>) -> Reply {
    Reply::to(request(method, url, bearer, body)).await
}

fn request(method: Method, url: &str, bearer: &str, body: Option<&str>) -> reqwest::RequestBuilder {
    let request = CLIENT.request(method, url);
    let request = if bearer.is_empty() { request } else { request.bearer_auth(bearer) };
    match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_owned()),
        None => request,
    }
}

/// What a service asks Google's access with, changed in one claim.
async fn access(stand_in: &StandIn, claim: &str, value: Value) -> Reply {
    let [google, _, _] = stand_in.origins.urls();
    let url = format!("{google}/token");
    let mut claims = json!({
        "iss": "billing@noteapp.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/androidpublisher",
        "aud": url,
        "iat": now(),
        "exp": now() + 3_600,
    });
    if !claim.is_empty() {
        claims[claim] = value;
    }
    let key = EncodingKey::from_rsa_pem(include_bytes!("../../keys/rsa.pem")).expect("a key");
    let assertion = encode(&Header::new(Algorithm::RS256), &claims, &key).expect("it signs");
    let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
    let request = request(Method::POST, &url, "", None)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("grant_type={grant}&assertion={assertion}"));
    Reply::to(request).await
}

pub(super) async fn access_token(stand_in: &StandIn) -> String {
    let given = access(stand_in, "", Value::Null).await.ok();
    given["access_token"].as_str().expect("a token").to_owned()
}

/// What a service shows Apple, with this key's id, and changed in one claim.
pub(super) fn api_token(stand_in: &StandIn, kid: &str, claim: &str, value: Value) -> String {
    let mut claims = json!({
        "iss": ISSUER, "iat": now(), "exp": now() + 300, "aud": "appstoreconnect-v1", "bid": APP,
    });
    claims[claim] = value;
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(kid.to_owned());
    let key = EncodingKey::from_ec_pem(stand_in.apple.private_key().as_bytes());
    encode(&header, &claims, &key.expect("a key")).expect("it signs")
}

pub(super) fn purchases(stand_in: &StandIn) -> String {
    let [google, _, _] = stand_in.origins.urls();
    format!("{google}/androidpublisher/v3/applications/{APP}/purchases")
}

#[tokio::test]
async fn a_purchase_of_googles_is_told_acknowledged_and_consumed() {
    let stand_in = StandIn::new();
    let token = google_token("one:two");
    stand_in.google.sell(GooglePurchase::paid(&token, SMALL).times(3));
    let bearer = access_token(&stand_in).await;
    let raw = token.replace(':', "%3A");
    let word = format!("{}/productsv2/tokens/{raw}", purchases(&stand_in));
    let told = ask(Method::GET, &word, &bearer, None).await.ok();
    assert_eq!(told["productLineItem"][0]["productOfferDetails"]["quantity"], 3);
    let product = format!("{}/products/{SMALL}/tokens/{raw}", purchases(&stand_in));
    let acknowledge = format!("{product}:acknowledge");
    for status in [204, 400] {
        assert_eq!(ask(Method::POST, &acknowledge, &bearer, Some("{}")).await.status, status);
        assert_eq!(stand_in.google.delivered(&token), (true, false));
    }
    for status in [204, 400] {
        let reply = ask(Method::POST, &format!("{product}:consume"), &bearer, None).await;
        assert_eq!(reply.status, status);
        assert_eq!(stand_in.google.delivered(&token), (true, true));
    }
    assert_eq!(stand_in.on(Call::Consume).of(&token).count(), 2);
    stand_in.google.revoke_access();
    assert_eq!(ask(Method::GET, &word, &bearer, None).await.status, 401);
    let bearer = access_token(&stand_in).await;
    ask(Method::GET, &word, &bearer, None).await.ok();
}

#[tokio::test]
async fn assertions_that_google_would_not_take_are_seen() {
    let stand_in = StandIn::new();
    for (claim, value) in [
        ("iss", json!("somebody")),
        ("aud", json!("https://oauth2.googleapis.com/token")),
        ("scope", json!("https://www.googleapis.com/auth/cloud-platform")),
        ("exp", json!(now() + 3_700)),
        ("iat", Value::Null),
    ] {
        assert_eq!(access(&stand_in, claim, value).await.status, 401, "{claim}");
        assert_eq!(stand_in.desk.take_faults().len(), 1, "{claim}");
    }
    // A clock that is wrong is no fault of the request.
    stand_in.shift(86_400);
    let late = access(&stand_in, "", Value::Null).await;
    assert_eq!((late.status, &late.json()["error"]), (400, &json!("invalid_grant")));
}

#[tokio::test]
async fn requests_to_google_that_are_written_wrongly_are_seen() {
    let stand_in = StandIn::new();
    let bearer = access_token(&stand_in).await;
    let base = purchases(&stand_in);
    let token = google_token("one:two");
    let encoded = token.replace(':', "%3A");
    let verb = |verb: &str| format!("{base}/products/{SMALL}/tokens/{encoded}:{verb}");
    let get = |token: &str| format!("{base}/productsv2/tokens/{token}");
    let other = get(&encoded).replace(APP, "com.example");
    for (method, url, bearer, body) in [
        (Method::GET, get(&token), &*bearer, None),
        (Method::GET, get(&encoded.replace('x', "%78")), &bearer, None),
        (Method::GET, get(&encoded), "", None),
        (Method::GET, get(&encoded), "ya29.stand-in-2", None),
        (Method::GET, other, &bearer, None),
        (Method::GET, format!("{base}/products/{SMALL}/tokens/{encoded}"), &bearer, None),
        (Method::POST, verb("acknowledge"), &bearer, None),
        (Method::POST, verb("acknowledge"), &bearer, Some(r#"{"developerPayload":""}"#)),
        (Method::POST, verb("consume"), &bearer, Some("{}")),
    ] {
        let reply = ask(method, &url, bearer, body).await;
        assert_eq!(stand_in.desk.take_faults().len(), 1, "{url}, {reply:?}");
    }
}

#[tokio::test]
async fn a_transaction_of_apples_is_told_to_who_may_ask() {
    let stand_in = StandIn::new();
    let [_, production, sandbox] = stand_in.origins.urls();
    let signed = stand_in.apple.signed(&consumable("1", SMALL));
    stand_in.apple.sell(Market::Sandbox, "1", &signed);
    let token = |kid: &str, claim: &str, value| api_token(&stand_in, kid, claim, value);
    let good = token(KEY_ID, "iss", json!(ISSUER));
    let told = ask(Method::GET, &format!("{sandbox}/inApps/v1/transactions/1"), &good, None).await;
    told.is(200, &json!({"signedTransactionInfo": signed}));
    let url = format!("{production}/inApps/v1/transactions/1");
    let unknown = ask(Method::GET, &url, &good, None).await;
    assert_eq!((unknown.status, &unknown.json()["errorCode"]), (404, &json!(4_040_010)));
    for bad in [
        String::new(),
        token("another", "iss", json!(ISSUER)),
        token(KEY_ID, "iss", json!("another")),
        token(KEY_ID, "aud", json!("another")),
        token(KEY_ID, "bid", json!("another")),
        token(KEY_ID, "exp", json!(now() + 3_700)),
    ] {
        assert_eq!(ask(Method::GET, &url, &bad, None).await.status, 401);
        assert_eq!(stand_in.desk.take_faults().len(), 1);
    }
}

#[tokio::test]
async fn what_apple_signs_is_believed_by_another_library() {
    let stand_in = StandIn::new();
    let authority = &stand_in.apple.authority;
    let roots = vec![authority.root_der().to_vec()];
    let verifier =
        SignedDataVerifier::new(roots, Environment::Sandbox, APP.to_owned(), None, false);
    let verifier = verifier.expect("a verifier");
    let payload = consumable("1", SMALL);
    let believes = |signed: &str| verifier.verify_and_decode_signed_transaction(signed).is_ok();
    assert!(believes(&stand_in.apple.signed(&payload)));
    assert!(believes(&authority.ending_elsewhere().sign(&payload)));
    // It looks at fewer things than the service has to.
    let passed_over: Vec<_> = Flaw::ALL
        .into_iter()
        .filter(|flaw| believes(&authority.flawed(*flaw).sign(&payload)))
        .collect();
    println!("{passed_over:?}");
    assert!(passed_over.len() < 8, "{passed_over:?}");
}

#[tokio::test]
async fn answers_come_as_scripted_and_calls_wait_until_they_may_go_on() {
    let stand_in = StandIn::new();
    let token = google_token("a");
    stand_in.google.sell(GooglePurchase::paid(&token, SMALL));
    let bearer = access_token(&stand_in).await;
    let word = format!("{}/productsv2/tokens/{token}", purchases(&stand_in));
    let status = async || ask(Method::GET, &word, &bearer, None).await.status;
    let on = || stand_in.on(Call::Purchase).of(&token);
    on().always(Answer::html(502));
    on().next(2, Answer::empty(429));
    on().next(1, Answer::google(403, "global", "forbidden", "No."));
    stand_in.on(Call::Purchase).of("another").always(Answer::empty(418));
    for expected in [429, 429, 403, 502, 502] {
        assert_eq!(status().await, expected);
    }
    on().forget();
    assert_eq!(status().await, 200);
    on().next(1, Answer::closed());
    assert!(request(Method::GET, &word, &bearer, None).send().await.is_err());
    on().next(1, Answer::cut_off("{"));
    assert!(Reply::try_to(request(Method::GET, &word, &bearer, None)).await.is_err());
    on().next(1, Answer::huge(1));
    let huge = ask(Method::GET, &word, &bearer, None).await;
    assert_eq!(huge.text.len(), 1_024 * 1_024);

    let acknowledge =
        format!("{}/products/{SMALL}/tokens/{token}:acknowledge", purchases(&stand_in));
    for (in_time, answered) in [(false, false), (true, false)] {
        let on = stand_in.on(Call::Acknowledge);
        let mut held = if in_time { on.hold_answer() } else { on.hold() };
        let call = tokio::spawn(request(Method::POST, &acknowledge, &bearer, Some("{}")).send());
        held.arrived().await;
        assert_eq!(stand_in.google.delivered(&token), (in_time, false));
        drop(held);
        assert_eq!(call.await.expect("it ends").is_ok(), answered);
    }
    let mut held = stand_in.on(Call::Purchase).hold();
    let call = tokio::spawn(request(Method::GET, &word, &bearer, None).send());
    held.arrived().await;
    held.go_on();
    assert_eq!(call.await.expect("it ends").expect("it is answered").status(), 200);
    stand_in.on(Call::Purchase).reach(9).await;
}
