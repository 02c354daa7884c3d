//! What the stores ask before they give money back, and what they are told: how much of a purchase was used, by the
//! books, once, in time, and Apple only of users who let it be told.

use serde_json::{Value, json};

use super::{
    SMALL,
    counter::{Counter, as_of, tell},
    granted,
};
use crate::harness::{
    Engine,
    clock::Clock,
    on_both_engines,
    stores::{
        Answer, Call, GooglePurchase, Market,
        pushes::{app_store_notification, play_notification},
    },
    token::now,
};

on_both_engines![
    apple_is_told_of_users_who_consented,
    what_was_bought_first_is_used_first,
    apple_is_told_once_it_can_be,
    apple_is_not_told_when_it_is_too_late,
    google_is_told_of_what_is_under_review,
    the_stores_are_told_what_is_preferred,
    apple_waits_from_when_it_asked,
    google_waits_from_when_it_asked,
    google_is_not_told_when_it_is_too_late,
];

const QUICK: &str = "gemini-2.0-flash";
/// Google waits no longer, in seconds.
const GOOGLE_WAITS: i64 = 86_400;
/// Apple waits no longer in its sandbox, in seconds.
const APPLE_WAITS: i64 = 300;

async fn consents(counter: &Counter, user: &str, is_told: bool) {
    let body = json!({ "apple_consumption": is_told });
    let reply = counter.user(user).post("/consent", &body).await;
    reply.is(200, &json!({"success": true}));
}

/// What Apple sells to a user, and knows.
async fn sell(counter: &Counter, user: &str, id: &str, balance: i64) {
    let transaction = as_of(id, SMALL, -60, None);
    let apple = &counter.shop.stores.apple;
    apple.sell(Market::Sandbox, id, &apple.signed(&transaction));
    granted(&counter.bring_signed(user, &transaction).await, balance);
}

async fn ask(counter: &Counter, uuid: &str, id: &str) {
    counter.tell("CONSUMPTION_REQUEST", uuid, &as_of(id, SMALL, -50, None)).await;
}

/// What Apple was told of a transaction.
fn told(counter: &Counter, id: &str) -> Vec<Value> {
    let sent = counter.shop.stores.on(Call::SandboxConsumption).of(id).sent();
    sent.into_iter().map(|sent| sent.body).collect()
}

fn used(milliunits: u32) -> Value {
    json!({
        "customerConsented": true,
        "sampleContentProvided": false,
        "deliveryStatus": "DELIVERED",
        "consumptionPercentage": milliunits,
    })
}

async fn apple_is_told_of_users_who_consented(engine: Engine) {
    let counter = Counter::open(engine);
    sell(&counter, "ann", "1001", 300).await;
    counter.user("ann").allocate(&[(QUICK, 100)]).await.ok();
    ask(&counter, "uuid-1", "1001").await;
    counter.all_done().await;
    assert_eq!(told(&counter, "1001").len(), 0);
    consents(&counter, "ann", true).await;
    for uuid in ["uuid-2", "uuid-2"] {
        ask(&counter, uuid, "1001").await;
    }
    counter.all_done().await;
    assert_eq!(told(&counter, "1001"), [used(33_333)]);
    consents(&counter, "ann", false).await;
    ask(&counter, "uuid-3", "1001").await;
    // Nobody has brought this one.
    ask(&counter, "uuid-4", "1002").await;
    counter.all_done().await;
    assert_eq!(counter.shop.stores.on(Call::SandboxConsumption).count(), 1);
    // A question takes nothing.
    counter.has("ann", 200, &["granted 0 0"]).await;
}

async fn what_was_bought_first_is_used_first(engine: Engine) {
    let counter = Counter::open(engine);
    consents(&counter, "ann", true).await;
    for (id, balance) in [("1001", 300), ("1002", 600), ("1003", 900)] {
        sell(&counter, "ann", id, balance).await;
    }
    counter.user("ann").allocate(&[(QUICK, 350)]).await.ok();
    for id in ["1001", "1002", "1003"] {
        ask(&counter, &format!("uuid-{id}"), id).await;
    }
    counter.all_done().await;
    for (id, milliunits) in [("1001", 100_000), ("1002", 16_666), ("1003", 0)] {
        assert_eq!(told(&counter, id), [used(milliunits)], "{id}");
    }
}

