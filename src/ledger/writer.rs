//! The task that writes: batch after batch, each load → decide → save → answer.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{mpsc, oneshot};

use super::{
    BATCH_LIMIT, Clock, MAX_QUEUE_WAIT, Retention,
    job::{Fault, Job},
};
use crate::{
    caught::panic_message,
    database::{DatabaseError, Loaded, Wanted, Writer},
    domain::{Account, CapacityLimits, Context, Replays},
    metrics::Metrics,
};

/// How long to wait after all old idempotency keys were forgotten, or could not be, before looking again.
const PRUNE_INTERVAL: TimeDelta = TimeDelta::minutes(1);

/// How often a batch is begun before its callers are told to come again.
const ATTEMPTS: u32 = 4;

/// Writes until it is stopped, then what is still queued, then closes the database.
pub(super) async fn run<W: Writer>(
    mut batches: Batches<W>,
    mut queue: mpsc::Receiver<Box<dyn Job>>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut stopping = false;
    loop {
        let mut jobs = Vec::new();
        tokio::select! {
            taken = queue.recv_many(&mut jobs, BATCH_LIMIT) => if taken == 0 { break },
            _ = &mut stop, if !stopping => {
                stopping = true;
                queue.close();
                continue;
            }
        }
        batches.run(jobs).await;
        // It can wait for the next start, and a stop can't.
        if !stopping {
            batches.tidy().await;
        }
    }
    batches.lane.close().await;
}

pub(super) struct Batches<W> {
    lane: W,
    limits: CapacityLimits,
    retention: Retention,
    clock: Clock,
    metrics: Option<Arc<Metrics>>,
    /// Of when the idempotency keys are that are being forgotten; those that grow old meanwhile wait for the
    /// next time, or there would be some after every batch.
    pruning_before: Option<DateTime<Utc>>,
    /// When all old idempotency keys had been forgotten, or could not be.
    pruned_at: Option<DateTime<Utc>>,
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

impl<W: Writer> Batches<W> {
    pub(super) fn new(
        lane: W,
        limits: CapacityLimits,
        retention: Retention,
        clock: Clock,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        Self { lane, limits, retention, clock, metrics, pruning_before: None, pruned_at: None }
    }

    /// Has the store do what could wait until the callers were answered. Old keys are forgotten when it
    /// is time to; while there are many, a few after every batch.
    async fn tidy(&mut self) {
        let now = (self.clock)();
        // A clock that was set back does not put it off.
        let just_done = self.pruned_at.is_some_and(|pruned_at| {
            (TimeDelta::zero()..PRUNE_INTERVAL).contains(&now.signed_duration_since(pruned_at))
        });
        let old = now.checked_sub_signed(self.retention.keys);
        let before = match self.pruning_before {
            // Nor does it count that the clock was ahead when this began.
            Some(before) => old.map(|old| old.min(before)),
            None => old.filter(|_| !just_done),
        };
        match self.lane.tidy(before).await {
            Ok(true) => {
                self.pruning_before = before;
                return;
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "idempotency keys were not tidied up"),
        }
        self.pruning_before = None;
        if before.is_some() {
            self.pruned_at = Some(now);
        }
    }

    async fn run(&mut self, jobs: Vec<Box<dyn Job>>) {
        let mut jobs = begin_in_time(jobs);
        match self.attempt(&mut jobs).await {
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
        let loaded = self.lane.load(&wanted(jobs)).await.map_err(Failure::from)?;
        let (accounts, replays) = match decide(jobs, loaded, self.limits) {
            Ok(decided) => decided,
            Err(panic) => {
                self.lane.abandon().await;
                return Err(Failure::Spoiled(panic));
            }
        };
        let started = self.metrics.as_ref().map(|metrics| (metrics, Instant::now()));
        self.lane.save(accounts, &replays, (self.clock)()).await.map_err(Failure::from)?;
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

fn wanted(jobs: &[Box<dyn Job>]) -> Wanted {
    let mut wanted = Wanted::default();
    for job in jobs {
        let needs = job.needs();
        wanted.users.push(job.user().clone());
        wanted.prices |= needs.prices;
        wanted.store_transaction_ids.extend(needs.store_transaction_id.cloned());
        wanted.keys.extend(job.key().cloned());
    }
    // Each once.
    wanted.users.sort_unstable();
    wanted.users.dedup();
    wanted.keys.sort_unstable();
    wanted.keys.dedup();
    wanted
}

/// Decides every job in order and returns the accounts and replays as they are then, or what a panic
/// said.
fn decide(
    jobs: &mut [Box<dyn Job>],
    loaded: Loaded,
    limits: CapacityLimits,
) -> Result<(Vec<Account>, Replays), String> {
    let Loaded { mut accounts, prices, granted, replays } = loaded;
    let mut context = Context { prices, limits, granted, replays };
    for job in jobs {
        let account = accounts
            .entry(job.user().clone())
            .or_insert_with_key(|user| Account::new(user.clone()));
        // After a panic all of this is thrown away, so nothing half changed is ever seen.
        catch_unwind(AssertUnwindSafe(|| job.decide(account, &mut context)))
            .map_err(|panic| panic_message(&*panic))?;
    }
    Ok((accounts.into_values().collect(), context.replays))
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
