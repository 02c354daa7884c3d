//! A lane's task: batch after batch, each begun, decided, saved and answered, with chores in between.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Instant,
};

use tokio::sync::oneshot;

use super::{
    Clock, MAX_QUEUE_WAIT,
    aside::Place,
    chores::Chores,
    health::WriteHealth,
    job::{Fault, Job},
    queue::Queue,
    sums::fresh_usage,
};
use crate::{
    caught::panic_message,
    database::{Chore, DatabaseError, HopedNew, Lane, Transaction},
    domain::{CapacityLimits, Facts, FreshUsage, UserId, Wanted},
    metrics::Metrics,
};

/// How often a batch is begun before its callers are told to come again.
const ATTEMPTS: u32 = 4;

/// Writes until it is stopped, then what is still queued, then closes the database. Chores can wait for the
/// next start, and a stop can't.
pub(super) async fn run<L: Lane>(
    mut batches: Batches<L>,
    mut chores: Chores,
    queue: Arc<Queue>,
    mut stop: oneshot::Receiver<()>,
) {
    let _alive = Alive(&queue);
    let mut stopping = false;
    let mut place = Place::at(&queue);
    loop {
        tokio::select! {
            biased;
            _ = &mut stop, if !stopping => {
                queue.close();
                if place.is_aside() {
                    break;
                }
                stopping = true;
                continue;
            }
            next = queue.next(), if !place.is_aside() => {
                let Some((jobs, turn)) = next else { break };
                let reached = batches.run(jobs).await;
                drop(turn);
                chores.note_usage(mem::take(&mut batches.usage));
                if !reached && !stopping {
                    place.stand_aside();
                }
            }
            () = place.wait() => place.tried(batches.can_write().await),
            () = chores.wait(), if !stopping => {}
        }
        if !stopping {
            chores.slice(&mut batches.lane, (batches.clock)()).await;
        }
    }
    batches.lane.close().await;
}

/// Of a lane that dies all others are told: nobody is to wait for it.
struct Alive<'q>(&'q Queue);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.abandon();
        }
    }
}

pub(super) struct Batches<L> {
    lane: L,
    limits: CapacityLimits,
    clock: Clock,
    health: Arc<WriteHealth>,
    metrics: Option<Arc<Metrics>>,
    /// What was used by each user in what was written since somebody took note; nothing of whom all was forgotten.
    usage: Vec<(UserId, Option<FreshUsage>)>,
}

/// Why a batch as a whole came to nothing.
enum Failure {
    /// One operation is at fault: it panicked, or wrote what the schema refuses.
    Spoiled(String),
    /// It did not get to its commit, for this reason, but may the next time.
    Again(String),
    /// The database is at fault.
    Unavailable,
}

impl<L: Lane> Batches<L> {
    pub(super) const fn new(
        lane: L,
        limits: CapacityLimits,
        clock: Clock,
        health: Arc<WriteHealth>,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        Self { lane, limits, clock, health, metrics, usage: Vec::new() }
    }

    /// Returns whether the database could be reached, as far as it was tried.
    async fn run(&mut self, jobs: Vec<Box<dyn Job>>) -> bool {
        let mut jobs = begin_in_time(jobs);
        let attempted = self.attempt(&mut jobs).await;
        match &attempted {
            Err(Failure::Unavailable | Failure::Again(_)) => self.health.note(false),
            // Noted already, or one operation is at fault and not the database.
            Ok(()) | Err(Failure::Spoiled(_)) => {}
        }
        let reached = !matches!(attempted, Err(Failure::Unavailable));
        match attempted {
            Err(Failure::Spoiled(_)) if jobs.len() > 1 => {
                // Nobody's neighbour shall suffer: each again, alone.
                for job in jobs {
                    // The ones before it may have taken long; what is late now is not begun again.
                    let mut alone = begin_in_time(vec![job]);
                    let result = self.attempt(&mut alone).await;
                    answer(alone, result);
                }
            }
            result => answer(jobs, result),
        }
        reached
    }

