//! A sign of life on a terminal's standard error, while something takes longer than a moment.

use std::{future::Future, pin::pin, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::timeout;

/// What takes less shows nothing.
const MOMENT: Duration = Duration::from_secs(1);
/// How often the sign changes.
const TICK: Duration = Duration::from_millis(100);

/// Tells what is being done, and since when.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
        Self(bar.with_style(style.expect("a template of known parts")))
    }

    /// What is copied now, and how many rows are.
    pub(crate) fn tell_rows(&self, table: &str, rows: u64, of_rows: u64) {
        if self.0.length() != Some(of_rows) {
            let style =
                ProgressStyle::with_template("{spinner} {elapsed} {wide_bar} {percent} % {msg}");
            self.0.set_style(style.expect("a template of known parts"));
            self.0.set_length(of_rows);
        }
        self.0.set_message(table.to_owned());
        self.0.set_position(rows);
    }

    /// What is done now.
    pub(crate) fn tell(&self, step: &'static str) {
        self.0.set_message(step);
    }

    /// Waits for `work`, with a sign of life once it has taken a moment. Nothing of it stays.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(done) = timeout(MOMENT, &mut work).await {
            return done;
        }
        self.0.set_draw_target(ProgressDrawTarget::stderr());
        self.0.enable_steady_tick(TICK);
        let done = work.await;
        self.0.finish_and_clear();
        done
    }
}
