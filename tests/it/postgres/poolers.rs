//! A pooler between the service and the server. Whatever several instances do is tried through it as well, where the
//! tests are told so.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{
    Client, Cluster, Engine, Home, Launch, Pooler, Reply, Server, eventually, on_postgres, settled,
    token::SECRET,
};

on_postgres![
    in_transaction_mode_two_instances_do_as_one,
    a_pooler_in_transaction_mode_that_nobody_told_of_is_refused,
    in_session_mode_limits_are_kept,
    an_sqlite_database_is_moved_behind_a_pooler,
    migrations_take_the_way_they_are_given,
    migrations_are_not_run_on_another_database,
    a_start_without_a_session_says_so_and_stops_when_told,
];

const MODEL: &str = "gemini-2.0-flash";

fn launch() -> Launch {
    Launch::new().set("BILLING_AUTH", "jwt").set("BILLING_JWT_SECRET", SECRET)
}

/// Few sessions, so that everybody gets another one each time.
async fn in_transaction_mode_two_instances_do_as_one() {
    if !Pooler::is_here() {
        return;
    }
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "transaction", 3);
    let home = Home::at(&cluster);
    let launch = pooler.given_to(&home.database, launch());
    let directory = home.directory.path();
    let instances = [launch.start(directory), launch.start(directory)];
    let clients = instances.each_ref().map(|instance| Client::new(instance.address));
    let work = clients.iter().flat_map(|client| (0..6).map(move |user| (client, user)));
    join_all(work.map(async |(client, user)| {
        let client = client.of(&format!("user {user}"));
        for round in 0..10 {
            settled(async || client.add(10, &format!("GPA.{user}.{round}")).await).await.ok();
            settled(async || client.allocate(&[(MODEL, 1)]).await).await.ok();
            settled(async || client.consume(MODEL, 3, 4).await).await.ok();
            settled(async || client.get("/balance").await).await.ok();
            settled(async || client.get("/transactions?limit=5").await).await.ok();
        }
    }))
    .await;
    for user in 0..6 {
        for client in &clients {
            let expected =
                json!({"credits": 80, "allocated_tokens": {MODEL: 20 * 13_333 - 20 * 7}});
            assert_eq!(client.of(&format!("user {user}")).balance().await, expected);
        }
    }
    let ready = Reply::to(clients[0].request(reqwest::Method::GET, "/readyz")).await;
    ready.ok();
    let verified = launch.finish(directory, &["verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    drop(instances);
}

async fn a_pooler_in_transaction_mode_that_nobody_told_of_is_refused() {
    if !Pooler::is_here() {
        return;
    }
    let cluster = Cluster::start();
    let home = Home::at(&cluster);
    for sessions in [1, 5] {
        let pooler = Pooler::start(&cluster, "transaction", sessions);
        let launch = launch().set("DATABASE_URL", pooler.url(&home.database));
        let failed = launch.fail_to_start(home.directory.path());
        assert_eq!((failed.code, failed.stderr.len()), (Some(1), 1), "{failed:?}");
        assert!(failed.stderr[0].contains("BILLING_PG_POOLER=transaction"), "{failed:?}");
    }
}

async fn in_session_mode_limits_are_kept() {
    if !Pooler::is_here() {
        return;
    }
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "session", 20);
    let home = Home::at(&cluster);
    let launch = pooler.given_to(&home.database, launch());
    let running = launch.start(home.directory.path());
    let client = Client::new(running.address).of("ann");
    // What the service does by itself takes its turns too.
    eventually("the service has its turn", async || {
        (client.add(1, "GPA.1").await.status == 200).then_some(())
    })
    .await;
    let mut holder = home.database.connect().await;
    holder.execute("BEGIN; SELECT user_id FROM credits FOR UPDATE").await;
    // It waits for the lock, and then no more.
    assert_eq!(client.add(1, "GPA.2").await.status, 503);
    let waiting = "SELECT CAST(pid AS TEXT) FROM pg_stat_activity
        WHERE application_name = 'token-billing' AND wait_event_type = 'Lock'";
    eventually("nobody waits any more", async || {
        home.database.texts(waiting).await.is_empty().then_some(())
    })
    .await;
    holder.execute("ROLLBACK").await;
    holder.close().await;
    client.add(1, "GPA.2").await.ok();
    drop(running);
}

