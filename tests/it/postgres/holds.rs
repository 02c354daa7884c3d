//! Holds on two instances at once: what is held on one is kept from others on both, and a hold ends once.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{
    Client, Engine, Launch, Reply, Running, Server, clock::Clock, on_postgres, settled,
};

on_postgres![one_of_many_ends_wins, exactly_as_many_succeed_as_there_are_tokens_for];

const MODEL: &str = "gemini-2.0-flash";
/// What 75 credits buy.
const MILLION: i64 = 1_000_000;
/// How often a hold is made and ended.
const ROUNDS: usize = 24;

/// Two instances at one database, whose user has a million tokens.
async fn two(launch: Launch) -> (Server, Running, [Client; 2]) {
    let server = Server::start_as(Engine::Postgres, launch);
    let other = server.launch().start(server.directory());
    let clients = [server.client(), Client::new(other.address)];
    clients[0].buy_tokens(MODEL, 75).await;
    (server, other, clients)
}

async fn hold(client: &Client, tokens: i64) -> Reply {
    let body = json!({"model_id": MODEL, "tokens": tokens});
    settled(async || client.post("/holds", &body).await).await
}

async fn settle(client: &Client, id: &str, tokens: i64) -> Reply {
    let path = format!("/holds/{id}/settle");
    let body = json!({"input_tokens": tokens, "output_tokens": 0});
    settled(async || client.post(&path, &body).await).await
}

async fn release(client: &Client, id: &str) -> Reply {
    let path = format!("/holds/{id}/release");
    settled(async || client.post(&path, &json!({})).await).await
}

async fn tokens(client: &Client) -> i64 {
    client.balance().await["allocated_tokens"][MODEL].as_i64().expect("a number")
}

fn id_of(hold: &Value) -> String {
    hold["hold_id"].as_str().expect("an id").to_owned()
}

async fn one_of_many_ends_wins() {
    let clock = Clock::new();
    let (mut server, other, clients) = two(clock.given_to(Launch::new())).await;
    let mut left = MILLION;
    for round in 0..ROUNDS {
        let id = id_of(&hold(&clients[round % 2], 1_000).await.ok());
        let ends = (0..8).map(async |number: usize| {
            let client = &clients[number % 2];
            if (number / 2 + round).is_multiple_of(2) {
                release(client, &id).await
            } else {
                settle(client, &id, 700).await
            }
        });
        // Every third time its end comes by itself, somewhere in between.
        let expiring = async {
            if round % 3 == 2 {
                clients[1].get("/pricing").await.ok();
                clock.shift(i64::try_from(round).expect("few") * 1_000);
            }
        };
        let (replies, ()) = tokio::join!(join_all(ends), expiring);
        let (won, lost): (Vec<&Reply>, Vec<&Reply>) =
            replies.iter().partition(|reply| reply.status == 200);
        assert_eq!((won.len(), lost.len()), (4, 4), "all of one kind: {replies:?}");
        let status = won[0].json()["status"].as_str().expect("a text").to_owned();
        for reply in &won {
            assert_eq!(reply.json(), won[0].json(), "the same answer on both");
        }
        for reply in lost {
            let body = reply.json();
            let told = (reply.status, &body["code"], &body["status"]);
            assert_eq!(told, (409, &json!("hold_closed"), &json!(status)));
        }
        if status == "settled" {
            left -= 700;
        }
        for client in &clients {
            assert_eq!(tokens(client).await, left, "{status}");
            let found = client.get(&format!("/holds/{id}")).await.ok();
            assert_eq!(
                (&found["status"], &found["available_tokens"]),
                (&json!(status), &json!(left))
            );
        }
    }
    drop(other);
    server.stop().await;
    crate::verify::check_clean(server.home()).await;
}

async fn exactly_as_many_succeed_as_there_are_tokens_for() {
    let launch = Launch::new().set("BILLING_MAX_HOLDS", "10000");
    let (mut server, other, clients) = two(launch).await;
    let calls = (0..300).map(async |number: usize| {
        let client = &clients[number % 2];
        if number % 4 < 2 {
            hold(client, 10_000).await
        } else {
            settled(async || client.consume(MODEL, 10_000, 0).await).await
        }
    });
    let replies = join_all(calls).await;
    let (won, lost): (Vec<&Reply>, Vec<&Reply>) =
        replies.iter().partition(|reply| reply.status == 200);
    assert_eq!((won.len(), lost.len()), (100, 200));
    for reply in lost {
        assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("insufficient_tokens")));
    }
    let open = clients[1].get("/holds").await.ok();
    let open: Vec<String> = open.as_array().expect("a list").iter().map(id_of).collect();
    let held = i64::try_from(open.len()).expect("few") * 10_000;
    assert_eq!(tokens(&clients[0]).await, held);
    // Each on the other one than its neighbour, with more than it holds.
    let settlements = open.iter().enumerate().map(async |(number, id)| {
        let client: &Client = &clients[number % 2];
        settle(client, id, 10_001).await
    });
    for reply in join_all(settlements).await {
        let body = reply.ok();
        let numbers = (&body["consumed_tokens"], &body["shortfall_tokens"]);
        assert_eq!(numbers, (&json!(10_000), &json!(1)));
    }
    assert_eq!((tokens(&clients[0]).await, tokens(&clients[1]).await), (0, 0));
    drop(other);
    server.stop().await;
    crate::verify::check_clean(server.home()).await;
}
