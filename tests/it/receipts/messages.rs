//! What stores tell is kept before they are answered and worked on afterwards: each message once, whatever ends in
//! between, and nothing secret is kept when it is done. How it is booked is in `refunds`.

use super::{
    SMALL, bring,
    counter::{Counter, as_of, listed, now_ms, play_voided, refunded_as_of},
    granted, repeated,
};
use crate::harness::{
    Engine,
    clock::Clock,
    eventually, on_both_engines,
    stores::{Answer, Call, pushes::play_purchase},
};

on_both_engines![
    a_message_is_one_row_and_one_effect,
    what_can_not_be_asked_now_is_asked_later,
    a_kill_while_a_message_is_worked_on_leaves_it_to_be_done,
    a_kill_at_any_moment_books_once,
    nothing_secret_is_left_of_what_is_done,
    what_is_kept_and_spoiled_is_told_and_changes_nothing,
];

const KEPT: &str = "SELECT message_id FROM inbox ORDER BY message_id";
/// Longer than an instance that has died keeps others from its work, in seconds.
const A_WHILE: i64 = 60;
const HOUR_MS: u64 = 3_600_000;

async fn a_message_is_one_row_and_one_effect(engine: Engine) {
    let counter = Counter::open(engine);
    let sold = counter.sell_to("ann", "a", SMALL, 1).await;
    granted(&counter.bring_signed("ann", &as_of("1001", SMALL, -60, None)).await, 600);
    for _ in 0..3 {
        counter.push("1", &play_voided(sold.token(), sold.order(), true)).await;
        counter.tell("REFUND", "uuid-1", &refunded_as_of("1001", SMALL, -50)).await;
    }
    counter.all_done().await;
    let database = counter.shop.server.database();
    assert_eq!(database.texts(KEPT).await, ["apple:uuid-1", "google:push:1"]);
    counter.has("ann", 0, &["refunded 300 0", "refunded 300 0"]).await;
    assert_eq!(counter.entries("ann", "refund").await, [300, 300]);
    let open = "SELECT message_id FROM inbox WHERE content IS NOT NULL OR outcome IS NULL";
    assert_eq!(database.texts(open).await, [""; 0]);
}

async fn what_can_not_be_asked_now_is_asked_later(engine: Engine) {
    let counter = Counter::open(engine);
    let sold = counter.sell_to("ann", "a", SMALL, 3).await;
    counter.shop.all_acknowledged().await;
    counter.shop.stores.google.sell(sold.clone().refunded(1));
    let asked = counter.shop.stores.on(Call::Purchase).count();
    let down = Answer::google(503, "global", "backendError", "Try again.");
    counter.shop.stores.on(Call::Purchase).always(down);
    counter.push("1", &play_voided(sold.token(), sold.order(), false)).await;
    counter.shop.server.wait_for_log("a message is tried again later");
    assert_eq!(counter.books("ann").await, ["granted 0 0"]);
    counter.shop.stores.on(Call::Purchase).forget();
    counter.all_done().await;
    counter.has("ann", 600, &["refunded 300 0"]).await;
    // It may have been down more than once.
    assert!(counter.shop.stores.on(Call::Purchase).count() >= asked + 2);
}

async fn a_kill_while_a_message_is_worked_on_leaves_it_to_be_done(engine: Engine) {
    let clock = Clock::new();
    let mut counter = Counter::open_with(engine, |launch| clock.given_to(launch));
    let sold = counter.sell_to("ann", "a", SMALL, 3).await;
    counter.shop.all_acknowledged().await;
    for (round, has_effect) in [(1, false), (2, true)] {
        counter.shop.stores.google.sell(sold.clone().refunded(round));
        let on = counter.shop.stores.on(Call::Purchase);
        let mut held = if has_effect { on.hold_answer() } else { on.hold() };
        let told = play_voided(sold.token(), sold.order(), false);
        counter.push(&round.to_string(), &told).await;
        held.arrived().await;
        counter.shop.server.kill();
        drop(held);
        clock.shift(i64::from(round) * A_WHILE);
        counter.shop.stores.shift(i64::from(round) * A_WHILE);
        counter.shop.server.start_again();
        counter.all_done().await;
        let taken = i64::from(round) * 300;
        counter.has("ann", 900 - taken, &[&format!("refunded {taken} 0")]).await;
    }
    assert_eq!(counter.entries("ann", "refund").await, [300, 300]);
}

async fn a_kill_at_any_moment_books_once(engine: Engine) {
    let clock = Clock::new();
    let mut counter = Counter::open_with(engine, |launch| clock.given_to(launch));
    let mut sold = Vec::new();
    for number in 0..12 {
        sold.push(counter.sell_to("ann", &format!("{number}"), SMALL, 1).await);
    }
    // Each round it has come a little further.
    for (number, sold) in sold.iter().enumerate() {
        counter.push(&number.to_string(), &play_voided(sold.token(), sold.order(), true)).await;
        for _ in 0..number * 200 {
            tokio::task::yield_now().await;
        }
        counter.shop.server.kill();
        counter.shop.server.start_again();
    }
    counter.shop.server.kill();
    clock.shift(A_WHILE);
    counter.shop.stores.shift(A_WHILE);
    counter.shop.server.start_again();
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 300 0"; 12]).await;
    assert_eq!(counter.entries("ann", "refund").await, [300; 12]);
}

