//! What becomes of an account when its store gives money back: whole, in part, back again, in any order and any
//! number of times, before and after the purchase was brought.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    LARGE, LATER, REGULAR, SMALL, anothers, bring,
    counter::{
        Counter, as_of, listed, now_ms, play_voided, refunded_as_of, scraper, value, with_metrics,
    },
    granted, invalid, later, repeated,
};
use crate::{
    harness::{
        Client, Engine, Reply, eventually, on_both_engines,
        stores::{
            Answer, Call, GooglePurchase,
            pushes::{play_notification, play_purchase},
        },
    },
    verify::check_found,
};

on_both_engines![
    what_google_voids_whole_is_taken_once,
    what_google_voids_piece_by_piece_is_taken_piece_by_piece,
    what_a_purchase_does_not_tell_the_list_does,
    a_purchase_that_can_be_read_once_only_counts_all_its_voids,
    a_question_that_google_refuses_does_not_make_a_refund_whole,
    of_several_products_the_one_that_came_back_is_taken,
    what_apple_refunds_counts_as_of_its_signature,
    a_share_is_rounded_half_up,
    unspent_credits_go_first_and_then_the_newest_tokens,
    given_credits_are_taken_last_and_come_back_as_given_ones,
    what_is_used_up_is_missing_and_never_collected,
    what_is_held_is_not_taken_and_a_frozen_account_is_no_shelter,
    the_larger_of_the_stores_and_the_operators_counts,
    what_an_operator_takes_back_is_counted,
    what_is_wrong_with_a_refund_is_found,
    a_whole_refund_before_the_grant_blocks_it,
    a_refund_in_part_before_the_grant_is_booked_with_it,
    what_a_store_tells_of_first_waits_for_whoever_brings_it,
    what_is_pending_is_woken,
    a_reversed_refund_grants_what_was_brought,
    refunds_are_counted,
    a_test_purchase_is_in_no_total,
];

const QUICK: &str = "gemini-2.0-flash";
const THINK: &str = "gemini-2.5-pro";
const HOUR_MS: u64 = 3_600_000;
const OPERATOR: &str = "operator-token-0123456789-abcdefg";

async fn what_google_voids_whole_is_taken_once(engine: Engine) {
    let mut counter = Counter::open(engine);
    let pushed = counter.sell_to("ann", "pushed", SMALL, 1).await;
    let found = counter.sell_to("ann", "listed", REGULAR, 1).await;
    let both = counter.sell_to("bob", "both", LARGE, 1).await;
    counter.sell_to("bob", "kept", SMALL, 1).await;
    let push = async |id: &str, sold: &GooglePurchase| {
        counter.push(id, &play_voided(sold.token(), sold.order(), true)).await;
    };
    push("1", &pushed).await;
    push("2", &both).await;
    counter.all_done().await;
    counter.has("ann", 500, &["refunded 300 0", "granted 0 0"]).await;
    // The same message again, and the same in another.
    push("1", &pushed).await;
    push("3", &pushed).await;
    let refunds = &counter.shop.stores.google.refunds;
    for sold in [&pushed, &found, &both, &both] {
        refunds.void(&listed(sold, now_ms() - HOUR_MS, None));
    }
    counter.start_again().await;
    counter.has("ann", 0, &["refunded 300 0", "refunded 500 0"]).await;
    counter.has("bob", 300, &["refunded 1000 0", "granted 0 0"]).await;
    assert_eq!(counter.entries("ann", "refund").await, [300, 500]);
    assert_eq!(counter.entries("bob", "refund").await, [1_000]);
    // Whoever got it is told so still, and nobody else gets it.
    repeated(&bring(&counter.user("ann"), pushed.token()).await, 0);
    anothers(&bring(&counter.user("bob"), pushed.token()).await);
    // Whole is whole, without asking.
    assert_eq!(counter.shop.stores.on(Call::Purchase).count(), 4);
}

/// Google says of a purchase that so many of its pieces were given back.
fn give_back(counter: &Counter, sold: &GooglePurchase, pieces: u32) {
    counter.shop.stores.google.sell(sold.clone().refunded(pieces));
}

