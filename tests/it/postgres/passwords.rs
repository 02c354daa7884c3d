//! The password of the database: nobody finds it in a log or an error.

use reqwest::Method;

use crate::harness::{
    Engine, Home, Launch, Reply, Server, cluster::PASSWORD, eventually, on_postgres,
};

on_postgres![
    a_log_of_everything_has_no_password,
    a_wrong_password_is_not_repeated,
    a_url_that_is_none_is_not_repeated,
];

fn home() -> Home {
    Home::new(Engine::Postgres).with_password()
}

fn check_says_nothing(lines: &[String], password: &str) {
    assert!(!lines.iter().any(|line| line.contains(password)), "{lines:#?}");
}

async fn a_log_of_everything_has_no_password() {
    let home = home();
    assert!(home.database.url().contains(PASSWORD), "there is something to find");
    let mut server = Server::start_at(home, Launch::new().set("BILLING_LOG", "trace"));
    let client = server.client();
    client.add(1, "GPA.1").await.ok();
    client.balance().await;
    // Connections are made again, and are refused.
    server.database().take_away().await;
    assert_eq!(client.add(1, "GPA.2").await.status, 503);
    let ready = client.request(Method::GET, "/readyz");
    assert_eq!(Reply::to(ready).await.status, 503);
    server.database().give_back().await;
    eventually("it is written again", async || {
        (client.add(1, "GPA.2").await.status == 200).then_some(())
    })
    .await;
    let log = server.stop().await;
    assert!(log.iter().any(|line| line.contains("ERROR")), "the failure is told: {log:#?}");
    check_says_nothing(&log, PASSWORD);
    for arguments in [&["verify"][..], &["backup", "copy.db"]] {
        let finished = server.launch().finish(server.directory(), arguments).await;
        check_says_nothing(&finished.stdout, PASSWORD);
        check_says_nothing(&finished.stderr, PASSWORD);
    }
}

async fn a_wrong_password_is_not_repeated() {
    let home = home();
    let url = home.database.url().replace(PASSWORD, "wrong-but-secret");
    let launch = home.launch().set("BILLING_LOG", "trace").set("DATABASE_URL", url);
    let failed = launch.fail_to_start(home.directory.path());
    assert_eq!((failed.code, failed.stderr.len()), (Some(1), 1), "{failed:?}");
    check_says_nothing(&failed.stderr, "wrong-but-secret");
    let finished = launch.finish(home.directory.path(), &["verify"]).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(3), 1), "{finished:?}");
    check_says_nothing(&finished.stderr, "wrong-but-secret");
}

async fn a_url_that_is_none_is_not_repeated() {
    let home = home();
    for url in [
        "postgres://billing:a-secret-password@localhost:port/billing",
        "postgres://billing:a-secret-password@[localhost/billing",
        "postgres://billing:a-secret-password@localhost/billing?sslmode=perhaps",
        "postgres:/billing:a-secret-password@localhost/billing",
        "postgres:///billing:a-secret-password@localhost/billing",
        "postgres://billing:12/a-secret-password@localhost/billing",
        "postgres://billing:12?a-secret-password@localhost/billing",
        "postgres://billing:12#a-secret-password@localhost/billing",
        "mysql://billing:a-secret-password@localhost/billing",
        "billing:a-secret-password@localhost/billing",
    ] {
        let launch = home.launch().set("DATABASE_URL", url);
        let failed = launch.fail_to_start(home.directory.path());
        assert_eq!((failed.code, failed.stderr.len()), (Some(2), 1), "{url}: {failed:?}");
        assert!(failed.stderr[0].contains("DATABASE_URL"), "{failed:?}");
        check_says_nothing(&failed.stderr, PASSWORD);
    }
}
