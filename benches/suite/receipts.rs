//! `cargo bench -- receipts`: purchases that the stores confirm, beside those that are believed; and what others
//! notice, and the service's memory, while a store hangs.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    ROUNDS,
    client::{PATIENCE, Pace, load, send_for_good},
    limits::{Bound, Limits},
    requests::{Call, MODEL, Order, Requests, WITH_TOKENS, numbered_user, token, token_header},
    runs::{Run, amount, grouped, median, median_of, print, print_heading},
    service::Service,
    stores::{Apple, Google, Known, Manner},
};

/// Connections of the load, and clients of a store that hangs.
const CONNECTIONS: usize = 64;
/// Who buys in turn. More may wait for their store than one user may have waiting.
const USERS: u64 = 1_000;
/// How long Google takes for an answer.
const GOOGLE_TAKES: Duration = Duration::from_millis(1);
/// Transactions that are signed for every millisecond of a measurement.
const SIGNED_PER_MS: u64 = 4;
/// How long the service waits for a store's answer. Clients begin spread over it, and so come back spread.
const STORE_PATIENCE: Duration = Duration::from_secs(3);
/// How long memory is looked at, in seconds.
const WATCHED_S: usize = 30;
/// How many of them it may take until memory is steady.
const STEADY_AFTER_S: usize = 6;

/// Connections by which a store pushes, and what it pushes in all for every second of a measurement.
const PUSHERS: usize = 4;
const PUSHED_PER_S: u64 = 200;
/// The first transaction that is told of.
const FIRST_PUSHED: u64 = 3_000_000_000_000_000;

pub(crate) async fn measure(duration: Duration) -> Result<()> {
    let mut limits = Limits::default();
    let apple = Apple::new()?;
    confirmed(&apple, duration, &mut limits).await?;
    store_that_hangs(&apple, duration, &mut limits).await?;
    notified(&apple, duration, &mut limits).await?;
    limits.print();
    Ok(())
}

/// The same call of one user after the other.
fn of_users(call: Call) -> Requests {
    let (call, order) = (Arc::new(call), Order::InTurnFrom(0));
    Requests::Users { call, users: USERS, order, headers: String::new() }
}

/// Purchases on a client's word, on Google's and on Apple's.
async fn confirmed(apple: &Apple, duration: Duration, limits: &mut Limits) -> Result<()> {
    let google = Google::open(Manner::AnswersAfter(GOOGLE_TAKES)).await?;
    let known = Known::new(&google, apple)?;
    let mut believing = Service::start_filled(&WITH_TOKENS, &token_header(&token("ann")?)).await?;
    let mut confirming = Service::start(crate::service::new_folder()?, &known.settings()).await?;
    let (believed, brought) = (of_users(Call::add_credits(300)), of_users(Call::bring_google()));
    let (mut on_word, mut on_google, mut on_apple) = (Vec::new(), Vec::new(), Vec::new());
    let (mut acknowledged, mut signed) = (Vec::new(), 0);
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        let pace = Pace::AtOnce(duration);
        on_word.push(believing.load(CONNECTIONS, &believed, pace).await?);
        let (before, started) = (google.acknowledged(), Instant::now());
        let run = confirming.load(CONNECTIONS, &brought, pace).await?;
        acknowledged.push(
            amount(google.acknowledged().saturating_sub(before)) / started.elapsed().as_secs_f64(),
        );
        on_google.push(run);
        // What is left to be told would take the time of those that follow.
        all_acknowledged(&google, &on_google).await?;
        let count = u64::try_from(duration.as_millis())?.saturating_mul(SIGNED_PER_MS);
        let transactions = transactions(apple, signed, count)?;
        signed = signed.saturating_add(count);
        on_apple.push(confirming.load(CONNECTIONS, &transactions, Pace::Exactly(count)).await?);
    }
    let mut recorded = believing.stop().await?.recorded;
    recorded = recorded.saturating_add(confirming.stop().await?.recorded);

    let [word, google, apple] = [&on_word, &on_google, &on_apple].map(|runs| median(runs));
    print_heading();
    print("credits/add, believed", CONNECTIONS, &word);
    print("credits/add, Google answers after 1 ms", CONNECTIONS, &google);
    print("credits/add, signed by Apple", CONNECTIONS, &apple);
    println!("\nacknowledged meanwhile, per second: {}", grouped(median_of(acknowledged)));
    println!("transactions acknowledged, every one found on disk: {}", grouped(amount(recorded)));
    for (store, figures) in [("Google", google), ("Apple", apple)] {
        println!("{store} / believed: {:.2}", figures.per_second / word.per_second);
        let what = format!("purchases confirmed by {store} per second");
        limits.hold(&what, figures.per_second, Bound::AtLeast(1_000.0));
    }
    Ok(())
}

