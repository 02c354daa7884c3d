//! `token-billing verify`: silent about sound books, precise about others, and it changes nothing.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use crate::harness::{Database, Engine, Finished, Launch, Load, Server};

const RULES: [&str; 6] = [
    "balances are the sums of their changes, none negative: ",
    "every transaction belongs to a balance: ",
    "every change follows from its transaction: ",
    "every store transaction is granted once: ",
    "references lead somewhere: ",
    "the file is sound: ",
];

async fn verify(directory: &Path, file: &str) -> Finished {
    let launch = Launch::new().set("DATABASE_URL", format!("sqlite://{file}"));
    launch.finish(directory, &["verify"]).await
}

fn check_clean(finished: &Finished) {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stderr, Vec::<String>::new());
    for rule in RULES {
        assert!(finished.stdout.contains(&format!("{rule}yes")), "{rule}: {finished:?}");
    }
    assert_eq!(finished.stdout.last().map(String::as_str), Some("ok"), "{finished:?}");
}

/// A sound database of a stopped service, with 100 credits, 1,000,000 tokens and 7 transactions.
async fn books() -> Server {
    let mut server = Server::start(Engine::Sqlite);
    let client = server.client();
    client.add(100, "GPA.1").await.ok();
    client.add(75, "GPA.2").await.ok();
    client.buy_tokens("gemini-2.5-pro", 750).await;
    client.allocate(&[("gemini-2.0-flash", 75)]).await.ok();
    let body = serde_json::json!({
        "model_id": "gemini-2.0-flash", "input_tokens": 5_000, "output_tokens": 2_000,
    });
    client.post_keyed("k-1", "/tokens/consume", &body).await.ok();
    client.consume("gemini-2.5-pro", 0, 0).await.ok();
    server.stop().await;
    server
}

/// A copy of `server`'s database after `sql`, which nothing in the schema may hinder.
async fn spoiled(server: &Server, sql: &str) -> Database {
    let path = server.directory().join("spoiled.db");
    fs::copy(server.database().path(), &path).expect("the database can be copied");
    let spoiled = Database::at(&path);
    spoiled
        .execute(&format!(
            "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;
             DROP TRIGGER transactions_never_change; {sql}"
        ))
        .await;
    spoiled
}

/// Spoils a copy with `sql` and looks for exactly these lines, `differences` of them.
async fn check_found(server: &Server, sql: &str, differences: usize, lines: &[&str]) {
    spoiled(server, sql).await;
    let finished = verify(server.directory(), "spoiled.db").await;
    assert_eq!(finished.code, Some(1), "{sql}: {finished:?}");
    assert_eq!(finished.stderr.len(), 1, "{sql}: {finished:?}");
    for line in lines {
        assert!(finished.stdout.iter().any(|found| found == line), "{sql}: {line}: {finished:#?}");
    }
    let told = finished.stdout.iter().filter(|line| line.starts_with("difference: ")).count();
    assert_eq!(told, differences, "{sql}: {finished:#?}");
    let sum =
        if differences == 1 { "1 difference".into() } else { format!("{differences} differences") };
    assert_eq!(finished.stdout.last(), Some(&sum), "{finished:#?}");
}

#[tokio::test]
async fn sound_books_are_ok_with_the_service_stopped_and_running() {
    let mut server = books().await;
    let counts = "looked at: 1 user, 3 balances, 7 transactions, 1 idempotency key";
    let finished = verify(server.directory(), "billing.db").await;
    check_clean(&finished);
    assert_eq!(&finished.stdout[..2], ["database: billing.db", counts], "{finished:?}");
    server.start_again();
    let finished = verify(server.directory(), "billing.db").await;
    check_clean(&finished);
    assert_eq!(finished.stdout[1], counts);
    server.client().add(1, "GPA.3").await.ok();
    server.kill();
    assert!(server.database().wal_bytes() > 0, "a killed service leaves its log");
    check_clean(&verify(server.directory(), "billing.db").await);
}

#[tokio::test]
async fn a_new_database_is_ok() {
    let server = Server::start(Engine::Sqlite);
    check_clean(&verify(server.directory(), "billing.db").await);
}

#[tokio::test]
async fn books_are_ok_at_every_moment_of_a_load() {
    let mut server = Server::start_with(Engine::Sqlite, &Load::SETTINGS);
    Load::prepare(&server.client()).await;
    let mut load = Load::start(&server.client());
    load.reach(300).await;
    for _ in 0..3 {
        check_clean(&verify(server.directory(), "billing.db").await);
    }
    server.kill();
    load.journal().await;
}

