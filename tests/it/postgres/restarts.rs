//! A server that is stopped or crashes under load, and comes back: so does the service, by itself.

use reqwest::Method;

use crate::harness::{
    Cluster, Home, Launch, Load, Reply, Server, eventually, load::Journal, on_postgres,
};

on_postgres![the_service_goes_on_when_the_server_does, a_start_waits_for_no_server];

/// How the server ends: in good order, and in a crash.
const ENDS: [&str; 4] = ["INT", "QUIT", "INT", "QUIT"];

async fn probe(server: &Server, path: &str) -> Reply {
    Reply::to(server.client().request(Method::GET, path)).await
}

async fn the_service_goes_on_when_the_server_does() {
    let mut cluster = Cluster::start();
    let mut settings = Launch::new();
    for (name, value) in Load::SETTINGS {
        settings = settings.set(name, value);
    }
    let server = Server::start_at(Home::at(&cluster), settings);
    Load::prepare(&server.client()).await;
    let mut journal = Journal::default();
    for end in ENDS {
        let mut load = Load::go_on(&server.client(), journal);
        load.reach(300).await;
        cluster.stop(end);
        journal = load.journal().await;
        assert!(journal.unsettled() > 0, "somebody noticed");
        for path in ["/readyz", "/api/billing/health", "/api/billing/balance"] {
            let reply = probe(&server, path).await;
            assert_eq!(reply.status, 503, "{path}: {reply:?}");
            assert_eq!(reply.json()["code"], "database_unavailable", "{path}");
        }
        probe(&server, "/livez").await.ok();
        assert_eq!(server.client().add(1, "GPA.1").await.status, 503);

        cluster.start_again();
        eventually("the service is ready again", async || {
            let ready = probe(&server, "/readyz").await.status == 200;
            let writes = server.client().consume("gemini-2.0-flash", 0, 0).await.status == 200;
            (ready && writes).then_some(())
        })
        .await;
        journal.compare(&server.database()).await;
        journal.settle(&server.client(), &server.database()).await;
        assert_eq!(journal.unsettled(), 0);
        server.database().check_invariants().await;
    }
}

async fn a_start_waits_for_no_server() {
    let mut cluster = Cluster::start();
    let home = Home::at(&cluster);
    cluster.stop("INT");
    let failed = home.launch().fail_to_start(home.directory.path());
    assert_eq!((failed.code, failed.stderr.len()), (Some(1), 1), "{failed:?}");
    assert!(failed.stderr[0].contains("postgres://"), "it names the database: {failed:?}");
    cluster.start_again();
    Server::start_at(home, Launch::new()).client().add(1, "GPA.1").await.ok();
}
