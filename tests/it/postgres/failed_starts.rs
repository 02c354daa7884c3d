//! Databases the service must not touch, or can't: exit status 1, one line that says why, and nothing
//! was changed.

use crate::harness::{Engine, FailedStart, Home, Server, on_postgres};

on_postgres![
    a_database_of_a_newer_version,
    the_database_of_another_program,
    the_database_of_another_program_that_migrates_as_we_do,
    a_database_that_does_not_exist,
    a_user_who_may_not_make_tables,
];

/// Every relation and every function, as the catalogue has them.
const CATALOGUE: &str = "
    SELECT CAST(relname AS TEXT) || ' ' || relfilenode FROM pg_class
    WHERE relnamespace = CAST('public' AS regnamespace)
    UNION ALL SELECT CAST(proname AS TEXT) FROM pg_proc
    WHERE pronamespace = CAST('public' AS regnamespace)
    ORDER BY 1";

/// Starts at a database, which must fail and change nothing.
async fn check_refused(home: &Home) -> FailedStart {
    let before = home.database.texts(CATALOGUE).await;
    let failed = check_fails(home, &home.database.url());
    assert_eq!(home.database.texts(CATALOGUE).await, before, "{failed:?}");
    failed
}

fn check_fails(home: &Home, url: &str) -> FailedStart {
    let launch = home.launch().set("DATABASE_URL", url);
    let failed = launch.fail_to_start(home.directory.path());
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert_eq!(failed.stderr.len(), 1, "one line: {failed:?}");
    let (_, name) = url.split_once("@localhost/").expect("a URL of a database");
    let (name, _) = name.split_once('?').expect("a URL with a socket");
    assert!(failed.stderr[0].contains(name), "it names the database: {failed:?}");
    failed
}

async fn a_database_of_a_newer_version() {
    let mut server = Server::start(Engine::Postgres);
    server.client().add(100, "GPA.1").await.ok();
    server.stop().await;
    server
        .database()
        .execute(
            "INSERT INTO _sqlx_migrations
                 (version, description, installed_on, success, checksum, execution_time)
             VALUES (9999, 'from the future', CURRENT_TIMESTAMP, true, '', 0)",
        )
        .await;
    let before = server.database().digest().await;
    let failed = check_refused(server.home()).await;
    assert!(failed.stderr[0].contains("newer"), "{failed:?}");
    assert_eq!(server.database().digest().await, before);
}

async fn the_database_of_another_program() {
    let home = Home::new(Engine::Postgres);
    home.database.execute("CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('ann')").await;
    check_refused(&home).await;
    assert_eq!(home.database.texts("SELECT name FROM users").await, ["ann"]);
}

async fn the_database_of_another_program_that_migrates_as_we_do() {
    let home = Home::new(Engine::Postgres);
    home.database
        .execute(
            "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,
                 installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL,
                 checksum BYTEA NOT NULL, execution_time BIGINT NOT NULL);
             INSERT INTO _sqlx_migrations VALUES (1, 'theirs', now(), true, '', 0)",
        )
        .await;
    check_refused(&home).await;
}

async fn a_database_that_does_not_exist() {
    let home = Home::new(Engine::Postgres);
    let failed = check_fails(&home, &home.database.url().replace("/billing_", "/missing_"));
    assert!(failed.stderr[0].contains("does not exist"), "{failed:?}");
}

async fn a_user_who_may_not_make_tables() {
    let home = Home::new(Engine::Postgres);
    let mut owner = home.database.connect_as_owner().await;
    owner.execute("REVOKE CREATE ON SCHEMA public FROM pg_database_owner").await;
    owner.close().await;
    let failed = check_refused(&home).await;
    assert!(failed.stderr[0].contains("permission denied"), "{failed:?}");
}
