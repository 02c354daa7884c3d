//! A sign of life on a terminal's standard error, while something takes longer than a moment.

use std::{
    future::Future,
    io::{IsTerminal, stderr},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::{interval, timeout};

/// What takes less shows nothing.
const MOMENT: Duration = Duration::from_secs(1);
/// How often the sign changes.
const TICK: Duration = Duration::from_millis(100);
/// What turns.
const SIGNS: [char; 4] = ['|', '/', '-', '\\'];
/// Makes a terminal forget the line it is in.
const CLEAR: &str = "\r\x1b[K";

/// Tells what is being done, and since when.
pub(crate) struct Progress {
    since: Instant,
    told: Arc<Mutex<Told>>,
}

/// What was told last.
#[derive(Clone, Default)]
struct Told {
    step: String,
    percent: Option<u64>,
}

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), told: Arc::default() }
    }

    /// What is copied now, and how many rows are.
    pub(crate) fn tell_rows(&self, table: &str, rows: u64, of_rows: u64) {
        let percent = rows.saturating_mul(100).checked_div(of_rows);
        *lock(&self.told) = Told { step: table.to_owned(), percent };
    }

    /// What is done now.
    pub(crate) fn tell(&self, step: &str) {
        *lock(&self.told) = Told { step: step.to_owned(), percent: None };
    }

    /// Waits for `work`, with a sign of life once it has taken a moment. Nothing of it stays.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(done) = timeout(MOMENT, &mut work).await {
            return done;
        }
        if !stderr().is_terminal() {
            return work.await;
        }
        // A task of its own, for the work may keep this one busy.
        let sign = tokio::spawn(show(self.since, Arc::clone(&self.told)));
        let done = work.await;
        sign.abort();
        // Only now does nobody write any more.
        let _ = sign.await;
        eprint!("{CLEAR}");
        done
    }
}

/// Shows what is told, over and over again, in a line that does not break where it is longer than the
/// terminal is wide.
async fn show(since: Instant, told: Arc<Mutex<Told>>) {
    let mut ticks = interval(TICK);
    for sign in SIGNS.into_iter().cycle() {
        ticks.tick().await;
        let Told { step, percent } = lock(&told).clone();
        let seconds = since.elapsed().as_secs();
        let percent = percent.map(|percent| format!(" {percent} %")).unwrap_or_default();
        eprint!("{CLEAR}\x1b[?7l{sign} {seconds} s{percent} {step}\x1b[?7h");
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    // It is replaced as a whole, so a panic elsewhere leaves nothing half done.
    told.lock().unwrap_or_else(PoisonError::into_inner)
}
