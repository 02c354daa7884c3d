//! SQLite files the service must not touch: exit status 1, one line that says why, not a byte changed.
//! PostgreSQL databases of the same kind are in `postgres::failed_starts`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use crate::harness::{Database, Engine, FailedStart, Launch, Server};

/// Starts on `billing.db` in `directory`, which must fail and leave everything as it is.
fn check_refused(launch: &Launch, directory: &Path) -> FailedStart {
    let before = contents(directory);
    let failed = launch.fail_to_start(directory);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_eq!(failed.stderr.len(), 1, "one line: {failed:?}");
    assert!(failed.stderr[0].contains("billing.db"), "it names the file: {failed:?}");
    assert!(contents(directory) == before, "the directory was changed: {failed:?}");
    failed
}

/// Every file with its bytes.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("the directory can be read")
        .map(|entry| {
            let entry = entry.expect("the directory can be read");
            let name = entry.file_name().into_string().expect("a UTF-8 name");
            (name, fs::read(entry.path()).expect("the file can be read"))
        })
        .collect();
    files.sort();
    files
}

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory can be made")
}

#[tokio::test]
async fn a_database_of_a_newer_version() {
    let mut server = Server::start(Engine::Sqlite);
    server.client().add(100, "GPA.1").await.ok();
    server.stop().await;
    server
        .database()
        .execute(
            "INSERT INTO _sqlx_migrations
                 (version, description, installed_on, success, checksum, execution_time)
             VALUES (9999, 'from the future', CURRENT_TIMESTAMP, true, x'00', 0)",
        )
        .await;
    let failed = check_refused(&Launch::new(), server.directory());
    assert!(failed.stderr[0].contains("newer"), "{failed:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database() {
    let directory = directory();
    let path = directory.path().join("billing.db");
    let texts = ["Dear diary,\n".repeat(1_000), "SQLite format 3\0".to_owned()];
    for text in texts {
        fs::write(&path, text).expect("the file can be written");
        check_refused(&Launch::new(), directory.path());
    }
}

#[tokio::test]
async fn a_very_short_file_that_is_no_database() {
    let directory = directory();
    fs::write(directory.path().join("billing.db"), "x").expect("the file can be written");
    check_refused(&Launch::new(), directory.path());
}

#[tokio::test]
async fn the_database_of_another_program() {
    let directory = directory();
    let database = Database::at(&directory.path().join("billing.db"));
    database.execute("CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('somebody')").await;
    check_refused(&Launch::new(), directory.path());
    assert_eq!(database.texts("SELECT name FROM users").await, ["somebody"]);
}

#[tokio::test]
async fn the_database_of_another_program_that_migrates_as_we_do() {
    let directory = directory();
    let database = Database::at(&directory.path().join("billing.db"));
    database
        .execute(
            "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
                 installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL,
                 checksum BLOB NOT NULL, execution_time BIGINT NOT NULL);
             INSERT INTO _sqlx_migrations VALUES (1, 'theirs', CURRENT_TIMESTAMP, true, x'00', 0)",
        )
        .await;
    check_refused(&Launch::new(), directory.path());
}

#[tokio::test]
async fn a_directory_in_the_databases_place() {
    let directory = directory();
    fs::create_dir(directory.path().join("billing.db")).expect("a directory can be made");
    let failed = Launch::new().fail_to_start(directory.path());
    assert_eq!((failed.code, failed.stderr.len()), (Some(1), 1), "{failed:?}");
}

#[tokio::test]
async fn a_directory_that_does_not_exist() {
    let directory = directory();
    let launch = Launch::new().set("DATABASE_URL", "sqlite://missing/billing.db");
    check_refused(&launch, directory.path());
}

#[tokio::test]
async fn a_directory_without_write_permission() {
    let directory = directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555))
        .expect("our own directory");
    let mut launch = Launch::new();
    if fs::write(directory.path().join("probe"), "").is_ok() {
        // We are root, whom permissions do not stop.
        fs::remove_file(directory.path().join("probe")).expect("just written");
        launch = launch.unprivileged();
        let help = launch.command(directory.path()).arg("--help").output();
        if !help.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIPPED: as root, without setpriv or with a binary others can't start");
            return;
        }
    }
    check_refused(&launch, directory.path());
}
