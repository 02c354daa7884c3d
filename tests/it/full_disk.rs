//! A database that may grow no further: writes are unavailable, and come back without a restart.

use crate::harness::{Server, eventually};

const MODEL: &str = "gemini-2.0-flash";
/// More operations than fit into the room left to them.
const MOST: i64 = 5_000;

#[tokio::test]
async fn writes_come_back_when_there_is_room_again() {
    let mut server = Server::start();
    server.client().buy_tokens(MODEL, 375).await;
    server.stop().await;
    let database = server.database();
    database
        .execute("CREATE TABLE junk (x BLOB); INSERT INTO junk VALUES (zeroblob(1000000))")
        .await;
    let size = std::fs::metadata(database.path()).expect("the file is there").len();
    let cap = (size + 32_768).to_string();
    server.start_again_with(&[("BILLING_DATABASE_MAX_BYTES", &cap)]);
    let client = server.client();

    let mut written = 0;
    let refusal = loop {
        let reply = client.consume(MODEL, 1, 0).await;
        if reply.status != 200 {
            break reply;
        }
        written += 1;
        assert!(written < MOST, "the disk never fills up");
    };
    assert_eq!(refusal.status, 503, "{refusal:?}");
    assert!(refusal.header("retry-after").is_some(), "{refusal:?}");
    assert!(refusal.json()["code"].is_string(), "{refusal:?}");
    // Reading goes on, and shows exactly what was acknowledged.
    let tokens = client.balance().await["allocated_tokens"][MODEL].clone();
    assert_eq!(tokens, 5_000_000 - written);
    database.check_invariants().await;

    database.execute("DROP TABLE junk").await;
    let remaining = eventually("a write succeeds again", async || {
        let reply = client.consume(MODEL, 1, 0).await;
        (reply.status == 200).then(|| reply.json()["remaining_tokens"].clone())
    })
    .await;
    assert_eq!(remaining, 5_000_000 - written - 1);
    client.add(1, "GPA.1").await.ok();
}
