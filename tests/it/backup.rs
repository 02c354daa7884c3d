//! `token-billing backup`: a complete copy of an SQLite file while the service works, or none at all.
//! A PostgreSQL database is backed up by the server's own means.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::harness::{
    Client, Database, Engine, Finished, Launch, Load, Server, closed, full, on_postgres,
};

on_postgres![of_a_server_the_tool_for_it_is_named];

async fn backup(server: &Server, file: &str) -> Finished {
    Launch::new().finish(server.directory(), &["backup", file]).await
}

/// Every transaction, oldest first.
async fn transactions(database: &Database) -> Vec<String> {
    let mut rows = database.digest().await;
    rows.retain(|row| row.starts_with("[\"transaction\""));
    rows
}

/// The names of the files in a directory.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .expect("the directory can be read")
        .map(|entry| entry.expect("the directory can be read").file_name())
        .map(|name| name.into_string().expect("a UTF-8 name"))
        .collect();
    names.sort();
    names
}

/// Backs up to `file`, which must fail with one line and leave everything as it is.
async fn check_fails(server: &Server, file: &str, reason: &str) {
    let before = names(server.directory());
    let finished = backup(server, file).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(3), 1), "{finished:?}");
    assert!(finished.stderr[0].contains(reason), "{finished:?}");
    assert!(!finished.stdout.iter().any(|line| line.starts_with("done")), "{finished:?}");
    assert_eq!(names(server.directory()), before, "{finished:?}");
}

#[tokio::test]
async fn a_backup_under_load_holds_what_was_acknowledged_before() {
    let mut server = Server::start_with(Engine::Sqlite, &Load::SETTINGS);
    Load::prepare(&server.client()).await;
    let mut load = Load::start(&server.client());
    load.reach(300).await;
    let before = transactions(&server.database()).await;
    let finished = backup(&server, "copies of today?%41.db").await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(0), 0), "{finished:?}");
    let [done] = &finished.stdout[..] else { panic!("one line: {finished:?}") };
    assert!(done.starts_with("done: copies of today?%41.db, "), "{done}");
    let path = server.directory().join("copies of today?%41.db");
    let bytes = fs::metadata(&path).expect("the copy is there").len();
    let copy = Database::at(&path);
    let copied = transactions(&copy).await;
    for part in [format!(", {bytes} bytes, "), format!(" {} transactions, ", copied.len())] {
        assert!(done.contains(&part), "{part}: {done}");
    }
    copy.check_invariants().await;
    assert!(copied.starts_with(&before), "something acknowledged is missing");
    server.kill();
    load.journal().await.compare(&server.database()).await;

    // Only its own file, and whole: no log beside it.
    let files = names(server.directory());
    let copies: Vec<_> = files.iter().filter(|name| !name.starts_with("billing.db")).collect();
    assert_eq!(copies, ["copies of today?%41.db"]);
}

#[tokio::test]
async fn a_backup_is_restored_by_putting_it_in_the_databases_place() {
    let mut server = Server::start(Engine::Sqlite);
    server.client().buy_tokens("gemini-2.0-flash", 75).await;
    let kept = server.database().digest().await;
    let balance = server.client().balance().await;
    assert_eq!(backup(&server, "copy.db").await.code, Some(0));
    server.client().consume("gemini-2.0-flash", 500, 0).await.ok();
    server.client().add(50, "GPA.later").await.ok();
    server.stop().await;

    fs::rename(server.directory().join("copy.db"), server.database().path())
        .expect("the database can be replaced");
    server.start_again();
    assert_eq!(server.client().balance().await, balance);
    assert_eq!(server.database().digest().await, kept);
    server.client().consume("gemini-2.0-flash", 500, 0).await.ok();
    assert_eq!(server.database().texts("PRAGMA journal_mode").await, ["wal"]);
    server.stop().await;
}

#[tokio::test]
async fn a_backup_starts_beside_the_service_it_was_taken_from() {
    let server = Server::start(Engine::Sqlite);
    server.client().add(7, "GPA.1").await.ok();
    let directory = TempDir::new().expect("a temporary directory can be made");
    let file = directory.path().join("copy.db");
    assert_eq!(backup(&server, file.to_str().expect("UTF-8")).await.code, Some(0));
    let other = Launch::new().set("DATABASE_URL", "sqlite://copy.db").start(directory.path());
    assert_eq!(Client::new(other.address).balance().await["credits"], 7);
    server.client().add(1, "GPA.2").await.ok();
    assert_eq!(Client::new(other.address).balance().await["credits"], 7);
}

