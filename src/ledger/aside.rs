//! A lane that can't write stands aside as long as others can. It would be the first to be free, take nearly
//! everything, and fail it. When a batch failed is `batches`' business, who takes what is `queue`'s.

use std::{
    future::pending,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

use super::queue::Queue;

/// How long a lane waits before it tries to write again.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Whether a lane takes from the queue, or stands aside.
#[derive(Debug)]
pub(super) struct Place<'q> {
    queue: &'q Queue,
    /// When one that stands aside tries to write.
    tries_at: Option<Instant>,
}

impl<'q> Place<'q> {
    pub(super) const fn at(queue: &'q Queue) -> Self {
        Self { queue, tries_at: None }
    }

    pub(super) const fn is_aside(&self) -> bool {
        self.tries_at.is_some()
    }

    /// Leaves all to the other lanes, unless this is the last that takes.
    pub(super) fn stand_aside(&mut self) {
        if self.queue.stand_aside() {
            tracing::warn!("a lane can't write; others go on without it until it can");
            self.tries_at = Some(Instant::now());
        }
    }

    /// Waits until it is time to try; for good where the lane takes.
    pub(super) async fn wait(&self) {
        match self.tries_at {
            Some(moment) => sleep_until(moment.into()).await,
            None => pending().await,
        }
    }

    /// Takes again after a try that was written, or waits for the next.
    pub(super) fn tried(&mut self, written: bool) {
        if written {
            tracing::info!("a lane can write again");
            self.queue.come_back();
            self.tries_at = None;
        } else {
            let now = Instant::now();
            self.tries_at = Some(now.checked_add(TRY_AGAIN_AFTER).unwrap_or(now));
        }
    }
}
