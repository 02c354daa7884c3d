//! What Google pushes, with every single thing wrong in turn.

use axum::{Router, routing::get};
use base64::{Engine, prelude::*};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Push, PushSettings, push_message};
use crate::{
    domain::{ProductId, PurchaseToken, StoreEvent, StoreRefund},
    outgoing::Outgoing,
    stores::{Understood, Unreadable},
};

const PACKAGE: &str = "com.example.app";
const AUDIENCE: &str = "https://billing.example/api/billing/notifications/google";
const ACCOUNT: &str = "push@example.iam.gserviceaccount.com";
const SUBSCRIPTION: &str = "projects/example/subscriptions/play";
const TOKEN: &str = "aaaabbbbccccddddeeeeffff.AO-J1O";
const ORDER: &str = "GPA.3301-1111-2222-33333";

fn now() -> DateTime<Utc> {
    "2026-11-27T12:00:00Z".parse().expect("a time")
}

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(include_bytes!("../../../tests/it/keys/rsa.pem")).expect("a key")
}

fn ec() -> EncodingKey {
    EncodingKey::from_ec_pem(include_bytes!("../../../tests/it/keys/ec.pem")).expect("a key")
}

fn push(origin: &str) -> Push {
    let settings = PushSettings {
        audience: AUDIENCE.to_owned(),
        account: ACCOUNT.to_owned(),
        subscription: SUBSCRIPTION.to_owned(),
        keys: origin.parse().expect("an origin"),
    };
    Push::new(settings, Outgoing::new().expect("there are authorities")).expect("an address")
}

/// What reads, with an RSA key `r` and an EC key `e` to be had.
async fn served() -> Push {
    let keys = [("r", rsa(), Algorithm::RS256), ("e", ec(), Algorithm::ES256)];
    let keys = keys.map(|(id, key, algorithm)| {
        let mut jwk = Jwk::from_encoding_key(&key, algorithm).expect("a key");
        jwk.common.key_id = Some(id.to_owned());
        jwk
    });
    let set = json!({ "keys": keys }).to_string();
    let router = Router::new().route("/oauth2/v3/certs", get(|| async { set }));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    push(&format!("http://{address}"))
}

fn header() -> Header {
    Header { kid: Some("r".to_owned()), ..Header::new(Algorithm::RS256) }
}

fn claims() -> Value {
    let now = now().timestamp();
    json!({
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "azp": "1234567890",
        "sub": "1234567890",
        "email": ACCOUNT,
        "email_verified": true,
        "iat": now,
        "exp": now + 3_600,
    })
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut claims = claims();
    for (name, value) in changes {
        let map = claims.as_object_mut().expect("an object");
        if value.is_null() {
            map.remove(*name);
        } else {
            map.insert((*name).to_owned(), value.clone());
        }
    }
    claims
}

fn bearer(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    format!("Bearer {}", encode(header, claims, key).expect("it signs"))
}

fn proof() -> String {
    bearer(&header(), &claims(), &rsa())
}

fn voided() -> Value {
    json!({
        "version": "1.0",
        "packageName": PACKAGE,
        "eventTimeMillis": "1795766401000",
        "voidedPurchaseNotification":
            {"purchaseToken": TOKEN, "orderId": ORDER, "productType": 2, "refundType": 1},
    })
}

fn envelope(data: &Value) -> Value {
    json!({
        "message": {
            "data": BASE64_STANDARD.encode(data.to_string()),
            "messageId": "136969346945",
            "message_id": "136969346945",
            "publishTime": "2026-11-27T09:00:01.5Z",
        },
        "subscription": SUBSCRIPTION,
    })
}

async fn read(push: &Push, proof: Option<&str>, body: &Value) -> Result<Understood, Unreadable> {
    push.read(proof, body.to_string().as_bytes(), PACKAGE, now()).await
}

fn void(whole: bool) -> StoreEvent {
    StoreEvent::GoogleVoid {
        token: PurchaseToken::new(TOKEN).expect("a token"),
        order: Some(ORDER.to_owned()),
        refund: StoreRefund { whole, ..StoreRefund::default() },
    }
}

