//! What those cost who send notifications that prove nothing. Anybody can, for nobody logs in there: beyond some they
//! are told together in the log, and all that comes is judged one after the other, so that it takes little of the
//! machine. What is genuine waits in the same line, is judged in its turn, and is never refused for what others send.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout},
};

/// How many that prove nothing, or nothing that concerns us, are judged and told as they come in a [`WINDOW`].
const FAILED_MAX: u32 = 100;
/// See [`FAILED_MAX`].
const WINDOW: Duration = Duration::from_secs(10);
/// How long each of the others holds up the line.
const HELD_UP: Duration = Duration::from_millis(5);
/// How long somebody stands in the line before being told to come again.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What one store is said to have sent.
#[derive(Debug)]
pub(super) struct Proofs {
    window: Mutex<Window>,
    line: Semaphore,
}

#[derive(Debug)]
struct Window {
    began_at: Instant,
    failed: u32,
    /// Those that were not told.
    untold: u64,
}

/// A turn to be judged.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    /// Held where all stand in line.
    held: Option<SemaphorePermit<'a>>,
}

impl Proofs {
    pub(super) fn new() -> Self {
        let window = Window { began_at: Instant::now(), failed: 0, untold: 0 };
        Self { window: Mutex::new(window), line: Semaphore::new(1) }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, while many prove nothing; none, where that takes too long.
    pub(super) async fn turn(&self) -> Option<Turn<'_>> {
        if !self.window().is_full(Instant::now()) {
            return Some(Turn { held: None });
        }
        let held = timeout(WAIT_MAX, self.line.acquire()).await.ok()?.ok()?;
        Some(Turn { held: Some(held) })
    }

    /// Takes note of one that proved nothing. Returns whether it is to be told.
    pub(super) fn failed(&self) -> bool {
        self.window().failed(Instant::now())
    }

    /// How many were not told, once no more are counted with them.
    pub(super) fn untold(&self) -> Option<u64> {
        self.window().untold(Instant::now())
    }
}

impl Turn<'_> {
    /// Ends the turn of one that proved nothing.
    pub(super) async fn end(self) {
        if self.held.is_some() {
            sleep(HELD_UP).await;
        }
    }
}

impl Window {
    fn begin_anew(&mut self, now: Instant) {
        if now.saturating_duration_since(self.began_at) >= WINDOW {
            self.began_at = now;
            self.failed = 0;
        }
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.begin_anew(now);
        self.failed >= FAILED_MAX
    }

    fn failed(&mut self, now: Instant) -> bool {
        let is_told = !self.is_full(now);
        self.failed = self.failed.saturating_add(1);
        if !is_told {
            self.untold = self.untold.saturating_add(1);
        }
        is_told
    }

    fn untold(&mut self, now: Instant) -> Option<u64> {
        let is_over = now.saturating_duration_since(self.began_at) >= WINDOW;
        (is_over && self.untold > 0).then(|| std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn some_are_told_and_the_others_counted() {
        let start = Instant::now();
        let mut window = Window { began_at: start, failed: 0, untold: 0 };
        for _ in 0..FAILED_MAX {
            assert!(!window.is_full(start) && window.failed(start));
        }
        for _ in 0..7 {
            assert!(window.is_full(start) && !window.failed(start));
        }
        assert_eq!(window.untold(start), None);
        let later = start + WINDOW;
        assert_eq!((window.untold(later), window.untold(later)), (Some(7), None));
        assert!(!window.is_full(later) && window.failed(later));
    }

    #[tokio::test]
    async fn while_many_prove_nothing_one_is_judged_after_the_other() {
        let proofs = Proofs::new();
        assert!(proofs.turn().await.is_some_and(|turn| turn.held.is_none()));
        for _ in 0..FAILED_MAX {
            proofs.failed();
        }
        let first = proofs.turn().await.expect("a turn");
        let mut second = Box::pin(proofs.turn());
        assert!(second.as_mut().now_or_never().is_none());
        first.end().await;
        assert!(second.await.is_some_and(|turn| turn.held.is_some()));
    }
}
