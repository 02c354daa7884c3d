//! Settings: a bad one stops the start and is named, and a `.env` file is read.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

use tempfile::TempDir;

use crate::harness::{
    Engine, Launch, Reply, Server, on_both_engines,
    token::{SECRET, claims, signed, token},
};
use jsonwebtoken::Algorithm;
use reqwest::Method;

on_both_engines![
    a_file_of_settings_is_read_and_the_environment_wins,
    capacity_limits_can_be_set,
    what_is_around_a_value_by_accident_is_left_out_and_told,
    an_empty_variable_counts_as_unset,
    a_file_of_settings_means_what_it_says,
];

#[test]
fn a_bad_setting_is_named() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let table: [(&str, &str); 31] = [
        ("BILLING_LISTEN", "nonsense"),
        ("BILLING_LISTEN", "127.0.0.1"),
        ("BILLING_LISTEN", "127.0.0.1:65536"),
        ("BILLING_METRICS_LISTEN", "9100"),
        ("BILLING_CORS_ORIGINS", "*"),
        ("BILLING_CORS_ORIGINS", "https://app.example,https://app.example/path"),
        ("BILLING_RATE_LIMIT", "0"),
        ("BILLING_RATE_LIMIT", "-1"),
        ("BILLING_RATE_LIMIT", "1.5"),
        ("BILLING_RATE_LIMIT", "100001"),
        ("BILLING_ALLOW_RESET", "maybe"),
        ("BILLING_CAPACITY_QUICK", "-1"),
        ("BILLING_CAPACITY_QUICK", "9007199254740992"),
        ("BILLING_CAPACITY_THINK", "many"),
        ("BILLING_CAPACITY_THINK", "1.5"),
        ("BILLING_DATABASE_MAX_BYTES", "x"),
        ("BILLING_PG_LANES", "0"),
        ("BILLING_PG_LANES", "65"),
        ("BILLING_PG_LANES", "many"),
        ("BILLING_LANGUAGE", "fr"),
        ("BILLING_LOG", "billing=loud"),
        ("BILLING_LOG_FORMAT", "xml"),
        ("DATABASE_URL", "mysql://localhost/billing"),
        ("DATABASE_URL", "sqlite::memory:"),
        ("DATABASE_URL", "sqlite://billing.db\nsqlite://other.db"),
        ("BILLING_JWT_ISSUER", "https://login\n.example"),
        ("BILLING_KEEP_ALIVE_SECONDS", "0"),
        ("BILLING_KEEP_ALIVE_SECONDS", "3601"),
        ("BILLING_KEEP_ALIVE_SECONDS", "60s"),
        ("BILLING_CORS_ORIGINS", "https://app.example,"),
        ("BILLING_ALLOW_RESET", "true false"),
    ];
    for (name, value) in table {
        check_refused(directory.path(), name, value.as_ref());
    }
    let left = fs::read_dir(directory.path()).expect("the directory can be read").count();
    assert_eq!(left, 0, "no database was made");
}

/// The start stops with one line that names the variable.
fn check_refused(directory: &Path, name: &str, value: &OsStr) {
    let failed = Launch::new().set(name, value).fail_to_start(directory);
    let shown = value.display();
    assert_eq!(failed.code, Some(2), "{name}={shown}: {failed:?}");
    assert_eq!(failed.stderr.len(), 1, "one line for {name}={shown}: {failed:?}");
    assert!(failed.stderr[0].contains(name), "{name}={shown}: {failed:?}");
}

#[test]
fn a_setting_that_is_no_text_is_named() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    for name in ["DATABASE_URL", "BILLING_ALLOW_RESET", "BILLING_LISTEN"] {
        check_refused(directory.path(), name, OsStr::from_bytes(b"\xff"));
    }
}

async fn a_file_of_settings_is_read_and_the_environment_wins(engine: Engine) {
    let mut server = Server::start(engine);
    assert_eq!(server.client().post_bytes("/reset", "").await.status, 403);
    server.stop().await;
    fs::write(server.directory().join(".env"), "BILLING_ALLOW_RESET=true\n")
        .expect("the file can be written");
    server.start_again();
    server.client().post_bytes("/reset", "").await.ok();
    server.stop().await;
    server.start_again_with(&[("BILLING_ALLOW_RESET", "false")]);
    assert_eq!(server.client().post_bytes("/reset", "").await.status, 403);
}

async fn capacity_limits_can_be_set(engine: Engine) {
    let server = Server::start_with(engine, &[("BILLING_CAPACITY_THINK", "1000")]);
    server.client().add(10, "GPA.1").await.ok();
    let reply = server.client().allocate(&[("gemini-2.5-pro", 1)]).await;
    assert_eq!((reply.status, &reply.json()["limit"]), (400, &1_000.into()));
}

/// The status of a call with this token.
async fn ask(server: &Server, token: &str) -> u16 {
    let request = server.client().request(Method::GET, "/api/billing/balance");
    Reply::to(request.header("authorization", format!("Bearer {token}"))).await.status
}