async fn what_google_voids_piece_by_piece_is_taken_piece_by_piece(engine: Engine) {
    let mut counter = Counter::open(engine);
    let sold = counter.sell_to("ann", "a", SMALL, 3).await;
    let told = play_voided(sold.token(), sold.order(), false);
    let refunds = &counter.shop.stores.google.refunds;
    counter.has("ann", 900, &["granted 0 0"]).await;
    give_back(&counter, &sold, 1);
    counter.push("1", &told).await;
    counter.all_done().await;
    counter.has("ann", 600, &["refunded 300 0"]).await;
    give_back(&counter, &sold, 2);
    refunds.void(&listed(&sold, now_ms() - 2 * HOUR_MS, Some(1)));
    refunds.void(&listed(&sold, now_ms() - HOUR_MS, Some(1)));
    counter.push("2", &told).await;
    counter.all_done().await;
    counter.start_again().await;
    counter.has("ann", 300, &["refunded 600 0"]).await;
    // What is late says nothing new.
    counter.push("3", &told).await;
    counter.all_done().await;
    counter.has("ann", 300, &["refunded 600 0"]).await;
    // The rest; Google does not say how many that were.
    counter.push("4", &play_voided(sold.token(), sold.order(), true)).await;
    counter.shop.stores.google.refunds.void(&listed(&sold, now_ms(), None));
    counter.all_done().await;
    counter.start_again().await;
    counter.has("ann", 0, &["refunded 900 0"]).await;
    assert_eq!(counter.entries("ann", "refund").await, [300, 300, 300]);
}

/// What Google answers about a token that it has forgotten.
fn forgotten() -> Answer {
    Answer::google(410, "global", "purchaseTokenNoLongerValid", "Gone.")
}

async fn what_a_purchase_does_not_tell_the_list_does(engine: Engine) {
    let mut counter = Counter::open(engine);
    let sold = counter.sell_to("ann", "a", SMALL, 3).await;
    counter.shop.all_acknowledged().await;
    counter.shop.stores.on(Call::Purchase).always(forgotten());
    counter.push("1", &play_voided(sold.token(), sold.order(), false)).await;
    counter.all_done().await;
    // Nobody has said how much.
    counter.has("ann", 900, &["granted 0 0"]).await;
    let refunds = &counter.shop.stores.google.refunds;
    let first = listed(&sold, now_ms() - 2 * HOUR_MS, Some(1));
    for _ in 0..2 {
        refunds.void(&first);
    }
    counter.start_again().await;
    counter.has("ann", 600, &["refunded 300 0"]).await;
    let mut second = listed(&sold, now_ms() - HOUR_MS, Some(1));
    second["voidedTimeMillis"] = json!(now_ms() - HOUR_MS);
    second["voidedQuantity"] = json!("1");
    counter.shop.stores.google.refunds.void(&second);
    counter.start_again().await;
    counter.has("ann", 300, &["refunded 600 0"]).await;
}

async fn a_purchase_that_can_be_read_once_only_counts_all_its_voids(engine: Engine) {
    let mut counter = Counter::open(engine);
    let sold = counter.sell_to("ann", "a", SMALL, 3).await;
    counter.shop.all_acknowledged().await;
    give_back(&counter, &sold, 1);
    let refunds = &counter.shop.stores.google.refunds;
    refunds.void(&listed(&sold, now_ms() - 2 * HOUR_MS, Some(1)));
    counter.start_again().await;
    counter.has("ann", 600, &["refunded 300 0"]).await;
    counter.shop.stores.on(Call::Purchase).always(forgotten());
    counter.shop.stores.google.refunds.void(&listed(&sold, now_ms() - HOUR_MS, Some(1)));
    counter.start_again().await;
    counter.has("ann", 300, &["refunded 600 0"]).await;
}

async fn a_question_that_google_refuses_does_not_make_a_refund_whole(engine: Engine) {
    let mut counter = Counter::open(engine);
    let sold = counter.sell_to("ann", "a", SMALL, 3).await;
    counter.shop.all_acknowledged().await;
    let refusal = Answer::google(400, "global", "invalid", "Invalid Value");
    counter.shop.stores.on(Call::Purchase).always(refusal);
    let refunds = &counter.shop.stores.google.refunds;
    refunds.void(&listed(&sold, now_ms() - HOUR_MS, Some(1)));
    counter.start_again().await;
    counter.has("ann", 600, &["refunded 300 0"]).await;
}

