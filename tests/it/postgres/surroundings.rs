//! PostgreSQL as it is really run: locks at the start, networks that die, standbys, roles with few rights, schemas,
//! sessions that are ended while idle, restores.

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{
    Client, Cluster, Database, Engine, Home, Launch, Network, Reply, Server, Sessions, eventually,
    on_postgres, sessions::BLOCKED, settled, token::SECRET,
};

on_postgres![
    a_start_that_waits_says_for_what_and_stops_when_told,
    a_migration_waits_without_holding_up_others,
    a_network_that_dies_is_noticed_by_the_first_read,
    a_standby_that_is_gone_leaves_no_sessions_behind,
    a_role_that_may_only_read_and_write_rows_is_enough,
    a_standby_is_refused_in_one_line,
    sessions_that_only_read_are_refused_in_one_line,
    of_several_hosts_the_one_that_takes_writes_is_found,
    a_schema_of_the_users_name_that_is_made_later_changes_nothing,
    sessions_that_are_ended_for_being_idle_are_not_noticed,
    limits_of_the_role_do_not_hold_for_verify_and_migrations,
    ids_that_begin_again_are_passed_over,
];

const MIGRATIONS_LOCKED: &str = "BEGIN; LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE";

async fn a_start_that_waits_says_for_what_and_stops_when_told() {
    let mut server = Server::start(Engine::Postgres);
    server.client().add(1, "GPA.1").await.ok();
    server.stop().await;
    let mut holder = server.database().connect().await;
    holder.execute(MIGRATIONS_LOCKED).await;
    let starting = server.launch().begin(server.directory());
    let line = starting.wait_for_log("waits for locks");
    assert!(line.contains("(tests) has locked _sqlx_migrations"), "{line}");
    assert_eq!(starting.stop().await, Some(0));

    let starting = server.launch().begin(server.directory());
    starting.wait_for_log("waits for locks");
    holder.execute("ROLLBACK").await;
    holder.close().await;
    starting.wait_for_log("listening");
    assert_eq!(starting.stop().await, Some(0));
}

/// As `pg_dump` does, which may take hours.
async fn a_migration_waits_without_holding_up_others() {
    let home = Home::new(Engine::Postgres);
    home.database.make_as_of(5).await;
    let mut dump = home.database.connect().await;
    dump.execute("BEGIN; LOCK TABLE purchases IN ACCESS SHARE MODE").await;
    let starting = home.launch().begin(home.directory.path());
    let line = starting.wait_for_log("waits for locks");
    assert!(line.contains("has locked purchases"), "{line}");
    // Everybody else gets his turn.
    let count = "SELECT CAST(count(*) AS TEXT) FROM purchases";
    assert_eq!(home.database.texts(count).await, ["0"]);
    dump.execute("ROLLBACK").await;
    dump.close().await;
    starting.wait_for_log("listening");
    assert_eq!(starting.stop().await, Some(0));
}

async fn a_network_that_dies_is_noticed_by_the_first_read() {
    let cluster = Cluster::start();
    let network = Network::to(&cluster);
    let home = Home::at(&cluster);
    let url = network.url(&home.database);
    // The last value counts, and a home sets its own.
    let launch = home.launch().set("DATABASE_URL", url);
    let running = launch.start(home.directory.path());
    let client = Client::new(running.address);
    client.add(1, "GPA.1").await.ok();
    join_all((0..8).map(|_| client.get("/transactions"))).await;
    network.cut();
    client.get("/transactions").await.ok();
    for _ in 0..8 {
        client.balance().await;
    }
    eventually("it is written again", async || {
        (client.add(1, "GPA.2").await.status == 200).then_some(())
    })
    .await;
    drop(running);
}

async fn a_standby_that_is_gone_leaves_no_sessions_behind() {
    let cluster = Cluster::start();
    let settings = Launch::new().set("BILLING_AUTH", "jwt").set("BILLING_JWT_SECRET", SECRET);
    let server = Server::start_at(Home::at(&cluster), settings);
    let client = server.client();
    set_standby(&server.database(), "nobody").await;
    eventually("commits wait", async || {
        (client.of("ann").add(1, "").await.status == 503).then_some(())
    })
    .await;
    for round in 0..3 {
        let buy = |number| {
            let client = client.of(&format!("user {round} {number}"));
            async move { client.add(1, "").await.status }
        };
        assert_eq!(join_all((0..12).map(buy)).await, [503; 12]);
        let ready = client.request(reqwest::Method::GET, "/readyz");
        assert_eq!(Reply::to(ready).await.status, 503);
    }
    let mut sessions = Sessions::at(&server.database()).await;
    let waiting = sessions.count("wait_event = 'SyncRep'").await;
    assert!((1..=4).contains(&waiting), "{waiting} sessions wait, and there are 4 lanes");
    set_standby(&server.database(), "").await;
    eventually("it is written again", async || {
        (client.of("ann").add(1, "").await.status == 200).then_some(())
    })
    .await;
    sessions.close().await;
}