#[tokio::test]
async fn a_message_with_all_its_proof_is_taken() {
    let push = served().await;
    for claims in [
        claims(),
        with(&[("iss", json!("accounts.google.com"))]),
        with(&[("azp", Value::Null), ("sub", Value::Null), ("iat", Value::Null)]),
        // Clocks differ.
        with(&[("exp", json!(now().timestamp() - 4))]),
    ] {
        let proof = bearer(&header(), &claims, &rsa());
        let message = read(&push, Some(&proof), &envelope(&voided())).await;
        let message = message.expect("proved").expect("for us");
        assert_eq!(message.id.as_str(), "google:push:136969346945");
        assert_eq!(message.event, void(true));
    }
}

#[tokio::test]
async fn one_thing_wrong_with_the_proof_is_enough() {
    let push = served().await;
    let body = envelope(&voided());
    let no_key = Header { kid: None, ..header() };
    let other_key = Header { kid: Some("x".to_owned()), ..header() };
    let by_e = Header { kid: Some("e".to_owned()), ..Header::new(Algorithm::ES256) };
    let r_by_e = Header { kid: Some("e".to_owned()), ..header() };
    let shared = Header { kid: Some("r".to_owned()), ..Header::new(Algorithm::HS256) };
    let public = EncodingKey::from_secret(include_bytes!("../../../tests/it/keys/rsa.pub.pem"));
    let critical = Header { crit: Some(vec!["exp".to_owned()]), ..header() };
    let mut unencoded = header();
    unencoded.extras.insert("b64", false);
    let mut proofs: Vec<_> = [
        with(&[("iss", json!("https://accounts.google.com/"))]),
        with(&[("iss", json!("https://securetoken.google.com"))]),
        with(&[("iss", Value::Null)]),
        with(&[("aud", json!(format!("{AUDIENCE}/")))]),
        with(&[("aud", json!(AUDIENCE.to_uppercase()))]),
        with(&[("aud", json!([AUDIENCE]))]),
        with(&[("aud", Value::Null)]),
        with(&[("email", json!("push@evil.iam.gserviceaccount.com"))]),
        with(&[("email", json!(ACCOUNT.to_uppercase()))]),
        with(&[("email", Value::Null), ("sub", json!(ACCOUNT))]),
        with(&[("email_verified", json!(false))]),
        with(&[("email_verified", json!("true"))]),
        with(&[("email_verified", Value::Null)]),
        with(&[("exp", json!(now().timestamp() - 5))]),
        with(&[("exp", json!("9999999999"))]),
        with(&[("exp", Value::Null)]),
        json!([]),
    ]
    .iter()
    .map(|claims| bearer(&header(), claims, &rsa()))
    .collect();
    for header in [&no_key, &other_key, &critical, &unencoded, &r_by_e] {
        proofs.push(bearer(header, &claims(), &rsa()));
    }
    proofs.push(bearer(&by_e, &claims(), &ec()));
    proofs.push(bearer(&shared, &claims(), &public));
    let good = proof();
    proofs.push(good.replacen("Bearer", "Basic", 1));
    proofs.push(good.replacen("Bearer ", "", 1));
    proofs.push(good[..good.len() - 6].to_owned());
    proofs.push(format!("{good}AAAA"));
    // Another's signature under the same claims.
    let (others, _) = proofs[0].rsplit_once('.').expect("three parts");
    proofs.push(format!("{others}.{}", good.rsplit_once('.').expect("three parts").1));
    proofs.extend(["", "Bearer", "Bearer ", "Bearer a.b.c"].map(str::to_owned));
    for proof in proofs.iter().map(|proof| Some(proof.as_str())).chain([None]) {
        let read = read(&push, proof, &body).await;
        assert!(matches!(read, Err(Unreadable::Unproven(_))), "{proof:?}: {read:?}");
    }
    assert!(read(&push, Some(&good), &body).await.is_ok_and(|message| message.is_ok()));
}