async fn of_several_products_the_one_that_came_back_is_taken(engine: Engine) {
    let counter = Counter::open(engine);
    let sold = counter.sell("a", LARGE, 2).and(SMALL, 2);
    counter.shop.stores.google.sell(sold.clone());
    granted(&bring(&counter.user("ann"), sold.token()).await, 2_600);
    // One of each.
    give_back(&counter, &sold, 1);
    counter.push("1", &play_voided(sold.token(), sold.order(), false)).await;
    counter.all_done().await;
    counter.has("ann", 1_300, &["refunded 1300 0"]).await;
}

async fn what_apple_refunds_counts_as_of_its_signature(engine: Engine) {
    let mut counter = Counter::open(engine);
    let bought = |id| as_of(id, SMALL, -60, None);
    let whole = |id, seconds| refunded_as_of(id, SMALL, seconds);
    for (id, balance) in [("1001", 300), ("1002", 600), ("1003", 900)] {
        granted(&counter.bring_signed("ann", &bought(id)).await, balance);
    }
    counter.tell("REFUND", "uuid-1", &whole("1001", -50)).await;
    counter.all_done().await;
    counter.has("ann", 600, &["refunded 300 0", "granted 0 0", "granted 0 0"]).await;
    counter.tell("REFUND_REVERSED", "uuid-2", &as_of("1001", SMALL, -40, None)).await;
    counter.all_done().await;
    counter.has("ann", 900, &["granted 0 0", "granted 0 0", "granted 0 0"]).await;
    // What was signed before that is late; it may be new to us.
    for id in ["uuid-1", "uuid-3"] {
        counter.tell("REFUND", id, &whole("1001", -50)).await;
    }
    counter.all_done().await;
    counter.has("ann", 900, &["granted 0 0", "granted 0 0", "granted 0 0"]).await;
    counter.tell("REFUND", "uuid-4", &whole("1001", -30)).await;
    // The reversal comes before what it reverses.
    counter.tell("REFUND_REVERSED", "uuid-5", &as_of("1002", SMALL, -40, None)).await;
    counter.all_done().await;
    counter.tell("REFUND", "uuid-6", &whole("1002", -50)).await;
    // Listed what was pushed, and what was not.
    counter.list("REFUND", "uuid-4", &whole("1001", -30));
    counter.list("REFUND", "uuid-7", &whole("1003", -30));
    counter.all_done().await;
    counter.start_again().await;
    counter.has("ann", 300, &["refunded 300 0", "granted 0 0", "refunded 300 0"]).await;
    assert_eq!(counter.entries("ann", "refund").await, [300, 300, 300]);
    assert_eq!(counter.entries("ann", "reversal").await, [300]);
}

async fn a_share_is_rounded_half_up(engine: Engine) {
    let counter = Counter::open(engine);
    let sold = |seconds, milliunits| {
        let mut transaction = as_of("1001", SMALL, seconds, milliunits);
        transaction["quantity"] = json!(3);
        transaction
    };
    granted(&counter.bring_signed("ann", &sold(-60, None)).await, 900);
    // 299.997, 0.45, 0.504, 450, and all there is.
    for (step, (milliunits, taken)) in
        [(33_333, 300), (50, 0), (56, 1), (50_000, 450), (100_000, 900), (0, 0)]
            .into_iter()
            .enumerate()
    {
        let seconds = i64::try_from(step).expect("a small number") - 50;
        let told = sold(seconds, (milliunits > 0).then_some(milliunits));
        let kind = if milliunits > 0 { "REFUND" } else { "REFUND_REVERSED" };
        for id in ["a", "b"] {
            counter.tell(kind, &format!("uuid-{step}-{id}"), &told).await;
        }
        counter.all_done().await;
        let state = if taken > 0 { "refunded" } else { "granted" };
        counter.has("ann", 900 - taken, &[&format!("{state} {taken} 0")]).await;
    }
}

