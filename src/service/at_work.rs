//! Tasks that are at work on things, each thing by one of them at a time.

use std::{collections::HashMap, future::Future};

use tokio::task::{Id, JoinError, JoinSet};

/// Tasks, with what each is at work on, and what they come to.
#[derive(Debug)]
pub(super) struct AtWork<K, T> {
    tasks: JoinSet<T>,
    on: HashMap<Id, K>,
}

impl<K: PartialEq, T: Send + 'static> AtWork<K, T> {
    pub(super) fn new() -> Self {
        Self { tasks: JoinSet::new(), on: HashMap::new() }
    }

    /// How many are at work.
    pub(super) fn len(&self) -> usize {
        self.on.len()
    }

    /// Whether one is at work on it.
    pub(super) fn has(&self, thing: &K) -> bool {
        self.on.values().any(|known| known == thing)
    }

    /// Begins work on a thing.
    pub(super) fn begin(&mut self, thing: K, work: impl Future<Output = T> + Send + 'static) {
        let task = self.tasks.spawn(work);
        self.on.insert(task.id(), thing);
    }

    /// What the next that ends has come to; nothing, if there is none or it broke off.
    pub(super) async fn next(&mut self) -> Option<T> {
        let ended = self.tasks.join_next_with_id().await?;
        self.take(ended)
    }

    /// Forgets those that have ended.
    pub(super) fn clear(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.take(ended);
        }
    }

    fn take(&mut self, ended: Result<(Id, T), JoinError>) -> Option<T> {
        let (id, result) = match ended {
            Ok((id, result)) => (id, Some(result)),
            Err(error) => (error.id(), None),
        };
        self.on.remove(&id);
        result
    }
}