#[tokio::test]
async fn without_keys_only_what_is_wrong_anyway_is_judged() {
    let push = push("http://127.0.0.1:1");
    let body = envelope(&voided());
    let wrong = bearer(&header(), &with(&[("aud", json!("x"))]), &rsa());
    let read_with = async |proof: &str| read(&push, Some(proof), &body).await;
    assert!(matches!(read_with(&wrong).await, Err(Unreadable::Unproven(_))));
    assert_eq!(read_with(&proof()).await, Err(Unreadable::KeysUnavailable));
}

#[tokio::test]
async fn what_is_proved_and_senseless_is_passed_over() {
    let push = served().await;
    let changed = |pointer: &str, value: Value| {
        let mut body = envelope(&voided());
        let (parent, name) = pointer.rsplit_once('/').expect("a path");
        let map = body.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
        map.insert(name.to_owned(), value);
        body
    };
    let mut unnamed = changed("/message/messageId", Value::Null);
    unnamed["message"]["message_id"] = Value::Null;
    for body in [
        json!(null),
        json!({}),
        json!([]),
        json!({"message": "x"}),
        unnamed,
        changed("/message/messageId", json!("")),
        changed("/message/messageId", json!("a\u{0}")),
        changed("/message/messageId", json!("1".repeat(129))),
        changed("/message/data", json!("%")),
        changed("/message/data", json!("")),
        changed("/message/data", Value::Null),
        changed("/message/data", json!(BASE64_STANDARD.encode("nothing"))),
        changed("/subscription", json!("projects/other/subscriptions/play")),
        changed("/subscription", Value::Null),
    ] {
        let read = read(&push, Some(&proof()), &body).await;
        assert!(matches!(read, Ok(Err(_))), "{body}");
    }
    for bytes in [&b""[..], b"{", b"\xff", "[".repeat(100_000).as_bytes()] {
        let read = push.read(Some(&proof()), bytes, PACKAGE, now()).await;
        assert!(matches!(read, Ok(Err(_))), "{bytes:?}");
    }
}

#[tokio::test]
async fn an_envelope_may_be_written_in_many_ways() {
    let push = served().await;
    let (mut told, mut body) = (voided(), envelope(&voided()));
    let mut seen = String::new();
    // Of each length that padding depends on, with bytes that the two alphabets write differently.
    for note in ["ÿ?>~ÿ", "ÿ?>~ÿ.", "ÿ?>~ÿ.."] {
        told["note"] = json!(note);
        let json = told.to_string();
        for text in [
            BASE64_STANDARD.encode(&json),
            BASE64_STANDARD_NO_PAD.encode(&json),
            BASE64_URL_SAFE.encode(&json),
            BASE64_URL_SAFE_NO_PAD.encode(&json),
        ] {
            body["message"]["data"] = json!(text);
            let read = read(&push, Some(&proof()), &body).await;
            assert_eq!(read.expect("proved").expect("for us").event, void(true), "{text}");
            seen += &text;
        }
    }
    assert!(seen.contains("==") && seen.contains('/') && seen.contains('_'), "{seen}");
    for name in ["messageId", "message_id"] {
        let mut body = envelope(&voided());
        let message = body["message"].as_object_mut().expect("an object");
        message.remove(if name == "messageId" { "message_id" } else { "messageId" });
        message.insert(name.to_owned(), json!(136_969_346_945_i64));
        let message = read(&push, Some(&proof()), &body).await.expect("proved").expect("for us");
        assert_eq!(message.id.as_str(), "google:push:136969346945");
    }
}

/// A notification of one kind.
fn of(kind: &str, content: Value) -> Value {
    let mut told = json!({"version": "1.0", "packageName": PACKAGE, "eventTimeMillis": 1});
    told[kind] = content;
    told
}

fn told(notification: &Value) -> Result<StoreEvent, &'static str> {
    push_message::read(notification.to_string().as_bytes(), PACKAGE)
}