async fn unspent_credits_go_first_and_then_the_newest_tokens(engine: Engine) {
    let counter = Counter::open(engine);
    let (first, second) = (as_of("1001", SMALL, -60, None), as_of("1002", SMALL, -60, None));
    granted(&counter.bring_signed("ann", &first).await, 300);
    granted(&counter.bring_signed("ann", &second).await, 600);
    let ann = counter.user("ann");
    // 200,000 tokens, and 2,000,000 of which 500,001 are used.
    ann.allocate(&[(THINK, 150)]).await.ok();
    ann.allocate(&[(QUICK, 150)]).await.ok();
    ann.consume(QUICK, 500_000, 1).await.ok();
    ann.allocate(&[(THINK, 250)]).await.ok();
    assert_eq!(ann.balance().await["credits"], 50);
    // 50 unspent, and 250 of the newest.
    counter.tell("REFUND", "uuid-1", &refunded_as_of("1001", SMALL, -50)).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 300 0", "granted 0 0"]).await;
    let tokens = json!({THINK: 200_000, QUICK: 1_499_999});
    assert_eq!(ann.balance().await["allocated_tokens"], tokens);
    // ⌊150 × 1,499,999 ÷ 2,000,000⌋ = 112 of the one before, and 150 of the first: 262 of 300.
    counter.tell("REFUND", "uuid-2", &refunded_as_of("1002", SMALL, -50)).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 300 0", "refunded 262 38"]).await;
    // No more than that is taken: 112 credits are worth 1,493,334 tokens.
    let tokens = json!({THINK: 0, QUICK: 6_665});
    assert_eq!(ann.balance().await["allocated_tokens"], tokens);
    assert_eq!(counter.entries("ann", "refund").await.len(), 4);
    // What was never taken is not given back.
    counter.tell("REFUND_REVERSED", "uuid-3", &as_of("1002", SMALL, -40, None)).await;
    counter.all_done().await;
    counter.has("ann", 262, &["refunded 300 0", "granted 0 0"]).await;
    assert_eq!(counter.entries("ann", "reversal").await.iter().sum::<i64>(), 262);
}

async fn given_credits_are_taken_last_and_come_back_as_given_ones(engine: Engine) {
    let counter = Counter::open(engine);
    let sold = |seconds, milliunits| as_of("1001", SMALL, seconds, milliunits);
    granted(&counter.bring_signed("ann", &sold(-60, None)).await, 300);
    granted(&counter.bring_signed("ann", &as_of("1002", SMALL, -60, None)).await, 600);
    let ann = counter.user("ann");
    let database = counter.shop.server.database();
    // 100 given credits and 200 bought ones buy 400,000 tokens; what 375 bought ones buy is used up.
    database.give("ann", 100).await;
    ann.allocate(&[(THINK, 300)]).await.ok();
    ann.allocate(&[(QUICK, 375)]).await.ok();
    ann.consume(QUICK, 5_000_000, 0).await.ok();
    database.give("ann", 10).await;
    let has = async |total: i64, bonus: i64| {
        let credits = ann.get("/wallet").await.ok()["credits"].clone();
        assert_eq!(credits, json!({"total": total, "bonus": bonus}));
    };
    has(35, 10).await;
    // 25 bought credits and the 10 given ones, then tokens that are worth 200 bought credits and 65 given ones.
    counter.tell("REFUND", "uuid-1", &sold(-50, Some(100_000))).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 300 0", "granted 0 0"]).await;
    assert_eq!(ann.balance().await["allocated_tokens"][THINK], 400_000 - 353_334);
    has(0, 0).await;
    counter.tell("REFUND", "uuid-2", &sold(-40, Some(50_000))).await;
    counter.all_done().await;
    has(150, 65).await;
    counter.tell("REFUND_REVERSED", "uuid-3", &sold(-30, None)).await;
    counter.all_done().await;
    counter.has("ann", 300, &["granted 0 0", "granted 0 0"]).await;
    has(300, 75).await;
    assert_eq!(counter.entries("ann", "reversal").await, [150, 115, 35]);
}

