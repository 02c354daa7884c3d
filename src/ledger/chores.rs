//! What a lane writes besides batches: chores. One slice is written between two batches, and slice after
//! slice while nobody waits, so a chore holds a batch up for a few milliseconds at most.
//!
//! A chore is one of three: what the engine does for its own speed, the forgetting of old idempotency
//! keys and holds, and what somebody asked for, who is told when it is done.

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{mpsc, oneshot};

use super::{LedgerError, sums::Sums};
use crate::{
    database::{Chore, DatabaseError, Lane, Progress},
    domain::{FreshUsage, UserId},
};

/// How long to wait after all old ones were forgotten, or could not be, before looking again.
const FORGET_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// How long closed and expired holds are kept.
const KEEP_HOLDS: TimeDelta = TimeDelta::days(7);

/// A chore somebody asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) chore: Chore,
    pub(super) asker: oneshot::Sender<Result<(), LedgerError>>,
}

/// The chores of one lane.
#[derive(Debug)]
pub(super) struct Chores {
    keys: Forgetting,
    holds: Forgetting,
    asked: mpsc::Receiver<Asked>,
    at_hand: Option<Asked>,
    sums: Sums,
    /// Whether the last slices left something to do.
    more: bool,
}

impl Chores {
    pub(super) const fn new(
        keep_keys: TimeDelta,
        asked: mpsc::Receiver<Asked>,
        sums: Sums,
    ) -> Self {
        let (keys, holds) = (Forgetting::of(keep_keys), Forgetting::of(KEEP_HOLDS));
        Self { keys, holds, asked, at_hand: None, sums, more: false }
    }

    /// Waits until there is something to do before the next batch.
    pub(super) async fn wait(&mut self) {
        if self.more {
            return;
        }
        tokio::select! {
            asked = self.asked.recv() => match asked {
                Some(asked) => self.at_hand = Some(asked),
                // Nobody can ask any more.
                None => std::future::pending().await,
            },
            () = self.sums.wait() => {}
        }
    }

    /// Takes note of what was used in what a batch wrote.
    pub(super) fn note_usage(&mut self, written: Vec<(UserId, Option<FreshUsage>)>) {
        self.sums.note(written);
    }

    /// Carries out a slice of each kind of chore that there is something to do for.
    pub(super) async fn slice<L: Lane>(&mut self, lane: &mut L, now: DateTime<Utc>) {
        let upkeep = lane.slice(&Chore::Upkeep).await;
        if let Err(error) = &upkeep {
            tracing::warn!(%error, "the database's upkeep was not done");
        }
        let mut more = upkeep.is_ok_and(|progress| progress == Progress::More);
        let keys = |before| Chore::ForgetKeys { before };
        more |= self.keys.slice(lane, now, keys, "idempotency keys").await;
        let holds = |before| Chore::ForgetHolds { before };
        more |= self.holds.slice(lane, now, holds, "holds").await;
        more |= self.slice_asked(lane).await;
        more |= self.sums.slice(lane).await;
        self.more = more;
    }

    /// Returns whether more may have been asked for.
    async fn slice_asked<L: Lane>(&mut self, lane: &mut L) -> bool {
        let Some(Asked { chore, asker }) =
            self.at_hand.take().or_else(|| self.asked.try_recv().ok())
        else {
            return false;
        };
        let result = match lane.slice(&chore).await {
            Ok(Progress::More) => {
                self.at_hand = Some(Asked { chore, asker });
                return true;
            }
            Ok(Progress::Done) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, ?chore, "a chore was not done");
                Err(LedgerError::from(error))
            }
        };
        // Whoever hung up does not need an answer.
        let _ = asker.send(result);
        !self.asked.is_empty()
    }
}

impl From<DatabaseError> for LedgerError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Retry(_) | DatabaseError::Unavailable(_) => Self::Unavailable,
            DatabaseError::Constraint(_) | DatabaseError::Corrupt(_) => {
                Self::Failed(error.to_string())
            }
        }
    }
}

/// When idempotency keys, or holds, are forgotten: in rounds, each up to one time, a minute apart.
#[derive(Debug)]
struct Forgetting {
    keep: TimeDelta,
    /// The round at hand forgets those from before this. What grows old meanwhile waits for the next
    /// round, or none would ever end.
    before: Option<DateTime<Utc>>,
    /// When the last round ended.
    rested_at: Option<DateTime<Utc>>,
}

impl Forgetting {
    const fn of(keep: TimeDelta) -> Self {
        Self { keep, before: None, rested_at: None }
    }

    /// Forgets a few, if it is time. Returns whether more may be left.
    async fn slice<L: Lane>(
        &mut self,
        lane: &mut L,
        now: DateTime<Utc>,
        chore: impl Fn(DateTime<Utc>) -> Chore,
        what: &str,
    ) -> bool {
        let Some(before) = self.due(now) else { return false };
        let progress = lane.slice(&chore(before)).await;
        if let Err(error) = &progress {
            tracing::warn!(%error, "old {what} were not forgotten");
        }
        self.went(before, now, &progress)
    }

    /// The time before which they are to be forgotten now, if any are.
    fn due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let old = now.checked_sub_signed(self.keep)?;
        if let Some(before) = self.before {
            // The clock may have been ahead when the round began.
            return Some(old.min(before));
        }
        // A clock that was set back does not put it off.
        let resting = self.rested_at.is_some_and(|rested_at| {
            (TimeDelta::zero()..FORGET_INTERVAL).contains(&now.signed_duration_since(rested_at))
        });
        (!resting).then_some(old)
    }

    /// Takes note of a slice. Returns whether the round goes on.
    fn went(
        &mut self,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
        progress: &Result<Progress, DatabaseError>,
    ) -> bool {
        let goes_on = matches!(progress, Ok(Progress::More));
        self.before = goes_on.then_some(before);
        if !goes_on {
            self.rested_at = Some(now);
        }
        goes_on
    }
}