    /// Tries it with a transaction of its own.
    async fn can_write(&mut self) -> bool {
        let tried = self.lane.slice(&Chore::TryWrite).await;
        if let Err(error) = &tried {
            tracing::debug!(%error, "a lane still can't write");
        }
        tried.is_ok()
    }

    /// Decides and writes all of `jobs` in one transaction, or none.
    async fn attempt(&mut self, jobs: &mut Vec<Box<dyn Job>>) -> Result<(), Failure> {
        for _ in 1..ATTEMPTS {
            match self.attempt_once(jobs).await {
                // Getting there may have taken long; what is late now is not begun again.
                Err(Failure::Again(_)) => {
                    self.metrics.iter().for_each(|metrics| metrics.batches.retried());
                    *jobs = begin_in_time(mem::take(jobs));
                }
                result => return result,
            }
        }
        let result = self.attempt_once(jobs).await;
        if let Err(Failure::Again(reason)) = &result {
            tracing::error!(attempts = ATTEMPTS, reason, "a batch was not written");
        }
        result
    }

    async fn attempt_once(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        if jobs.is_empty() {
            return Ok(());
        }
        let begun_at = (self.clock)();
        let wanted = Wanted { holds_at: Some(begun_at), ..wanted(jobs) };
        let (facts, transaction) = self.lane.begin(&wanted).await.map_err(Failure::from)?;
        // Not before the time by which holds were left out.
        let now = (self.clock)().max(begun_at);
        let mut facts = Facts { limits: self.limits, now, ..facts };
        // On the way out the transaction is dropped, which leaves nothing of it.
        let hoped_new = decide(jobs, &mut facts).map_err(Failure::Spoiled)?;
        let started = self.metrics.as_ref().map(|metrics| (metrics, Instant::now()));
        let writes = facts.change_something();
        let usage = fresh_usage(facts.accounts.iter(), facts.now);
        transaction.save(facts, hoped_new).await.map_err(Failure::from)?;
        self.usage.extend(usage);
        if writes {
            self.health.note(true);
        }
        if let Some((metrics, started)) = started {
            metrics.batches.committed(jobs.len(), started.elapsed());
        }
        Ok(())
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Constraint(_) | DatabaseError::Corrupt(_) => {
                Self::Spoiled(error.to_string())
            }
            DatabaseError::Retry(reason) => {
                tracing::debug!(reason, "a batch is decided again");
                Self::Again(reason)
            }
            DatabaseError::Unavailable(_) => {
                tracing::error!(%error, "a batch was not written");
                Self::Unavailable
            }
        }
    }
}

/// Leaves out, and answers, what waited too long or is waited for no longer.
fn begin_in_time(jobs: Vec<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
    let now = Instant::now();
    let (begun, late): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| {
        !job.is_abandoned() && now.saturating_duration_since(job.queued_at()) <= MAX_QUEUE_WAIT
    });
    for job in late {
        job.answer(Some(Fault::Overloaded));
    }
    begun
}

fn wanted(jobs: &mut [Box<dyn Job>]) -> Wanted {
    let mut wanted = Wanted::default();
    for job in jobs {
        job.ask(&mut wanted);
    }
    wanted.each_once()
}

/// Decides every job in order, or returns what a panic said.
fn decide(jobs: &mut [Box<dyn Job>], facts: &mut Facts) -> Result<HopedNew, String> {
    let mut hoped_new = HopedNew::AllSaved;
    for job in jobs {
        // After a panic all of this is thrown away, so nothing half changed is ever seen.
        let as_hoped = catch_unwind(AssertUnwindSafe(|| job.decide(facts)))
            .map_err(|panic| panic_message(&*panic))?;
        if !as_hoped {
            hoped_new = HopedNew::SomeRefused;
        }
    }
    Ok(hoped_new)
}

fn answer(jobs: Vec<Box<dyn Job>>, result: Result<(), Failure>) {
    let fault = match result {
        Ok(()) => None,
        Err(Failure::Spoiled(cause)) => Some(Fault::Failed(cause)),
        Err(Failure::Unavailable | Failure::Again(_)) => Some(Fault::Unavailable),
    };
    for job in jobs {
        job.answer(fault.clone());
    }
}