async fn what_is_used_up_is_missing_and_never_collected(engine: Engine) {
    let counter = Counter::open(engine);
    let sold = |seconds, milliunits| as_of("1001", SMALL, seconds, milliunits);
    granted(&counter.bring_signed("ann", &sold(-60, None)).await, 300);
    let ann = counter.user("ann");
    ann.allocate(&[(QUICK, 225)]).await.ok();
    ann.consume(QUICK, 3_000_000, 0).await.ok();
    counter.tell("REFUND", "uuid-1", &sold(-50, Some(100_000))).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 75 225"]).await;
    granted(&counter.bring_signed("ann", &as_of("1002", SMALL, -60, None)).await, 300);
    counter.tell("REFUND", "uuid-2", &sold(-45, Some(100_000))).await;
    counter.all_done().await;
    counter.has("ann", 300, &["refunded 75 225", "granted 0 0"]).await;
    // 150 come back: the 225 that were missing shrink first.
    counter.tell("REFUND", "uuid-3", &sold(-40, Some(50_000))).await;
    counter.all_done().await;
    counter.has("ann", 300, &["refunded 75 75", "granted 0 0"]).await;
    counter.tell("REFUND", "uuid-4", &sold(-30, Some(20_000))).await;
    counter.all_done().await;
    counter.has("ann", 315, &["refunded 60 0", "granted 0 0"]).await;
    counter.tell("REFUND_REVERSED", "uuid-5", &sold(-20, None)).await;
    counter.all_done().await;
    counter.has("ann", 375, &["granted 0 0", "granted 0 0"]).await;
    assert_eq!(counter.entries("ann", "refund").await, [75]);
    assert_eq!(counter.entries("ann", "reversal").await, [15, 60]);
}

/// A counter with somebody who runs it.
fn with_an_operator(engine: Engine) -> Counter {
    Counter::open_with(engine, |launch| {
        with_metrics(launch.set("BILLING_OPERATOR_TOKEN", OPERATOR))
    })
}

async fn operate(counter: &Counter, path: &str, mut body: Value) -> Reply {
    body["reason"] = json!("I looked");
    let path = format!("/api/billing/operator{path}");
    let request = counter.shop.anybody().request(Method::POST, &path).bearer_auth(OPERATOR);
    Reply::to(request.json(&body)).await
}

async fn what_is_held_is_not_taken_and_a_frozen_account_is_no_shelter(engine: Engine) {
    let counter = with_an_operator(engine);
    granted(&counter.bring_signed("ann", &as_of("1001", SMALL, -60, None)).await, 300);
    let ann = counter.user("ann");
    ann.allocate(&[(QUICK, 300)]).await.ok();
    let hold = ann.post("/holds", &json!({"model_id": QUICK, "tokens": 1_000_000})).await.ok();
    operate(&counter, "/users/ann/freeze", json!({})).await.ok();
    counter.tell("REFUND", "uuid-1", &refunded_as_of("1001", SMALL, -50)).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 225 75"]).await;
    assert_eq!(ann.balance().await["allocated_tokens"][QUICK], 1_000_000);
    // The answer that was begun is paid for with what was held.
    let hold = hold["hold_id"].as_str().expect("an id");
    let used = json!({"input_tokens": 400_000, "output_tokens": 0});
    ann.post(&format!("/holds/{hold}/settle"), &used).await.ok();
    // What is free again is not collected.
    counter.tell("REFUND", "uuid-2", &refunded_as_of("1001", SMALL, -45)).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 225 75"]).await;
    assert_eq!(ann.balance().await["allocated_tokens"][QUICK], 600_000);
}

/// The id of a user's only purchase.
async fn only_purchase(counter: &Counter, user: &str) -> String {
    let sql = format!("SELECT CAST(id AS TEXT) FROM purchases WHERE user_id = '{user}'");
    counter.shop.server.database().texts(&sql).await.concat()
}

async fn the_larger_of_the_stores_and_the_operators_counts(engine: Engine) {
    let counter = with_an_operator(engine);
    let sold = |seconds, milliunits| as_of("1001", SMALL, seconds, milliunits);
    granted(&counter.bring_signed("ann", &sold(-60, None)).await, 300);
    let refund = format!("/purchases/{}/refund", only_purchase(&counter, "ann").await);
    operate(&counter, &refund, json!({"credits": 100})).await.ok();
    counter.has("ann", 200, &["refunded 100 0"]).await;
    for (step, (milliunits, taken)) in
        [(20_000, 100), (50_000, 150), (0, 100), (100_000, 300), (0, 100)].into_iter().enumerate()
    {
        let seconds = i64::try_from(step).expect("a small number") - 50;
        let told = sold(seconds, (milliunits > 0).then_some(milliunits));
        let kind = if milliunits > 0 { "REFUND" } else { "REFUND_REVERSED" };
        counter.tell(kind, &format!("uuid-{step}"), &told).await;
        counter.all_done().await;
        counter.has("ann", 300 - taken, &[&format!("refunded {taken} 0")]).await;
    }
}

