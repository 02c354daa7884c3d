//! Clients that hang up, dawdle or talk nonsense: nobody else notices.

use serde_json::json;

use crate::harness::{Engine, Server, begun, client::purchase, eventually, on_both_engines, raw};

on_both_engines![
    who_hangs_up_in_the_middle_leaves_no_trace,
    who_hangs_up_right_after_sending_is_served_once_or_not_at_all,
    slow_and_silent_clients_stop_nobody,
    nonsense_is_refused_and_forgotten,
    two_requests_in_one_go_are_answered_in_order,
    a_body_that_never_ends_is_given_up,
    headers_that_never_end_are_given_up,
];

async fn who_hangs_up_in_the_middle_leaves_no_trace(engine: Engine) {
    let server = Server::start(engine);
    let before = server.database().digest().await;
    let whole = raw::post("/credits/add", &purchase(1, "GPA.1").to_string());
    for length in (1..whole.len()).step_by(20).chain([whole.len() - 1]) {
        let mut connection = server.connect();
        connection.send(&whole[..length]);
    }
    server.client().get("/health").await.ok();
    assert_eq!(server.database().digest().await, before);
}

async fn who_hangs_up_right_after_sending_is_served_once_or_not_at_all(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    for number in 0..50 {
        let id = format!("GPA.{number}");
        let mut connection = server.connect();
        connection.send(raw::post("/credits/add", &purchase(1, &id).to_string()));
        drop(connection);
    }
    // Whatever became of them, each can be settled by sending it again.
    for number in 0..50 {
        let reply = client.add(1, &format!("GPA.{number}")).await;
        assert!([200, 409].contains(&reply.status), "{reply:?}");
    }
    client.get("/balance").await.is(200, &json!({"credits": 50, "allocated_tokens": {}}));
}

async fn slow_and_silent_clients_stop_nobody(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let whole = raw::post("/credits/add", &purchase(1, "GPA.slow").to_string());
    let silent: Vec<_> = (0..50)
        .map(|number| {
            let mut connection = server.connect();
            connection.send(&whole[..whole.len() * number / 50]);
            connection
        })
        .collect();
    let (mut round, mut purchases) = (0, 0);
    // Where this machine stood still, it came so late that it was given up.
    eventually("a slow client is waited for", async || {
        round += 1;
        let whole = raw::post("/credits/add", &purchase(1, &format!("GPA.{round}")).to_string());
        let mut slow = server.connect();
        for (number, byte) in whole.as_bytes().iter().enumerate() {
            if slow.try_send([*byte]).is_err() {
                break;
            }
            if number % 20 == 0 {
                let id = format!("GPA.{round}.{number}");
                begun(|| client.add(1, &id)).await.ok();
                purchases += 1;
            }
        }
        let answer = slow.read_head();
        let served = answer.starts_with("http/1.1 200 ");
        let given_up = answer.is_empty() || answer.starts_with("http/1.1 503 ");
        assert!(served || given_up, "{answer}");
        purchases += i64::from(served);
        served.then_some(())
    })
    .await;
    assert_eq!(client.balance().await["credits"], purchases);
    drop(silent);
}

async fn nonsense_is_refused_and_forgotten(engine: Engine) {
    let server = Server::start(engine);
    for nonsense in [
        "\r\n\r\n\r\n",
        "GARBAGE\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\r\n\r\n",
        "GET /api/billing/balance HTTP/1.1\r\nbad header\r\n\r\n",
        "POST /api/billing/credits/add HTTP/1.1\r\nHost: b\r\nContent-Length: x\r\n\r\n",
        "POST /api/billing/credits/add HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut connection = server.connect();
        let _ = connection.try_send(nonsense);
        if nonsense.trim().is_empty() {
            continue;
        }
        let answer = connection.read_head();
        let refused = answer.is_empty() || answer.starts_with("http/1.1 4");
        assert!(refused, "{nonsense:?}: {answer}");
    }
    server.client().get("/health").await.ok();
}

async fn two_requests_in_one_go_are_answered_in_order(engine: Engine) {
    let server = Server::start(engine);
    let first = raw::post("/credits/add", &purchase(5, "GPA.1").to_string());
    let second = "GET /api/billing/balance HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n";
    let mut connection = server.connect();
    connection.send(format!("{first}{second}"));
    let answers = String::from_utf8(connection.read_to_end()).expect("text");
    let new_balance = answers.find(r#""new_balance":5"#).expect("the first answer");
    let balance = answers.find(r#""credits":5"#).expect("the second answer");
    assert!(new_balance < balance, "{answers}");
}

async fn a_body_that_never_ends_is_given_up(engine: Engine) {
    let server = Server::start(engine);
    let before = server.database().digest().await;
    let whole = raw::post("/credits/add", &purchase(1, "GPA.1").to_string());
    let mut connection = server.connect();
    connection.send(&whole[..whole.len() - 1]);
    let answer = connection.read_head();
    assert!(answer.starts_with("http/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(server.database().digest().await, before);
}

async fn headers_that_never_end_are_given_up(engine: Engine) {
    let server = Server::start(engine);
    let mut connection = server.connect();
    connection.send("GET /api/billing/health HTTP/1.1\r\nx-slow: 1");
    // Nothing is left to answer to, so the connection just ends.
    let answer = connection.read_to_end();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
}
