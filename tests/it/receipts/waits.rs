//! What time makes of a purchase that its store does not confirm. The service's clock is set, nobody waits.

use super::{SOON, bring, invalid, later};
use crate::harness::{
    Engine, Launch, Server,
    clock::Clock,
    on_both_engines,
    stores::{Answer, Call, StandIn, google_token},
};

on_both_engines![what_a_store_has_not_known_for_a_day_is_refused];

const HOUR: i64 = 3_600;

async fn what_a_store_has_not_known_for_a_day_is_refused(engine: Engine) {
    let (clock, stores) = (Clock::new(), StandIn::new());
    let launch = clock.given_to(stores.known_to(Launch::new()));
    let server = Server::start_as(engine, launch);
    let client = server.client();
    let [unknown, gone, other] = ["unknown", "gone", "other"].map(google_token);
    let long_gone = Answer::google(410, "global", "purchaseTokenNoLongerValid", "Gone.");
    stores.on(Call::Purchase).of(&gone).always(long_gone);
    // This is about our settings, and never about the purchase.
    let settings = Answer::google(404, "androidpublisher", "applicationNotFound", "No such app.");
    stores.on(Call::Purchase).of(&other).always(settings);
    for hours in [0, 23] {
        clock.shift(hours * HOUR);
        stores.shift(hours * HOUR);
        for token in [&unknown, &gone, &other] {
            later(&bring(&client, token).await, "store_unavailable", SOON);
        }
    }
    clock.shift(25 * HOUR);
    stores.shift(25 * HOUR);
    for token in [&unknown, &gone] {
        invalid(&bring(&client, token).await);
    }
    later(&bring(&client, &other).await, "store_unavailable", SOON);
    assert_eq!(client.balance().await["credits"], 0);
}
