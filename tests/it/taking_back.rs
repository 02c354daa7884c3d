//! Tokens that come back: of consumptions, and as credits.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{
    Client, Engine, Reply, Server, begun, on_both_engines,
    token::{SECRET, claims, token},
};

on_both_engines![
    a_consumption_comes_back_in_parts_and_never_more_than_it_took,
    what_comes_back_may_pass_the_capacity,
    only_a_consumption_of_the_account_comes_back,
    a_malformed_reversal_lists_every_problem,
    an_app_reverses_nothing,
    parallel_reversals_come_to_what_was_taken,
    what_was_just_bought_is_worth_what_was_paid,
    the_newest_allocations_go_back_first,
    what_is_worth_no_credit_stays,
    a_repeated_return_and_reversal_change_nothing,
    parallel_takings_leave_the_books_right,
];

const MODEL: &str = "gemini-2.0-flash";

async fn reverse(client: &Client, body: Value) -> Reply {
    client.post("/tokens/reverse", &body).await
}

async fn give_back(client: &Client) -> Reply {
    client.post("/credits/return", &json!({"model_id": MODEL})).await
}

/// The id of the newest entry.
async fn newest(client: &Client) -> i64 {
    client.get("/transactions?limit=1").await.ok()[0]["id"].as_i64().expect("an id")
}

async fn a_consumption_comes_back_in_parts_and_never_more_than_it_took(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 150).await;
    client.consume(MODEL, 5_000, 2_000).await.ok();
    let id = newest(&client).await;
    let part = json!({"transaction_id": id, "tokens": 2_000, "reason": "the answer broke off"});
    let expected = json!({
        "success": true, "reversed_tokens": 2_000, "reversible_tokens": 5_000,
        "remaining_tokens": 1_995_000,
    });
    reverse(&client, part).await.is(200, &expected);
    let more = json!({"transaction_id": id, "tokens": 5_001, "reason": "x"});
    let reply = reverse(&client, more).await;
    assert_eq!((reply.status, &reply.json()["code"]), (409, &json!("already_reversed")));
    assert_eq!(reply.json()["reversible_tokens"], 5_000);
    let rest = json!({"transaction_id": id, "tokens": null, "reason": "all of it"});
    let expected = json!({
        "success": true, "reversed_tokens": 5_000, "reversible_tokens": 0,
        "remaining_tokens": 2_000_000,
    });
    reverse(&client, rest.clone()).await.is(200, &expected);
    let reply = reverse(&client, rest).await;
    assert_eq!((reply.status, &reply.json()["reversible_tokens"]), (409, &json!(0)));
    let history = client.get("/transactions?type=reversal").await.ok();
    let amounts: Vec<&Value> =
        history.as_array().expect("a list").iter().map(|line| &line["amount"]).collect();
    assert_eq!(amounts, [5_000, 2_000]);
}

async fn what_comes_back_may_pass_the_capacity(engine: Engine) {
    let server = Server::start_with(engine, &[("BILLING_CAPACITY_QUICK", "1000000")]);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    client.consume(MODEL, 1_000_000, 0).await.ok();
    let id = newest(&client).await;
    client.add(75, "GPA.more").await.ok();
    client.allocate(&[(MODEL, 75)]).await.ok();
    let reply = reverse(&client, json!({"transaction_id": id, "reason": "wrong"})).await;
    assert_eq!(reply.ok()["remaining_tokens"], 2_000_000);
}

async fn only_a_consumption_of_the_account_comes_back(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    let allocation = newest(&client).await;
    client.consume(MODEL, 0, 7).await.ok();
    let consumption = newest(&client).await;
    let of = |id: i64| json!({"transaction_id": id, "reason": "wrong"});
    for id in [allocation, allocation - 1] {
        let reply = reverse(&client, of(id)).await;
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("not_reversible")));
    }
    let request = client.request(reqwest::Method::POST, "/api/billing/tokens/reverse");
    let others = request.header("billing-user", "somebody-else").json(&of(consumption));
    for reply in [reverse(&client, of(consumption + 1)).await, Reply::to(others).await] {
        assert_eq!((reply.status, &reply.json()["code"]), (404, &json!("transaction_not_found")));
    }
    // A reversal is none either.
    reverse(&client, of(consumption)).await.ok();
    let reply = reverse(&client, of(newest(&client).await)).await;
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("not_reversible")));
}

async fn a_malformed_reversal_lists_every_problem(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    for (body, problems) in [
        (json!({}), &["transaction_id", "reason"][..]),
        (
            json!({"transaction_id": 0, "tokens": 0, "reason": ""}),
            &["transaction_id", "tokens", "reason"],
        ),
        (json!({"transaction_id": 1, "reason": "x".repeat(201)}), &["reason"]),
        (json!({"transaction_id": 1, "reason": "a\u{7}"}), &["reason"]),
    ] {
        let reply = reverse(&client, body).await;
        let listed = reply.json()["detail"].clone();
        let found: Vec<&str> = listed
            .as_array()
            .expect("a list")
            .iter()
            .map(|problem| problem["loc"][1].as_str().expect("a name"))
            .collect();
        assert_eq!((reply.status, &found[..]), (422, problems));
    }
    // 200 characters of any script.
    let longest = json!({"transaction_id": 1, "reason": "誤".repeat(200)});
    assert_eq!(reverse(&client, longest).await.status, 404);
}