async fn all_acknowledged(google: &Google, runs: &[Run]) -> Result<()> {
    let granted = runs.iter().map(|run| run.recorded).sum();
    let started = Instant::now();
    while google.acknowledged() < granted {
        ensure!(started.elapsed() < PATIENCE, "Google was not told of every purchase");
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Signed transactions from a number on, of one user after the other.
fn transactions(apple: &Apple, first: u64, count: u64) -> Result<Requests> {
    const FIRST_ID: u64 = 2_000_000_000_000_000;
    let text = |number: u64| {
        let jws = apple.sign(FIRST_ID.saturating_add(first).saturating_add(number))?;
        let user = numbered_user(number.checked_rem(USERS).unwrap_or_default());
        Ok(Call::bring(&jws).with(&token_header(&token(&user)?)))
    };
    Ok(Requests::Each((0..count).map(text).collect::<Result<_>>()?))
}

/// What consumptions of others and memory have to do with a store that hangs: nothing.
async fn store_that_hangs(apple: &Apple, duration: Duration, limits: &mut Limits) -> Result<()> {
    let google = Google::open(Manner::Hangs).await?;
    let known = Known::new(&google, apple)?;
    let header = token_header(&token("ann")?);
    let consume = Requests::one(&Call::consume(MODEL), &header);
    // What waits is asked for again after its client has gone, so that nobody else is measured there.
    let mut alone = filled(&known, &header).await?;
    let mut beside = filled(&known, &header).await?;
    let (mut undisturbed, mut disturbed) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS} with a store that hangs");
        undisturbed.push(alone.load(CONNECTIONS, &consume, Pace::AtOnce(duration)).await?);
        let buyers = Buyers::come(&beside, &google).await?;
        disturbed.push(beside.load(CONNECTIONS, &consume, Pace::AtOnce(duration)).await?);
        buyers.leave()?;
    }
    let memory = watch_memory(&mut beside, &google, &consume).await?;
    alone.stop().await?;
    beside.stop().await?;

    let [undisturbed, disturbed] = [undisturbed, disturbed].map(|runs| median(&runs));
    print_heading();
    print("consume, alone", CONNECTIONS, &undisturbed);
    print("consume, 64 wait for a store that hangs", CONNECTIONS, &disturbed);
    memory.print();
    let ratio = disturbed.per_second / undisturbed.per_second;
    limits.hold("consume while a store hangs / alone", ratio, Bound::AtLeast(0.9));
    let grown = memory.grown_mib();
    limits.hold("memory grown while a store hangs, MiB", grown, Bound::AtMost(8.0));
    Ok(())
}

