//! What was measured: the figures of a run, and the medians of several.

use std::time::Duration;

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) figures: Figures,
    /// Answers of 200 that mean a transaction in the database.
    pub(crate) recorded: u64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
}

impl Run {
    pub(crate) fn new(elapsed: Duration, mut latencies: Vec<Duration>, recorded: u64) -> Self {
        latencies.sort_unstable();
        let at = |per_mille: usize| {
            let at = latencies.len().saturating_sub(1).saturating_mul(per_mille) / 1000;
            latencies.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
        };
        let per_second = amount(latencies.len()) / elapsed.as_secs_f64();
        let figures = Figures { per_second, p50_ms: at(500), p99_ms: at(990), p999_ms: at(999) };
        Self { figures, recorded }
    }
}

/// The medians of each figure.
pub(crate) fn median(runs: &[Run]) -> Figures {
    let of = |figure: fn(&Figures) -> f64| {
        median_of(runs.iter().map(|run| figure(&run.figures)).collect())
    };
    Figures {
        per_second: of(|figures| figures.per_second),
        p50_ms: of(|figures| figures.p50_ms),
        p99_ms: of(|figures| figures.p99_ms),
        p999_ms: of(|figures| figures.p999_ms),
    }
}

pub(crate) fn median_of(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn print_heading() {
    println!(
        "\n{:<44}{:>5}{:>12}{:>12}{:>12}{:>12}",
        "", "conn.", "requests/s", "p50 ms", "p99 ms", "p99.9 ms"
    );
}

/// A line below [`print_heading`].
pub(crate) fn print(name: &str, connections: usize, figures: &Figures) {
    let Figures { per_second, p50_ms, p99_ms, p999_ms } = figures;
    println!(
        "{name:<44}{connections:>5}{:>12}{p50_ms:>12.2}{p99_ms:>12.2}{p999_ms:>12.2}",
        grouped(*per_second)
    );
}

/// A whole number with its thousands apart.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len().saturating_sub(at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count as what can be divided and drawn.
pub(crate) fn amount(count: impl TryInto<u64>) -> f64 {
    let count = count.try_into().unwrap_or(u64::MAX);
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "exact up to 2^53")]
    let amount = count as f64;
    amount
}
