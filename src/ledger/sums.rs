//! Whose consumptions are to be added to the sums of usage: those of whom many were written since, and those who
//! were asked for. Nothing is lost when it is forgotten: who has many in no sums is asked for, or consumes, again.

use std::collections::{HashMap, VecDeque};

use tokio::sync::mpsc;

use crate::{
    database::{Lane, Progress},
    domain::{Account, EntryKind, UserId},
};

/// How many consumptions of a user are left to whoever asks to read, which takes a few milliseconds.
pub(super) const FRESH_MAX: i64 = 4_096;
/// Most users of whom it is known how many were written. One more, and it begins again.
const USERS_MAX: usize = 10_000;
/// Most users who wait for their sums.
const WAITING_MAX: usize = 1_024;

/// The sums that a lane has to do.
#[derive(Debug)]
pub(super) struct Sums {
    /// Consumptions since the last sum.
    written: HashMap<UserId, i64>,
    waiting: VecDeque<UserId>,
    asked: mpsc::Receiver<UserId>,
}

impl Sums {
    pub(super) fn new(asked: mpsc::Receiver<UserId>) -> Self {
        Self { written: HashMap::new(), waiting: VecDeque::new(), asked }
    }

    /// Takes note of what was written.
    pub(super) fn note(&mut self, written: Vec<(UserId, i64)>) {
        for (user, count) in written {
            let known = self.written.get(&user).copied().unwrap_or(0).saturating_add(count);
            if known >= FRESH_MAX {
                self.written.remove(&user);
                self.wait_for(user);
            } else {
                if self.written.len() >= USERS_MAX {
                    self.written.clear();
                }
                self.written.insert(user, known);
            }
        }
    }

    fn wait_for(&mut self, user: UserId) {
        if self.waiting.len() < WAITING_MAX && !self.waiting.contains(&user) {
            self.waiting.push_back(user);
        }
    }

    /// Waits until somebody is asked for.
    pub(super) async fn wait(&mut self) {
        match self.asked.recv().await {
            Some(user) => self.wait_for(user),
            // Nobody can ask any more.
            None => std::future::pending().await,
        }
    }

    /// Adds some of the entries of who waits longest. Returns whether there may be more to do.
    pub(super) async fn slice<L: Lane>(&mut self, lane: &mut L) -> bool {
        while let Ok(user) = self.asked.try_recv() {
            self.wait_for(user);
        }
        if let Some(user) = self.waiting.front() {
            match lane.sum_usage(user).await {
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

/// How many consumptions, and what came back of them, these accounts have new entries of.
pub(super) fn counted<'a>(accounts: impl Iterator<Item = &'a Account>) -> Vec<(UserId, i64)> {
    let count = |account: &Account| {
        let counts = |kind| matches!(kind, EntryKind::Consumption | EntryKind::Reversal);
        let entries = account.entries().iter().filter(|recorded| counts(recorded.entry.kind()));
        i64::try_from(entries.count()).unwrap_or(i64::MAX)
    };
    accounts
        .map(|account| (account, count(account)))
        .filter(|(_, count)| *count > 0)
        .map(|(account, count)| (account.user().clone(), count))
        .collect()
}