/// All texts that are kept of purchases and messages.
const TEXTS: [&str; 3] = [
    "SELECT COALESCE(content, '') || COALESCE(outcome, '') || message_id FROM inbox",
    "SELECT COALESCE(record, '') || COALESCE(verified, '') || key FROM purchases",
    "SELECT COALESCE(CAST(metadata AS TEXT), '') || COALESCE(transaction_id, '') FROM transactions",
];

async fn nothing_secret_is_left_of_what_is_done(engine: Engine) {
    let mut counter = Counter::open(engine);
    let [whole, part, early] = ["whole", "part", "early"].map(|name| counter.sell(name, SMALL, 3));
    for sold in [&whole, &part] {
        bring(&counter.user("ann"), sold.token()).await.ok();
    }
    counter.shop.all_acknowledged().await;
    counter.shop.stores.google.sell(part.clone().refunded(1));
    counter.push("1", &play_voided(whole.token(), whole.order(), true)).await;
    counter.push("2", &play_voided(part.token(), part.order(), false)).await;
    counter.push("3", &play_purchase(early.token(), SMALL)).await;
    counter.shop.stores.google.refunds.void(&listed(&early, now_ms() - HOUR_MS, Some(1)));
    counter.all_done().await;
    counter.shop.server.stop().await;
    counter.lists_are_due().await;
    counter.shop.server.start_again();
    eventually("the list is read", async || {
        let kept = counter.shop.server.database().texts(KEPT).await;
        (kept.len() == 4).then_some(())
    })
    .await;
    counter.all_done().await;
    let database = counter.shop.server.database();
    // What has yet to be consumed needs its token.
    let needed = "SELECT token FROM purchases WHERE token IS NOT NULL";
    assert_eq!(database.texts(needed).await, [part.token()]);
    let mut texts = Vec::new();
    for sql in TEXTS {
        texts.append(&mut database.texts(sql).await);
    }
    texts.append(&mut counter.shop.server.stop().await);
    for sold in [&whole, &part, &early] {
        let found: Vec<_> = texts.iter().filter(|text| text.contains(sold.token())).collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

async fn what_is_kept_and_spoiled_is_told_and_changes_nothing(engine: Engine) {
    let mut counter = Counter::open(engine);
    let sold = counter.sell_to("ann", "a", SMALL, 2).await;
    counter.shop.all_acknowledged().await;
    counter.shop.stores.google.sell(sold.clone().refunded(1));
    counter.push("1", &play_voided(sold.token(), sold.order(), false)).await;
    counter.all_done().await;
    counter.has("ann", 300, &["refunded 300 0"]).await;
    let database = counter.shop.server.database();
    let kept = database.texts("SELECT refund FROM purchases").await;
    for (number, spoiled) in
        ["", "{}", "[]", "null", "{\"whole\":", "{\"hole\":true}"].iter().enumerate()
    {
        database.execute(&format!("UPDATE purchases SET refund = '{spoiled}'")).await;
        let id = format!("spoiled-{number}");
        counter.push(&id, &play_voided(sold.token(), sold.order(), false)).await;
        let log = counter.shop.server.wait_for_log("news of a purchase can't be booked");
        assert!(log.contains("ERROR"), "{log}");
        let again = format!("a message is tried again later id=google:push:{id} ");
        counter.shop.server.wait_for_log(&again);
        let open = format!(
            "SELECT message_id FROM inbox WHERE message_id = 'google:push:{id}' AND outcome IS NULL"
        );
        assert_eq!(database.texts(&open).await.len(), 1);
        assert_eq!(counter.user("ann").balance().await["credits"], 300, "{spoiled}");
    }
    // So that none is done in between.
    counter.shop.server.stop().await;
    database.execute(&format!("UPDATE purchases SET refund = '{}'", kept[0])).await;
    let spoil = "UPDATE inbox SET content = '{\"of_tomorrow\":1}' WHERE message_id = 'google:push:spoiled-0'";
    database.execute(spoil).await;
    let due = "UPDATE inbox SET due_at = received_at WHERE due_at IS NOT NULL";
    database.execute(due).await;
    counter.shop.server.start_again();
    let log = counter.shop.server.wait_for_log("what is kept of a message can't be read");
    assert!(log.contains("ERROR") && log.contains("google:push:spoiled-0"), "{log}");
    let others = "SELECT message_id FROM inbox WHERE due_at IS NOT NULL AND message_id <> 'google:push:spoiled-0'";
    counter.shop.until_none(others).await;
    repeated(&bring(&counter.user("ann"), sold.token()).await, 300);
    counter.has("ann", 300, &["refunded 300 0"]).await;
}
