//! When work is written: a writer takes what is queued, decides it in memory and commits it all at
//! once, and only then answers each caller.
//!
//! This is group commit. A lone operation is a transaction of its own; under load neighbours share
//! one, and each still stands or falls whole. Where the database takes several writers, each has a lane
//! of its own, and a user is in the hands of one at a time. Whatever else is written goes through a
//! lane too, as a chore. The ledger knows when work is batched, retried, and refused because a queue is
//! full; what an operation means is `domain`'s, the SQL is `database`'s.

mod aside;
mod batches;
mod chores;
mod health;
mod job;
mod queue;
mod replays;
mod sums;

#[cfg(test)]
mod chores_test;
#[cfg(test)]
mod death_test;
#[cfg(test)]
mod fault_test;
#[cfg(test)]
mod lanes_test;
#[cfg(test)]
mod queue_test;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use crate::{
    database::{Chore, Lane},
    domain::{Actor, Applied, CapacityLimits, Keyed, Operation, Refusal, UserId},
    metrics::Metrics,
};
use batches::Batches;
use chores::{Asked, Chores};
use health::WriteHealth;
use job::Submission;
use queue::Queue;
use sums::{FRESH_MAX, Sums, Written};

/// Operations that may wait for each lane, and of one user; one more is answered with [`LedgerError::Overloaded`].
const QUEUE_LIMIT: usize = 1_024;
/// Chores that may wait; one more is answered with [`LedgerError::Overloaded`].
const CHORE_LIMIT: usize = 64;
/// Most operations in one transaction. It bounds what a failed batch has to decide again.
pub(crate) const BATCH_LIMIT: usize = 512;
/// How long an operation may wait before it is begun. Together with the time a batch itself may take
/// (the database's busy timeout) this stays below the deadline of a request, so that an operation
/// answered with "overloaded" is one that was never begun.
pub(crate) const MAX_QUEUE_WAIT: Duration = Duration::from_secs(2);

/// How long trying to write may take: a lock of another process is waited for 2.5 s.
const TRY_LIMIT: Duration = Duration::from_secs(3);

/// Where the ledger reads the time from.
pub(crate) type Clock = fn() -> DateTime<Utc>;

/// Why an operation has no outcome. None of these left a trace, unless said otherwise.
#[derive(Debug, Error)]
pub(crate) enum LedgerError {
    /// A rule said no.
    #[error("refused: {}", .0.code())]
    Refused(Refusal),
    /// The idempotency key belongs to another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// More work is waiting than can be done in time.
    #[error("too many operations are waiting")]
    Overloaded,
    /// The service is shutting down.
    #[error("the ledger is closed")]
    Stopping,
    /// The database can't do it now. If it went away while it committed, the operation may have
    /// happened all the same.
    #[error("the database is unavailable")]
    Unavailable,
    /// A bug, ours: a panic, or a value the schema refuses.
    #[error("the operation failed: {0}")]
    Failed(String),
}

/// For how long things are kept that are forgotten in the end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    /// How long a repeated request is known by its idempotency key.
    pub keys: TimeDelta,
}

/// What leads to the lanes. Clones are the same ledger.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    queue: Arc<Queue>,
    /// To the first lane.
    chores: mpsc::Sender<Asked>,
    /// To the first lane: users whose usage is to be summed up.
    sums: mpsc::Sender<UserId>,
    health: Arc<WriteHealth>,
    limits: CapacityLimits,
    clock: Clock,
}

/// The tasks that write.
#[derive(Debug)]
pub(crate) struct WriterTasks {
    stops: Vec<oneshot::Sender<()>>,
    tasks: JoinSet<()>,
}

impl Ledger {
    /// Starts a task for each of `lanes`, which owns it and writes all there is to write in it, and
    /// counts it in `metrics`.
    ///
    /// # Panics
    /// Where there is no lane.
    pub(crate) fn start<L: Lane>(
        lanes: Vec<L>,
        limits: CapacityLimits,
        retention: Retention,
        clock: Clock,
        metrics: Option<&Arc<Metrics>>,
    ) -> (Self, WriterTasks) {
        let (mut chores, mut sums) = (Vec::new(), Vec::new());
        let (mut stops, mut tasks) = (Vec::new(), JoinSet::new());
        let health = Arc::new(WriteHealth::default());
        let (queue, written) = (Arc::new(Queue::of(lanes.len())), Written::default());
        for lane in lanes {
            let (ask, asked) = mpsc::channel(CHORE_LIMIT);
            let (stop, stopped) = oneshot::channel();
            let batches = Batches::new(lane, limits, clock, Arc::clone(&health), metrics.cloned());
            let (ask_for_sums, asked_for_sums) = mpsc::channel(CHORE_LIMIT);
            let sums_of_lane = Sums::new(asked_for_sums, Arc::clone(&written));
            let chores_of_lane = Chores::new(retention.keys, asked, sums_of_lane);
            tasks.spawn(batches::run(batches, chores_of_lane, Arc::clone(&queue), stopped));
            chores.push(ask);
            sums.push(ask_for_sums);
            stops.push(stop);
        }
        let (chores, sums) = (chores.swap_remove(0), sums.swap_remove(0));
        (Self { queue, chores, sums, health, limits, clock }, WriterTasks { stops, tasks })
    }