/// Names the standby that commits wait for.
async fn set_standby(database: &Database, name: &str) {
    let mut owner = database.connect_as_owner().await;
    owner.execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'")).await;
    owner.texts("SELECT CAST(pg_reload_conf() AS TEXT)").await;
    owner.close().await;
}

/// How another role is granted what it needs, and no more.
const GRANT: &str = "
    CREATE ROLE clerk LOGIN;
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO clerk;
    GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO clerk";

async fn a_role_that_may_only_read_and_write_rows_is_enough() {
    let cluster = Cluster::start();
    let mut server = Server::start_at(Home::at(&cluster), Launch::new());
    server.client().add(100, "GPA.1").await.ok();
    server.stop().await;
    let mut owner = server.database().connect_as_superuser().await;
    owner.execute(GRANT).await;
    let url = server.database().url().replace("postgres://billing@", "postgres://clerk@");
    server.start_again_with(&[("DATABASE_URL", &url)]);
    let client = server.client();
    client.add(50, "GPA.2").await.ok();
    client.allocate(&[("gemini-2.0-flash", 75)]).await.ok();
    client.consume("gemini-2.0-flash", 5, 5).await.ok();
    client.balance().await;
    let ready = Reply::to(client.request(reqwest::Method::GET, "/readyz")).await;
    ready.ok();
    let verified = server.launch().finish(server.directory(), &["verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    server.stop().await;
    owner.execute("DROP OWNED BY clerk; DROP ROLE clerk").await;
    owner.close().await;
}

async fn a_standby_is_refused_in_one_line() {
    let mut cluster = Cluster::start();
    let mut server = Server::start_at(Home::at(&cluster), Launch::new());
    server.client().add(1, "GPA.1").await.ok();
    server.stop().await;
    cluster.become_standby();
    let failed = server.launch().fail_to_start(server.directory());
    assert_eq!((failed.code, failed.stderr.len()), (Some(1), 1), "{failed:?}");
    assert!(failed.stderr[0].contains("is a standby"), "{failed:?}");
    let verified = server.launch().finish(server.directory(), &["verify"]).await;
    assert_eq!(verified.code, Some(0), "a standby can be looked at: {verified:?}");
    promote(&server.database()).await;
}

async fn promote(database: &Database) {
    let mut owner = database.connect_as_superuser().await;
    assert_eq!(owner.texts("SELECT CAST(pg_promote() AS TEXT)").await, ["true"]);
    owner.close().await;
}

async fn sessions_that_only_read_are_refused_in_one_line() {
    let mut server = Server::start(Engine::Postgres);
    server.client().add(1, "GPA.1").await.ok();
    server.stop().await;
    server.database().set_read_only(true).await;
    let failed = server.launch().fail_to_start(server.directory());
    assert_eq!((failed.code, failed.stderr.len()), (Some(1), 1), "{failed:?}");
    assert!(failed.stderr[0].contains("default_transaction_read_only"), "{failed:?}");
    let verified = server.launch().finish(server.directory(), &["verify"]).await;
    assert_eq!(verified.code, Some(0), "it can be looked at: {verified:?}");
    server.database().set_read_only(false).await;
}

async fn of_several_hosts_the_one_that_takes_writes_is_found() {
    let (mut standby, primary) = (Cluster::start(), Cluster::start());
    let home = Home::at(&primary);
    standby.create_database_named(home.database.name());
    standby.become_standby();
    let nowhere = home.directory.path().display().to_string();
    let hosts = [standby.directory(), primary.directory()].map(|it| it.display().to_string());
    let hosts = format!("{nowhere},{}", hosts.join(","));
    let url = home.database.url_at(&hosts, 5432);
    let launch =
        home.launch().set("DATABASE_URL", format!("{url}&target_session_attrs=read-write"));
    // Each of them has a share of the time to take a connection in, which a slow machine may need more of.
    let running = eventually("a host is found in time", async || {
        launch.try_start(home.directory.path()).ok()
    })
    .await;
    let client = Client::new(running.address);
    client.add(7, "GPA.1").await.ok();
    let balance = settled(async || client.get("/balance").await).await.ok();
    assert_eq!(balance, json!({"credits": 7, "allocated_tokens": {}}));
    drop(running);
    home.database.left_by_all().await;
}

async fn a_schema_of_the_users_name_that_is_made_later_changes_nothing() {
    let mut server = Server::start(Engine::Postgres);
    let client = server.client();
    client.add(5, "GPA.1").await.ok();
    server.database().execute("CREATE SCHEMA billing").await;
    // New sessions find it.
    let mut sessions = Sessions::at(&server.database()).await;
    sessions.terminate("true").await;
    sessions.close().await;
    client.add(5, "GPA.2").await.ok();
    assert_eq!(client.balance().await["credits"], 10);
    server.stop().await;
    server.start_again();
    assert_eq!(server.client().balance().await["credits"], 10);
    let verified = server.launch().finish(server.directory(), &["verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    let made = "SELECT CAST(relname AS TEXT) FROM pg_class
        WHERE relnamespace = to_regnamespace('billing')";
    assert!(server.database().texts(made).await.is_empty());
}

async fn sessions_that_are_ended_for_being_idle_are_not_noticed() {
    let server = Server::start(Engine::Postgres);
    let database = server.database();
    database.set("idle_session_timeout = 500").await;
    let client = server.client();
    let mut sessions = Sessions::at(&database).await;
    for number in 1..=3 {
        // Where this machine stands still, a session is idle in the middle of its work, too.
        eventually("it is not noticed that sessions were ended", async || {
            let id = format!("GPA.{number}");
            let replies = [client.add(1, &id).await, client.get("/balance").await];
            eventually("idle sessions are ended", async || {
                (sessions.count("true").await == 0).then_some(())
            })
            .await;
            assert!(replies.iter().all(|it| [200, 503].contains(&it.status)), "{replies:?}");
            replies.iter().all(|it| it.status == 200).then_some(())
        })
        .await;
    }
    sessions.close().await;
    database.set("idle_session_timeout = 0").await;
    assert_eq!(client.balance().await["credits"], 3);
}

async fn limits_of_the_role_do_not_hold_for_verify_and_migrations() {
    let home = Home::new(Engine::Postgres);
    let directory = home.directory.path();
    home.database.make_as_of(5).await;
    home.database.set("statement_timeout = 500").await;
    let mut holder = home.database.connect().await;
    holder.execute("BEGIN; LOCK TABLE purchases IN ACCESS SHARE MODE").await;
    let starting = home.launch().begin(directory);
    starting.wait_for_log("waits for locks");
    holder.execute("ROLLBACK").await;
    starting.wait_for_log("listening");
    assert_eq!(starting.stop().await, Some(0));

    let mut sessions = Sessions::at(&home.database).await;
    holder.execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await;
    let verify = home.launch();
    let longer = async {
        sessions.reach(&format!("{BLOCKED} AND now() - query_start > interval '1 s'")).await;
        holder.execute("ROLLBACK").await;
    };
    let (verified, ()) = tokio::join!(verify.finish(directory, &["verify"]), longer);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    holder.close().await;
    sessions.close().await;
}

async fn ids_that_begin_again_are_passed_over() {
    let mut server = Server::start(Engine::Postgres);
    for number in 1..=5 {
        server.client().add(1, &format!("GPA.{number}")).await.ok();
    }
    server.stop().await;
    let again = "ALTER TABLE transactions ALTER COLUMN id RESTART WITH 2;
        ALTER TABLE users ALTER COLUMN id RESTART WITH 1";
    server.database().execute(again).await;
    let verified = server.launch().finish(server.directory(), &["verify"]).await;
    assert_eq!(verified.code, Some(1), "{verified:?}");
    let line = "difference: expected a next id in transactions beyond 5, found 2".to_owned();
    assert!(verified.stdout.contains(&line), "{verified:?}");
    server.start_again();
    server.wait_for_log("passed over");
    server.client().add(1, "GPA.6").await.ok();
    assert_eq!(server.client().balance().await["credits"], 6);
    let verified = server.launch().finish(server.directory(), &["verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
