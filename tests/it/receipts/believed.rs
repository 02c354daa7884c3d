//! Purchases that were granted on the app's word, before their stores were asked: what their stores take back later is
//! booked as of all others, once, and from whoever got them.

use serde_json::{Value, json};

use super::{
    SMALL, bring,
    counter::{Counter, as_of, listed, now_ms, play_voided},
    granted, repeated,
};
use crate::harness::{
    Engine, on_both_engines,
    stores::{Answer, Call, GooglePurchase, pushes::play_notification},
};

on_both_engines![
    what_was_believed_is_taken_back,
    of_several_pieces_as_many_as_are_known_are_taken_back,
    of_pieces_that_nobody_can_count_only_all_are_taken_back,
    a_share_of_what_was_believed_is_taken_and_given_back,
    google_is_told_how_much_of_what_was_believed_was_used,
    what_was_brought_again_is_taken_back_once,
    an_entry_is_taken_back_for_one_purchase,
];

const QUICK: &str = "gemini-2.0-flash";

/// A counter that believes all that it is told.
fn open(engine: Engine) -> Counter {
    Counter::open_with(engine, |launch| launch.set("BILLING_RECEIPTS", "off"))
}

/// Has the stores asked from now on.
async fn ask_from_now_on(counter: &mut Counter) {
    counter.shop.server.stop().await;
    counter.shop.server.start_again_with(&[("BILLING_RECEIPTS", "google,apple")]);
    counter.lists_read(0).await;
}

/// What an app said that it bought.
async fn believe(counter: &Counter, user: &str, credits: i64, id: &str, token: &str) {
    let body = json!({
        "credits": credits,
        "purchase_record": {"transactionId": id, "purchaseToken": token, "productId": SMALL},
    });
    let reply = counter.user(user).post("/credits/add", &body).await;
    assert!(reply.status == 200 && !reply.is_replayed(), "{reply:?}");
}

async fn void(counter: &Counter, id: &str, sold: &GooglePurchase, is_whole: bool) {
    counter.push(id, &play_voided(sold.token(), sold.order(), is_whole)).await;
}

async fn what_was_believed_is_taken_back(engine: Engine) {
    let mut counter = open(engine);
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| counter.sell(name, SMALL, 1));
    believe(&counter, "ann", 450, a.order(), a.token()).await;
    // While it was pending the token was all there was.
    believe(&counter, "bob", 200, b.token(), b.token()).await;
    believe(&counter, "cat", 100, c.order(), "").await;
    counter.user("cat").allocate(&[(QUICK, 40)]).await.ok();
    counter.user("cat").consume(QUICK, 1, 0).await.ok();
    ask_from_now_on(&mut counter).await;
    for (round, sold) in [&a, &b, &c, &d, &a, &b].into_iter().enumerate() {
        void(&counter, &round.to_string(), sold, true).await;
    }
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 450 0"]).await;
    counter.has("bob", 0, &["refunded 200 0"]).await;
    let cat = counter.books("cat").await;
    assert!(cat == ["refunded 99 1"], "{cat:?}");
    // By the list, too.
    counter.shop.stores.google.refunds.void(&listed(&a, now_ms() - 3_600_000, None));
    counter.start_again().await;
    counter.has("ann", 0, &["refunded 450 0"]).await;
    assert_eq!(counter.entries("ann", "refund").await, [450]);
    for (user, sold) in [("ann", &a), ("bob", &b)] {
        repeated(&bring(&counter.user(user), sold.token()).await, 0);
    }
    // Nobody had this one.
    let nobodys = "SELECT state FROM purchases WHERE user_id IS NULL";
    assert_eq!(counter.shop.server.database().texts(nobodys).await, ["refunded"]);
}

async fn of_several_pieces_as_many_as_are_known_are_taken_back(engine: Engine) {
    let mut counter = open(engine);
    let [a, b, c] = ["a", "b", "c"].map(|name| counter.sell(name, SMALL, 3));
    believe(&counter, "ann", 450, a.order(), a.token()).await;
    // They can't be divided.
    believe(&counter, "bob", 200, b.order(), b.token()).await;
    believe(&counter, "cat", 300, c.order(), c.token()).await;
    ask_from_now_on(&mut counter).await;
    for sold in [&a, &b] {
        counter.shop.stores.google.sell(sold.clone().refunded(1));
    }
    void(&counter, "1", &a, false).await;
    void(&counter, "2", &b, false).await;
    // By the list alone: the purchase does not say so yet.
    let refunds = &counter.shop.stores.google.refunds;
    refunds.void(&listed(&c, now_ms() - 3_600_000, Some(1)));
    counter.all_done().await;
    counter.has("ann", 300, &["refunded 150 0"]).await;
    counter.has("bob", 134, &["refunded 66 0"]).await;
    counter.start_again().await;
    counter.has("cat", 200, &["refunded 100 0"]).await;
    counter.shop.stores.google.sell(b.clone().refunded(2));
    void(&counter, "3", &b, false).await;
    counter.all_done().await;
    counter.has("bob", 68, &["refunded 132 0"]).await;
    void(&counter, "4", &a, true).await;
    void(&counter, "5", &b, true).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 450 0"]).await;
    counter.has("bob", 0, &["refunded 200 0"]).await;
    assert_eq!(counter.entries("ann", "refund").await, [150, 300]);
    assert_eq!(counter.entries("bob", "refund").await, [66, 66, 68]);
}

