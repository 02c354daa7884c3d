//! Apple's notifications, with every single thing wrong in turn, and Apple's own.

use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};

use super::{
    Apple, Verifier,
    fixtures_test::Fixtures,
    samples::{BUNDLE, Chain, Plan, now, purchase},
    signed::Unproven,
};
use crate::{
    domain::{AppleTold, Environment, Message, StoreEvent},
    stores::Unreadable,
};

const ID: &str = "002e14d5-51f5-4503-b5a8-c3a1af68eb20";
const APP: u64 = 1_234_567_890;

fn apple(chain: &Chain, app_id: Option<u64>) -> Apple {
    let verifier = Verifier::new(Some(&chain.root), BUNDLE.to_owned()).expect("a root");
    Apple::new(verifier, app_id, None)
}

fn notification(kind: &str, transaction: &str) -> Value {
    json!({
        "notificationType": kind,
        "notificationUUID": ID,
        "data": {
            "appAppleId": APP,
            "bundleId": BUNDLE,
            "bundleVersion": "12",
            "environment": "Sandbox",
            "signedTransactionInfo": transaction,
        },
        "version": "2.0",
        "signedDate": now().timestamp_millis(),
    })
}

/// A refund as it should be, and who signs it.
fn refund(chain: &Chain, changes: impl FnOnce(&mut Value)) -> Value {
    let mut transaction = purchase();
    transaction["revocationDate"] = now().timestamp_millis().into();
    transaction["revocationReason"] = 0.into();
    changes(&mut transaction);
    notification("REFUND", &chain.sign(&transaction))
}

fn told(message: Message) -> AppleTold {
    match message.event {
        StoreEvent::AppleTransaction(told) | StoreEvent::AppleConsumption(told) => told,
        other => panic!("not Apple's: {other:?}"),
    }
}

#[test]
fn what_concerns_us_is_read() {
    let chain = Plan::default().chain();
    let apple = apple(&chain, Some(APP));
    for (kind, name) in [
        ("ONE_TIME_CHARGE", "transaction"),
        ("REFUND", "transaction"),
        ("REFUND_REVERSED", "transaction"),
        ("REFUND_DECLINED", "transaction"),
        ("CONSUMPTION_REQUEST", "consumption asked for"),
    ] {
        let payload = notification(kind, &chain.sign(&purchase()));
        let message = apple.message(&chain.sign(&payload), now()).expect("proved");
        let message = message.expect("for us");
        assert_eq!(message.id.as_str(), format!("apple:{ID}"));
        assert_eq!(message.event.name(), name, "{kind}");
        let told = told(message);
        assert_eq!(told.environment(), Environment::Sandbox);
        assert_eq!(told.paid.store_id.as_deref(), Some("2000000999000001"));
        assert_eq!(told.paid.refund.milliunits, 0);
        // The transaction's time, and the notification's.
        assert_eq!(told.signed_at, now() - TimeDelta::minutes(1));
        assert_eq!(told.notified_at.map(|time| time.timestamp()), Some(now().timestamp()));
        assert!(!told.paid.verified.contains("deviceVerification"));
    }
}

#[test]
fn what_is_refunded_whole_is_told_too() {
    let chain = Plan::default().chain();
    let apple = apple(&chain, None);
    for (kind, percentage, milliunits) in [
        (json!(null), json!(null), 100_000),
        (json!("REFUND_FULL"), json!(null), 100_000),
        (json!("REFUND_PRORATED"), json!(100_000), 100_000),
        (json!("REFUND_PRORATED"), json!(33_333), 33_333),
        (json!("FAMILY_REVOKE"), json!(null), 100_000),
        // What is refunded is told once, by whatever name.
        (json!("REFUND_NEW"), json!(null), 100_000),
        (json!("REFUND_NEW"), json!(25_000), 25_000),
    ] {
        let payload = refund(&chain, |transaction| {
            transaction["revocationType"] = kind.clone();
            transaction["revocationPercentage"] = percentage.clone();
        });
        let message = apple.message(&chain.sign(&payload), now()).expect("proved");
        assert_eq!(told(message.expect("for us")).paid.refund.milliunits, milliunits, "{kind}");
    }
}

