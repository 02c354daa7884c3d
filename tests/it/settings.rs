//! Settings: a bad one stops the start and is named, and a `.env` file is read.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

use tempfile::TempDir;

use crate::harness::{Engine, Launch, Server, on_both_engines};

on_both_engines![a_file_of_settings_is_read_and_the_environment_wins, capacity_limits_can_be_set];

#[test]
fn a_bad_setting_is_named() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let table: [(&str, &str); 29] = [
        ("BILLING_LISTEN", "nonsense"),
        ("BILLING_LISTEN", "127.0.0.1"),
        ("BILLING_LISTEN", "127.0.0.1:65536"),
        ("BILLING_LISTEN", ""),
        ("BILLING_METRICS_LISTEN", "9100"),
        ("BILLING_CORS_ORIGINS", "*"),
        ("BILLING_CORS_ORIGINS", "https://app.example,https://app.example/path"),
        ("BILLING_CORS_ORIGINS", ""),
        ("BILLING_RATE_LIMIT", "0"),
        ("BILLING_RATE_LIMIT", "-1"),
        ("BILLING_RATE_LIMIT", "1.5"),
        ("BILLING_RATE_LIMIT", "100001"),
        ("BILLING_RATE_LIMIT", ""),
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
        ("BILLING_LANGUAGE", ""),
        ("BILLING_LOG", "billing=loud"),
        ("BILLING_LOG_FORMAT", "xml"),
        ("DATABASE_URL", "mysql://localhost/billing"),
        ("DATABASE_URL", "sqlite::memory:"),
        ("DATABASE_URL", ""),
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
