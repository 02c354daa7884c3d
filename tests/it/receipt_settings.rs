//! Settings for purchases that the stores confirm: which stop the start, what is warned of, and the command that
//! tries them against the stores.

use std::{fs, path::Path};

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::harness::{Finished, Launch, token::SECRET};

const JWT: [(&str, &str); 2] = [("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET)];
const RSA: &str = include_str!("keys/rsa.pem");
const EC: &str = include_str!("keys/ec.pem");

/// A directory with key files that can be used, and some that can't.
fn directory() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let google = json!({
        "type": "service_account",
        "client_email": "billing@example.iam.gserviceaccount.com",
        "private_key": RSA,
        "private_key_id": "k1",
    });
    let other = json!({"type": "authorized_user", "client_id": "x", "refresh_token": "secret"});
    for (name, text) in [
        ("google.json", google.to_string()),
        ("other.json", other.to_string()),
        ("apple.p8", EC.to_owned()),
        ("rsa.pem", RSA.to_owned()),
        ("nothing", "secret nothing".to_owned()),
    ] {
        fs::write(directory.path().join(name), text).expect("the file can be written");
    }
    directory
}

fn with(launch: Launch, settings: &[(&str, &str)]) -> Launch {
    settings.iter().fold(launch, |launch, (name, value)| launch.set(name, *value))
}

/// Both stores, with all they need.
fn complete() -> Launch {
    with(
        Launch::new(),
        &[
            ("BILLING_RECEIPTS", "google,apple"),
            ("BILLING_GOOGLE_PACKAGE", "com.example.app"),
            ("BILLING_GOOGLE_SERVICE_ACCOUNT", "google.json"),
            ("BILLING_APPLE_BUNDLE_ID", "com.example.app"),
            ("BILLING_APPLE_APP_ID", "1234567890"),
            ("BILLING_APPLE_ISSUER_ID", "issuer"),
            ("BILLING_APPLE_KEY_ID", "KEY1"),
            ("BILLING_APPLE_PRIVATE_KEY", "apple.p8"),
        ],
    )
}

/// The one line with which a start stops.
fn line(launch: &Launch, directory: &Path) -> String {
    let failed = launch.fail_to_start(directory);
    assert_eq!((failed.code, failed.stderr.len()), (Some(2), 1), "{failed:?}");
    let line = failed.stderr[0].clone();
    assert!(!line.contains("secret"), "{line}");
    line
}

#[test]
fn where_purchases_are_real_the_choice_is_asked_for() {
    let directory = directory();
    let unset = Launch::new().set("BILLING_RECEIPTS", "");
    drop(unset.start(directory.path()));
    drop(unset.clone().set("BILLING_AUTH", "none").start(directory.path()));
    let open = [("BILLING_LISTEN", "0.0.0.0:0"), ("BILLING_AUTH", "none")];
    for settings in [&JWT, &open] {
        let launch = with(unset.clone(), settings);
        let line = line(&launch, directory.path());
        assert!(line.contains("BILLING_RECEIPTS") && line.contains("off"), "{line}");
        drop(launch.set("BILLING_RECEIPTS", "off").start(directory.path()));
    }
}

#[test]
fn what_an_operator_must_not_forget_is_warned_of() {
    let directory = directory();
    let believed = with(Launch::new(), &JWT).start(directory.path());
    believed
        .log
        .wait_for(|line| line.contains("WARN") && line.contains("BILLING_RECEIPTS=off"))
        .expect("it warns");
    drop(believed);
    let root = root();
    fs::write(directory.path().join("root.der"), root).expect("the file can be written");
    let tested = complete().set("BILLING_APPLE_ROOT", "root.der").set("BILLING_APPLE_APP_ID", "");
    let running = tested.start(directory.path());
    running
        .log
        .wait_for(|line| line.contains("WARN") && line.contains("BILLING_APPLE_ROOT"))
        .expect("it warns");
}

/// A root's certificate, in DER.
fn root() -> Vec<u8> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("a certificate").der().to_vec()
}