async fn what_an_operator_takes_back_is_counted(engine: Engine) {
    let counter = with_an_operator(engine);
    let scraper = scraper(&counter);
    let sold = counter.sell_to("ann", "a", SMALL, 1).await;
    counter.user("ann").allocate(&[(QUICK, 75)]).await.ok();
    counter.user("ann").consume(QUICK, 1_000_000, 0).await.ok();
    let refund = format!("/purchases/{}/refund", only_purchase(&counter, "ann").await);
    operate(&counter, &refund, json!({})).await.ok();
    // The store says the same.
    counter.push("1", &play_voided(sold.token(), sold.order(), true)).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 225 75"]).await;
    let odd = counter.sell("odd", "no.such.product", 1);
    later(&bring(&counter.user("bob"), odd.token()).await, "purchase_in_review", LATER);
    let approve = format!("/purchases/{}/approve", only_purchase(&counter, "bob").await);
    operate(&counter, &approve, json!({"credits": 70})).await.ok();
    shows(&scraper, "credits_purchased_total", 370.0).await;
    shows(&scraper, "credits_refunded_total", 225.0).await;
    shows(&scraper, "credits_shortfall_total", 75.0).await;
    let line = counter.shop.server.wait_for_log("what was refunded was used up");
    assert!(line.contains("shortfall=75"), "{line}");
}

async fn what_is_wrong_with_a_refund_is_found(engine: Engine) {
    let mut counter = Counter::open(engine);
    let sold = counter.sell_to("ann", "a", SMALL, 3).await;
    counter.shop.all_acknowledged().await;
    give_back(&counter, &sold, 1);
    counter.push("1", &play_voided(sold.token(), sold.order(), false)).await;
    let early = counter.sell("early", SMALL, 1);
    counter.push("2", &play_voided(early.token(), early.order(), true)).await;
    counter.all_done().await;
    counter.has("ann", 600, &["refunded 300 0"]).await;
    let id = only_purchase(&counter, "ann").await;
    counter.shop.server.stop().await;
    let counted = |credits: i64| {
        format!(
            "difference: user \"ann\", expected {credits} credits refunded by its store's word \
             of purchase {id}, found 300"
        )
    };
    let unreadable = format!(
        "difference: user \"ann\", expected a refund that can be read of purchase {id}, found \
         another text"
    );
    let two = format!("{{\"pieces\":{{\"{SMALL}\":2}}}}");
    for (refund, line) in [
        (&*two, counted(600)),
        ("{\"whole\":true}", counted(900)),
        ("{\"milliunits\":1}", counted(0)),
        ("[]", unreadable.clone()),
        ("{}", unreadable.clone()),
        ("{\"hole\":true}", unreadable),
    ] {
        let spoil = format!("UPDATE purchases SET refund = '{refund}' WHERE id = {id}");
        check_found(&counter.shop.server, &spoil, 1, &[&line]).await;
    }
    let forgotten = format!("UPDATE purchases SET refund = NULL WHERE id = {id}");
    check_found(&counter.shop.server, &forgotten, 1, &[&counted(0)]).await;
    // As if all of it had been refunded and taken.
    let counted_wrongly =
        format!("UPDATE purchases SET refund_store = 301, shortfall_credits = 1 WHERE id = {id}");
    let line = counted(300).replace("found 300", "found 301");
    check_found(&counter.shop.server, &counted_wrongly, 1, &[&line]).await;
    // Nobody has it.
    let spoil = "UPDATE purchases SET refund = '[]' WHERE user_id IS NULL";
    check_found(&counter.shop.server, spoil, 1, &[]).await;
}

