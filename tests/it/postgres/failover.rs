//! A primary that is lost under load, and a standby that takes over: what was answered with success is there, once, and
//! the service goes on without a restart.

use std::{io::Write, time::Instant};

use reqwest::Method;
use tempfile::TempDir;

use crate::harness::{Client, Cluster, Database, Launch, Load, Reply, eventually, on_postgres};

on_postgres![what_was_answered_outlives_the_primary];

const FOLLOWED: &str = "SELECT application_name FROM pg_stat_replication WHERE sync_state = 'sync'";

/// Has commits wait for any standby, and waits until there is one.
async fn have_commits_wait(database: &Database) {
    let mut owner = database.connect_as_owner().await;
    owner.execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    owner.texts("SELECT CAST(pg_reload_conf() AS TEXT)").await;
    eventually("a standby confirms commits", async || {
        (!owner.texts(FOLLOWED).await.is_empty()).then_some(())
    })
    .await;
    owner.close().await;
}

async fn promote(database: &Database) {
    let mut owner = database.connect_as_owner().await;
    assert_eq!(owner.texts("SELECT CAST(pg_promote() AS TEXT)").await, ["true"]);
    owner.close().await;
}

async fn what_was_answered_outlives_the_primary() {
    let mut primary = Cluster::start();
    let Some(standby) = Cluster::standby_of(&primary) else { return };
    let database = primary.create_database_named("billing_that_moves");
    have_commits_wait(&database).await;
    let hosts = [&primary, &standby].map(|it| it.directory().to_str().expect("a UTF-8 path"));
    let url =
        format!("{}&target_session_attrs=read-write", database.url_at(&hosts.join(","), 5432));
    let directory = TempDir::new().expect("a temporary directory can be made");
    let launch =
        Load::SETTINGS.iter().fold(Launch::new(), |launch, (name, value)| launch.set(name, *value));
    let launch = launch.set("DATABASE_URL", url);
    let running = launch.start(directory.path());
    let client = Client::new(running.address);
    Load::prepare(&client).await;

    let mut load = Load::start(&client);
    load.reach(400).await;
    primary.stop("KILL");
    let killed = Instant::now();
    let mut journal = load.journal().await;
    assert_eq!(client.add(1, "GPA.nobody").await.status, 503);
    assert_eq!(Reply::to(client.request(Method::GET, "/readyz")).await.status, 503);

    let moved = database.on(&standby);
    promote(&moved).await;
    let promoted = Instant::now();
    eventually("it is written again", async || {
        (client.add(1, "GPA.again").await.status == 200).then_some(())
    })
    .await;
    // For whoever looks at what it takes: nothing here depends on it.
    let _ = writeln!(
        std::io::stderr(),
        "writes went on {:?} after the promotion, {:?} after the primary was killed",
        promoted.elapsed(),
        killed.elapsed()
    );
    journal.compare(&moved).await;
    journal.settle(&client, &moved).await;
    assert_eq!(journal.unsettled(), 0);
    assert!(journal.acknowledged() > 100, "{} were acknowledged", journal.acknowledged());
    Reply::to(client.request(Method::GET, "/readyz")).await.ok();
    let verified = launch.finish(directory.path(), &["verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    drop(running);
}