#[test]
fn what_is_not_apples_proves_nothing() {
    let (chain, other) = (Plan::default().chain(), Plan::default().chain());
    let apple = apple(&chain, Some(APP));
    let good = refund(&chain, |_| {});
    let signed = chain.sign(&good);
    let (parts, _) = signed.rsplit_once('.').expect("three parts");
    let another = chain.sign(&json!({}));
    let (_, others_signature) = another.rsplit_once('.').expect("three parts");
    let inner = |transaction: &str| chain.sign(&notification("REFUND", transaction));
    let mut production =
        refund(&chain, |transaction| transaction["environment"] = "Production".into());
    let nested_production = chain.sign(&production);
    production["data"]["environment"] = "Production".into();
    let mut late = purchase();
    late["signedDate"] = (now() + TimeDelta::hours(25)).timestamp_millis().into();
    for jws in [
        other.sign(&good),
        format!("{parts}.{others_signature}"),
        "a.b.c".to_owned(),
        String::new(),
        chain.sign(&refund(&other, |_| {})),
        inner("a.b.c"),
        inner(&chain.sign(&purchase())[1..]),
        inner(&chain.sign(&late)),
        chain.sign(&production),
        nested_production,
    ] {
        let read = apple.message(&jws, now());
        assert!(
            matches!(read, Err(Unproven::Forged(_) | Unproven::Chain { .. })),
            "{jws:.80}: {read:?}"
        );
        let body = json!({ "signedPayload": jws }).to_string();
        let read = apple.read_notification(body.as_bytes(), now());
        assert!(matches!(read, Err(Unreadable::Unproven(_))), "{read:?}");
    }
    for body in ["", "{}", "[]", "null", "{\"signedPayload\":7}", "{\"signedPayload\":\"\"}"] {
        let read = apple.read_notification(body.as_bytes(), now());
        assert!(matches!(read, Err(Unreadable::Unproven(_))), "{body}: {read:?}");
    }
    let body = json!({ "signedPayload": signed, "more": 1 }).to_string();
    assert!(apple.read_notification(body.as_bytes(), now()).is_ok_and(|read| read.is_ok()));
}

#[test]
fn what_does_not_concern_us_is_passed_over() {
    let chain = Plan::default().chain();
    let apple = apple(&chain, Some(APP));
    let with = |changes: fn(&mut Value)| {
        let mut payload = refund(&chain, |_| {});
        changes(&mut payload);
        payload
    };
    for payload in [
        json!({}),
        with(|payload| payload["notificationType"] = "TEST".into()),
        with(|payload| payload["notificationType"] = "DID_RENEW".into()),
        with(|payload| payload["notificationType"] = "refund".into()),
        with(|payload| payload["notificationType"] = json!(null)),
        with(|payload| payload["notificationType"] = json!(7)),
        with(|payload| payload["notificationUUID"] = json!(null)),
        with(|payload| payload["notificationUUID"] = "a\u{0}".into()),
        with(|payload| payload["notificationUUID"] = "a".repeat(129).into()),
        with(|payload| payload["data"] = json!(null)),
        with(|payload| payload["data"]["bundleId"] = "com.example.other".into()),
        with(|payload| payload["data"]["bundleId"] = json!(null)),
        with(|payload| payload["data"]["environment"] = "Xcode".into()),
        with(|payload| payload["data"]["environment"] = json!(null)),
        with(|payload| payload["data"]["appAppleId"] = 1_234_567_891.into()),
        with(|payload| payload["data"]["appAppleId"] = "1234567891".into()),
        with(|payload| payload["data"]["signedTransactionInfo"] = json!(null)),
        // The transaction in it is of another app, another kind, shared, or can't be understood.
        refund(&chain, |transaction| transaction["bundleId"] = "com.example.other".into()),
        refund(&chain, |transaction| transaction["type"] = "Auto-Renewable Subscription".into()),
        refund(&chain, |transaction| transaction["inAppOwnershipType"] = "FAMILY_SHARED".into()),
        refund(&chain, |transaction| transaction["transactionId"] = "x".into()),
        refund(&chain, |transaction| transaction["environment"] = "Xcode".into()),
        refund(&chain, |transaction| transaction["signedDate"] = json!(null)),
        refund(&chain, |transaction| transaction["revocationPercentage"] = (-1).into()),
    ] {
        let read = apple.message(&chain.sign(&payload), now());
        assert!(matches!(read, Ok(Err(_))), "{payload:.300}");
    }
}

