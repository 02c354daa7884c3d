//! A store that is away, slow or broken: the client is told to come later in time, and what was paid is granted
//! even if it never does.

use futures_util::future::join_all;

use super::{SMALL, SOON, Shop, bring, granted, later, receipt, repeated};
use crate::harness::{
    Engine, RawConnection, Reply, on_both_engines, raw,
    stores::{Answer, Call, GooglePurchase, google_token},
    token::{claims, token},
};

on_both_engines![
    what_could_not_be_asked_is_granted_after_a_restart,
    what_could_not_be_asked_is_asked_again_by_itself,
    a_client_that_hangs_up_loses_nothing,
    the_service_serves_on_while_a_store_hangs,
    whoever_was_first_owns_it_also_while_the_store_is_away,
];

fn outages() -> Vec<Answer> {
    vec![
        Answer::nothing(),
        Answer::stalled("{"),
        Answer::html(200),
        Answer::huge(50),
        Answer::redirect(301, "/elsewhere"),
        Answer::closed(),
    ]
}

async fn what_could_not_be_asked_is_granted_after_a_restart(engine: Engine) {
    let mut shop = Shop::open(engine);
    let outages = outages();
    let count = outages.len();
    let calls = outages.into_iter().enumerate().map(async |(number, answer)| {
        let token = google_token(&format!("{number}"));
        shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
        shop.stores.on(Call::Purchase).of(&token).always(answer);
        let reply = bring(&shop.user(&format!("user-{number}")), &token).await;
        later(&reply, "store_unavailable", SOON);
    });
    join_all(calls).await;
    shop.server.stop().await;
    for number in 0..count {
        shop.stores.on(Call::Purchase).of(&google_token(&format!("{number}"))).forget();
    }
    shop.server.start_again();
    for number in 0..count {
        shop.balance_becomes(&format!("user-{number}"), 300).await;
    }
    shop.all_acknowledged().await;
}

async fn what_could_not_be_asked_is_asked_again_by_itself(engine: Engine) {
    let shop = Shop::open(engine);
    let ann = shop.user("ann");
    let token = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
    shop.stores.on(Call::Purchase).always(Answer::html(500));
    shop.stores.on(Call::Acknowledge).next(1, Answer::html(500));
    later(&bring(&ann, &token).await, "store_unavailable", SOON);
    let asked = shop.stores.on(Call::Purchase).count();
    shop.stores.on(Call::Purchase).forget();
    shop.stores.on(Call::Purchase).reach(asked + 1).await;
    shop.balance_becomes("ann", 300).await;
    repeated(&bring(&ann, &token).await, 300);
    // The same holds for what Google is to be told.
    shop.stores.on(Call::Acknowledge).reach(2).await;
    shop.all_acknowledged().await;
}

async fn a_client_that_hangs_up_loses_nothing(engine: Engine) {
    let shop = Shop::open(engine);
    let token = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
    let mut held = shop.stores.on(Call::Purchase).hold();
    let body = receipt(&token).to_string();
    let mut connection: RawConnection = shop.server.connect();
    let request = raw::post("/credits/add", &body);
    let login = format!("Authorization: Bearer {}\r\nContent-Type", login_of("ann"));
    connection.send(request.replacen("Content-Type", &login, 1));
    held.arrived().await;
    drop(connection);
    held.go_on();
    shop.balance_becomes("ann", 300).await;
    shop.all_acknowledged().await;
}

fn login_of(user: &str) -> String {
    token(&claims(user))
}

async fn the_service_serves_on_while_a_store_hangs(engine: Engine) {
    let shop = Shop::open(engine);
    let bob = shop.user("bob");
    let slow = google_token("slow");
    shop.stores.google.sell(GooglePurchase::paid(&slow, SMALL));
    let mut held = shop.stores.on(Call::Purchase).of(&slow).hold();
    let client = shop.user("ann");
    let body = receipt(&slow);
    let waiting = tokio::spawn(async move { client.post("/credits/add", &body).await });
    held.arrived().await;
    let quick = google_token("quick");
    shop.stores.google.sell(GooglePurchase::paid(&quick, SMALL));
    granted(&bring(&bob, &quick).await, 300);
    bob.allocate(&[("gemini-2.0-flash", 100)]).await.ok();
    bob.consume("gemini-2.0-flash", 10, 10).await.ok();
    // Whoever waits may have been told so by now, on a slow machine.
    held.go_on();
    let reply: Reply = waiting.await.expect("the call ends");
    assert!([200, 503].contains(&reply.status), "{reply:?}");
    shop.balance_becomes("ann", 300).await;
}

async fn whoever_was_first_owns_it_also_while_the_store_is_away(engine: Engine) {
    let shop = Shop::open(engine);
    let [ann, bob] = ["ann", "bob"].map(|user| shop.user(user));
    let token = google_token("a");
    shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
    shop.stores.on(Call::Purchase).always(Answer::nothing());
    later(&bring(&ann, &token).await, "store_unavailable", SOON);
    shop.stores.on(Call::Purchase).forget();
    // Asked for by somebody else, it is granted to its owner.
    let reply = bring(&bob, &token).await;
    assert!([409, 503].contains(&reply.status), "{reply:?}");
    shop.balance_becomes("ann", 300).await;
    super::anothers(&bring(&bob, &token).await);
    repeated(&bring(&ann, &token).await, 300);
}