async fn an_app_reverses_nothing(engine: Engine) {
    let server = Server::start_with(
        engine,
        &[("BILLING_AUTH", "jwt"), ("BILLING_JWT_SECRET", SECRET), ("BILLING_RECEIPTS", "off")],
    );
    let client = server.client();
    let send = |scope: Option<&str>| {
        let mut claims = claims("ann");
        if let Some(scope) = scope {
            claims["scope"] = json!(scope);
        }
        let request = client.request(reqwest::Method::POST, "/api/billing/tokens/reverse");
        let body = json!({"transaction_id": 1, "reason": "wrong"});
        Reply::to(request.bearer_auth(token(&claims)).json(&body))
    };
    let reply = send(None).await;
    assert_eq!((reply.status, &reply.json()["code"]), (403, &json!("forbidden")));
    assert_eq!(send(Some("billing:backend")).await.status, 404);
}

async fn parallel_reversals_come_to_what_was_taken(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    client.consume(MODEL, 1_000, 0).await.ok();
    let id = newest(&client).await;
    let body = json!({"transaction_id": id, "tokens": 30, "reason": "wrong"});
    let replies = join_all((0..60).map(|_| begun(|| reverse(&client, body.clone())))).await;
    let taken = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(taken, 33);
    assert!(replies.iter().all(|reply| [200, 409].contains(&reply.status)));
    let rest = json!({"transaction_id": id, "reason": "the rest"});
    assert_eq!(reverse(&client, rest).await.ok()["reversed_tokens"], 10);
}

async fn what_was_just_bought_is_worth_what_was_paid(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens("gemini-2.5-flash", 100).await;
    let model = json!({"model_id": "gemini-2.5-flash"});
    let expected = json!({
        "success": true, "returned_tokens": 392_156, "returned_credits": 100, "credits": 100,
        "remaining_tokens": 0,
    });
    client.post("/credits/return", &model).await.is(200, &expected);
    for model in [model, json!({"model_id": "no-such-model"})] {
        let reply = client.post("/credits/return", &model).await;
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("insufficient_tokens")));
        assert_eq!((&reply.json()["required"], &reply.json()["available"]), (&json!(1), &json!(0)));
    }
}

async fn the_newest_allocations_go_back_first(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.add(225, "GPA.1").await.ok();
    for credits in [75, 150] {
        client.allocate(&[(MODEL, credits)]).await.ok();
    }
    // A tenth of the older one is used, at 75 credits for a million: worth 67.5.
    client.consume(MODEL, 100_000, 0).await.ok();
    let id = newest(&client).await;
    let returned = give_back(&client).await.ok();
    assert_eq!(returned["returned_tokens"], 2_900_000);
    assert_eq!(returned["returned_credits"], 150 + 67);
    // What comes back of the consumption is worth the rest, half a credit and the half lost before.
    reverse(&client, json!({"transaction_id": id, "reason": "wrong"})).await.ok();
    let returned = give_back(&client).await.ok();
    assert_eq!(
        (&returned["returned_tokens"], &returned["returned_credits"]),
        (&json!(100_000), &json!(8))
    );
    let amounts: Vec<Value> = client
        .get("/transactions?type=return")
        .await
        .ok()
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| line["amount"].clone())
        .collect();
    assert_eq!(amounts, [8, 67, 150]);
}

async fn what_is_worth_no_credit_stays(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    client.consume(MODEL, 990_000, 0).await.ok();
    let reply = give_back(&client).await;
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("return_too_small")));
    assert_eq!(reply.json()["model_id"], MODEL);
    assert_eq!(client.balance().await["allocated_tokens"][MODEL], 10_000);
    // With others that are worth something they go back too.
    client.add(3, "GPA.more").await.ok();
    client.allocate(&[(MODEL, 3)]).await.ok();
    let returned = give_back(&client).await.ok();
    assert_eq!(
        (&returned["returned_tokens"], &returned["returned_credits"]),
        (&json!(50_000), &json!(3))
    );
    assert_eq!(client.balance().await["allocated_tokens"][MODEL], 0);
}

async fn a_repeated_return_and_reversal_change_nothing(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    client.consume(MODEL, 500_000, 0).await.ok();
    let reversal = json!({"transaction_id": newest(&client).await, "tokens": 9, "reason": "wrong"});
    for (key, path, body) in
        [("r1", "/tokens/reverse", reversal), ("r2", "/credits/return", json!({"model_id": MODEL}))]
    {
        let first = client.post_keyed(key, path, &body).await;
        let again = client.post_keyed(key, path, &body).await;
        assert!(again.is_replayed() && !first.is_replayed());
        assert_eq!(first.ok(), again.ok());
    }
}

async fn parallel_takings_leave_the_books_right(engine: Engine) {
    let server = Server::start(engine);
    let client = server.client();
    client.buy_tokens(MODEL, 75).await;
    client.consume(MODEL, 400_000, 0).await.ok();
    let id = newest(&client).await;
    client.add(1_000, "GPA.more").await.ok();
    let step = async |number: usize| match number % 5 {
        0 => give_back(&client).await,
        1 => reverse(&client, json!({"transaction_id": id, "tokens": 7_919, "reason": "x"})).await,
        2 | 3 => client.allocate(&[(MODEL, 7)]).await,
        _ => client.consume(MODEL, 1_009, 0).await,
    };
    let replies = join_all((0..200).map(|number| begun(move || step(number)))).await;
    assert!(replies.iter().all(|reply| [200, 400, 409].contains(&reply.status)));
    // The server's end has the books checked.
}