    /// Most tokens per category.
    pub(crate) const fn limits(&self) -> CapacityLimits {
        self.limits
    }

    /// Where batches have the time from.
    pub(crate) const fn clock(&self) -> Clock {
        self.clock
    }

    /// The time, as batches have it.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// How many operations may wait for so many lanes.
    pub(crate) const fn queue_limit(lanes: usize) -> usize {
        queue::limit(lanes)
    }

    /// How many operations wait for a lane.
    pub(crate) fn queue_depth(&self) -> usize {
        self.queue.depth()
    }

    /// Has `operation` decided and written; what it returns is on disk. Under a key it is carried out
    /// at most once, and then tells the same again.
    ///
    /// Once begun it is carried through, whether or not the caller still waits.
    ///
    /// # Errors
    /// [`LedgerError`] says why there is no outcome.
    pub(crate) async fn apply<O: Operation>(
        &self,
        user: UserId,
        keyed: Option<Keyed>,
        operation: O,
    ) -> Result<Applied<O::Outcome>, LedgerError> {
        self.apply_as(None, user, keyed, operation).await
    }

    /// The same, as somebody who acts on the user's account.
    ///
    /// # Errors
    /// [`LedgerError`] says why there is no outcome.
    pub(crate) async fn apply_as<O: Operation>(
        &self,
        actor: Option<Actor>,
        user: UserId,
        keyed: Option<Keyed>,
        operation: O,
    ) -> Result<Applied<O::Outcome>, LedgerError> {
        let (submission, answer) = Submission::new(user, actor, keyed, operation);
        self.queue.push(Box::new(submission))?;
        // A lane answers every job it takes; it only drops them when it dies.
        answer.await.unwrap_or(Err(LedgerError::Unavailable))
    }

    /// Has a chore written, between batches; when this returns it is done.
    ///
    /// # Errors
    /// [`LedgerError`] says why it may not be.
    pub(crate) async fn chore(&self, chore: Chore) -> Result<(), LedgerError> {
        let (asker, answer) = oneshot::channel();
        self.chores.try_send(Asked { chore, asker }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => LedgerError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => LedgerError::Stopping,
        })?;
        // Chores that were not done when the ledger stops are dropped.
        answer.await.unwrap_or(Err(LedgerError::Stopping))
    }

    /// Has what a user used summed up, in its time, where so many entries are in no sums yet that it is worth it.
    pub(crate) fn sum_usage(&self, user: &UserId, fresh_entries: i64) {
        if fresh_entries >= FRESH_MAX {
            // Where too many wait, it is done when somebody asks again.
            let _ = self.sums.try_send(user.clone());
        }
    }

    /// Whether what is written arrives. Where no batch told lately it is tried, by one for all who ask.
    pub(crate) async fn takes_writes(&self) -> bool {
        if let Some(known) = self.health.known() {
            return known;
        }
        let _trying = self.health.trying.lock().await;
        if let Some(known) = self.health.known() {
            return known;
        }
        let tried = timeout(TRY_LIMIT, self.chore(Chore::TryWrite)).await;
        let written = matches!(tried, Ok(Ok(())));
        self.health.note(written);
        written
    }
}

impl WriterTasks {
    /// Takes no more work, finishes what is queued, and closes the database.
    pub(crate) async fn stop(mut self) {
        for stop in self.stops {
            // The writer may have died already; then there is nothing to stop.
            let _ = stop.send(());
        }
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a writer of the ledger did not end well");
            }
        }
    }

    /// Returns when a writer has ended without having been asked to: some users' operations, or all, are
    /// not written any more.
    pub(crate) async fn died(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "a writer of the ledger died");
        }
    }
}
