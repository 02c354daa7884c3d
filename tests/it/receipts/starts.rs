//! Settings of receipts that stop the start, and those it warns of. No SQL is involved, so one engine is enough.

use std::fs;

use tempfile::TempDir;

use super::{Shop, with_login};
use crate::harness::{Engine, Launch, Server, stores::StandIn};

/// Starts with the settings for both stores, changed; `None` takes one away. It must fail with one line that
/// names the variable.
fn check_refused(stores: &StandIn, changes: &[(&str, Option<&str>)], named: &str) {
    let is_changed = |name: &str| changes.iter().any(|(changed, _)| *changed == name);
    let kept = stores.settings().into_iter().filter(|(name, _)| !is_changed(name));
    let launch = kept.fold(Launch::new(), |launch, (name, value)| launch.set(name, value));
    let given = changes.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    let launch = given.fold(launch, |launch, (name, value)| launch.set(name, value));
    let directory = TempDir::new().expect("a temporary directory can be made");
    let failed = launch.fail_to_start(directory.path());
    assert_eq!((failed.code, failed.stderr.len()), (Some(2), 1), "{changes:?}: {failed:?}");
    assert!(failed.stderr[0].contains(named), "{changes:?}: {failed:?}");
    assert!(!failed.stderr[0].contains("PRIVATE KEY-"), "{failed:?}");
}

#[tokio::test]
async fn what_is_missing_or_wrong_stops_the_start() {
    let stores = StandIn::new();
    let setting = |name: &str| {
        let settings = stores.settings();
        let found = settings.into_iter().find(|(known, _)| *known == name);
        found.expect("it is one of them").1
    };
    let account = setting("BILLING_GOOGLE_SERVICE_ACCOUNT");
    let elsewhere = format!("{account}.elsewhere");
    let text = fs::read_to_string(&account).expect("a file of the stand-in's");
    fs::write(&elsewhere, text.replace("http://127.0.0.1", "http://192.0.2.1")).expect("written");
    let (root, key) = (setting("BILLING_APPLE_ROOT"), setting("BILLING_APPLE_PRIVATE_KEY"));
    for (name, value) in [
        ("BILLING_GOOGLE_PACKAGE", None),
        ("BILLING_GOOGLE_SERVICE_ACCOUNT", None),
        ("BILLING_APPLE_BUNDLE_ID", None),
        ("BILLING_APPLE_ISSUER_ID", None),
        ("BILLING_APPLE_KEY_ID", None),
        ("BILLING_APPLE_PRIVATE_KEY", None),
        ("BILLING_RECEIPTS", Some("maybe")),
        ("BILLING_SANDBOX_PURCHASES", Some("alice")),
        ("BILLING_REFUND_PREFERENCE", Some("keep it")),
        ("BILLING_GOOGLE_API_URL", Some("http://192.0.2.1")),
        ("BILLING_APPLE_API_URL", Some("ftp://127.0.0.1")),
        ("BILLING_APPLE_SANDBOX_API_URL", Some("nonsense")),
        ("BILLING_GOOGLE_SERVICE_ACCOUNT", Some("missing.json")),
        ("BILLING_GOOGLE_SERVICE_ACCOUNT", Some(&*elsewhere)),
        ("BILLING_GOOGLE_SERVICE_ACCOUNT", Some(&*key)),
        ("BILLING_APPLE_PRIVATE_KEY", Some(&*root)),
        ("BILLING_APPLE_ROOT", Some(&*key)),
    ] {
        check_refused(&stores, &[(name, value)], name);
    }
    // Real purchases are for one app of the store's.
    check_refused(&stores, &[("BILLING_APPLE_ROOT", None)], "BILLING_APPLE_APP_ID");
    assert_eq!(stores.calls(), []);
}

#[tokio::test]
async fn where_users_log_in_it_must_be_chosen() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let mut command = with_login(Launch::new()).command(directory.path());
    let output = command.env_remove("BILLING_RECEIPTS").output().expect("the binary starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.lines().count() == 1 && errors.contains("BILLING_RECEIPTS"), "{errors}");
}

#[tokio::test]
async fn what_believes_too_much_is_warned_of() {
    let shop = Shop::open(Engine::Sqlite);
    assert!(shop.server.wait_for_log("BILLING_APPLE_ROOT").contains("WARN"));
    let launch = with_login(Launch::new()).set("BILLING_RECEIPTS", "off");
    let believing = Server::start_as(Engine::Sqlite, launch);
    assert!(believing.wait_for_log("BILLING_RECEIPTS").contains("WARN"));
}
