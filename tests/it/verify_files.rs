//! `token-billing verify` at SQLite's file: what is broken in it is found, and nothing in its directory is
//! changed. A PostgreSQL server looks after its files itself.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tempfile::TempDir;

use crate::{
    harness::{Database, Engine, Launch, Server},
    verify::{books, check_clean, check_found, check_is_clean, verify},
};

#[tokio::test]
async fn a_broken_index_is_found() {
    let server = books(Engine::Sqlite).await;
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
    let server = books(Engine::Sqlite).await;
    let pages = server
        .database()
        .texts("SELECT CAST(rootpage AS TEXT) FROM sqlite_schema WHERE name = 'transactions'")
        .await;
    let page: usize = pages[0].parse().expect("a number");
    let mut bytes = fs::read(server.database().path()).expect("the file can be read");
    bytes[(page - 1) * 4_096..page * 4_096].fill(0xa5);
    let spoiled = server.home().copy().await;
    fs::write(spoiled.database.path(), bytes).expect("the file can be written");
    let finished = verify(&spoiled).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(1), 1), "{finished:?}");
    let broken = |line: &String| line.starts_with("difference: expected a sound file, found ");
    assert!(finished.stdout.iter().any(broken), "{finished:#?}");
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
    let server = books(Engine::Sqlite).await;
    let before = contents(server.directory());
    check_clean(server.home()).await;
    assert!(contents(server.directory()) == before, "the directory was changed");
}

#[tokio::test]
async fn the_log_of_a_killed_service_is_left_as_it_is() {
    let mut server = Server::start(Engine::Sqlite);
    server.client().add(1, "GPA.1").await.ok();
    server.kill();
    let before = contents(server.directory());
    check_clean(server.home()).await;
    let kept = |files: Vec<(String, Vec<u8>)>| -> Vec<_> {
        // The index of the log is SQLite's shared memory, where readers leave marks.
        files.into_iter().filter(|(name, _)| !name.ends_with("-shm")).collect()
    };
    assert!(kept(contents(server.directory())) == kept(before), "the directory was changed");
}

#[tokio::test]
async fn a_read_only_file_in_a_read_only_directory_can_be_verified() {
    let server = books(Engine::Sqlite).await;
    let directory = TempDir::new().expect("a temporary directory can be made");
    let path = directory.path().join("billing.db");
    fs::copy(server.database().path(), &path).expect("the database can be copied");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
    };
    mode(&path, 0o444);
    mode(directory.path(), 0o555);
    let launch = Launch::new().stopped_by_modes(directory.path());
    check_is_clean(Engine::Sqlite, &launch.finish(directory.path(), &["verify"]).await);
}

/// Verifies `billing.db` in `directory`, which must fail with one line, and leave everything as it is.
async fn check_refused(directory: &Path, reason: &str) {
    let before = contents(directory);
    let finished = Launch::new().finish(directory, &["verify"]).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(3), 1), "{finished:?}");
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