#[tokio::test]
async fn wrong_balances_are_found() {
    let server = books().await;
    let credits = "difference: user \"default_user\", expected 100 credits, found";
    let tokens = "difference: user \"default_user\", model \"gemini-2.0-flash\", \
                  expected 993000 tokens, found";
    let entry = "INSERT INTO transactions (user_id, type, amount, metadata, credits_delta,
        tokens_delta, created_at) VALUES ('default_user', 'purchase',";
    for (sql, line) in [
        ("UPDATE credits SET credits = 101", format!("{credits} 101")),
        ("UPDATE credits SET credits = 4294967396", format!("{credits} 4294967396")),
        ("DELETE FROM transactions WHERE transaction_id = 'GPA.1'", {
            "difference: user \"default_user\", expected 0 credits, found 100".to_owned()
        }),
        (
            "UPDATE token_balances SET allocated_tokens = 0 WHERE model_id = 'gemini-2.0-flash'",
            format!("{tokens} 0"),
        ),
        (&format!("{entry} 5, '{{}}', 5, 0, '')"), {
            "difference: user \"default_user\", expected 105 credits, found 100".to_owned()
        }),
    ] {
        check_found(&server, sql, 1, &[&line]).await;
    }
}

#[tokio::test]
async fn a_balance_without_any_transaction_is_found() {
    let server = books().await;
    let sql = "INSERT INTO users (user_id, created_at) VALUES ('bo\nb', '');
        INSERT INTO credits VALUES ('bo\nb', 9, '');
        INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
        VALUES ('bo\nb', 'm', 8, ''), ('bo\nb', 'empty', 0, '')";
    let lines = [
        r#"difference: user "bo\nb", expected 0 credits, found 9"#,
        r#"difference: user "bo\nb", model "m", expected 0 tokens, found 8"#,
    ];
    check_found(&server, sql, 2, &lines).await;
}

#[tokio::test]
async fn negative_balances_are_found() {
    let server = books().await;
    let sql = "UPDATE credits SET credits = -1;
        UPDATE transactions SET credits_delta = -26 WHERE transaction_id = 'GPA.2'";
    let lines = [
        "difference: user \"default_user\", expected no fewer than 0 credits, found -1",
        "difference: user \"default_user\", expected what a \"purchase\" of 75 changes by \
         transaction 2, found -26 credits, 0 tokens",
    ];
    check_found(&server, sql, 2, &lines).await;
}

#[tokio::test]
async fn sums_beyond_64_bits_are_found() {
    let server = books().await;
    let sql =
        "UPDATE transactions SET credits_delta = 9223372036854775807, amount = 9223372036854775807
               WHERE type = 'purchase'";
    // 3 purchases of 2^63 - 1 credits, of which 825 were spent.
    let line =
        "difference: user \"default_user\", expected 27670116110564326596 credits, found 100";
    check_found(&server, sql, 1, &[line]).await;
}

#[tokio::test]
async fn transactions_without_a_balance_are_found() {
    let server = books().await;
    let tokens = "difference: user \"default_user\", model \"gemini-2.5-pro\", \
                  expected a balance of 1000000 tokens, found none for 2 transactions";
    let sql = "DELETE FROM token_balances WHERE model_id = 'gemini-2.5-pro'";
    check_found(&server, sql, 1, &[tokens]).await;
    let credits = "difference: user \"default_user\", expected a balance of 100 credits, \
                   found none for 7 transactions";
    check_found(&server, "DELETE FROM credits", 1, &[credits]).await;
}

#[tokio::test]
async fn a_store_transaction_granted_twice_is_found() {
    let server = books().await;
    let sql = "DROP INDEX transactions_store_id;
        INSERT INTO users (user_id, created_at) VALUES ('bob', '');
        INSERT INTO credits VALUES ('bob', 75, '');
        INSERT INTO transactions (user_id, type, amount, transaction_id, metadata, credits_delta,
            tokens_delta, created_at) VALUES ('bob', 'purchase', 75, 'GPA.2', '{}', 75, 0, '')";
    let line = "difference: user \"bob\", expected 1 grant of store transaction \"GPA.2\", \
                found 2, also to user \"default_user\"";
    check_found(&server, sql, 1, &[line]).await;
}

#[tokio::test]
async fn references_that_lead_nowhere_are_found() {
    let server = books().await;
    let sql = "INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
        VALUES ('ghost', 'm', 0, '')";
    let line = "difference: user \"ghost\", model \"m\", expected a row in users for one in \
                token_balances, found none";
    check_found(&server, sql, 1, &[line]).await;
}

#[tokio::test]
async fn a_broken_index_is_found() {
    let server = books().await;
    // The index is told to hold what it does not.
    let sql = "PRAGMA writable_schema = ON;
        UPDATE sqlite_schema SET sql = replace(sql, '''consumption''', '''purchase''')
        WHERE name = 'transactions_consumptions'";
    let line = "difference: expected a sound file, found row 1 missing from index \
                transactions_consumptions";
    check_found(&server, sql, 3, &[line]).await;
}

