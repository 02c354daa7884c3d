//! Apple's own test data against the verdicts that Apple's libraries have on it. It is not part of the project:
//! `APPLE_FIXTURES` names its folder, and where there is none, nothing is tested here.

use std::{env, fs, path::PathBuf};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::{
    samples::{Plan, now},
    signed::{Payload, Unproven},
    verifier::Verifier,
};
use crate::domain::{Environment, StoreWord, WHOLE_MILLIUNITS};

/// The bundle in Apple's test data.
const BUNDLE: &str = "com.example";

/// Apple's test data, where it is.
pub(super) struct Fixtures(PathBuf);

impl Fixtures {
    pub(super) fn find() -> Option<Self> {
        let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/apple");
        let folder = env::var_os("APPLE_FIXTURES").map_or_else(|| beside.into(), PathBuf::from);
        if folder.is_dir() {
            return Some(Self(folder));
        }
        eprintln!("skipped: there is no test data of Apple's; name its folder in APPLE_FIXTURES");
        None
    }

    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).expect(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).expect(name)
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    notification_type: String,
    data: Data,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    bundle_id: String,
    environment: Option<String>,
    app_apple_id: Option<i64>,
}

impl Payload for Notification {
    fn environment(&self) -> Option<&str> {
        self.data.environment.as_deref()
    }
}

#[test]
fn notifications_are_proved_by_the_root_they_lead_to() {
    let Some(fixtures) = Fixtures::find() else { return };
    let root = fixtures.bytes("testCA.der");
    let verifier = Verifier::new(Some(&root), BUNDLE.to_owned()).expect("a root");
    let read = |name: &str| verifier.payload::<Notification>(&fixtures.text(name), now());

    let test = read("testNotification").expect("proved");
    assert_eq!(test.notification_type, "TEST");
    // Not for production, and not for app 1235.
    assert_eq!(test.environment(), Some("Sandbox"));
    assert_eq!(test.data.app_apple_id, Some(1234));
    assert_eq!(test.data.bundle_id, BUNDLE);

    let wrong = read("wrongBundleId").expect("proved");
    assert_eq!(wrong.data.bundle_id, "com.example.wrong");

    let header = "its header is no object with certificates";
    assert_eq!(read("missingX5CHeaderClaim").err(), Some(Unproven::Forged(header)));

    let of_apple = Verifier::new(None, BUNDLE.to_owned()).expect("Apple's root");
    let refused = of_apple.payload::<Notification>(&fixtures.text("testNotification"), now());
    let expected = Unproven::Chain {
        reason: "the intermediate certificate is not of the root that is trusted",
        transaction_id: None,
        environment: None,
    };
    assert_eq!(refused.err(), Some(expected));
}

#[test]
fn transactions_are_refused_as_apples_libraries_refuse_them() {
    let Some(fixtures) = Fixtures::find() else { return };
    let root = fixtures.bytes("testCA.der");
    let under = |bundle: &str| Verifier::new(Some(&root), bundle.to_owned()).expect("a root");
    let read = |name: &str| under(BUNDLE).transaction(&fixtures.text(name), now());

    let incomplete = Err(Unproven::Strange("it names no kind of product"));
    assert_eq!(read("transactionInfo"), incomplete);
    assert_eq!(
        under("com.example.x").transaction(&fixtures.text("transactionInfo"), now()),
        Ok(StoreWord::Never("it is for another app"))
    );
    assert_eq!(read("renewalInfo"), Err(Unproven::Strange("it names no bundle")));
    let three = Err(Unproven::Forged("it has not three parts"));
    assert_eq!(read("legacyTransaction"), three);
    assert_eq!(under(BUNDLE).transaction("a.b.c.d", now()), three);
    assert!(matches!(under(BUNDLE).transaction("a.b.c", now()), Err(Unproven::Forged(_))));
    for (name, id) in [
        ("xcode-signed-transaction", Some("0")),
        ("xcode-signed-app-transaction", None),
        ("xcode-signed-renewal-info", None),
    ] {
        let expected = Err(Unproven::Chain {
            reason: "there are not three certificates",
            transaction_id: id.map(str::to_owned),
            environment: None,
        });
        assert_eq!(read(name), expected, "{name}");
    }
}

#[test]
fn a_payload_as_apple_describes_it_is_read() {
    let Some(fixtures) = Fixtures::find() else { return };
    let chain = Plan::default().chain();
    let verifier = Verifier::new(Some(&chain.root), BUNDLE.to_owned()).expect("a root");
    let read = |payload: &Value| verifier.transaction(&chain.sign(payload), now());

    for name in ["models/signedTransaction.json", "models/signedTransactionWithRevocation.json"] {
        let mut payload: Value = serde_json::from_str(&fixtures.text(name)).expect(name);
        payload["environment"] = "Production".into();
        // Signed in 2023, before this chain was made.
        payload["signedDate"] = now().timestamp_millis().into();
        assert!(matches!(
            read(&payload),
            Err(Unproven::Chain { environment: Some(Environment::Production), .. })
        ));
        payload["environment"] = "Sandbox".into();
        let subscription = Ok(StoreWord::Never("it is for another kind of product"));
        assert_eq!(read(&payload), subscription, "{name}");
        payload["type"] = "Consumable".into();
        let in_part = payload["revocationPercentage"] == 50_000;
        match read(&payload) {
            Ok(StoreWord::Paid(paid)) if in_part => {
                assert_eq!(paid.refund.milliunits, 50_000);
                assert_eq!(paid.store_id.as_deref(), Some("23456"));
                assert_eq!(paid.original_id.as_deref(), Some("12345"));
                assert_eq!(paid.items[0].product.as_str(), "com.example.product");
                assert_eq!(paid.price_milliunits, Some(10_990));
                let purchased_at = DateTime::<Utc>::from_timestamp_millis(1_698_148_900_000);
                assert_eq!(paid.purchased_at, purchased_at);
                let account = "7e3fb20b-4cdb-47cc-936d-99d65f608138";
                assert_eq!(paid.account.as_deref(), Some(account));
            }
            Ok(StoreWord::Paid(paid)) if !in_part => {
                assert_eq!(paid.refund.milliunits, WHOLE_MILLIUNITS);
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}