/// As secrets mounted from files have it.
async fn what_is_around_a_value_by_accident_is_left_out_and_told(engine: Engine) {
    let mut server = Server::start(engine);
    server.client().add(7, "GPA.1").await.ok();
    let url = server.launch().value("DATABASE_URL").expect("the harness sets it");
    let before = fs::read_dir(server.directory()).expect("it can be read").count();
    for around in ["\n", "\r\n", " ", "\t\n"] {
        server.stop().await;
        server.start_again_with(&[
            ("DATABASE_URL", &format!("{url}{around}")),
            ("BILLING_ALLOW_RESET", &format!(" true{around}")),
        ]);
        server.wait_for_log("DATABASE_URL has white space");
        assert_eq!(server.client().balance().await["credits"], 7, "{around:?}");
    }
    server.stop().await;
    let after = fs::read_dir(server.directory()).expect("it can be read").count();
    assert!(after <= before, "no other database was made");
    server.start_again_with(&[
        ("DATABASE_URL", &url),
        ("BILLING_AUTH", "jwt"),
        ("BILLING_JWT_SECRET", &format!("{SECRET}\r\n")),
    ]);
    server.wait_for_log("BILLING_JWT_SECRET has white space");
    assert_eq!(ask(&server, &token(&claims("ann"))).await, 200);
}

async fn an_empty_variable_counts_as_unset(engine: Engine) {
    let names = ["BILLING_JWT_ISSUER", "BILLING_JWT_AUDIENCE", "BILLING_CORS_ORIGINS"];
    let more = ["BILLING_RATE_LIMIT", "BILLING_JWKS_URL", "BILLING_PG_LANES", "BILLING_LOG"];
    let launch = Launch::new().set("BILLING_AUTH", "jwt").set("BILLING_JWT_SECRET", SECRET);
    let launch = names.iter().chain(&more).fold(launch, |launch, name| launch.set(name, ""));
    let server = Server::start_as(engine, launch.set("BILLING_METRICS_LISTEN", " \n"));
    server.wait_for_log("BILLING_JWT_ISSUER is empty");
    assert_eq!(ask(&server, &token(&claims("ann"))).await, 200);
}

#[test]
fn an_empty_option_is_refused() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    for option in ["jwt-issuer", "jwt-audience", "jwt-secret", "jwks-url", "database-url", "listen"]
    {
        let mut command = Launch::new().command(directory.path());
        let output = command.arg(format!("--{option}=")).output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(2), "{option}: {output:?}");
    }
}

#[test]
fn secrets_with_something_around_them_are_refused() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    for value in [
        format!("{SECRET}, {SECRET}"),
        format!("\"{SECRET}\""),
        format!("'{SECRET}'"),
        format!("{SECRET}\n{SECRET}"),
        format!(" {SECRET}"),
        format!("{SECRET} "),
        format!("{SECRET},"),
    ] {
        let launch = Launch::new().set("BILLING_AUTH", "jwt").set("BILLING_JWT_SECRET", &value);
        let failed = launch.fail_to_start(directory.path());
        assert_eq!((failed.code, failed.stderr.len()), (Some(2), 1), "{value:?}: {failed:?}");
        assert!(failed.stderr[0].contains("BILLING_JWT_SECRET"), "{failed:?}");
        assert!(!failed.stderr[0].contains("thirty-two"), "{failed:?}");
    }
}

async fn a_file_of_settings_means_what_it_says(engine: Engine) {
    let mut server = Server::start(engine);
    server.stop().await;
    let secret = "$HOME and ${HOME} and $nothing, no more";
    let secret = &secret.replace(", ", "-");
    let text = format!(
        "# A comment\r\nBILLING_AUTH=jwt\r\n\nexport BILLING_JWT_SECRET={secret}\nBILLING_JWT_ISSUER=\n"
    );
    fs::write(server.directory().join(".env"), text).expect("the file can be written");
    server.start_again();
    let by_secret = signed(Algorithm::HS256, &claims("ann"), secret.as_bytes());
    assert_eq!(ask(&server, &by_secret).await, 200);
}

#[test]
fn the_file_of_a_parent_is_not_ours() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).expect("a directory can be made");
    let path = directory.path().join(".env");
    fs::write(&path, "BILLING_PG_LANES=none\n").expect("the file can be written");
    drop(Launch::new().start(&inner));
    for text in ["BILLING_JWT_SECRET=pass word # or not\n", "pass word\n", "A='pass word\n"] {
        fs::write(&path, format!("\n{text}")).expect("the file can be written");
        let failed = Launch::new().fail_to_start(directory.path());
        assert_eq!((failed.code, failed.stderr.len()), (Some(2), 1), "{failed:?}");
        assert!(failed.stderr[0].contains("line 2"), "{failed:?}");
        assert!(!failed.stderr[0].contains("pass"), "{failed:?}");
    }
}
