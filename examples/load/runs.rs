//! What was measured, and how it is told.

use std::{fmt::Display, time::Duration};

pub(crate) struct Run {
    pub(crate) per_second: f64,
    pub(crate) sorted: Vec<Duration>,
}

impl Run {
    pub(crate) fn new(elapsed: Duration, mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let count = u32::try_from(latencies.len()).unwrap_or(u32::MAX);
        Self { per_second: f64::from(count) / elapsed.as_secs_f64(), sorted: latencies }
    }

    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let at = self.sorted.len().saturating_sub(1).saturating_mul(percent) / 100;
        self.sorted.get(at).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }
}

/// Prints the medians of a series and gives back its rate.
pub(crate) fn report(name: &str, runs: &[Run]) -> f64 {
    let rate = median(runs, |run| run.per_second);
    let p50 = median(runs, |run| run.percentile_ms(50));
    let p99 = median(runs, |run| run.percentile_ms(99));
    println!("{name:<32} {rate:>8.0} /s   p50 {p50:>7.3} ms   p99 {p99:>7.3} ms");
    rate
}

pub(crate) fn median(runs: &[Run], value: impl Fn(&Run) -> f64) -> f64 {
    median_of(runs.iter().map(value).collect())
}

pub(crate) fn median_of(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn verdict(name: &str, value: impl Display, limit: &str, kept: bool) {
    println!("{name:<42} {value:>10.2}   {limit}: {}", if kept { "ok" } else { "MISSED" });
}