#[tokio::test]
async fn a_damaged_page_is_found() {
    let server = books().await;
    let pages = server
        .database()
        .texts("SELECT CAST(rootpage AS TEXT) FROM sqlite_schema WHERE name = 'transactions'")
        .await;
    let page: usize = pages[0].parse().expect("a number");
    let mut bytes = fs::read(server.database().path()).expect("the file can be read");
    bytes[(page - 1) * 4_096..page * 4_096].fill(0xa5);
    fs::write(server.directory().join("spoiled.db"), bytes).expect("the file can be written");
    let finished = verify(server.directory(), "spoiled.db").await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(1), 1), "{finished:?}");
    let broken = |line: &String| line.starts_with("difference: expected a sound file, found ");
    assert!(finished.stdout.iter().any(broken), "{finished:#?}");
}

#[tokio::test]
async fn thousands_of_differences_are_counted() {
    let server = books().await;
    let sql = "WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
        INSERT INTO users (user_id, created_at) SELECT 'u' || n, '' FROM n;
        INSERT INTO credits SELECT user_id, 1, '' FROM users WHERE user_id <> 'default_user'";
    spoiled(&server, sql).await;
    let finished = verify(server.directory(), "spoiled.db").await;
    assert_eq!(finished.code, Some(1));
    let told = finished.stdout.iter().filter(|line| line.starts_with("difference: ")).count();
    let end = &finished.stdout[finished.stdout.len() - 2..];
    assert_eq!(
        (told, end),
        (100, &["and 2900 more".to_owned(), "3000 differences".to_owned()][..])
    );
}

/// Every file with its bytes.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .expect("the directory can be read")
        .map(|entry| entry.expect("the directory can be read").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("the file can be read")))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_database_at_rest_is_left_as_it_is() {
    let server = books().await;
    let before = contents(server.directory());
    check_clean(&verify(server.directory(), "billing.db").await);
    assert!(contents(server.directory()) == before, "the directory was changed");
}

#[tokio::test]
async fn the_log_of_a_killed_service_is_left_as_it_is() {
    let mut server = Server::start(Engine::Sqlite);
    server.client().add(1, "GPA.1").await.ok();
    server.kill();
    let before = contents(server.directory());
    check_clean(&verify(server.directory(), "billing.db").await);
    let kept = |files: Vec<(String, Vec<u8>)>| -> Vec<_> {
        // The index of the log is SQLite's shared memory, where readers leave marks.
        files.into_iter().filter(|(name, _)| !name.ends_with("-shm")).collect()
    };
    assert!(kept(contents(server.directory())) == kept(before), "the directory was changed");
}

#[tokio::test]
async fn a_read_only_file_in_a_read_only_directory_can_be_verified() {
    let server = books().await;
    let directory = TempDir::new().expect("a temporary directory can be made");
    let path = directory.path().join("billing.db");
    fs::copy(server.database().path(), &path).expect("the database can be copied");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
    };
    mode(&path, 0o444);
    mode(directory.path(), 0o555);
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
    check_clean(&launch.finish(directory.path(), &["verify"]).await);
}

/// Verifies `billing.db` in `directory`, which must fail with one line, and leave everything as it is.
async fn check_refused(directory: &Path, reason: &str) {
    let before = contents(directory);
    let finished = verify(directory, "billing.db").await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(1), 1), "{finished:?}");
    assert!(finished.stderr[0].contains("billing.db"), "{finished:?}");
    assert!(finished.stderr[0].contains(reason), "{finished:?}");
    assert_eq!(finished.stdout, Vec::<String>::new());
    assert!(contents(directory) == before, "the directory was changed: {finished:?}");
}

#[tokio::test]
async fn what_is_no_database_of_ours_is_refused() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    check_refused(directory.path(), "there is no database").await;
    let path = directory.path().join("billing.db");
    for (text, reason) in [("", "empty"), ("x", "not a database"), ("SQLite format 3\0", "")] {
        fs::write(&path, text).expect("the file can be written");
        check_refused(directory.path(), reason).await;
    }
    fs::remove_file(&path).expect("just written");
    Database::at(&path).execute("CREATE TABLE users (name TEXT)").await;
    check_refused(directory.path(), "another program").await;
}

#[tokio::test]
async fn other_versions_are_refused() {
    let server = books().await;
    let directory = TempDir::new().expect("a temporary directory can be made");
    let path = directory.path().join("billing.db");
    for (sql, reason) in [
        ("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1", "newer"),
        ("DELETE FROM _sqlx_migrations WHERE version > 1", "older"),
    ] {
        fs::copy(server.database().path(), &path).expect("the database can be copied");
        Database::at(&path).execute(sql).await;
        check_refused(directory.path(), reason).await;
    }
}

#[tokio::test]
async fn bad_settings_are_refused() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let launch = Launch::new().set("DATABASE_URL", "mysql://localhost/billing");
    for arguments in [&["verify"][..], &["backup", "new.db"]] {
        let finished = launch.finish(directory.path(), arguments).await;
        assert_eq!((finished.code, finished.stderr.len()), (Some(2), 1), "{finished:?}");
        assert!(finished.stderr[0].contains("DATABASE_URL"), "{finished:?}");
    }
    let finished = Launch::new().finish(directory.path(), &["verfy"]).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(2), 1), "{finished:?}");
}