/// Google has forgotten how many pieces there were.
async fn of_pieces_that_nobody_can_count_only_all_are_taken_back(engine: Engine) {
    let mut counter = open(engine);
    let sold = counter.sell("a", SMALL, 3);
    believe(&counter, "ann", 450, sold.order(), sold.token()).await;
    ask_from_now_on(&mut counter).await;
    let gone = Answer::google(410, "global", "purchaseTokenNoLongerValid", "Gone.");
    counter.shop.stores.on(Call::Purchase).always(gone);
    counter.shop.stores.google.refunds.void(&listed(&sold, now_ms() - 3_600_000, Some(1)));
    counter.start_again().await;
    counter.shop.server.wait_for_log("a refund in part of what was granted on the app's word");
    counter.has("ann", 450, &[]).await;
    void(&counter, "1", &sold, true).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 450 0"]).await;
}

async fn google_is_told_how_much_of_what_was_believed_was_used(engine: Engine) {
    let mut counter = open(engine);
    let [a, b] = ["a", "b"].map(|name| counter.sell(name, SMALL, 3));
    believe(&counter, "ann", 200, a.order(), a.token()).await;
    believe(&counter, "ann", 100, b.order(), b.token()).await;
    counter.user("ann").allocate(&[(QUICK, 250)]).await.ok();
    ask_from_now_on(&mut counter).await;
    // Something is known of it that can't be counted.
    let gone = Answer::google(410, "global", "purchaseTokenNoLongerValid", "Gone.");
    counter.shop.stores.on(Call::Purchase).always(gone);
    counter.shop.stores.google.refunds.void(&listed(&b, now_ms() - 3_600_000, Some(1)));
    counter.start_again().await;
    for sold in [&a, &b] {
        counter.shop.stores.google.refunds.review(sold.order(), sold.order());
        let content = json!({
            "version": "1.0", "pendingRefundToken": sold.order(), "orderId": sold.order(),
            "refundReason": 7,
        });
        let told = play_notification("pendingRefundReviewNotification", content);
        counter.push(sold.order(), &told).await;
    }
    counter.all_done().await;
    for (sold, milliunits) in [(&a, 100_000), (&b, 50_000)] {
        let sent = counter.shop.stores.on(Call::Review).of(sold.order()).sent();
        let told: Vec<_> = sent
            .into_iter()
            .map(|sent| sent.body["consumptionPercentageMilliunits"].clone())
            .collect();
        assert_eq!(told, [json!(milliunits)]);
    }
    counter.has("ann", 50, &[]).await;
}

fn told(milliunits: Option<u32>, seconds: i64) -> Value {
    as_of("1001", SMALL, seconds, milliunits)
}

async fn a_share_of_what_was_believed_is_taken_and_given_back(engine: Engine) {
    let mut counter = open(engine);
    believe(&counter, "ann", 450, "1001", "").await;
    ask_from_now_on(&mut counter).await;
    counter.tell("REFUND", "uuid-1", &told(Some(50_000), -50)).await;
    counter.all_done().await;
    counter.has("ann", 225, &["refunded 225 0"]).await;
    counter.tell("REFUND_REVERSED", "uuid-2", &told(None, -40)).await;
    counter.all_done().await;
    counter.has("ann", 450, &["granted 0 0"]).await;
    counter.tell("REFUND", "uuid-3", &told(Some(100_000), -30)).await;
    counter.tell("REFUND", "uuid-1", &told(Some(50_000), -50)).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 450 0"]).await;
}

async fn what_was_brought_again_is_taken_back_once(engine: Engine) {
    let mut counter = open(engine);
    let sold = counter.sell("a", SMALL, 1);
    believe(&counter, "ann", 450, sold.order(), "").await;
    ask_from_now_on(&mut counter).await;
    repeated(&bring(&counter.user("ann"), sold.token()).await, 450);
    counter.has("ann", 450, &["refused 0 0"]).await;
    for id in ["1", "2"] {
        void(&counter, id, &sold, true).await;
    }
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 450 0"]).await;
    repeated(&bring(&counter.user("ann"), sold.token()).await, 0);
}

/// An app said that two purchases are one.
async fn an_entry_is_taken_back_for_one_purchase(engine: Engine) {
    let mut counter = open(engine);
    let [a, b] = ["a", "b"].map(|name| counter.sell(name, SMALL, 1));
    believe(&counter, "ann", 450, a.order(), b.token()).await;
    ask_from_now_on(&mut counter).await;
    let more = counter.sell_to("ann", "c", SMALL, 1).await;
    for (id, sold) in [("1", &a), ("2", &b), ("3", &a), ("4", &b)] {
        void(&counter, id, sold, true).await;
    }
    counter.all_done().await;
    counter.has("ann", 300, &["granted 0 0", "refunded 450 0"]).await;
    assert_eq!(counter.entries("ann", "refund").await, [450]);
    granted(&bring(&counter.user("bob"), counter.sell("d", SMALL, 1).token()).await, 300);
    repeated(&bring(&counter.user("ann"), more.token()).await, 300);
}
