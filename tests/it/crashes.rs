//! SIGKILL in the middle of the work: what was acknowledged is there.

use crate::harness::{Load, Server};

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let mut server = Server::start();
    Load::prepare(&server.client()).await;
    let mut load = Load::start(&server.client());
    load.reach(300).await;
    server.kill();
    let journal = load.journal().await;

    server.start_again();
    // Work goes on where it stopped, and nothing is done again by itself.
    let balance = server.client().balance().await;
    journal.compare(&server.database()).await;
    server.client().consume("gemini-2.0-flash", 0, 0).await.ok();
    assert_eq!(server.client().balance().await, balance);
    server.stop().await;
}

#[tokio::test]
async fn several_kills_in_a_row() {
    let mut server = Server::start();
    for round in 0..3 {
        server.client().add(1, &format!("GPA.{round}")).await.ok();
        let total = server.client().balance().await["credits"].clone();
        server.kill();
        server.database().check_invariants().await;
        server.start_again();
        assert_eq!(server.client().balance().await["credits"], total, "round {round}");
        assert_eq!(total, round + 1);
    }
}
