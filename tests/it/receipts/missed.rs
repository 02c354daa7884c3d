//! What a service missed while it was down, it finds in the stores' lists: all of it, once, from the place on where it
//! had read to. What is booked then is in `refunds`.

use serde_json::json;

use super::{
    SMALL,
    counter::{Counter, as_of, listed, now_ms, refunded_as_of},
    granted,
};
use crate::harness::{
    Engine, on_both_engines,
    stores::{Answer, Call, GooglePurchase},
};

on_both_engines![
    a_list_is_read_page_by_page_from_a_day_before_the_last_time,
    a_list_that_breaks_off_is_read_again,
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
