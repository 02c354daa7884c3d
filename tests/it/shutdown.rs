//! SIGTERM: an orderly end with exit status 0, whatever the clients are doing.

use crate::harness::{Engine, Load, Server, on_both_engines, raw};

on_both_engines![
    what_was_acknowledged_survives_a_stop_under_load,
    a_request_that_never_ends_does_not_hold_it_up,
    a_stop_right_after_the_start_is_an_orderly_end,
];

async fn what_was_acknowledged_survives_a_stop_under_load(engine: Engine) {
    let mut server = Server::start_with(engine, &Load::SETTINGS);
    Load::prepare(&server.client()).await;
    let mut load = Load::start(&server.client());
    load.reach(600).await;
    server.terminate();
    server.ended().await;
    server.database().check_left_in_order().await;
    load.journal().await.compare(&server.database()).await;
    server.start_again();
    server.client().balance().await;
}

async fn a_request_that_never_ends_does_not_hold_it_up(engine: Engine) {
    let mut server = Server::start(engine);
    let body = r#"{"credits": 1, "purchase_record": {}}"#;
    let whole = raw::post("/credits/add", body);
    let mut half_a_body = server.connect();
    half_a_body.send(&whole[..whole.len() - 5]);
    let mut half_a_head = server.connect();
    half_a_head.send(&whole[..40]);
    let idle = server.connect();
    // When this is answered, those before it have been accepted.
    server.client().balance().await;
    server.stop().await;
    server.database().check_left_in_order().await;
    let count = "SELECT CAST(COUNT(*) AS TEXT) FROM transactions";
    assert_eq!(server.database().texts(count).await, ["0"]);
    drop((half_a_body, half_a_head, idle));
}

async fn a_stop_right_after_the_start_is_an_orderly_end(engine: Engine) {
    let mut server = Server::start(engine);
    server.stop().await;
    server.start_again();
    server.stop().await;
}