async fn apple_is_told_once_it_can_be(engine: Engine) {
    let counter = Counter::open(engine);
    consents(&counter, "ann", true).await;
    sell(&counter, "ann", "1001", 300).await;
    counter.shop.stores.on(Call::SandboxConsumption).next(1, Answer::empty(503));
    ask(&counter, "uuid-1", "1001").await;
    counter.shop.server.wait_for_log("a message is tried again later");
    counter.all_done().await;
    assert_eq!(told(&counter, "1001"), [used(0), used(0)]);
}

async fn apple_is_not_told_when_it_is_too_late(engine: Engine) {
    let clock = Clock::new();
    let counter = Counter::open_with(engine, |launch| clock.given_to(launch));
    consents(&counter, "ann", true).await;
    sell(&counter, "ann", "1001", 300).await;
    counter.shop.stores.on(Call::SandboxConsumption).always(Answer::empty(503));
    ask(&counter, "uuid-1", "1001").await;
    counter.shop.server.wait_for_log("a message is tried again later");
    clock.shift(APPLE_WAITS + 1);
    counter.shop.stores.shift(APPLE_WAITS + 1);
    counter.all_done().await;
    let outcome = "SELECT outcome FROM inbox";
    assert_eq!(counter.shop.server.database().texts(outcome).await, ["too late to answer"]);
}

async fn the_stores_are_told_what_is_preferred(engine: Engine) {
    let counter =
        Counter::open_with(engine, |launch| launch.set("BILLING_REFUND_PREFERENCE", "decline"));
    consents(&counter, "ann", true).await;
    sell(&counter, "ann", "1001", 300).await;
    ask(&counter, "uuid-1", "1001").await;
    let sold = counter.sell_to("ann", "a", SMALL, 1).await;
    review_late(&counter, "1", &sold, 0).await;
    counter.all_done().await;
    let mut preferred = used(0);
    preferred["refundPreference"] = json!("DECLINE");
    assert_eq!(told(&counter, "1001"), [preferred]);
    let sent = counter.shop.stores.on(Call::Review).of(sold.order()).sent();
    let sent: Vec<_> = sent.iter().map(|sent| &sent.body["refundPreference"]).collect();
    assert_eq!(sent, ["DECLINE"]);
}

async fn google_is_told_of_what_is_under_review(engine: Engine) {
    let counter = Counter::open(engine);
    let first = counter.sell_to("ann", "first", SMALL, 1).await;
    let second = counter.sell_to("ann", "second", SMALL, 1).await;
    counter.user("ann").allocate(&[(QUICK, 225)]).await.ok();
    let down = Answer::google(503, "global", "backendError", "Try again.");
    counter.shop.stores.on(Call::Review).of(second.order()).next(1, down);
    for (number, sold) in [&first, &second].into_iter().enumerate() {
        let token = format!("a-secret-of-{number}");
        counter.shop.stores.google.refunds.review(sold.order(), &token);
        let content = json!({
            "version": "1.0", "pendingRefundToken": token, "orderId": sold.order(),
            "refundReason": 7,
        });
        let told = play_notification("pendingRefundReviewNotification", content);
        for _ in 0..2 {
            counter.push(&number.to_string(), &told).await;
        }
    }
    counter.all_done().await;
    let sent = |order: &str| -> Vec<Value> {
        let sent = counter.shop.stores.on(Call::Review).of(order).sent();
        sent.into_iter().map(|sent| sent.body).collect()
    };
    let answer = |token: &str, milliunits: u32| {
        json!({
            "pendingRefundToken": token,
            "sampleContentProvided": false,
            "refundPreference": "NEUTRAL",
            "consumptionPercentageMilliunits": milliunits,
        })
    };
    assert_eq!(sent(first.order()), [answer("a-secret-of-0", 75_000)]);
    assert_eq!(sent(second.order()), [answer("a-secret-of-1", 0), answer("a-secret-of-1", 0)]);
    counter.has("ann", 375, &["granted 0 0", "granted 0 0"]).await;
}

