//! Every answer of Google's, and what the client gets for it: only what is known to be final is 400.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{LARGE, LATER, SMALL, SOON, Shop, bring, entries, granted, invalid, later, receipt};
use crate::harness::{
    Engine, Home, Reply, on_both_engines,
    stores::{Answer, Call, GooglePurchase, StandIn, google_token},
};

on_both_engines![
    errors_of_googles_may_pass_but_for_the_malformed_token,
    what_google_says_of_a_purchase_decides,
    rights_that_are_missing_cost_no_access_token,
    an_access_token_that_is_no_longer_good_is_asked_for_anew,
    a_fresh_purchase_may_be_unknown_for_a_moment,
];

/// What a client may get.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    Granted(i64),
    Never,
    Unavailable,
    Pending,
    Review,
}

use Outcome::{Granted, Never, Pending, Review, Unavailable};

impl Outcome {
    fn check(self, reply: &Reply) {
        match self {
            Granted(balance) => granted(reply, balance),
            Never => invalid(reply),
            Unavailable => later(reply, "store_unavailable", SOON),
            Pending => later(reply, "purchase_pending", LATER),
            Review => later(reply, "purchase_in_review", LATER),
        }
    }

    /// What the purchase is then.
    fn state(self) -> &'static str {
        match self {
            Granted(_) => "google granted",
            Never => "google refused",
            Unavailable => "google received",
            Pending => "google pending",
            Review => "google review",
        }
    }
}

/// Has a user of its own bring a purchase for each answer, all at once, and checks what comes of it.
async fn check_all(shop: &Shop, rows: Vec<(Answer, Outcome)>) {
    let before = entries(&shop.server.database()).await;
    let granted = rows.iter().filter(|(_, outcome)| matches!(outcome, Granted(_))).count();
    let calls = rows.into_iter().enumerate().map(async |(row, (answer, outcome))| {
        println!("{row}: {answer:?}, {outcome:?}");
        let (user, token) = (format!("user-{row}"), google_token(&format!("row-{row}")));
        shop.stores.on(Call::Purchase).of(&token).always(answer);
        let reply = bring(&shop.user(&user), &token).await;
        println!("{row}: {reply:?}");
        outcome.check(&reply);
        assert_eq!(shop.states(&user).await, [outcome.state()], "{row}");
    });
    join_all(calls).await;
    let after = entries(&shop.server.database()).await;
    assert_eq!(after[..before.len()], before);
    assert_eq!(after.len(), before.len() + granted);
}

fn publisher(status: u16, reason: &str) -> Answer {
    Answer::google(status, "androidpublisher", reason, "What a person may read.")
}

fn global(status: u16, reason: &str) -> Answer {
    Answer::google(status, "global", reason, "What a person may read.")
}

async fn errors_of_googles_may_pass_but_for_the_malformed_token(engine: Engine) {
    let stores = StandIn::new();
    // A list that can be read would tell that the package is ours.
    stores.on(Call::Voided).always(global(503, "backendError"));
    let shop = Shop::open_on(stores, Home::new(engine), |launch| launch);
    let rows = vec![
        (global(400, "invalid"), Never),
        (global(400, "invalidValue"), Never),
        (publisher(400, "purchaseTokenDoesNotMatchProductId"), Unavailable),
        (publisher(400, "purchaseTokenDoesNotMatchPackageName"), Unavailable),
        (publisher(400, "invalidPurchaseState"), Unavailable),
        (publisher(400, "somethingNew"), Unavailable),
        (Answer::html(400), Unavailable),
        (publisher(401, "permissionDenied"), Unavailable),
        (global(401, "authError"), Unavailable),
        (global(403, "forbidden"), Unavailable),
        (publisher(403, "permissionDenied"), Unavailable),
        (global(404, "purchaseTokenNotFound"), Unavailable),
        (publisher(404, "applicationNotFound"), Unavailable),
        (global(404, "notFound"), Unavailable),
        (Answer::html(404), Unavailable),
        (publisher(409, "concurrentUpdate"), Unavailable),
        (global(410, "purchaseTokenNoLongerValid"), Unavailable),
        (global(429, "rateLimitExceeded").with("retry-after", "7"), Unavailable),
        (global(500, "backendError"), Unavailable),
        (Answer::html(502), Unavailable),
        (global(503, "backendError"), Unavailable),
        (Answer::html(200), Unavailable),
        (Answer::empty(204), Unavailable),
        (Answer::huge(50), Unavailable),
        (Answer::redirect(302, "/elsewhere"), Unavailable),
        (Answer::redirect(308, "/elsewhere"), Unavailable),
        (Answer::closed(), Unavailable),
        (Answer::cut_off("{\"kind\":"), Unavailable),
        (Answer::stalled("{\"kind\":"), Unavailable),
        (Answer::nothing(), Unavailable),
    ];
    check_all(&shop, rows).await;
}