#[test]
fn a_store_that_is_named_but_not_set_stops_the_start() {
    let directory = directory();
    drop(complete().start(directory.path()));
    for (named, value) in [
        ("BILLING_RECEIPTS", "on"),
        ("BILLING_RECEIPTS", "google,google"),
        ("BILLING_SANDBOX_PURCHASES", "users:"),
        ("BILLING_GOOGLE_PACKAGE", ""),
        ("BILLING_GOOGLE_PACKAGE", "com/example"),
        ("BILLING_GOOGLE_SERVICE_ACCOUNT", ""),
        ("BILLING_GOOGLE_SERVICE_ACCOUNT", "missing.json"),
        ("BILLING_GOOGLE_SERVICE_ACCOUNT", "other.json"),
        ("BILLING_GOOGLE_SERVICE_ACCOUNT", "nothing"),
        ("BILLING_GOOGLE_API_URL", "http://play.example"),
        ("BILLING_GOOGLE_API_URL", "https://play.example/path"),
        ("BILLING_GOOGLE_JWKS_URL", "ftp://play.example"),
        ("BILLING_GOOGLE_PUSH_ACCOUNT", "push"),
        ("BILLING_GOOGLE_PUSH_SUBSCRIPTION", "play"),
        ("BILLING_APPLE_BUNDLE_ID", ""),
        ("BILLING_APPLE_APP_ID", ""),
        ("BILLING_APPLE_APP_ID", "com.example.app"),
        ("BILLING_APPLE_ISSUER_ID", ""),
        ("BILLING_APPLE_KEY_ID", ""),
        ("BILLING_APPLE_PRIVATE_KEY", ""),
        ("BILLING_APPLE_PRIVATE_KEY", "rsa.pem"),
        ("BILLING_APPLE_PRIVATE_KEY", "nothing"),
        ("BILLING_APPLE_PRIVATE_KEY", "missing.p8"),
        ("BILLING_APPLE_ROOT", "missing.cer"),
        ("BILLING_APPLE_ROOT", "nothing"),
        ("BILLING_APPLE_ROOT", "rsa.pem"),
        ("BILLING_APPLE_API_URL", "http://apple.example"),
        ("BILLING_APPLE_SANDBOX_API_URL", "apple.example"),
    ] {
        let line = line(&complete().set(named, value), directory.path());
        assert!(line.starts_with(&format!("token-billing: {named}: ")), "{named}={value}: {line}");
    }
}

#[test]
fn what_google_pushes_is_proved_by_three_settings_or_none() {
    let directory = directory();
    let three = [
        ("BILLING_GOOGLE_PUSH_AUDIENCE", "https://billing.example"),
        ("BILLING_GOOGLE_PUSH_ACCOUNT", "push@example.iam.gserviceaccount.com"),
        ("BILLING_GOOGLE_PUSH_SUBSCRIPTION", "projects/example/subscriptions/play"),
    ];
    let launch = with(complete(), &three);
    drop(launch.start(directory.path()));
    for (missing, _) in three {
        let line = line(&launch.clone().set(missing, ""), directory.path());
        assert!(line.starts_with(&format!("token-billing: {missing}: ")), "{line}");
    }
}

#[test]
fn each_store_can_be_alone_and_apple_without_a_key() {
    let directory = directory();
    let google = complete().set("BILLING_RECEIPTS", "google").set("BILLING_APPLE_BUNDLE_ID", "");
    drop(google.start(directory.path()));
    let apple = ["BILLING_GOOGLE_PACKAGE", "BILLING_APPLE_ISSUER_ID", "BILLING_APPLE_KEY_ID"]
        .iter()
        .fold(complete(), |launch, name| launch.set(name, ""))
        .set("BILLING_RECEIPTS", "apple")
        .set("BILLING_APPLE_PRIVATE_KEY", "");
    drop(apple.start(directory.path()));
}

