//! Whether writes arrive: told by the last batch, or by a chore that tries where no batch was written lately.
//! Who asks is not known here.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a batch that was written speaks for the next.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// How long one that failed does, before it is tried again.
const BAD_FOR: Duration = Duration::from_secs(1);

/// What became of the last write.
#[derive(Debug, Default)]
pub(super) struct WriteHealth {
    last: Mutex<Option<(Instant, bool)>>,
    /// Held by whoever tries; others wait for what comes of it.
    pub(super) trying: tokio::sync::Mutex<()>,
}

impl WriteHealth {
    /// Takes note of a write, or of one that the database could not do.
    pub(super) fn note(&self, written: bool) {
        *self.lock() = Some((Instant::now(), written));
    }

    /// Whether writes arrive, unless the last is too long ago to tell.
    pub(super) fn known(&self) -> Option<bool> {
        let (at, written) = (*self.lock())?;
        let lasts = if written { GOOD_FOR } else { BAD_FOR };
        (at.elapsed() < lasts).then_some(written)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, bool)>> {
        // It is replaced as a whole, so a panic elsewhere leaves nothing half done.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