async fn a_whole_refund_before_the_grant_blocks_it(engine: Engine) {
    let mut counter = Counter::open(engine);
    let [pushed, found] = ["pushed", "listed"].map(|name| counter.sell(name, SMALL, 1));
    counter.push("1", &play_voided(pushed.token(), pushed.order(), true)).await;
    counter.tell("REFUND", "uuid-1", &refunded_as_of("1001", SMALL, -50)).await;
    counter.list("REFUND", "uuid-2", &refunded_as_of("1002", SMALL, -50));
    counter.shop.stores.google.refunds.void(&listed(&found, now_ms() - HOUR_MS, None));
    counter.all_done().await;
    counter.start_again().await;
    for user in ["ann", "ann", "bob"] {
        for sold in [&pushed, &found] {
            invalid(&bring(&counter.user(user), sold.token()).await);
        }
        for id in ["1001", "1002"] {
            invalid(&counter.bring_signed(user, &as_of(id, SMALL, -60, None)).await);
        }
        assert_eq!(counter.user(user).balance().await["credits"], 0);
        assert_eq!(counter.entries(user, "purchase").await, [0; 0]);
    }
    assert_eq!(counter.shop.stores.google.delivered(pushed.token()), (false, false));
    crate::verify::check_clean(counter.shop.server.home()).await;
}

async fn a_refund_in_part_before_the_grant_is_booked_with_it(engine: Engine) {
    let mut counter = Counter::open(engine);
    let sold = counter.sell("a", SMALL, 3);
    give_back(&counter, &sold, 1);
    counter.shop.stores.google.refunds.void(&listed(&sold, now_ms() - HOUR_MS, Some(1)));
    let quiet = counter.sell("quiet", SMALL, 3);
    give_back(&counter, &quiet, 2);
    counter.tell("REFUND", "uuid-1", &as_of("1001", SMALL, -50, Some(33_333))).await;
    counter.all_done().await;
    counter.start_again().await;
    bring(&counter.user("ann"), sold.token())
        .await
        .is(200, &json!({"success": true, "new_balance": 600}));
    bring(&counter.user("ann"), quiet.token())
        .await
        .is(200, &json!({"success": true, "new_balance": 900}));
    let reply = counter.bring_signed("ann", &as_of("1001", SMALL, -60, None)).await;
    reply.is(200, &json!({"success": true, "new_balance": 1_100}));
    counter.has("ann", 1_100, &["refunded 100 0", "refunded 300 0", "refunded 600 0"]).await;
    assert_eq!(counter.entries("ann", "purchase").await, [900, 900, 300]);
    assert_eq!(counter.entries("ann", "refund").await, [300, 600, 100]);
}

async fn what_a_store_tells_of_first_waits_for_whoever_brings_it(engine: Engine) {
    let counter = Counter::open(engine);
    let sold = counter.sell("a", SMALL, 1);
    counter.push("1", &play_purchase(sold.token(), SMALL)).await;
    counter.tell("ONE_TIME_CHARGE", "uuid-1", &as_of("1001", LARGE, -60, None)).await;
    counter.all_done().await;
    let unclaimed =
        "SELECT store || ' ' || state FROM purchases WHERE user_id IS NULL ORDER BY store";
    let found = counter.shop.server.database().texts(unclaimed).await;
    assert_eq!(found, ["apple unclaimed", "google unclaimed"]);
    // Nobody is asked about them, and nobody gets them.
    assert_eq!(counter.shop.stores.calls(), []);
    granted(&bring(&counter.user("ann"), sold.token()).await, 300);
    granted(&counter.bring_signed("ann", &as_of("1001", LARGE, -60, None)).await, 1_300);
    assert_eq!(counter.shop.server.database().texts(unclaimed).await, [""; 0]);
    counter.push("2", &play_purchase(sold.token(), SMALL)).await;
    counter.tell("ONE_TIME_CHARGE", "uuid-2", &as_of("1001", LARGE, -50, None)).await;
    counter.all_done().await;
    counter.shop.all_acknowledged().await;
    let mut states = counter.books("ann").await;
    states.sort();
    assert_eq!(states, ["granted 0 0", "granted 0 0"]);
    anothers(&bring(&counter.user("bob"), sold.token()).await);
    crate::verify::check_clean(counter.shop.server.home()).await;
}