/// What the stores answer the command with.
#[derive(Clone, Copy)]
struct Answers {
    access: (u16, &'static str),
    voided: (u16, &'static str),
    notification: (u16, &'static str),
    sandbox_notification: (u16, &'static str),
}

const GOOD: Answers = Answers {
    access: (200, r#"{"access_token":"granted","expires_in":3599,"token_type":"Bearer"}"#),
    voided: (200, "{}"),
    notification: (200, r#"{"testNotificationToken":"t"}"#),
    sandbox_notification: (200, r#"{"testNotificationToken":"t"}"#),
};

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn answer((status, body): (u16, &'static str)) -> (StatusCode, &'static str) {
    (StatusCode::from_u16(status).expect("a status"), body)
}

/// Runs the command against stores that answer like this.
async fn checked(answers: Answers) -> Finished {
    let directory = directory();
    let access = move |body: String| async move {
        assert!(body.contains("grant-type%3Ajwt-bearer&assertion=ey"), "{body}");
        answer(answers.access)
    };
    let voided = move |headers: HeaderMap| async move {
        assert_eq!(headers["authorization"], "Bearer granted");
        answer(answers.voided)
    };
    let path = "/androidpublisher/v3/applications/com.example.app/purchases/voidedpurchases";
    let google = serve(Router::new().route("/token", post(access)).route(path, get(voided))).await;
    let path = "/inApps/v1/notifications/test";
    let apple = |answers| serve(Router::new().route(path, post(async move || answer(answers))));
    let production = apple(answers.notification).await;
    let sandbox = apple(answers.sandbox_notification).await;
    let key = directory.path().join("google.json");
    let text = fs::read_to_string(&key).expect("it is there");
    let token_uri = format!(r#"{{"token_uri":"{google}/token","#);
    fs::write(&key, text.replacen('{', &token_uri, 1)).expect("the file can be written");
    complete()
        .set("BILLING_GOOGLE_API_URL", google)
        .set("BILLING_APPLE_API_URL", production)
        .set("BILLING_APPLE_SANDBOX_API_URL", sandbox)
        // No database is looked at.
        .set("DATABASE_URL", "mysql://nowhere")
        .finish(directory.path(), &["purchases", "check"])
        .await
}

#[tokio::test]
async fn the_check_says_that_all_is_well() {
    let finished = checked(GOOD).await;
    assert_eq!((finished.code, finished.stdout.len()), (Some(0), 5), "{finished:?}");
    assert!(finished.stdout.iter().all(|line| line.starts_with("ok: ")), "{finished:?}");
    assert!(finished.stderr.is_empty(), "{finished:?}");
}

#[tokio::test]
async fn the_check_says_what_is_wrong_and_where_to_set_it_right() {
    const RIGHTS: &str = r#"{"error":{"code":401,"errors":[{"reason":"permissionDenied"}]}}"#;
    const PACKAGE: &str = r#"{"error":{"code":404,"errors":[{"reason":"applicationNotFound"}]}}"#;
    for (answers, says) in [
        (Answers { access: (400, r#"{"error":"invalid_grant"}"#), ..GOOD }, "clock"),
        (Answers { access: (200, r#"{"access_token":"granted"}"#), ..GOOD }, "expires_in"),
        (Answers { voided: (401, RIGHTS), ..GOOD }, "Play Console > Users and permissions"),
        (Answers { voided: (404, PACKAGE), ..GOOD }, "BILLING_GOOGLE_PACKAGE"),
        (Answers { voided: (302, ""), ..GOOD }, "302"),
        (
            Answers { notification: (401, ""), sandbox_notification: (401, ""), ..GOOD },
            "BILLING_APPLE_PRIVATE_KEY",
        ),
        (Answers { notification: (503, "<html>"), ..GOOD }, "503"),
        (Answers { notification: (200, "<html>"), ..GOOD }, "can't be read"),
    ] {
        let finished = checked(answers).await;
        assert_eq!((finished.code, finished.stderr.len()), (Some(1), 1), "{finished:?}");
        let wrong: Vec<_> =
            finished.stdout.iter().filter(|line| line.starts_with("wrong: ")).collect();
        assert_eq!(wrong.len(), 1, "{finished:?}");
        assert!(wrong[0].contains(says), "{says}: {wrong:?}");
    }
}

#[tokio::test]
async fn an_app_that_is_not_released_or_not_notified_is_no_fault() {
    const NO_URL: &str =
        r#"{"errorCode":4040007,"errorMessage":"No App Store Server Notification URL."}"#;
    for (answers, says) in [
        (Answers { notification: (404, NO_URL), ..GOOD }, "App Store Server Notifications"),
        (Answers { notification: (401, ""), ..GOOD }, "first release"),
    ] {
        let finished = checked(answers).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(finished.stdout.iter().any(|line| line.contains(says)), "{finished:?}");
    }
}

#[tokio::test]
async fn without_a_store_there_is_nothing_to_check() {
    let directory = directory();
    let finished = Launch::new().finish(directory.path(), &["purchases", "check"]).await;
    assert_eq!((finished.code, finished.stdout.len()), (Some(0), 1), "{finished:?}");
    assert!(finished.stdout[0].contains("BILLING_RECEIPTS"), "{finished:?}");
    for (arguments, launch) in [
        (&["purchases"][..], Launch::new()),
        (&["purchases", "grant"], Launch::new()),
        (&["purchases", "check"], complete().set("BILLING_GOOGLE_PACKAGE", "")),
    ] {
        let finished = launch.finish(directory.path(), arguments).await;
        assert_eq!((finished.code, finished.stderr.len()), (Some(2), 1), "{finished:?}");
    }
}
