//! Names and keys that look like what statements are made of: they are names and keys, however they reach the server.

use serde_json::json;

use crate::harness::{
    Client, Cluster, Home, Launch, Pooler, client::consumption, on_postgres, token::SECRET,
};

on_postgres![
    names_that_look_like_statements_are_names,
    names_that_look_like_statements_are_names_behind_a_pooler,
];

const MODEL: &str = "gemini-2.0-flash";
const NAMES: [&str; 8] = [
    "it's",
    "''",
    r"\",
    r"\' OR true --",
    r#"{"a",NULL,"b"}"#,
    "NULL",
    "$1::text[]",
    "E'{日本}'; COMMIT; DROP TABLE credits; --",
];
const KEYS: [&str; 4] = ["it's", r"\'", r#"{"a",NULL}"#, "$2;ROLLBACK;--"];

fn launch() -> Launch {
    Launch::new().set("BILLING_AUTH", "jwt").set("BILLING_JWT_SECRET", SECRET)
}

async fn names_that_look_like_statements_are_names() {
    let cluster = Cluster::start();
    let home = Home::at(&cluster);
    check(&home, home.given_to(launch())).await;
}

async fn names_that_look_like_statements_are_names_behind_a_pooler() {
    if !Pooler::is_here() {
        return;
    }
    let cluster = Cluster::start();
    let pooler = Pooler::start(&cluster, "transaction", 20);
    let home = Home::at(&cluster);
    check(&home, pooler.given_to(&home.database, launch())).await;
}

async fn check(home: &Home, launch: Launch) {
    let running = launch.start(home.directory.path());
    let client = Client::new(running.address);
    for (number, name) in (1..).zip(NAMES) {
        let user = client.of(name);
        user.add(10 * number, &format!("GPA'\\\"{number}")).await.ok();
        user.allocate(&[(MODEL, 1)]).await.ok();
        for key in KEYS {
            let body = consumption(MODEL, 1, number);
            user.post_keyed(key, "/tokens/consume", &body).await.ok();
            assert!(user.post_keyed(key, "/tokens/consume", &body).await.is_replayed());
        }
    }
    for (number, name) in (1..).zip(NAMES) {
        let left = 13_333 - 4 * (1 + number);
        let expected = json!({"credits": 10 * number - 1, "allocated_tokens": {MODEL: left}});
        assert_eq!(client.of(name).balance().await, expected, "{name}");
    }
    let users = "SELECT user_id FROM users WHERE user_id <> 'default_user' ORDER BY id";
    assert_eq!(home.database.texts(users).await, NAMES);
    drop(running);
}