/// How long a store waits for an answer to what it pushes, while others consume as fast as they can.
async fn notified(apple: &Apple, duration: Duration, limits: &mut Limits) -> Result<()> {
    let google = Google::open(Manner::AnswersAfter(GOOGLE_TAKES)).await?;
    let known = Known::new(&google, apple)?;
    let header = token_header(&token("ann")?);
    let consume = Requests::one(&Call::consume(MODEL), &header);
    let mut service = filled(&known, &header).await?;
    let address = service.server.address;
    let count = PUSHED_PER_S.saturating_mul(duration.as_secs().max(1));
    let (mut consumed, mut pushed) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS} with notifications");
        let first = FIRST_PUSHED.saturating_add(u64::try_from(round)?.saturating_mul(count));
        let texts = (first..first.saturating_add(count))
            .map(|id| Ok(Call::notify_apple(&apple.notification(id)?).with("")))
            .collect::<Result<_>>()?;
        let messages = Requests::Each(texts);
        let pushing = load(address, PUSHERS, &messages, Pace::Exactly(count));
        let consuming = service.load(CONNECTIONS, &consume, Pace::AtOnce(duration));
        let (consuming, pushing) = tokio::try_join!(consuming, pushing)?;
        consumed.push(consuming);
        pushed.push(pushing);
    }
    service.stop().await?;

    let [consumed, pushed] = [consumed, pushed].map(|runs| median(&runs));
    print_heading();
    print("consume, while a store pushes", CONNECTIONS, &consumed);
    print("notifications of Apple's meanwhile", PUSHERS, &pushed);
    println!("notification / consume, p99: {:.2}", pushed.p99_ms / consumed.p99_ms);
    limits.hold("p99 of a notification's answer, ms", pushed.p99_ms, Bound::AtMost(100.0));
    Ok(())
}

/// A service that asks these stores, in which the user of the header has bought enough.
async fn filled(known: &Known, header: &str) -> Result<Service> {
    let directory = Service::start_filled(&WITH_TOKENS, header).await?.stop().await?.directory;
    Service::start(directory, &known.settings()).await
}

/// Clients that bring one purchase after the other to a store that hangs. They go when this is dropped.
struct Buyers(JoinSet<Result<()>>);

impl Buyers {
    /// Comes back when all of them wait.
    async fn come(service: &Service, google: &Google) -> Result<Self> {
        let (numbers, mut buyers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        let pause = STORE_PATIENCE.div_f64(amount(CONNECTIONS));
        for _ in 0..CONNECTIONS {
            let (numbers, address) = (Arc::clone(&numbers), service.server.address);
            let brought = of_users(Call::bring_google());
            buyers.spawn(async move { send_for_good(address, brought, &numbers, "503").await });
            sleep(pause).await;
        }
        let started = Instant::now();
        while google.hanging() < CONNECTIONS {
            ensure!(started.elapsed() < PATIENCE, "the purchases do not wait for their store");
            sleep(Duration::from_millis(1)).await;
        }
        Ok(Self(buyers))
    }

    /// Fails if one of them was answered anything but that it has to wait.
    fn leave(mut self) -> Result<()> {
        match self.0.try_join_next() {
            Some(ended) => ended?,
            None => Ok(()),
        }
    }
}

/// Resident memory, in MiB.
struct Memory {
    before: f64,
    /// Every second.
    meanwhile: Vec<f64>,
    after: f64,
}

async fn watch_memory(
    service: &mut Service,
    google: &Google,
    consume: &Requests,
) -> Result<Memory> {
    eprintln!("watching memory for {WATCHED_S} seconds");
    let before = service.server.resident_mib()?;
    let buyers = Buyers::come(service, google).await?;
    let mut meanwhile = Vec::new();
    for _ in 0..WATCHED_S {
        service.load(CONNECTIONS, consume, Pace::AtOnce(Duration::from_secs(1))).await?;
        meanwhile.push(service.server.resident_mib()?);
    }
    buyers.leave()?;
    sleep(STORE_PATIENCE).await;
    Ok(Memory { before, meanwhile, after: service.server.resident_mib()? })
}

impl Memory {
    /// By how much it grew at most after it should have been steady.
    fn grown_mib(&self) -> f64 {
        let (first, later) = self.meanwhile.split_at(STEADY_AFTER_S.min(self.meanwhile.len()));
        let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
        most(later) - most(first)
    }

    fn print(&self) {
        let Self { before, meanwhile, after } = self;
        let texts: Vec<String> =
            meanwhile.iter().step_by(3).map(|mib| format!("{mib:.1}")).collect();
        println!(
            "\nresident memory, MiB: {before:.1} before; {} while a store hangs, every 3 s; {after:.1} after",
            texts.join(" ")
        );
    }
}
