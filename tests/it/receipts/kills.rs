//! SIGKILL between each two steps of a purchase: it is granted once and acknowledged, though the app never comes
//! back.

use serde_json::json;

use super::{SMALL, Shop, bring, counter::at, receipt, repeated};
use crate::harness::{
    Engine, Launch, Reply, Server,
    clock::Clock,
    eventually, on_both_engines,
    stores::{Call, GooglePurchase, Market, StandIn, consumable, google_token},
};

on_both_engines![
    a_kill_between_any_two_steps_loses_nothing_and_grants_nothing_twice,
    a_kill_while_it_is_consumed_leaves_it_to_be_consumed,
];

/// Where the service is killed: the call it makes, whether it has had its effect, and what the purchase is then.
const STEPS: [(Call, bool, &str); 8] = [
    (Call::AccessToken, false, "google received"),
    (Call::Purchase, false, "google received"),
    (Call::Purchase, true, "google received"),
    (Call::Acknowledge, false, "google granted"),
    (Call::Acknowledge, true, "google granted"),
    (Call::Transaction, false, "apple received"),
    (Call::SandboxTransaction, false, "apple received"),
    (Call::SandboxTransaction, true, "apple received"),
];

async fn a_kill_between_any_two_steps_loses_nothing_and_grants_nothing_twice(engine: Engine) {
    let mut shop = Shop::open(engine);
    for (step, (call, after, state)) in STEPS.into_iter().enumerate() {
        let user = format!("user-{step}");
        let token = if state.starts_with("google") {
            google_token(&format!("{step}"))
        } else {
            format!("{}", 1_000 + step)
        };
        shop.stores.google.sell(GooglePurchase::paid(&token, SMALL));
        let signed = shop.stores.apple.signed(&consumable(&token, SMALL));
        shop.stores.apple.sell(Market::Sandbox, &token, &signed);
        // At each start the list of voided purchases is read, with an access token.
        // Whoever reads it has it for some minutes; one that was read is left alone for longer.
        shop.stores.on(Call::Voided).reach(step + 1).await;
        let soon = at(crate::harness::token::now() + 600);
        let reading =
            format!("SELECT name FROM sweeps WHERE name = 'google voided' AND due_at < '{soon}'");
        shop.until_none(&reading).await;
        shop.stores.google.revoke_access();
        let on = shop.stores.on(call);
        let mut held = if after { on.hold_answer() } else { on.hold() };
        let client = shop.user(&user);
        let body = receipt(&token);
        let sent = tokio::spawn(async move {
            let path = "/api/billing/credits/add";
            Reply::try_to(client.request(reqwest::Method::POST, path).json(&body)).await
        });
        held.arrived().await;
        shop.server.kill();
        drop(held);
        let answered = sent.await.expect("the call ends").is_ok_and(|reply| reply.status == 200);
        assert!(!answered || state.ends_with("granted"), "{call:?}: answered too early");
        assert_eq!(shop.states(&user).await, [state], "{call:?}");
        let verified = shop.server.launch().finish(shop.server.directory(), &["verify"]).await;
        assert_eq!(verified.code, Some(0), "{verified:?}");

        // Lists that were read just before a start are left alone.
        shop.server.database().execute("UPDATE sweeps SET due_at = NULL").await;
        shop.server.start_again();
        shop.balance_becomes(&user, 300).await;
        shop.all_acknowledged().await;
        let told = (state.starts_with("google"), false);
        assert_eq!(shop.stores.google.delivered(&token), told, "{call:?}");
        repeated(&bring(&shop.user(&user), &token).await, 300);
    }
    let grants = "SELECT user_id FROM transactions ORDER BY id";
    assert_eq!(shop.server.database().texts(grants).await.len(), STEPS.len());
}

/// A day and a bit, in seconds.
const A_DAY_LATER: i64 = 90_000;
/// Longer than an instance that has died keeps others from its work, in seconds.
const A_WHILE: i64 = 60;

async fn a_kill_while_it_is_consumed_leaves_it_to_be_consumed(engine: Engine) {
    let (clock, stores) = (Clock::new(), StandIn::new());
    let launch = clock.given_to(stores.known_to(Launch::new()));
    let mut server = Server::start_as(engine, launch);
    for (days, after) in [(1, false), (2, true)] {
        let token = google_token(&format!("{days}"));
        stores.google.sell(GooglePurchase::paid(&token, SMALL));
        bring(&server.client(), &token).await.ok();
        stores.on(Call::Acknowledge).of(&token).reach(1).await;
        server.stop().await;
        assert_eq!(stores.google.delivered(&token), (true, false));
        clock.shift(days * A_DAY_LATER);
        stores.shift(days * A_DAY_LATER);
        let on = stores.on(Call::Consume).of(&token);
        let mut held = if after { on.hold_answer() } else { on.hold() };
        server.start_again();
        held.arrived().await;
        server.kill();
        drop(held);
        // Nobody else has it in hand any more.
        clock.shift(days * A_DAY_LATER + A_WHILE);
        stores.shift(days * A_DAY_LATER + A_WHILE);
        server.start_again();
        eventually("it is consumed, and forgotten", async || {
            let sql = "SELECT key FROM purchases WHERE consumed_at IS NULL OR token IS NOT NULL";
            server.database().texts(sql).await.is_empty().then_some(())
        })
        .await;
        assert_eq!(stores.google.delivered(&token), (true, true));
    }
    let balance = json!({"credits": 600, "allocated_tokens": {}});
    assert_eq!(server.client().balance().await, balance);
}
