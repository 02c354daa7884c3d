//! SQLite's file: found through links, with its log, and readable by its owner alone. What can't be served is
//! in `start_failures`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use tempfile::TempDir;

use crate::harness::{Client, Launch};

/// A directory with `real/` and `work/` in it.
fn directories() -> TempDir {
    let directory = TempDir::new().expect("a temporary directory can be made");
    for name in ["real", "work"] {
        fs::create_dir(directory.path().join(name)).expect("a directory can be made");
    }
    directory
}

/// Two purchases, a restart, and two more, of which only the write-ahead log tells. Then every command must
/// know of all four.
async fn check_all_is_seen(launch: &Launch, work: &Path) {
    let mut first = launch.start(work);
    let client = Client::new(first.address);
    client.add(1, "GPA.1").await.ok();
    client.add(1, "GPA.2").await.ok();
    first.terminate();
    assert!(first.wait().await.success());
    let mut second = launch.start(work);
    let client = Client::new(second.address);
    client.add(1, "GPA.3").await.ok();
    client.add(1, "GPA.4").await.ok();
    for stopped in [false, true] {
        if stopped {
            second.kill();
        }
        for arguments in [&["verify"][..], &["backup", if stopped { "b.db" } else { "a.db" }]] {
            let finished = launch.finish(work, arguments).await;
            assert_eq!(finished.code, Some(0), "{finished:?}");
            let told = finished.stdout.iter().any(|line| line.contains(" 4 transactions, "));
            assert!(told, "{arguments:?}, stopped: {stopped}: {finished:?}");
        }
    }
}

#[tokio::test]
async fn a_link_to_the_file_is_followed() {
    let directory = directories();
    let work = directory.path().join("work");
    let target = directory.path().join("real/real.db");
    fs::write(&target, "").expect("the file can be written");
    symlink("../real/real.db", work.join("billing.db")).expect("a link can be made");
    check_all_is_seen(&Launch::new(), &work).await;
    assert!(directory.path().join("real/real.db-wal").exists());
}

#[tokio::test]
async fn a_link_to_its_directory_is_followed() {
    let directory = directories();
    let work = directory.path().join("work");
    symlink("../real", work.join("data")).expect("a link can be made");
    let launch = Launch::new().set("DATABASE_URL", "sqlite://data/billing.db");
    check_all_is_seen(&launch, &work).await;
    assert!(directory.path().join("real/billing.db-wal").exists());
}

#[tokio::test]
async fn a_link_that_leads_nowhere_is_not_filled() {
    let directory = directories();
    let work = directory.path().join("work");
    symlink("../real/real.db", work.join("billing.db")).expect("a link can be made");
    let failed = Launch::new().fail_to_start(&work);
    assert_eq!((failed.code, failed.stderr.len()), (Some(1), 1), "{failed:?}");
    assert!(failed.stderr[0].contains("'billing.db'"), "{failed:?}");
    assert!(failed.stderr[0].contains("a link to '../real/real.db', which is not there"));
    assert!(!directory.path().join("real/real.db").exists());
}

#[tokio::test]
async fn a_file_with_two_names_is_refused() {
    let directory = directories();
    let work = directory.path().join("work");
    drop(Launch::new().start(&work));
    fs::hard_link(work.join("billing.db"), work.join("other.db")).expect("a link can be made");
    let failed = Launch::new().fail_to_start(&work);
    assert_eq!((failed.code, failed.stderr.len()), (Some(1), 1), "{failed:?}");
    assert!(failed.stderr[0].contains("the file has 2 names"), "{failed:?}");
    for arguments in [&["verify"][..], &["backup", "copy.db"]] {
        let finished = Launch::new().finish(&work, arguments).await;
        assert_eq!((finished.code, finished.stderr.len()), (Some(3), 1), "{finished:?}");
        assert_eq!(finished.stderr, failed.stderr);
    }
    fs::remove_file(work.join("other.db")).expect("just made");
    drop(Launch::new().start(&work));
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the file is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_new_database_is_for_its_owner_alone() {
    let directory = directories();
    let path = directory.path().join("billing.db");
    for expected in [0o600, 0o640] {
        let mut service = Launch::new().start(directory.path());
        Client::new(service.address).add(1, &format!("GPA.{expected}")).await.ok();
        for name in ["billing.db", "billing.db-wal", "billing.db-shm"] {
            assert_eq!(mode(&directory.path().join(name)), expected, "{name}");
        }
        let backup = format!("{expected}.db");
        let finished = Launch::new().finish(directory.path(), &["backup", &backup]).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert_eq!(mode(&directory.path().join(backup)), expected);
        service.terminate();
        assert!(service.wait().await.success());
        // One that is there keeps its mode.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("our own file");
    }
}
