//! `cargo bench -- soak`: a mixed load for a long time, at 70 % of what is possible: whether memory, latency
//! and the most that is possible stay as they are.
//!
//! A shared machine is now slow, now fast. So what is possible is measured anew every minute, in turn with
//! what the bare handler reaches, and told as a share of that. And of each figure the better quartile is
//! compared: a slow minute of the machine spoils some of a quarter's windows, a cost that grows all of them.

use std::time::Duration;

use anyhow::Result;

use crate::{
    CONNECTIONS, ROUNDS,
    chart::{Axis, Chart, Line},
    client::{Pace, load},
    guard::guarded,
    requests::{Call, MODEL, Requests, key_header},
    runs::{Figures, amount, grouped, median},
    server::Server,
    service::Service,
};

const WINDOW: Duration = Duration::from_secs(5);
const WINDOWS_PER_MINUTE: u64 = 12;
const SHARE_OF_MOST: f64 = 0.7;
/// By how much the last quarter's figures may pass those of the second and still count as flat. Latencies
/// on a shared machine differ more than that from minute to minute at their 99th percentile.
const MEMORY_TOLERANCE: f64 = 1.1;
const LATENCY_TOLERANCE: f64 = 1.5;
/// By how much the share of the bare handler may fall.
const SHARE_TOLERANCE: f64 = 1.1;

/// What is possible at a time.
struct Most {
    minute: f64,
    per_second: f64,
    share_of_bare: f64,
}

/// What a window of the load came to.
struct Window {
    minute: f64,
    figures: Figures,
    resident_mib: f64,
}

pub(crate) async fn measure(seconds: Duration, minutes: u64) -> Result<()> {
    let mut service = Service::start_filled(&[], "").await?;
    let bare = Server::spawn(guarded(std::env::current_exe()?)?.arg("bare"))?;
    let mix = mix();
    let (mut mosts, mut windows) = (Vec::new(), Vec::new());
    for minute in 0..minutes {
        let minute = amount(minute);
        let most = most(&mut service, &bare, &mix, Pace::AtOnce(seconds), minute).await?;
        let pace = Pace::fixed(most.per_second * SHARE_OF_MOST, WINDOW);
        mosts.push(most);
        for number in 1..=WINDOWS_PER_MINUTE {
            let run = service.load(CONNECTIONS, &mix, pace).await?;
            let minute = minute + amount(number) / amount(WINDOWS_PER_MINUTE);
            let resident_mib = service.server.resident_mib()?;
            let Figures { p50_ms, p99_ms, .. } = run.figures;
            eprintln!("{minute:>6.1} min{p50_ms:>8.2}{p99_ms:>8.2} ms{resident_mib:>8.1} MiB");
            windows.push(Window { minute, figures: run.figures, resident_mib });
        }
    }
    let recorded = service.stop().await?.recorded;
    println!("transactions acknowledged, every one found on disk: {}", grouped(amount(recorded)));
    judge(&windows, &mosts);
    draw(&windows, &mosts)
}

async fn most(
    service: &mut Service,
    bare: &Server,
    mix: &Requests,
    pace: Pace,
    minute: f64,
) -> Result<Most> {
    let consume = Requests::one(&Call::consume(MODEL), "");
    let (mut mixed, mut consumptions) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        mixed.push(service.load(CONNECTIONS, mix, pace).await?);
        consumptions.push(load(bare.address, CONNECTIONS, &consume, pace).await?);
    }
    let per_second = median(&mixed).per_second;
    let bare = median(&consumptions).per_second;
    let share_of_bare = per_second / bare;
    eprintln!("at most {} per second, {share_of_bare:.2} of the bare handler", grouped(per_second));
    Ok(Most { minute, per_second, share_of_bare })
}

/// Ten requests, each as often as any other: half of them plain consumptions.
fn mix() -> Requests {
    let consume = Call::consume(MODEL).with("");
    let others = [
        Call::consume(MODEL).with(&key_header()),
        Call::balance().with(""),
        Call::balance().with(""),
        Call::first_page().with(""),
        Call::add_credits(300).with(""),
    ];
    let mut texts = vec![consume; 5];
    texts.extend(others);
    Requests::Any(texts.into())
}

/// Says of each figure whether it is flat after the first quarter, in which memory is filled.
fn judge(windows: &[Window], mosts: &[Most]) {
    let tell = |name: &str, second: f64, last: f64, is_flat: bool| {
        let flat = if is_flat { "flat" } else { "NOT FLAT" };
        println!("{name:<24}{second:>10.2} in the second quarter{last:>10.2} in the last: {flat}");
    };
    let at_most = |name: &str, tolerance: f64, figure: fn(&Window) -> f64| {
        let quartile = |part: &[Window]| lower_quartile(part.iter().map(figure).collect());
        let (second, last) = second_and_last_quarter(windows);
        let (second, last) = (quartile(second), quartile(last));
        tell(name, second, last, last <= second * tolerance);
    };
    at_most("memory, MiB", MEMORY_TOLERANCE, |window| window.resident_mib);
    at_most("p50, ms", LATENCY_TOLERANCE, |window| window.figures.p50_ms);
    at_most("p99, ms", LATENCY_TOLERANCE, |window| window.figures.p99_ms);
    let quartile = |part: &[Most]| -lower_quartile(part.iter().map(|m| -m.share_of_bare).collect());
    let (second, last) = second_and_last_quarter(mosts);
    let (second, last) = (quartile(second), quartile(last));
    tell("most / bare handler", second, last, last * SHARE_TOLERANCE >= second);
}

fn second_and_last_quarter<T>(all: &[T]) -> (&[T], &[T]) {
    let quarter = all.len() / 4;
    let (_, later) = all.split_at(quarter);
    let (second, rest) = later.split_at(quarter);
    let (_, last) = rest.split_at(rest.len().saturating_sub(quarter));
    (second, last)
}

fn lower_quartile(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 4).copied().unwrap_or_default()
}

fn draw(windows: &[Window], mosts: &[Most]) -> Result<()> {
    let line = |name, figure: fn(&Window) -> f64| {
        let points = windows.iter().map(|window| (window.minute, figure(window)));
        Line::new(name, points.collect())
    };
    let x = Axis::linear("minutes");
    Chart {
        title: "Mixed load at 70 % of the maximum: time per request".to_owned(),
        x,
        y: Axis::logarithmic("milliseconds, waiting included"),
        lines: vec![
            line("p50 of 5 s", |window| window.figures.p50_ms),
            line("p99 of 5 s", |window| window.figures.p99_ms),
        ],
    }
    .write("soak-latency")?;
    Chart {
        title: "Mixed load at 70 % of the maximum: resident memory".to_owned(),
        x,
        y: Axis::linear("MiB"),
        lines: vec![line("token-billing", |window| window.resident_mib)],
    }
    .write("soak-memory")?;
    let shares = mosts.iter().map(|most| (most.minute, most.share_of_bare));
    Chart {
        title: "Mixed load: the most that is possible".to_owned(),
        x,
        y: Axis::linear("of the bare handler"),
        lines: vec![Line::new("token-billing", shares.collect())],
    }
    .write("soak-most")
}
