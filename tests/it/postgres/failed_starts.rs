//! Databases the service must not touch, or can't: exit status 1, one line that says why, and nothing
//! was changed.

use crate::harness::{Engine, FailedStart, Home, Launch, Server, on_postgres};

on_postgres![
    a_database_of_a_newer_version,
    the_database_of_another_program,
    the_database_of_another_program_that_migrates_as_we_do,
    a_database_that_does_not_exist,
    a_user_who_may_not_make_tables,
    a_database_that_cannot_hold_every_character,
    a_schema_with_capitals_is_found,
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

async fn a_database_that_cannot_hold_every_character() {
    let home = Home::new(Engine::Postgres);
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let name = format!("billing_{}", encoding.to_lowercase());
        let mut owner = home.database.connect_as_owner().await;
        let made =
            format!("CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'");
        owner.execute(&made).await;
        let url = home.database.url();
        let (_, ours) = url.split_once("@localhost/").expect("a URL of a database");
        let (ours, _) = ours.split_once('?').expect("a URL with a socket");
        let failed = check_fails(&home, &url.replace(ours, &name));
        assert!(failed.stderr[0].contains(&format!("its encoding is {encoding}")), "{failed:?}");
        owner.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        owner.close().await;
    }
}

/// The other way round: nothing is wrong with it.
async fn a_schema_with_capitals_is_found() {
    let home = Home::new(Engine::Postgres);
    home.database.execute("CREATE SCHEMA \"Billing\"").await;
    home.database.set("search_path = \"Billing\"").await;
    let mut server = Server::start_at(home, Launch::new());
    server.client().add(1, "GPA.1").await.ok();
    server.stop().await;
    // Twice: now it holds tables.
    server.start_again();
    let verified = server.launch().finish(server.directory(), &["verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