async fn what_is_pending_is_woken(engine: Engine) {
    let counter = Counter::open(engine);
    let [paid, cancelled] = ["a", "b"].map(|name| {
        let sold = counter.sell(name, SMALL, 1);
        counter.shop.stores.google.sell(GooglePurchase::pending(sold.token(), SMALL));
        sold
    });
    for sold in [&paid, &cancelled] {
        later(&bring(&counter.user("ann"), sold.token()).await, "purchase_pending", LATER);
    }
    counter.shop.put_off().await;
    counter.shop.stores.google.sell(paid.clone());
    counter.shop.stores.google.sell(cancelled.clone().cancelled());
    counter.push("1", &play_purchase(paid.token(), SMALL)).await;
    let content = json!({
        "version": "1.0", "notificationType": 2, "purchaseToken": cancelled.token(), "sku": SMALL,
    });
    counter.push("2", &play_notification("oneTimeProductNotification", content)).await;
    counter.becomes("ann", &["granted 0 0", "refused 0 0"]).await;
    counter.all_done().await;
    counter.shop.all_acknowledged().await;
    counter.has("ann", 300, &["granted 0 0", "refused 0 0"]).await;
    invalid(&bring(&counter.user("ann"), cancelled.token()).await);
}

async fn a_reversed_refund_grants_what_was_brought(engine: Engine) {
    let counter = Counter::open(engine);
    for id in ["1001", "1002"] {
        let uuid = format!("uuid-1-{id}");
        counter.tell("REFUND", &uuid, &refunded_as_of(id, SMALL, -50)).await;
    }
    counter.all_done().await;
    invalid(&counter.bring_signed("ann", &as_of("1001", SMALL, -60, None)).await);
    for id in ["1001", "1002"] {
        let uuid = format!("uuid-2-{id}");
        counter.tell("REFUND_REVERSED", &uuid, &as_of(id, SMALL, -40, None)).await;
    }
    counter.all_done().await;
    // The app does not come back.
    counter.becomes("ann", &["granted 0 0"]).await;
    counter.has("ann", 300, &["granted 0 0"]).await;
    // Nobody had brought the other one.
    granted(&counter.bring_signed("bob", &as_of("1002", SMALL, -60, None)).await, 300);
    repeated(&counter.bring_signed("ann", &as_of("1001", SMALL, -60, None)).await, 300);
    anothers(&counter.bring_signed("bob", &as_of("1001", SMALL, -60, None)).await);
}

async fn shows(scraper: &Client, series: &str, expected: f64) {
    eventually(&format!("{series} is {expected}"), async || {
        (value(scraper, series).await == Some(expected)).then_some(())
    })
    .await;
}

async fn refunds_are_counted(engine: Engine) {
    let counter = Counter::open_with(engine, with_metrics);
    let scraper = scraper(&counter);
    assert_eq!(value(&scraper, "notification_age_seconds{store=\"google\"}").await, None);
    let spent = counter.sell_to("ann", "spent", SMALL, 1).await;
    let ann = counter.user("ann");
    ann.allocate(&[(QUICK, 75)]).await.ok();
    ann.consume(QUICK, 1_000_000, 0).await.ok();
    let early = counter.sell("early", SMALL, 3);
    give_back(&counter, &early, 1);
    bring(&counter.user("bob"), early.token()).await.ok();
    for id in ["1", "2"] {
        counter.push(id, &play_voided(spent.token(), spent.order(), true)).await;
    }
    counter.all_done().await;
    // 225 of ann's, and 300 of bob's with the grant.
    shows(&scraper, "credits_refunded_total", 525.0).await;
    shows(&scraper, "credits_shortfall_total", 75.0).await;
    shows(&scraper, "credits_given_back_total", 0.0).await;
    shows(&scraper, "purchases{store=\"google\",state=\"refunded\"}", 2.0).await;
    shows(&scraper, "notifications_waiting{store=\"google\"}", 0.0).await;
    let age = value(&scraper, "notification_age_seconds{store=\"google\"}").await;
    assert!(age.is_some_and(|age| (0.0..600.0).contains(&age)), "{age:?}");
    let line = counter.shop.server.wait_for_log("what was refunded was used up");
    assert!(line.contains("shortfall=75"), "{line}");
}

async fn a_test_purchase_is_in_no_total(engine: Engine) {
    let counter = Counter::open_with(engine, with_metrics);
    granted(&counter.bring_signed("ann", &as_of("1001", SMALL, -60, None)).await, 300);
    counter.tell("REFUND", "uuid-1", &refunded_as_of("1001", SMALL, -50)).await;
    counter.all_done().await;
    counter.has("ann", 0, &["refunded 300 0"]).await;
    let scraper = scraper(&counter);
    shows(&scraper, "credits_refunded_total", 0.0).await;
    shows(&scraper, "credits_purchased_total", 0.0).await;
}
