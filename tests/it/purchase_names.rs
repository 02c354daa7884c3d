//! What purchases are known by: older ones get their names before anything is served, and `verify` compares
//! the names with the purchases. What a client sees of it is tested in `purchases`.

use crate::{
    harness::{Engine, Home, Launch, Server, on_both_engines},
    verify::{check_clean, verify},
};

on_both_engines![
    older_purchases_get_their_names,
    instances_that_start_at_once_name_each_purchase_once,
    a_database_with_purchases_to_name_is_to_be_started_first,
    wrong_names_are_found,
];

/// The names, with whose they are.
const NAMES: &str = "SELECT user_id || ' ' || name FROM purchase_names ORDER BY user_id, name";
const TO_NAME: &str = "SELECT CAST(id AS TEXT) FROM purchases_to_name";

/// Adds a purchase of one credit, as an older version recorded it; `id` and `metadata` are SQL.
fn purchase(user: &str, id: &str, metadata: &str) -> String {
    format!(
        "INSERT INTO transactions (user_id, type, amount, transaction_id, metadata, credits_delta,
             tokens_delta, created_at)
         VALUES ('{user}', 'purchase', 1, {id}, {metadata}, 1, 0, '2026-01-01T00:00:00.000000Z');
         UPDATE credits SET credits = credits + 1 WHERE user_id = '{user}';"
    )
}

/// The database of an older version in which these purchases were made.
async fn older(engine: Engine, purchases: &[String]) -> Home {
    let home = Home::new(engine);
    home.database.make_as_of(3).await;
    for user in ["ann", "bob"] {
        let sql = format!(
            "INSERT INTO users (user_id, created_at) VALUES ('{user}', CURRENT_TIMESTAMP);
             INSERT INTO credits VALUES ('{user}', 0, CURRENT_TIMESTAMP)"
        );
        home.database.execute(&sql).await;
    }
    home.database.execute(&purchases.concat()).await;
    home
}

