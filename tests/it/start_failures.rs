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
    let launch = Launch::new().stopped_by_modes(directory.path());
    check_refused(&launch, directory.path());
}

#[tokio::test]
async fn a_database_that_is_not_what_its_migrations_make() {
    let newest = i64::MAX;
    for (version, sql, reason) in [
        (newest, "DROP TABLE idempotency_keys", "the table 'idempotency_keys' is missing"),
        (
            newest,
            "DROP INDEX transactions_allocations",
            "the index 'transactions_allocations' is missing",
        ),
        (newest, "DELETE FROM token_pricing; DELETE FROM price_history", "there are no prices"),
        (2, "DROP TABLE token_balances", "the table 'token_balances' is missing"),
        (1, "DELETE FROM _sqlx_migrations", "there are tables of which no migration tells"),
    ] {
        let directory = directory();
        let database = Database::at(&directory.path().join("billing.db"));
        database.make_as_of(version).await;
        database.execute(sql).await;
        let rows = database.texts("SELECT name FROM sqlite_schema ORDER BY name").await;
        let failed = Launch::new().fail_to_start(directory.path());
        assert_eq!((failed.code, failed.stderr.len()), (Some(1), 1), "{sql}: {failed:?}");
        for part in ["'billing.db' is incomplete", reason, "restore"] {
            assert!(failed.stderr[0].contains(part), "{sql}: {part}: {failed:?}");
        }
        assert_eq!(database.texts("SELECT name FROM sqlite_schema ORDER BY name").await, rows);
        if version == newest && sql.contains("TABLE") {
            let finished = Launch::new().finish(directory.path(), &["verify"]).await;
            assert_eq!(finished.code, Some(3), "{finished:?}");
            assert!(finished.stderr[0].contains(reason), "{finished:?}");
        }
    }
}

#[tokio::test]
async fn a_url_that_means_something_else_than_it_says() {
    let directory = directory();
    for (url, reason) in [
        ("sqlite:///./billing.db", "write sqlite://./billing.db"),
        ("sqlite:///../billing.db", "write sqlite://../billing.db"),
        ("sqlite:///not-there-billing.db", "write sqlite://not-there-billing.db"),
        ("sqlite://billing.db?mode=ro", "mode=ro"),
        ("sqlite://billing.db?mode=memory", "'mode=memory'"),
        ("sqlite://billing.db?mode=rwc&cache=shared", "'cache=shared'"),
        ("sqlite://billing.db?immutable=1", "'immutable=1'"),
        ("sqlite://billing.db?vfs=unix-none", "'vfs=unix-none'"),
        ("sqlite://billing.db?timeout=5", "'timeout=5'"),
        ("sqlite://:memory:", "must name a file"),
    ] {
        let failed = Launch::new().set("DATABASE_URL", url).fail_to_start(directory.path());
        assert_eq!((failed.code, failed.stderr.len()), (Some(2), 1), "{url}: {failed:?}");
        assert!(failed.stderr[0].contains("DATABASE_URL"), "{url}: {failed:?}");
        assert!(failed.stderr[0].contains(reason), "{url}: {failed:?}");
        assert!(contents(directory.path()).is_empty(), "{url}");
    }
    let launch = Launch::new().set("DATABASE_URL", "sqlite://billing.db?mode=rw");
    let failed = check_refused(&launch, directory.path());
    assert!(failed.stderr[0].contains("there is no database"), "{failed:?}");
}
