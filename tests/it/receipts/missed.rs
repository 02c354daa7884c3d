//! What a service missed while it was down, it finds in the stores' lists: all of it, once, from the place on where it
//! had read to. What is booked then is in `refunds`.

use serde_json::json;

use super::{
    SMALL, Shop,
    counter::{Counter, as_of, listed, now_ms, refunded_as_of, scraper, value, with_metrics},
    granted,
};
use crate::harness::{
    Engine, Home,
    clock::Clock,
    on_both_engines,
    stores::{Answer, Call, GooglePurchase, Market, Notification, StandIn},
};

on_both_engines![
    a_list_is_read_page_by_page_from_a_day_before_the_last_time,
    a_list_that_breaks_off_is_read_again,
    a_service_that_ends_again_and_again_reads_no_list_more_often,
    what_was_only_listed_is_taken_and_given_back,
    before_the_first_release_a_list_that_is_refused_is_no_fault,
];

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// From when on Google's list was asked for, each time.
fn starts(counter: &Counter) -> Vec<u64> {
    let sent = counter.shop.stores.on(Call::Voided).sent();
    let starts = sent.iter().filter_map(|sent| sent.query.get("startTime"));
    starts.map(|start| start.parse().expect("milliseconds")).collect()
}

async fn sold(counter: &Counter, count: usize) -> Vec<GooglePurchase> {
    let mut sold = Vec::new();
    for number in 0..count {
        sold.push(counter.sell_to("ann", &format!("{number}"), SMALL, 1).await);
    }
    sold
}

async fn a_list_is_read_page_by_page_from_a_day_before_the_last_time(engine: Engine) {
    let mut counter = Counter::open(engine);
    let began = now_ms();
    let sold = sold(&counter, 5).await;
    for number in 1_001..1_006 {
        let transaction = as_of(&format!("{number}"), SMALL, -60, None);
        counter.bring_signed("bob", &transaction).await.ok();
    }
    counter.lists_read(0).await;
    counter.shop.server.stop().await;
    counter.lists_are_due().await;
    let read = counter.last_list().count();
    // Meanwhile all of it is given back.
    counter.shop.stores.google.refunds.a_page_holds(2);
    counter.shop.stores.apple.refunds.a_page_holds(2);
    for (sold, number) in sold.iter().zip(1_001..) {
        counter.shop.stores.google.refunds.void(&listed(sold, now_ms() - HOUR_MS, None));
        let transaction = refunded_as_of(&format!("{number}"), SMALL, -50);
        counter.list("REFUND", &format!("uuid-{number}"), &transaction);
    }
    counter.shop.server.start_again();
    counter.lists_read(read).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 300 0"; 5]).await;
    counter.has("bob", 0, &["refunded 300 0"; 5]).await;
    // Three pages, after the empty one of the first start.
    assert_eq!(counter.shop.stores.on(Call::Voided).count(), 4);
    let starts = starts(&counter);
    let [first, second] = starts[..] else { panic!("{starts:?}") };
    // Some time has passed in between, which is no measure of anything.
    let around = |start: u64, days: u64| {
        let expected = began - days * DAY_MS;
        (expected - HOUR_MS..expected + HOUR_MS).contains(&start)
    };
    assert!(around(first, 29) && around(second, 1), "{starts:?}");
    // Once more nothing is new.
    counter.start_again().await;
    counter.has("ann", 0, &["refunded 300 0"; 5]).await;
    assert_eq!(counter.entries("ann", "refund").await, [300; 5]);
    assert_eq!(counter.entries("bob", "refund").await, [300; 5]);
}

async fn a_list_that_breaks_off_is_read_again(engine: Engine) {
    let mut counter = Counter::open(engine);
    let sold = sold(&counter, 3).await;
    granted(&counter.bring_signed("bob", &as_of("1001", SMALL, -60, None)).await, 300);
    counter.shop.server.stop().await;
    // Nothing of it was ever read.
    counter.shop.server.database().execute("DELETE FROM sweeps").await;
    counter.shop.stores.google.refunds.a_page_holds(1);
    for sold in &sold {
        counter.shop.stores.google.refunds.void(&listed(sold, now_ms() - HOUR_MS, None));
    }
    counter.list("REFUND", "uuid-1", &refunded_as_of("1001", SMALL, -50));
    let mut held = counter.shop.stores.on(Call::Voided).hold_answer();
    let read = counter.last_list().count();
    counter.shop.server.start_again();
    held.arrived().await;
    counter.shop.stores.on(Call::Voided).next(1, Answer::html(502));
    // Apple says that there is more, and not where.
    let refunds = counter.shop.stores.on(Call::SandboxHistory).of("REFUND");
    refunds.next(1, Answer::json(200, &json!({"hasMore": true})));
    held.go_on();
    counter.shop.server.wait_for_log("a list was not read to its end");
    counter.lists_read(read).await;
    counter.all_done().await;
    let until = "SELECT name FROM sweeps WHERE name = 'google voided' AND done_until IS NULL";
    assert_eq!(counter.shop.server.database().texts(until).await, ["google voided"]);
    // The first page counts.
    assert_eq!(counter.entries("ann", "refund").await, [300]);
    counter.start_again().await;
    counter.has("ann", 0, &["refunded 300 0"; 3]).await;
    counter.has("bob", 0, &["refunded 300 0"]).await;
    let starts = starts(&counter);
    let [.., second, third] = starts[..] else { panic!("{starts:?}") };
    assert!(third - second < DAY_MS, "{starts:?}");
}