#[test]
fn a_transaction_of_another_environment_is_passed_over() {
    let chain = Plan::default().chain();
    let mut apple = apple(&chain, Some(APP));
    // As if the root were Apple's.
    apple.verifier.believe_production();
    let production = |transaction: &mut Value| transaction["environment"] = "Production".into();
    let mixed = refund(&chain, production);
    assert!(matches!(apple.message(&chain.sign(&mixed), now()), Ok(Err(_))));
    let mut whole = refund(&chain, production);
    whole["data"]["environment"] = "Production".into();
    let message = apple.message(&chain.sign(&whole), now()).expect("proved");
    assert_eq!(told(message.expect("for us")).environment(), Environment::Production);
}

#[test]
fn an_app_is_known_by_its_number_where_there_is_one() {
    let chain = Plan::default().chain();
    for (known, named, is_ours) in [
        (Some(APP), json!(APP), true),
        (Some(APP), json!(APP.to_string()), true),
        (Some(APP), json!(null), true),
        (None, json!(7), true),
        (Some(APP), json!(7), false),
        (Some(APP), json!(-1), false),
        (Some(APP), json!({}), false),
    ] {
        let apple = apple(&chain, known);
        let mut payload = refund(&chain, |_| {});
        payload["data"]["appAppleId"] = named.clone();
        let read = apple.message(&chain.sign(&payload), now()).expect("proved");
        assert_eq!(read.is_ok(), is_ours, "{known:?} {named}");
    }
}

#[test]
fn apples_own_notifications_are_judged_as_apples_libraries_judge_them() {
    let Some(fixtures) = Fixtures::find() else { return };
    let root = fixtures.bytes("testCA.der");
    let under = |root: Option<&[u8]>, app_id| {
        let verifier = Verifier::new(root, "com.example".to_owned()).expect("a root");
        Apple::new(verifier, Some(app_id), None)
    };
    let apple = under(Some(&root), 1_234);
    let read = |name: &str| apple.message(&fixtures.text(name), now());
    assert!(matches!(read("testNotification"), Ok(Err(_))));
    assert!(matches!(read("wrongBundleId"), Ok(Err(_))));
    assert!(matches!(read("transactionInfo"), Ok(Err(_))));
    assert!(matches!(read("missingX5CHeaderClaim"), Err(Unproven::Forged(_))));
    for name in ["xcode-signed-transaction", "xcode-signed-renewal-info"] {
        assert!(matches!(read(name), Err(Unproven::Chain { .. })), "{name}");
    }
    let of_apple = under(None, 1_234).message(&fixtures.text("testNotification"), now());
    assert!(matches!(of_apple, Err(Unproven::Chain { .. })));
}

#[test]
fn notifications_as_apple_describes_them_are_read() {
    let Some(fixtures) = Fixtures::find() else { return };
    let chain = Plan::default().chain();
    let verifier = Verifier::new(Some(&chain.root), BUNDLE.to_owned()).expect("a root");
    let apple = Apple::new(verifier, Some(41_234), None);
    for (name, is_told) in [
        ("signedNotification", false),
        ("signedConsumptionRequestNotification", true),
        ("signedSummaryNotification", false),
        ("signedExternalPurchaseTokenNotification", false),
        ("signedExternalPurchaseTokenSandboxNotification", false),
        ("signedRescindConsentNotification", false),
    ] {
        let text = fixtures.text(&format!("models/{name}.json"));
        // For this app, and signed when this chain was good.
        let text = text.replace("\"com.example\"", &format!("\"{BUNDLE}\""));
        let mut payload: Value = serde_json::from_str(&text).expect(name);
        payload["signedDate"] = now().timestamp_millis().into();
        for part in ["data", "summary", "appData"] {
            if payload[part].is_object() {
                payload[part]["environment"] = "Sandbox".into();
            }
        }
        if payload["data"].is_object() {
            payload["data"]["signedTransactionInfo"] = chain.sign(&purchase()).into();
        }
        let read = apple.message(&chain.sign(&payload), now()).expect("proved");
        assert_eq!(read.is_ok(), is_told, "{name}");
        if let Ok(message) = read {
            let signed_at = told(message).signed_at;
            assert!(signed_at > DateTime::UNIX_EPOCH);
        }
    }
}
