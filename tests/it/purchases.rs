//! Purchases: one grant per purchase, whichever of its names is told, the record kept to the letter, and the reset.

use serde_json::{Value, json};

use tokio::task::JoinSet;

use crate::harness::{
    Client, Engine, Reply, Server, client::purchase, on_both_engines, token::SECRET,
};

const LOGIN: [(&str, &str); 2] = [("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET)];

on_both_engines![
    a_purchase_is_granted_once,
    purchases_without_a_store_transaction_may_repeat,
    names_of_any_length_are_told_apart,
    a_pending_purchase_is_granted_once_when_its_id_comes_later,
    anothers_purchase_is_refused_and_teaches_no_name,
    one_of_two_users_who_send_a_purchase_at_once_gets_it,
    the_record_is_kept_to_the_letter,
    a_number_of_the_record_may_be_larger_than_any_float,
    the_bounds_of_an_amount_are_inside,
    unknown_keys_are_ignored,
    resets_are_off_by_default,
    a_reset_forgets_everything_but_the_prices,
];

fn duplicate() -> Value {
    json!({"detail": "Purchase already processed", "code": "purchase_already_processed"})
}

/// That nothing was added, because the user has it already.
fn repeated(reply: &Reply, balance: i64) {
    reply.is(200, &json!({"success": true, "new_balance": balance}));
    assert!(reply.is_replayed(), "{reply:?}");
}

/// Sends a purchase by its names.
async fn send(client: &Client, credits: i64, id: &str, token: &str) -> Reply {
    let record = json!({"transactionId": id, "purchaseToken": token});
    let body = json!({"credits": credits, "purchase_record": record});
    client.post("/credits/add", &body).await
}

async fn a_purchase_is_granted_once(engine: Engine) {
    let mut server = Server::start(engine);
    assert!(!server.client().add(100, "GPA.1").await.is_replayed());
    let before = server.database().digest().await;
    repeated(&server.client().add(100, "GPA.1").await, 100);
    // Another record of the same store transaction is the same purchase.
    repeated(&server.client().add(999, "GPA.1").await, 100);
    server.stop().await;
    server.start_again();
    repeated(&server.client().add(100, "GPA.1").await, 100);
    assert_eq!(server.database().digest().await, before);
    // To the letter: these are other transactions.
    server.client().add(1, "gpa.1").await.ok();
    server.client().add(1, "GPA.1 ").await.ok();
}

async fn purchases_without_a_store_transaction_may_repeat(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let mut balance = 0;
    for record in [json!({"transactionId": ""}), json!({"transactionId": null}), json!({})] {
        for _ in 0..2 {
            balance += 5;
            let body = json!({"credits": 5, "purchase_record": record});
            let expected = json!({"success": true, "new_balance": balance});
            client.post("/credits/add", &body).await.is(200, &expected);
        }
    }
    let ids = "SELECT CAST(COUNT(transaction_id) AS TEXT) FROM transactions";
    assert_eq!(server.database().texts(ids).await, ["0"]);
}

async fn names_of_any_length_are_told_apart(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    let mut balance = 0;
    for (sign, id, token) in [("購", 21, 64), ("入", 22, 65), ("名", 2_048, 16_384)] {
        let (id, token) = (sign.repeat(id), id.to_string().repeat(token));
        let token = &token[..token.len().min(16_384)];
        for (id, token) in [(&id[3..], &token[1..]), (&id[..], token)] {
            balance += 1;
            assert!(!send(&client, 1, id, token).await.is_replayed(), "{} bytes", id.len());
            repeated(&send(&client, 1, id, "another").await, balance);
            repeated(&send(&client, 1, "another", token).await, balance);
        }
    }
}

async fn a_pending_purchase_is_granted_once_when_its_id_comes_later(engine: Engine) {
    let server = Server::start_with(engine, &[("BILLING_ALLOW_RESET", "true")]);
    let client = server.client();
    for _ in 0..2 {
        let bought = send(&client, 300, "token", "token").await;
        assert!(!bought.is_replayed());
        bought.is(200, &json!({"success": true, "new_balance": 300}));
        repeated(&send(&client, 300, "GPA.1", "token").await, 300);
        // It did not learn the id.
        let another = send(&client, 1, "GPA.1", "").await;
        assert!(!another.is_replayed(), "{another:?}");
        client.post("/reset", &json!({})).await.ok();
    }
}

async fn anothers_purchase_is_refused_and_teaches_no_name(engine: Engine) {
    let server = Server::start_with(engine, &LOGIN);
    let [ann, bob] = ["ann", "bob"].map(|user| server.client().of(user));
    send(&ann, 100, "GPA.1", "token-1").await.ok();
    send(&bob, 100, "GPA.2", "token-2").await.ok();
    let before = server.database().digest().await;
    for (id, token) in [("GPA.1", ""), ("", "token-1"), ("GPA.3", "token-1"), ("GPA.2", "token-1")]
    {
        send(&bob, 100, id, token).await.is(409, &duplicate());
    }
    assert_eq!(server.database().digest().await, before);
    send(&ann, 100, "GPA.3", "token-3")
        .await
        .is(200, &json!({"success": true, "new_balance": 200}));
}

async fn one_of_two_users_who_send_a_purchase_at_once_gets_it(engine: Engine) {
    let server = Server::start_with(engine, &LOGIN);
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let client = server.client().of(if number % 2 == 0 { "ann" } else { "bob" });
        // Half of them know the id, and half do not yet.
        let id = if number / 2 % 2 == 0 { "GPA.1" } else { "token" };
        calls.spawn(async move { send(&client, 100, id, "token").await });
    }
    let replies = calls.join_all().await;
    let granted = replies.iter().filter(|reply| reply.status == 200 && !reply.is_replayed());
    assert_eq!(granted.count(), 1, "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| reply.is_replayed()).count(), 49);
    assert_eq!(replies.iter().filter(|reply| reply.status == 409).count(), 50);
    let paid = "SELECT CAST(SUM(credits) AS TEXT) FROM credits";
    assert_eq!(server.database().texts(paid).await, ["100"]);
}

async fn the_record_is_kept_to_the_letter(engine: Engine) {
    let server = Server::start(engine);
    let records = [
        r#"{"zeta":1.10,"alpha":12345678901234567890,"transactionId":"v-1","neg":-0.0,"small":1e-7}"#,
        "{ \"transactionId\" : \"v-2\",\t\"\\u00e9\": \"\\u0041\\/\",\r\n \"モ\": [ {}, [ ] , null ] }",
        r#"{"transactionId":"v-3","long":3.14159265358979323846264338327950288419716939937510}"#,
        r#"{"transactionId":"v-4\u0041","credits":"x","nested":{"transactionId":"v-1"}}"#,
    ];
    for record in records {
        let body = format!(r#"{{"credits": 1, "purchase_record": {record}}}"#);
        server.client().post_bytes("/credits/add", body).await.ok();
    }
    let kept = "SELECT CAST(metadata AS TEXT) FROM transactions ORDER BY id";
    assert_eq!(server.database().texts(kept).await, records);
    let ids = "SELECT transaction_id FROM transactions ORDER BY id";
    assert_eq!(server.database().texts(ids).await, ["v-1", "v-2", "v-3", "v-4A"]);
}

async fn a_number_of_the_record_may_be_larger_than_any_float(engine: Engine) {
    let server = Server::start(engine);
    let record = r#"{"transactionId":"v-1","much":1e400}"#;
    let body = format!(r#"{{"credits": 1, "purchase_record": {record}}}"#);
    server.client().post_bytes("/credits/add", body).await.ok();
    let kept = "SELECT CAST(metadata AS TEXT) FROM transactions";
    assert_eq!(server.database().texts(kept).await, [record]);
}

async fn the_bounds_of_an_amount_are_inside(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(1, "GPA.1").await.is(200, &json!({"success": true, "new_balance": 1}));
    let balance = json!({"success": true, "new_balance": 1_000_000_001});
    client.add(1_000_000_000, "GPA.2").await.is(200, &balance);
}

async fn unknown_keys_are_ignored(engine: Engine) {
    let server = Server::start(engine);
    let mut body = purchase(7, "GPA.1");
    body["user_id"] = json!("somebody_else");
    body["note"] = json!([1.5, {"a": null}]);
    let expected = json!({"success": true, "new_balance": 7});
    server.client().post("/credits/add", &body).await.is(200, &expected);
}

async fn resets_are_off_by_default(engine: Engine) {
    let server = Server::start(engine);
    server.client().add(100, "GPA.1").await.ok();
    let before = server.database().digest().await;
    let body = json!({
        "detail": "This endpoint is not available in production environment",
        "code": "reset_disabled",
    });
    server.client().post_bytes("/reset", "").await.is(403, &body);
    server.client().post("/reset", &json!({})).await.is(403, &body);
    assert_eq!(server.database().digest().await, before);
}

async fn a_reset_forgets_everything_but_the_prices(engine: Engine) {
    let server = Server::start_with(engine, &[("BILLING_ALLOW_RESET", "true")]);
    let client = server.client();
    let prices = client.get("/pricing").await.ok();
    client.add(100, "GPA.1").await.ok();
    client.allocate(&[("gemini-2.0-flash", 50)]).await.ok();
    client.consume("gemini-2.0-flash", 1, 1).await.ok();

    let path = "/api/billing/reset";
    let without_a_body = client.request(reqwest::Method::POST, path);
    let body = json!({"success": true, "message": "All data reset successfully"});
    crate::harness::Reply::to(without_a_body).await.is(200, &body);

    client.get("/balance").await.is(200, &json!({"credits": 0, "allocated_tokens": {}}));
    client.get("/transactions").await.is(200, &json!([]));
    client.get("/pricing").await.is(200, &prices);
    // The purchase may be repeated, once.
    client.add(100, "GPA.1").await.is(200, &json!({"success": true, "new_balance": 100}));
    repeated(&client.add(100, "GPA.1").await, 100);
    client.post("/reset", &json!({})).await.is(200, &body);
}