async fn what_google_says_of_a_purchase_decides(engine: Engine) {
    let shop = Shop::open(engine);
    let paid = || GooglePurchase::paid("unused", SMALL);
    // What a purchase's word is when one of its parts is another.
    let changed = |pointer: &str, value: Value| {
        let mut word = paid().word();
        *word.pointer_mut(pointer).expect("it is there") = value;
        word
    };
    let line = "/productLineItem/0/productOfferDetails";
    let state = "/purchaseStateContext/purchaseState";
    let rows: Vec<(Value, Outcome)> = vec![
        (paid().word(), Granted(300)),
        (paid().times(3).word(), Granted(900)),
        (paid().and(LARGE, 2).word(), Granted(2_300)),
        (paid().ordered_as(None).word(), Granted(300)),
        (paid().acknowledged().word(), Granted(300)),
        (paid().consumed().word(), Granted(300)),
        (paid().by_a_tester().word(), Granted(300)),
        (paid().sold_to("nobody we know").word(), Granted(300)),
        (paid().cancelled().word(), Never),
        (changed(&format!("{line}/refundableQuantity"), json!(0)), Never),
        (GooglePurchase::pending("unused", SMALL).word(), Pending),
        (GooglePurchase::paid("unused", "noteapp.credits.unknown").word(), Review),
        (paid().and("noteapp.credits.unknown", 1).word(), Review),
        (changed(state, json!("PURCHASE_STATE_UNSPECIFIED")), Unavailable),
        (changed(state, json!("SOMETHING_NEW")), Unavailable),
        (changed(state, json!(0)), Unavailable),
        (changed("/purchaseStateContext", json!(null)), Unavailable),
        (changed("/productLineItem", json!([])), Unavailable),
        (changed("/productLineItem", json!(null)), Unavailable),
        (changed("/productLineItem/0/productId", json!("")), Unavailable),
        (changed(&format!("{line}/quantity"), json!(-1)), Unavailable),
        (changed(&format!("{line}/quantity"), json!("many")), Unavailable),
        (json!({}), Unavailable),
        (json!([]), Unavailable),
        (json!(null), Unavailable),
    ];
    let rows = rows.into_iter().map(|(word, outcome)| (Answer::json(200, &word), outcome));
    check_all(&shop, rows.collect()).await;
}

async fn rights_that_are_missing_cost_no_access_token(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let answer = publisher(401, "permissionDenied");
    for number in 0..3 {
        let token = google_token(&format!("{number}"));
        shop.stores.on(Call::Purchase).of(&token).always(answer.clone());
        later(&bring(&ann, &token).await, "store_unavailable", SOON);
    }
    assert_eq!(shop.stores.on(Call::AccessToken).count(), 1);
}

async fn an_access_token_that_is_no_longer_good_is_asked_for_anew(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    for (number, balance) in [(1, 300), (2, 600)] {
        let token = google_token(&format!("{number}"));
        shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
        granted(&bring(&ann, &token).await, balance);
        shop.all_acknowledged().await;
        shop.stores.google.revoke_access();
    }
    assert_eq!(shop.stores.on(Call::AccessToken).count(), 2);
}

async fn a_fresh_purchase_may_be_unknown_for_a_moment(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    for (number, status) in [(1, 404), (2, 410)] {
        let token = google_token(&format!("{number}"));
        shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
        let unknown = global(status, "purchaseTokenNotFound");
        shop.stores.on(Call::Purchase).of(&token).next(2, unknown);
        granted(&bring(&ann, &token).await, number * 300);
    }
}

/// No SQL is involved, so one engine is enough.
#[tokio::test]
async fn what_keeps_google_from_giving_access_may_pass() {
    let grant = json!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."});
    for answer in [
        Answer::json(400, &grant),
        Answer::json(401, &json!({"error": "invalid_client"})),
        Answer::html(200),
        Answer::json(200, &json!({"access_token": "ya29.stand-in-1"})),
        Answer::json(200, &json!({"expires_in": 3_599})),
        Answer::redirect(307, "/elsewhere"),
        Answer::huge(2),
        Answer::html(503),
        Answer::closed(),
    ] {
        println!("{answer:?}");
        // Each time anew: how long to leave Google alone is remembered.
        let mut shop = Shop::open(Engine::Sqlite);
        let token = google_token("a");
        shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
        shop.stores.on(Call::AccessToken).always(answer);
        later(&bring(&shop.user("ann"), &token).await, "store_unavailable", SOON);
        assert_eq!(shop.stores.on(Call::Purchase).count(), 0);
        shop.server.stop().await;
        shop.stores.on(Call::AccessToken).forget();
        shop.server.start_again();
        shop.stores.on(Call::Acknowledge).reach(1).await;
        shop.balance_becomes("ann", 300).await;
    }
}

/// The texts are for people, whose language may be either.
#[tokio::test]
async fn refusals_are_told_in_both_languages() {
    let shop = Shop::open(Engine::Sqlite);
    let ann = shop.user("ann");
    let token = google_token("a");
    shop.stores.google.sell(GooglePurchase::pending(&token, SMALL));
    let other = google_token("b");
    shop.stores.on(Call::Purchase).of(&other).always(Answer::html(500));
    for language in ["ja", "en"] {
        for (token, code, retry_after) in
            [(&token, "purchase_pending", LATER), (&other, "store_unavailable", SOON)]
        {
            let request = ann.request(Method::POST, "/api/billing/credits/add");
            let request = request.header("accept-language", language).json(&receipt(token));
            let reply = Reply::to(request).await;
            later(&reply, code, retry_after);
            assert_eq!(reply.header("content-language"), Some(language), "{reply:?}");
        }
    }
}
