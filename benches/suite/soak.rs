//! `cargo bench -- soak`: a mixed load for a long time, at 70 % of what is possible: whether memory and
//! latency stay as they are.

use std::time::Duration;

use anyhow::Result;

use crate::{
    CONNECTIONS, ROUNDS,
    chart::{Axis, Chart, Line},
    client::Pace,
    requests::{Call, MODEL, Requests, key_header},
    runs::{Figures, amount, grouped, median, median_of},
    service::Service,
};

const WINDOW: Duration = Duration::from_secs(5);
const WINDOWS_PER_MINUTE: u64 = 12;
const SHARE_OF_MOST: f64 = 0.7;
/// By how much the last quarter's figures may pass those of the second and still count as flat. Latencies
/// on a shared machine differ more than that from minute to minute at their 99th percentile.
const MEMORY_TOLERANCE: f64 = 1.1;
const LATENCY_TOLERANCE: f64 = 1.5;

/// What a window of the load came to.
struct Window {
    minute: f64,
    figures: Figures,
    resident_mib: f64,
}

pub(crate) async fn measure(seconds: Duration, minutes: u64) -> Result<()> {
    let mut service = Service::start_filled(&[], "").await?;
    let mix = mix();
    let mut runs = Vec::new();
    for _ in 0..ROUNDS {
        runs.push(service.load(CONNECTIONS, &mix, Pace::AtOnce(seconds)).await?);
    }
    let most = median(&runs).per_second;
    let rate = most * SHARE_OF_MOST;
    println!("{} requests per second, of at most {}", grouped(rate), grouped(most));
    let count = minutes.saturating_mul(WINDOWS_PER_MINUTE);
    let mut windows = Vec::new();
    for number in 1..=count {
        let run = service.load(CONNECTIONS, &mix, Pace::fixed(rate, WINDOW)).await?;
        let minute = amount(number) * WINDOW.as_secs_f64() / 60.0;
        let resident_mib = service.server.resident_mib()?;
        let Figures { p50_ms, p99_ms, .. } = run.figures;
        eprintln!("{minute:>6.1} min{p50_ms:>8.2}{p99_ms:>8.2} ms{resident_mib:>8.1} MiB");
        windows.push(Window { minute, figures: run.figures, resident_mib });
    }
    let recorded = service.stop().await?.recorded;
    println!("transactions acknowledged, every one found on disk: {}", grouped(amount(recorded)));
    judge(&windows);
    draw(&windows)
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
fn judge(windows: &[Window]) {
    let quarter = windows.len() / 4;
    let (_, later) = windows.split_at(quarter);
    let (second, rest) = later.split_at(quarter);
    let (_, last) = rest.split_at(rest.len().saturating_sub(quarter));
    let judge = |name: &str, tolerance: f64, figure: fn(&Window) -> f64| {
        let of = |windows: &[Window]| median_of(windows.iter().map(figure).collect());
        let (before, after) = (of(second), of(last));
        let flat = if after <= before * tolerance { "flat" } else { "NOT FLAT" };
        println!("{name:<16}{before:>10.2} in the second quarter{after:>10.2} in the last: {flat}");
    };
    judge("memory, MiB", MEMORY_TOLERANCE, |window| window.resident_mib);
    judge("p50, ms", LATENCY_TOLERANCE, |window| window.figures.p50_ms);
    judge("p99, ms", LATENCY_TOLERANCE, |window| window.figures.p99_ms);
}

fn draw(windows: &[Window]) -> Result<()> {
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
    .write("soak-memory")
}
