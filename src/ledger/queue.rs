//! What waits for the lanes, and when a lane begins with it. What is done with it is `batches`' business.
//!
//! All lanes take from one queue, so a batch grows with the load and not with the number of lanes. A user is in the
//! hands of one lane at a time: what comes for them meanwhile waits behind it, and holds up nobody else.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout_at};

use super::{
    BATCH_LIMIT, LedgerError, QUEUE_LIMIT,
    job::{Fault, Job},
};
use crate::domain::UserId;

/// So many operations make a transaction worth its own cost while another lane is at work: on PostgreSQL a commit costs
/// the server as much as twenty consumptions.
pub(super) const WORTH_A_TRANSACTION: usize = 48;
/// Most that fewer wait for others to join them while another lane is at work. It is less where a batch takes less than
/// twice as long.
const JOINED_FOR_MAX: Duration = Duration::from_millis(5);

/// Most operations that may wait for so many lanes.
pub(super) const fn limit(lanes: usize) -> usize {
    QUEUE_LIMIT.saturating_mul(lanes)
}

/// Operations on their way to the lanes.
#[derive(Debug)]
pub(super) struct Queue {
    lanes: usize,
    waiting: Mutex<Waiting>,
    /// Rung when a lane that is free may have something to do.
    bell: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    closed: bool,
    /// What any lane may take, in this order.
    ready: VecDeque<Box<dyn Job>>,
    /// The users in the hands of a lane, and what came for them meanwhile.
    in_hand: HashMap<UserId, Vec<Box<dyn Job>>>,
    /// How many that is.
    behind: usize,
    lanes_at_work: usize,
    /// Lanes that take nothing, for they can't write.
    lanes_aside: usize,
    /// How long few operations wait for others to join them.
    join_for: Duration,
}

/// What a lane that is free does next.
enum Next {
    /// These operations, of these users; and whether something is left for another lane.
    Take(Vec<Box<dyn Job>>, Vec<UserId>, bool),
    Wait(Option<Instant>),
    End,
}

/// The operations that a lane has taken are in its hands until this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'q> {
    queue: &'q Queue,
    users: Vec<UserId>,
    began_at: Instant,
}

impl Queue {
    pub(super) fn of(lanes: usize) -> Self {
        Self { lanes, waiting: Mutex::default(), bell: Notify::new() }
    }

    /// Operations that wait.
    pub(super) fn depth(&self) -> usize {
        self.lock().waiting()
    }

