//! The task that writes: batch after batch, each load → decide → save → answer.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};

use super::{
    BATCH_LIMIT, Clock, MAX_QUEUE_WAIT,
    job::{Fault, Job},
};
use crate::{
    domain::{Account, CapacityLimits, Context},
    store::{Loaded, StoreError, Wanted, Writer},
};

/// How often a batch is decided while other writers come in between.
pub(super) const ATTEMPTS_MAX: usize = 5;

/// Writes until it is stopped, then what is still queued, then closes the database.
pub(super) async fn run<W: Writer>(
    store: W,
    mut queue: mpsc::Receiver<Box<dyn Job>>,
    mut stop: oneshot::Receiver<()>,
    limits: CapacityLimits,
    clock: Clock,
) {
    let mut batches = Batches { store, limits, clock };
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
    }
    batches.store.close().await;
}

struct Batches<W> {
    store: W,
    limits: CapacityLimits,
    clock: Clock,
}

/// Why a batch as a whole came to nothing.
enum Failure {
    /// One operation is at fault: it panicked, or wrote what the schema refuses.
    Spoiled(String),
    /// Another writer came in between.
    Conflict,
    /// The database is at fault.
    Unavailable,
}

impl<W: Writer> Batches<W> {
    async fn run(&mut self, jobs: Vec<Box<dyn Job>>) {
        let mut jobs = begin_in_time(jobs);
        if jobs.is_empty() {
            return;
        }
        match self.attempt(&mut jobs).await {
            Err(Failure::Spoiled(_)) if jobs.len() > 1 => {
                // Nobody's neighbour shall suffer: each again, alone.
                for job in jobs {
                    // The ones before it may have taken long; what is late now is not begun again.
                    let mut alone = begin_in_time(vec![job]);
                    if alone.is_empty() {
                        continue;
                    }
                    let result = self.attempt(&mut alone).await;
                    answer(alone, result);
                }
            }
            result => answer(jobs, result),
        }
    }

    /// Decides and writes all of `jobs` in one transaction, or none.
    async fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        for _ in 1..ATTEMPTS_MAX {
            match self.attempt_once(jobs).await {
                Err(Failure::Conflict) => {}
                result => return result,
            }
        }
        self.attempt_once(jobs).await
    }

    async fn attempt_once(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), Failure> {
        let loaded = self.store.load(&wanted(jobs)).await.map_err(Failure::from)?;
        let accounts = match decide(jobs, loaded, self.limits) {
            Ok(accounts) => accounts,
            Err(panic) => {
                self.store.abandon().await;
                return Err(Failure::Spoiled(panic));
            }
        };
        self.store.save(accounts, (self.clock)()).await.map_err(Failure::from)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Constraint(_) | StoreError::Corrupt(_) => Self::Spoiled(error.to_string()),
            StoreError::Conflict => Self::Conflict,
            StoreError::Unavailable(_) => {
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
    }
    // One fixed order, so that two writers never lock each other's accounts crosswise.
    wanted.users.sort_unstable();
    wanted.users.dedup();
    wanted
}

/// Decides every job in order and returns the accounts as they are then, or what a panic said.
fn decide(
    jobs: &mut [Box<dyn Job>],
    loaded: Loaded,
    limits: CapacityLimits,
) -> Result<Vec<Account>, String> {
    let mut accounts = loaded.accounts;
    let mut context = Context { prices: loaded.prices, limits, granted: loaded.granted };
    for job in jobs {
        let account = accounts
            .entry(job.user().clone())
            .or_insert_with_key(|user| Account::new(user.clone()));
        // After a panic all of this is thrown away, so nothing half changed is ever seen.
        catch_unwind(AssertUnwindSafe(|| job.decide(account, &mut context)))
            .map_err(|panic| panic_message(&*panic))?;
    }
    Ok(accounts.into_values().collect())
}

/// What a caught panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", message.unwrap_or("without a message"))
}

fn answer(jobs: Vec<Box<dyn Job>>, result: Result<(), Failure>) {
    let fault = match result {
        Ok(()) => None,
        Err(Failure::Spoiled(cause)) => Some(Fault::Failed(cause)),
        Err(Failure::Conflict | Failure::Unavailable) => Some(Fault::Unavailable),
    };
    for job in jobs {
        job.answer(fault.clone());
    }
}