async fn an_sqlite_database_is_moved_behind_a_pooler() {
    if !Pooler::is_here() {
        return;
    }
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "transaction", 20);
    let home = Home::at(&cluster);
    let mut source = Server::start(Engine::Sqlite);
    source.client().add(100, "GPA.1").await.ok();
    source.client().allocate(&[(MODEL, 40)]).await.ok();
    let balance = source.client().balance().await;
    source.stop().await;
    let arguments = ["migrate-to", &pooler.url(&home.database)];
    let untold = Launch::new().finish(source.directory(), &arguments).await;
    assert_eq!((untold.code, untold.stderr.len()), (Some(3), 1), "{untold:?}");
    assert!(untold.stderr[0].contains("BILLING_PG_POOLER=transaction"), "{untold:?}");
    let told = Launch::new().set("BILLING_PG_POOLER", "transaction");
    let moved = told.finish(source.directory(), &arguments).await;
    assert_eq!((moved.code, moved.stderr.len()), (Some(0), 0), "{moved:?}");
    let launch = pooler.given_to(&home.database, Launch::new());
    let running = launch.start(home.directory.path());
    assert_eq!(Client::new(running.address).balance().await, balance);
    drop(running);
}

/// Who makes the tables, and lets the service have what it needs.
const MOVER: &str = "
    CREATE ROLE mover LOGIN;
    GRANT USAGE, CREATE ON SCHEMA public TO mover;
    ALTER DEFAULT PRIVILEGES FOR ROLE mover
        GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO billing;
    ALTER DEFAULT PRIVILEGES FOR ROLE mover GRANT USAGE, SELECT ON SEQUENCES TO billing";
const OWNERS: &str = "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = 'public'";

async fn migrations_take_the_way_they_are_given() {
    if !Pooler::is_here() {
        return;
    }
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "transaction", 20);
    let home = Home::at(&cluster);
    let mut owner = home.database.connect_as_superuser().await;
    owner.execute(MOVER).await;
    owner.close().await;
    let over = home.database.url().replace("postgres://billing@", "postgres://mover@");
    let launch = pooler.given_to(&home.database, launch());
    let launch = launch.set("BILLING_MIGRATION_DATABASE_URL", over);
    for number in [1, 2] {
        let running = launch.start(home.directory.path());
        let client = Client::new(running.address).of("ann");
        client.add(1, &format!("GPA.{number}")).await.ok();
        assert_eq!(client.balance().await["credits"], number);
        drop(running);
    }
    assert_eq!(home.database.texts(OWNERS).await, ["mover"]);
}

async fn migrations_are_not_run_on_another_database() {
    let cluster = Cluster::start();
    let (home, other) = (Home::at(&cluster), Home::at(&cluster));
    let launch = home.launch().set("BILLING_MIGRATION_DATABASE_URL", other.database.url());
    let failed = launch.fail_to_start(home.directory.path());
    assert_eq!((failed.code, failed.stderr.len()), (Some(1), 1), "{failed:?}");
    assert!(
        failed.stderr[0].contains("BILLING_MIGRATION_DATABASE_URL leads to another"),
        "{failed:?}"
    );
    for database in [&home.database, &other.database] {
        assert!(database.texts(OWNERS).await.is_empty());
    }
    for url in ["sqlite://billing.db", "postgres://localhost:port/billing"] {
        let launch = home.launch().set("BILLING_MIGRATION_DATABASE_URL", url);
        let failed = launch.fail_to_start(home.directory.path());
        assert_eq!((failed.code, failed.stderr.len()), (Some(2), 1), "{failed:?}");
        assert!(failed.stderr[0].contains("BILLING_MIGRATION_DATABASE_URL"), "{failed:?}");
    }
}

async fn a_start_without_a_session_says_so_and_stops_when_told() {
    if !Pooler::is_here() {
        return;
    }
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "transaction", 1);
    let home = Home::at(&cluster);
    let launch = pooler.given_to(&home.database, launch());
    // A service that holds the only one.
    let running = launch.start(home.directory.path());
    let client = Client::new(running.address).of("ann");
    client.add(1, "GPA.1").await.ok();
    let mut holder = home.database.connect().await;
    holder.execute("BEGIN; LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE").await;
    let starting = launch.begin(home.directory.path());
    let mut sending = tokio::spawn(async move {
        loop {
            client.add(1, "GPA.2").await;
        }
    });
    starting.wait_for_log("the start waits");
    sending.abort();
    let _ = (&mut sending).await;
    assert_eq!(starting.stop().await, Some(0));
    holder.execute("ROLLBACK").await;
    holder.close().await;
    drop(running);
}