    /// # Errors
    /// [`LedgerError::Overloaded`] where too many wait, of all users or of this one, and [`LedgerError::Stopping`].
    pub(super) fn push(&self, job: Box<dyn Job>) -> Result<(), LedgerError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(LedgerError::Stopping);
        }
        if waiting.waiting() >= limit(self.lanes) {
            return Err(LedgerError::Overloaded);
        }
        if let Some(behind) = waiting.in_hand.get_mut(job.user()) {
            if behind.len() >= QUEUE_LIMIT {
                return Err(LedgerError::Overloaded);
            }
            behind.push(job);
            waiting.behind = waiting.behind.saturating_add(1);
            return Ok(());
        }
        waiting.ready.push_back(job);
        let ready = waiting.ready.len();
        drop(waiting);
        if ready == 1 || ready == WORTH_A_TRANSACTION {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Waits until it is time for a lane to begin with something; nothing when nothing comes any more.
    pub(super) async fn next(&self) -> Option<(Vec<Box<dyn Job>>, Turn<'_>)> {
        loop {
            let next = self.lock().next(self.lanes);
            let until = match next {
                Next::Take(jobs, users, more) => {
                    if more {
                        self.bell.notify_one();
                    }
                    return Some((jobs, Turn { queue: self, users, began_at: Instant::now() }));
                }
                Next::Wait(until) => until,
                Next::End => return None,
            };
            let rung = self.bell.notified();
            match until {
                Some(until) => {
                    let watch = Watch(Some(&self.bell));
                    // Late or rung, it looks again.
                    drop(timeout_at(until.into(), rung).await);
                    watch.ends();
                }
                None => rung.await,
            }
        }
    }

    /// Has a lane take nothing, unless it is the last that takes. Returns whether it may.
    pub(super) fn stand_aside(&self) -> bool {
        let mut waiting = self.lock();
        let aside = waiting.lanes_aside.saturating_add(1);
        let may = aside < self.lanes;
        if may {
            waiting.lanes_aside = aside;
        }
        may
    }

    /// A lane that stood aside takes again.
    pub(super) fn come_back(&self) {
        let mut waiting = self.lock();
        waiting.lanes_aside = waiting.lanes_aside.saturating_sub(1);
    }

    /// Takes nothing more. What waits is still given out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    /// Takes nothing more, and forgets what waits: its callers are told that there is no outcome.
    pub(super) fn abandon(&self) {
        let forgotten = self.lock().forget();
        drop(forgotten);
        self.bell.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Where anything in here panics a lane dies, and the queue is abandoned.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn waiting(&self) -> usize {
        self.ready.len().saturating_add(self.behind)
    }

    fn next(&mut self, lanes: usize) -> Next {
        let Some(first) = self.ready.front() else {
            return if self.closed { Next::End } else { Next::Wait(None) };
        };
        let alone = self.lanes_at_work == 0;
        if !alone && !self.closed && self.ready.len() < WORTH_A_TRANSACTION {
            let now = Instant::now();
            let until = first.queued_at().checked_add(self.join_for).unwrap_or(now);
            if until > now {
                return Next::Wait(Some(until));
            }
        }
        self.lanes_at_work = self.lanes_at_work.saturating_add(1);
        let jobs: Vec<_> = self.ready.drain(..self.ready.len().min(BATCH_LIMIT)).collect();
        // A lane that is the only one has everybody in its hands.
        let users = if lanes == 1 { Vec::new() } else { self.hand_over(&jobs) };
        Next::Take(jobs, users, !self.ready.is_empty())
    }

    /// Takes nothing more, and returns all that waits. Who is in the hands of a lane stays there.
    fn forget(&mut self) -> Vec<Box<dyn Job>> {
        self.closed = true;
        self.behind = 0;
        let behind = self.in_hand.values_mut().flat_map(std::mem::take);
        self.ready.drain(..).chain(behind).collect()
    }

    /// Has what comes for the users of these wait behind them.
    fn hand_over(&mut self, jobs: &[Box<dyn Job>]) -> Vec<UserId> {
        let mut users = Vec::new();
        for job in jobs {
            if !self.in_hand.contains_key(job.user()) {
                self.in_hand.insert(job.user().clone(), Vec::new());
                users.push(job.user().clone());
            }
        }
        for job in std::mem::take(&mut self.ready) {
            match self.in_hand.get_mut(job.user()) {
                Some(behind) if behind.len() < QUEUE_LIMIT => {
                    behind.push(job);
                    self.behind = self.behind.saturating_add(1);
                }
                // They came before any lane had looked.
                Some(_) => job.answer(Some(Fault::Overloaded)),
                None => self.ready.push_back(job),
            }
        }
        users
    }

    /// Gives the users back, and what waited behind them to any lane: after the others, or users who always have more
    /// would keep them waiting for good.
    fn take_back(&mut self, users: &[UserId]) {
        for user in users {
            let behind = self.in_hand.remove(user).expect("a user stays in hand until a turn ends");
            self.behind = self.behind.saturating_sub(behind.len());
            self.ready.extend(behind);
        }
    }
}

/// A lane looks when what waits has waited long enough. Where it turns to something else before, another does.
struct Watch<'q>(Option<&'q Notify>);

impl Watch<'_> {
    fn ends(mut self) {
        self.0 = None;
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if let Some(bell) = self.0 {
            bell.notify_one();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        waiting.lanes_at_work = waiting.lanes_at_work.saturating_sub(1);
        waiting.take_back(&self.users);
        let half = self.began_at.elapsed().checked_div(2).expect("two is not zero");
        waiting.join_for = half.min(JOINED_FOR_MAX);
        let more = !waiting.ready.is_empty();
        drop(waiting);
        if more {
            // Another lane may be free sooner than this one.
            self.queue.bell.notify_one();
        }
    }
}
