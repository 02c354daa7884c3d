//! SIGKILL in the middle of the work: what was acknowledged is there.

use std::{
    env,
    hash::{BuildHasher, Hasher, RandomState},
};

use crate::harness::{Engine, Load, Server, load::Journal, on_both_engines};

on_both_engines![
    what_was_acknowledged_survives_kills_and_what_was_lost_can_be_repeated,
    several_kills_in_a_row,
];

/// How often the service is killed under load, at least.
const ROUNDS: usize = 20;
/// How often at most, until a kill has hit what was being written.
const MOST_ROUNDS: usize = 200;
/// Most requests and answers before it is.
const MOST_STEPS: u64 = 400;

/// Set to the number that a failed run printed, has the service killed after the same steps again.
const SEED: &str = "KILL_SEED";

/// How many requests and answers there are before each kill.
pub(crate) fn random_steps() -> impl Iterator<Item = usize> {
    let given = env::var(SEED).ok().map(|seed| seed.parse().expect("a seed is a number"));
    let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    // Shown only when the test fails.
    println!("{SEED}={seed} repeats it");
    // An xorshift generator, which must not begin with zero.
    let next = |state: &u64| {
        let mut state = *state;
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state)
    };
    let states = std::iter::successors(Some(seed.max(1)), next);
    states.skip(1).map(|state| usize::try_from(state % MOST_STEPS).expect("a small number"))
}

async fn what_was_acknowledged_survives_kills_and_what_was_lost_can_be_repeated(engine: Engine) {
    let mut server = Server::start_with(engine, &Load::SETTINGS);
    Load::prepare(&server.client()).await;
    let mut journal = Journal::default();
    let (mut lost, mut happened) = (0, 0);
    for (round, steps) in random_steps().enumerate().take(MOST_ROUNDS) {
        if round >= ROUNDS && lost > ROUNDS && happened > 0 {
            break;
        }
        let mut load = Load::go_on(&server.client(), journal);
        load.reach(steps).await;
        server.kill();
        journal = load.journal().await;
        lost += journal.unsettled();
        let verified = server.launch().finish(server.directory(), &["verify"]).await;
        assert_eq!(verified.code, Some(0), "{verified:?}");

        server.start_again();
        // Nothing is done again by itself.
        let balance = server.client().balance().await;
        journal.compare(&server.database()).await;
        server.client().consume("gemini-2.0-flash", 0, 0).await.ok();
        assert_eq!(server.client().balance().await, balance);
        happened += journal.settle(&server.client(), &server.database()).await;
        assert_eq!(journal.unsettled(), 0);
        server.database().check_invariants().await;
    }
    // Else the kills came when nothing was going on.
    assert!(lost > ROUNDS && happened > 0, "{lost} answers lost, {happened} of them happened");
    assert!(journal.acknowledged() > ROUNDS * 10, "{}", journal.acknowledged());
    server.stop().await;
}

async fn several_kills_in_a_row(engine: Engine) {
    let mut server = Server::start(engine);
    for round in 0..3 {
        server.client().add(1, &format!("GPA.{round}")).await.ok();
        let total = server.client().balance().await["credits"].clone();
        server.kill();
        server.database().check_invariants().await;
        server.start_again();
        assert_eq!(server.client().balance().await["credits"], total, "round {round}");
        assert_eq!(total, round + 1);
    }
}