async fn older_purchases_get_their_names(engine: Engine) {
    let long = "é".repeat(33);
    let purchases = [
        purchase("ann", "'GPA.1'", r#"'{"purchaseToken": "token-1"}'"#),
        purchase("ann", "NULL", r#"'{"purchaseToken": "token-2", "productId": 5}'"#),
        // The pending purchase came with its token for its id, by whomever, and again with an order's.
        purchase("bob", "'GPA.3'", r#"'{"purchaseToken": "token-2"}'"#),
        purchase("bob", "'token-1'", "'{}'"),
        purchase("bob", "'same'", r#"'{"purchaseToken": "same"}'"#),
        purchase("ann", &format!("'{long}'"), &format!(r#"'{{"purchaseToken": "{long}"}}'"#)),
        purchase("ann", "''", r#"'{"purchaseToken": ""}'"#),
        // Whatever was sent once must not keep the service from starting.
        purchase("ann", "'GPA.8'", r#"'{"purchaseToken": "a", "purchaseToken": 5}'"#),
        purchase("ann", "'GPA.9'", r#"'{"purchaseToken": 5, "purchaseToken": "b"}'"#),
        purchase("ann", "'GPA.10'", r#"'{"purchaseToken": "\u0000"}'"#),
        purchase("ann", "'GPA.11'", r#"'{"purchaseToken": {"purchaseToken": "c"}}'"#),
        purchase("ann", "'GPA.12'", &format!(r#"'{{"purchaseToken": "{}"}}'"#, "d".repeat(16_385))),
    ];
    let home = older(engine, &purchases).await;
    let mut server = Server::start_at(home, Launch::new());
    let named = [
        "ann GPA.1",
        "ann GPA.10",
        "ann GPA.11",
        "ann GPA.12",
        "ann GPA.8",
        "ann GPA.9",
        "ann b",
        // As `printf é… | sha256sum` has it.
        "ann sha256:f696c24ae52af2f9f6d5feaed130d4d13b3cf173ebe41887cfb73d210f77ae87",
        "ann token-1",
        "ann token-2",
        "bob GPA.3",
        "bob same",
    ];
    let mut found = server.database().texts(NAMES).await;
    found.sort();
    assert_eq!(found, named);
    assert_eq!(server.database().texts(TO_NAME).await, Vec::<String>::new());
    server.stop().await;
    check_clean(server.home()).await;
}

/// More than are named in one transaction.
const MANY: &str = "
    WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 20100)
    INSERT INTO transactions (user_id, type, amount, transaction_id, metadata, credits_delta,
        tokens_delta, created_at)
    SELECT 'ann', 'purchase', 1, 'GPA.' || n, '{}', 1, 0, '2026-01-01T00:00:00.000000Z' FROM n;
    UPDATE credits SET credits = 20100 WHERE user_id = 'ann'";

async fn instances_that_start_at_once_name_each_purchase_once(engine: Engine) {
    let mut server = Server::start_at(older(engine, &[MANY.to_owned()]).await, Launch::new());
    server.stop().await;
    server
        .database()
        .execute(
            "DELETE FROM purchase_names;
             INSERT INTO purchases_to_name
             SELECT id FROM transactions WHERE type = 'purchase' ORDER BY id",
        )
        .await;
    let launch = server.home().launch();
    let starts = [launch.clone(), launch];
    let directory = server.directory();
    let running: Vec<_> = std::thread::scope(|scope| {
        let starts = starts.each_ref().map(|launch| scope.spawn(|| launch.start(directory)));
        starts.into_iter().map(|start| start.join().expect("it starts")).collect()
    });
    assert_eq!(server.database().texts(NAMES).await.len(), 20_100);
    assert_eq!(server.database().texts(TO_NAME).await, Vec::<String>::new());
    drop(running);
    check_clean(server.home()).await;
}

async fn a_database_with_purchases_to_name_is_to_be_started_first(engine: Engine) {
    let home = older(engine, &[purchase("ann", "'GPA.1'", "'{}'")]).await;
    let mut server = Server::start_at(home, Launch::new());
    server.stop().await;
    // As after an interruption.
    server
        .database()
        .execute(
            "DELETE FROM purchase_names; INSERT INTO purchases_to_name SELECT id FROM transactions;
             INSERT INTO purchases_to_name VALUES (9999)",
        )
        .await;
    let finished = verify(server.home()).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(3), 1), "{finished:?}");
    assert!(finished.stderr[0].contains("start the service once"), "{finished:?}");
    server.start_again();
    server.stop().await;
    assert_eq!(server.database().texts(NAMES).await, ["ann GPA.1"]);
    check_clean(server.home()).await;
}

async fn wrong_names_are_found(engine: Engine) {
    let old = [
        purchase("ann", "'GPA.1'", r#"'{"purchaseToken": "t-1"}'"#),
        purchase("ann", "'GPA.2'", r#"'{"purchaseToken": "t-1"}'"#),
    ];
    let mut server = Server::start_at(older(engine, &old).await, Launch::new());
    server.stop().await;
    // One made since, with the names it needs.
    let sql = purchase("bob", "'GPA.3'", r#"'{"purchaseToken": "t-3"}'"#)
        + "INSERT INTO purchase_names VALUES ('GPA.3', 'bob'), ('t-3', 'bob')";
    server.database().execute(&sql).await;
    check_clean(server.home()).await;
    let again = |id: &str, token: &str| {
        purchase("bob", &format!("'{id}'"), &format!(r#"'{{"purchaseToken": "{token}"}}'"#))
    };
    for (sql, differences, difference) in [
        (
            "DELETE FROM purchase_names WHERE name = 't-3'".to_owned(),
            "1 difference",
            r#"user "bob", expected "t-3" as a name of purchase 3 alone, found none"#,
        ),
        (
            "UPDATE purchase_names SET user_id = 'ann' WHERE name = 'GPA.3'".to_owned(),
            // And whose it is said to be has no such purchase.
            "2 differences",
            r#"user "bob", expected "GPA.3" as a name of purchase 3 alone, found another user's"#,
        ),
        (
            "INSERT INTO purchase_names VALUES ('GPA.4', 'ann')".to_owned(),
            "1 difference",
            r#"user "ann", expected a purchase known by "GPA.4", found none"#,
        ),
        (
            again("GPA.4", "t-1") + "INSERT INTO purchase_names VALUES ('GPA.4', 'bob')",
            "1 difference",
            r#"user "bob", expected "t-1" as a name of purchase 4 alone, found another user's"#,
        ),
        (
            again("GPA.4", "t-3") + "INSERT INTO purchase_names VALUES ('GPA.4', 'bob')",
            "1 difference",
            r#"user "bob", expected "t-3" as a name of purchase 4 alone, found that of an earlier purchase"#,
        ),
    ] {
        let spoiled = server.home().copy().await;
        spoiled.database.execute(&sql).await;
        let finished = verify(&spoiled).await;
        assert_eq!((finished.code, finished.stderr.len()), (Some(1), 1), "{sql}: {finished:?}");
        let lines = [format!("difference: {difference}"), differences.to_owned()];
        for line in lines {
            assert!(finished.stdout.contains(&line), "{sql}: {line}: {finished:#?}");
        }
    }
}