/// What the messages came to, in the order of their ids.
async fn outcomes(counter: &Counter) -> Vec<String> {
    let sql = "SELECT outcome FROM inbox WHERE outcome IS NOT NULL ORDER BY message_id";
    counter.shop.server.database().texts(sql).await
}

fn milliseconds_ago(seconds: i64) -> u64 {
    now().saturating_add_signed(-seconds) * 1_000
}

/// A question of Apple's that took so many seconds to come.
async fn ask_late(counter: &Counter, uuid: &str, id: &str, seconds: i64) {
    let apple = &counter.shop.stores.apple;
    let signed = apple.signed(&as_of(id, SMALL, -500, None));
    let mut question = app_store_notification("CONSUMPTION_REQUEST", uuid, &signed);
    question["signedDate"] = json!(milliseconds_ago(seconds));
    let reply = tell(&counter.shop.anybody(), &apple.signed(&question)).await;
    reply.expect("the service answers").is(200, &json!({}));
}

async fn apple_waits_from_when_it_asked(engine: Engine) {
    let counter = Counter::open(engine);
    consents(&counter, "ann", true).await;
    sell(&counter, "ann", "1001", 300).await;
    ask_late(&counter, "uuid-1", "1001", APPLE_WAITS).await;
    // A clock of Apple's that is ahead wins no time.
    ask_late(&counter, "uuid-2", "1001", APPLE_WAITS / 2).await;
    ask_late(&counter, "uuid-3", "1001", -APPLE_WAITS).await;
    counter.all_done().await;
    assert_eq!(outcomes(&counter).await, ["too late to answer", "answered", "answered"]);
    assert_eq!(told(&counter, "1001"), [used(0), used(0)]);
}

/// A question of Google's that took so many seconds to come.
async fn review_late(counter: &Counter, id: &str, sold: &GooglePurchase, seconds: i64) {
    counter.shop.stores.google.refunds.review(sold.order(), id);
    let content = json!({
        "version": "1.0", "pendingRefundToken": id, "orderId": sold.order(), "refundReason": 7,
    });
    let mut told = play_notification("pendingRefundReviewNotification", content);
    told["eventTimeMillis"] = json!(milliseconds_ago(seconds).to_string());
    counter.push(id, &told).await;
}

async fn google_waits_from_when_it_asked(engine: Engine) {
    let counter = Counter::open(engine);
    let late = counter.sell_to("ann", "late", SMALL, 1).await;
    let soon = counter.sell_to("ann", "soon", SMALL, 1).await;
    review_late(&counter, "1", &late, GOOGLE_WAITS).await;
    review_late(&counter, "2", &soon, GOOGLE_WAITS / 2).await;
    counter.all_done().await;
    assert_eq!(outcomes(&counter).await, ["too late to answer", "answered"]);
    assert_eq!(counter.shop.stores.on(Call::Review).of(late.order()).count(), 0);
    assert_eq!(counter.shop.stores.on(Call::Review).of(soon.order()).count(), 1);
}

async fn google_is_not_told_when_it_is_too_late(engine: Engine) {
    let clock = Clock::new();
    let counter = Counter::open_with(engine, |launch| clock.given_to(launch));
    let sold = counter.sell_to("ann", "a", SMALL, 1).await;
    let down = Answer::google(503, "global", "backendError", "Try again.");
    counter.shop.stores.on(Call::Review).always(down);
    review_late(&counter, "1", &sold, 0).await;
    counter.shop.server.wait_for_log("a message is tried again later");
    clock.shift(GOOGLE_WAITS + 1);
    counter.shop.stores.shift(GOOGLE_WAITS + 1);
    counter.all_done().await;
    assert_eq!(outcomes(&counter).await, ["too late to answer"]);
}
