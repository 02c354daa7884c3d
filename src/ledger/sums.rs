//! Whose consumptions are to be added to the sums of usage: those of whom many were written since, and those who
//! were asked for. What was written is added up on the way, so that it need not be read again. Nothing is lost when
//! that is forgotten: who has many in no sums is asked for, or consumes, again.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use crate::{
    database::{Lane, Progress},
    domain::{Account, FreshUsage, UserId},
};

/// How many consumptions of a user are left to whoever asks to read, which takes a few milliseconds.
pub(super) const FRESH_MAX: i64 = 4_096;
/// Most users of whom it is known what was written. One more, and it begins again.
const USERS_MAX: usize = 4_096;
/// Most users who wait for their sums.
const WAITING_MAX: usize = 1_024;

/// Consumptions of each user since the last sum, by whichever lane they were written.
pub(super) type Written = Arc<Mutex<HashMap<UserId, FreshUsage>>>;

/// The sums that a lane has to do.
#[derive(Debug)]
pub(super) struct Sums {
    written: Written,
    /// With what is known of theirs.
    waiting: VecDeque<(UserId, FreshUsage)>,
    asked: mpsc::Receiver<UserId>,
}

impl Sums {
    pub(super) const fn new(asked: mpsc::Receiver<UserId>, written: Written) -> Self {
        Self { written, waiting: VecDeque::new(), asked }
    }

    /// Takes note of what was written.
    pub(super) fn note(&mut self, written: Vec<(UserId, Option<FreshUsage>)>) {
        for (user, fresh) in written {
            let Some(fresh) = fresh else {
                self.forget(&user);
                self.waiting.retain(|(waiting, _)| *waiting != user);
                continue;
            };
            if let Some((user, known)) = self.add(user, fresh) {
                self.wait_for(user, known);
            }
        }
    }

    /// Adds to what is known, and takes it where it has come to be many.
    fn add(&self, user: UserId, fresh: FreshUsage) -> Option<(UserId, FreshUsage)> {
        // It is changed one user at a time, so a panic elsewhere leaves nothing half done.
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() >= USERS_MAX && !written.contains_key(&user) {
            written.clear();
        }
        match written.entry(user) {
            Entry::Vacant(vacant) => {
                vacant.insert(fresh);
                None
            }
            Entry::Occupied(mut known) => {
                known.get_mut().follow(fresh);
                (known.get().entries >= FRESH_MAX).then(|| known.remove_entry())
            }
        }
    }

    /// What is known of a user, which is forgotten.
    fn forget(&self, user: &UserId) -> Option<FreshUsage> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(user)
    }

    fn wait_for(&mut self, user: UserId, fresh: FreshUsage) {
        if let Some((_, known)) = self.waiting.iter_mut().find(|(waiting, _)| *waiting == user) {
            known.follow(fresh);
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back((user, fresh));
        }
    }

    /// Whoever asks finds more than is known, or need not wait for it.
    fn was_asked_for(&mut self, user: UserId) {
        let known = self.forget(&user).unwrap_or_default();
        self.wait_for(user, known);
    }

    /// Waits until somebody is asked for.
    pub(super) async fn wait(&mut self) {
        match self.asked.recv().await {
            Some(user) => self.was_asked_for(user),
            // Nobody can ask any more.
            None => std::future::pending().await,
        }
    }

    /// Adds some of the entries of who waits longest. Returns whether there may be more to do.
    pub(super) async fn slice<L: Lane>(&mut self, lane: &mut L) -> bool {
        while let Ok(user) = self.asked.try_recv() {
            self.was_asked_for(user);
        }
        if let Some((user, known)) = self.waiting.front() {
            match lane.sum_usage(user, known).await {
                Ok(Progress::More) => {}
                Ok(Progress::Done) => {
                    self.waiting.pop_front();
                }
                Err(error) => {
                    tracing::warn!(%error, "usage was not summed up");
                    self.waiting.pop_front();
                }
            }
        }
        !self.waiting.is_empty()
    }
}

/// What new entries of these accounts come to, where they have any that count. Nothing where entries were forgotten, or
/// get another name: with it what was known before can't be all there is.
pub(super) fn fresh_usage<'a>(
    accounts: impl Iterator<Item = &'a Account>,
    now: DateTime<Utc>,
) -> Vec<(UserId, Option<FreshUsage>)> {
    accounts
        .filter_map(|account| {
            if account.is_reset() || account.is_erasing() {
                return Some((account.user().clone(), None));
            }
            let fresh = FreshUsage::of(account, now);
            (fresh.entries > 0).then(|| (account.user().clone(), Some(fresh)))
        })
        .collect()
}