#[test]
fn what_concerns_us_is_read() {
    let token = || PurchaseToken::new(TOKEN).expect("a token");
    let product = ProductId::new("noteapp.credits.small").ok();
    for (number, product) in
        [(json!(1), product.clone()), (json!("1"), product.clone()), (json!(2), None)]
    {
        let mut content =
            json!({"version": "1.0", "notificationType": number, "purchaseToken": TOKEN});
        if let Some(product) = &product {
            content["sku"] = json!(product.as_str());
        }
        let change = StoreEvent::GoogleChange { token: token(), product };
        assert_eq!(told(&of("oneTimeProductNotification", content)), Ok(change));
    }
    for (refund_type, whole) in [
        (json!(1), true),
        (json!("1"), true),
        (json!(2), false),
        (json!("2"), false),
        (json!(3), false),
    ] {
        let mut notification = voided();
        notification["voidedPurchaseNotification"]["refundType"] = refund_type;
        assert_eq!(told(&notification), Ok(void(whole)));
    }
    let review =
        json!({"version": "1.0", "pendingRefundToken": "t", "orderId": ORDER, "refundReason": 7});
    for (time, asked_at) in [
        (json!(1_795_766_401_000_i64), DateTime::from_timestamp(1_795_766_401, 0)),
        (json!("1795766401000"), DateTime::from_timestamp(1_795_766_401, 0)),
        (json!(null), None),
        (json!("yesterday"), None),
        (json!(0), None),
        (json!(i64::MAX), None),
    ] {
        let mut notification = of("pendingRefundReviewNotification", review.clone());
        notification["eventTimeMillis"] = time;
        let (order, pending_refund_token) = (ORDER.to_owned(), "t".to_owned());
        let event = StoreEvent::GoogleReview { order, pending_refund_token, asked_at };
        assert_eq!(told(&notification), Ok(event));
    }
}

#[test]
fn what_does_not_concern_us_is_not() {
    let one_time = |number: Value, token: Value| {
        let content = json!({"notificationType": number, "purchaseToken": token, "sku": "s"});
        of("oneTimeProductNotification", content)
    };
    let void = |kind: Value, token: Value| {
        let content = json!({"purchaseToken": token, "productType": kind, "refundType": 1});
        of("voidedPurchaseNotification", content)
    };
    let review = |token: &str, order: &str| {
        let content = json!({"pendingRefundToken": token, "orderId": order});
        of("pendingRefundReviewNotification", content)
    };
    let mut other = voided();
    other["packageName"] = json!("com.example.other");
    let mut unnamed = voided();
    unnamed.as_object_mut().expect("an object").remove("packageName");
    for notification in [
        other,
        unnamed,
        json!({}),
        json!("voided"),
        of("testNotification", json!({"version": "1.0"})),
        of("subscriptionNotification", json!({"notificationType": 1, "purchaseToken": TOKEN})),
        of("newNotification", json!({"purchaseToken": TOKEN})),
        of("voidedPurchaseNotification", json!("x")),
        of("voidedPurchaseNotification", json!(null)),
        one_time(json!(3), json!(TOKEN)),
        one_time(json!(null), json!(TOKEN)),
        one_time(json!("one"), json!(TOKEN)),
        one_time(json!(1), json!(null)),
        one_time(json!(1), json!("")),
        one_time(json!(1), json!("a\u{0}b")),
        one_time(json!(1), json!("a".repeat(20_000))),
        void(json!(1), json!(TOKEN)),
        void(json!(null), json!(TOKEN)),
        void(json!(2), json!("")),
        review("", ORDER),
        review("t", ""),
        review("t\n", ORDER),
        review("t", "\u{0}"),
    ] {
        assert!(told(&notification).is_err(), "{notification:.200}");
    }
}

#[test]
fn nothing_secret_is_shown() {
    for shown in [format!("{:?}", void(true)), format!("{:?}", told(&voided()))] {
        assert!(!shown.contains("AO-J1O"), "{shown}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = push_message::read(&bytes, PACKAGE);
    }
}