#[tokio::test]
async fn the_database_of_a_stopped_service_is_backed_up_and_not_changed() {
    let mut server = Server::start(Engine::Sqlite);
    server.client().add(7, "GPA.1").await.ok();
    server.stop().await;
    let before = fs::read(server.database().path()).expect("the file can be read");
    assert_eq!(backup(&server, "copy.db").await.code, Some(0));
    assert!(fs::read(server.database().path()).expect("it is there") == before);
    assert_eq!(names(server.directory()), ["billing.db", "copy.db"]);
    let copy = Database::at(&server.directory().join("copy.db"));
    assert_eq!(copy.digest().await, server.database().digest().await);
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let server = Server::start(Engine::Sqlite);
    fs::write(server.directory().join("taken"), "dear diary").expect("the file can be written");
    std::os::unix::fs::symlink("nowhere", server.directory().join("link")).expect("a link");
    fs::create_dir(server.directory().join("folder")).expect("a directory can be made");
    for file in ["taken", "link", "folder", "billing.db"] {
        check_fails(&server, file, &format!("'{file}' exists")).await;
    }
    let text = fs::read_to_string(server.directory().join("taken")).expect("it is there");
    assert_eq!(text, "dear diary");
    // SQLite would take it for the copy's own.
    fs::write(server.directory().join("old.db-wal"), "").expect("the file can be written");
    check_fails(&server, "old.db", "'old.db-wal' exists").await;
}

#[tokio::test]
async fn of_two_backups_to_one_file_one_is_made() {
    let server = Server::start(Engine::Sqlite);
    let (one, other) = tokio::join!(backup(&server, "copy.db"), backup(&server, "copy.db"));
    let mut codes = [one.code, other.code];
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(3)], "{one:?} {other:?}");
    Database::at(&server.directory().join("copy.db")).check_invariants().await;
    assert!(!names(server.directory()).iter().any(|name| name.starts_with('.')));
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing_behind() {
    let server = Server::start(Engine::Sqlite);
    check_fails(&server, "missing/copy.db", "cannot write").await;
    check_fails(&server, "..", "").await;
}

#[tokio::test]
async fn a_backup_for_which_there_is_no_room_leaves_nothing_behind() {
    let server = Server::start(Engine::Sqlite);
    server.client().add(7, "GPA.1").await.ok();
    let before = names(server.directory());
    for kib in [4, 16, 64] {
        let launch = Launch::new().limit_file_size(kib);
        let finished = launch.finish(server.directory(), &["backup", "copy.db"]).await;
        assert_eq!((finished.code, finished.stderr.len()), (Some(3), 1), "{finished:?}");
        // It is not the database that is at fault.
        let line = "token-billing: cannot write 'copy.db': ";
        assert!(finished.stderr[0].starts_with(line), "{finished:?}");
        assert_eq!(names(server.directory()), before, "{finished:?}");
    }
}

#[tokio::test]
async fn a_backup_that_nobody_is_told_of_is_not_kept() {
    let server = Server::start(Engine::Sqlite);
    let before = names(server.directory());
    for nobody in [full(), closed()] {
        let mut command = Launch::new().command(server.directory());
        let output = command.args(["backup", "copy.db"]).stdout(nobody).output();
        let output = output.expect("the binary starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), errors.lines().count()), (Some(3), 1), "{errors}");
        assert_eq!(names(server.directory()), before, "{errors}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_makes_no_backup() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let finished = Launch::new().finish(directory.path(), &["backup", "copy.db"]).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(3), 1), "{finished:?}");
    assert!(finished.stderr[0].contains("billing.db"), "{finished:?}");
    assert_eq!(names(directory.path()), Vec::<String>::new());
}

async fn of_a_server_the_tool_for_it_is_named() {
    let server = Server::start(Engine::Postgres);
    let finished = server.launch().finish(server.directory(), &["backup", "copy.db"]).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(3), 1), "{finished:?}");
    assert!(finished.stderr[0].contains("pg_dump"), "{finished:?}");
    assert_eq!(names(server.directory()), Vec::<String>::new());
}

#[tokio::test]
async fn wrong_books_are_told_and_not_kept() {
    let mut server = Server::start(Engine::Sqlite);
    server.client().add(7, "GPA.1").await.ok();
    server.stop().await;
    server.database().execute("UPDATE credits SET credits = 8").await;
    let finished = backup(&server, "copy.db").await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(1), 1), "{finished:?}");
    let line = "difference: user \"default_user\", expected 7 credits, found 8";
    assert!(finished.stdout.iter().any(|found| found == line), "{finished:?}");
    assert_eq!(names(server.directory()), ["billing.db"]);
    server.database().execute("UPDATE credits SET credits = 7").await;
}