async fn a_service_that_ends_again_and_again_reads_no_list_more_often(engine: Engine) {
    let clock = Clock::new();
    let mut counter = Counter::open_with(engine, |launch| clock.given_to(launch));
    counter.lists_read(0).await;
    let started = "UPDATE sweeps SET due_at = due_at";
    for _ in 0..3 {
        counter.shop.server.kill();
        counter.shop.server.start_again();
        counter.shop.server.database().execute(started).await;
    }
    counter.shop.server.kill();
    clock.shift(61);
    counter.shop.stores.shift(61);
    counter.shop.server.start_again();
    counter.lists_read(1).await;
    assert_eq!(counter.shop.stores.on(Call::Voided).count(), 2);
    assert_eq!(counter.last_list().count(), 2);
}

async fn what_was_only_listed_is_taken_and_given_back(engine: Engine) {
    let mut counter = Counter::open(engine);
    granted(&counter.bring_signed("ann", &as_of("1001", SMALL, -60, None)).await, 300);
    counter.lists_read(0).await;
    let list = |kind: &'static str, id: &str, transaction, missed| {
        let signed = counter.signed(kind, id, &transaction);
        let sent = Notification { kind, sent_ms: now_ms() - HOUR_MS, missed, signed };
        counter.shop.stores.apple.refunds.list(Market::Sandbox, sent);
    };
    list("REFUND", "uuid-1", refunded_as_of("1001", SMALL, -50), false);
    // Of no list but that of what was missed.
    list("REFUND_DECLINED", "uuid-2", as_of("1001", SMALL, -55, None), true);
    counter.start_again().await;
    counter.has("ann", 0, &["refunded 300 0"]).await;
    let signed = counter.signed("REFUND_REVERSED", "uuid-3", &as_of("1001", SMALL, -40, None));
    let kind = "REFUND_REVERSED";
    let sent = Notification { kind, sent_ms: now_ms() - HOUR_MS, missed: false, signed };
    counter.shop.stores.apple.refunds.list(Market::Sandbox, sent);
    for _ in 0..2 {
        counter.start_again().await;
        counter.has("ann", 300, &["granted 0 0"]).await;
    }
    let kept = "SELECT message_id FROM inbox ORDER BY message_id";
    let kept = counter.shop.server.database().texts(kept).await;
    assert_eq!(kept, ["apple:uuid-1", "apple:uuid-2", "apple:uuid-3"]);
    assert_eq!(counter.entries("ann", "reversal").await, [300]);
}

/// How often the stores' lists came to this, by the metrics.
async fn outcomes(counter: &Counter, outcome: &str) -> [Option<f64>; 2] {
    let scraper = scraper(counter);
    let series = |store, call| {
        format!("store_requests_total{{store=\"{store}\",call=\"{call}\",outcome=\"{outcome}\"}}")
    };
    let voided = value(&scraper, &series("google", "voided")).await;
    [voided, value(&scraper, &series("apple", "history")).await]
}

async fn before_the_first_release_a_list_that_is_refused_is_no_fault(engine: Engine) {
    let stores = StandIn::new();
    let no_app = Answer::google(404, "global", "applicationNotFound", "No application was found.");
    stores.on(Call::Voided).always(no_app);
    stores.on(Call::History).always(Answer::empty(401));
    let mut counter = Counter { shop: Shop::open_on(stores, Home::new(engine), with_metrics) };
    // The sandbox is asked whether it takes the key, too.
    counter.lists_read(1).await;
    assert_eq!(outcomes(&counter, "unreleased").await, [Some(1.0), Some(3.0)]);
    assert_eq!(outcomes(&counter, "refused").await, [Some(0.0), Some(0.0)]);
    let lines = counter.shop.server.stop().await.join("\n");
    assert!(!lines.contains("not read to its end"), "{lines}");
    // Once they could be read it is one.
    counter.shop.stores.on(Call::Voided).forget();
    counter.shop.stores.on(Call::History).forget();
    counter.shop.server.start_again();
    counter.start_again().await;
    counter.shop.server.stop().await;
    let no_app = Answer::google(404, "global", "applicationNotFound", "No application was found.");
    counter.shop.stores.on(Call::Voided).always(no_app);
    counter.shop.stores.on(Call::History).always(Answer::empty(401));
    counter.lists_are_due().await;
    let read = counter.last_list().count();
    counter.shop.server.start_again();
    counter.lists_read(read).await;
    assert_eq!(outcomes(&counter, "unreleased").await, [Some(0.0), Some(0.0)]);
    assert_eq!(outcomes(&counter, "refused").await, [Some(1.0), Some(3.0)]);
}
