//! Entries that somebody wants taken back, as they are kept. Who may take which back is the rule of the operation.

use std::collections::HashMap;

use super::{EntryKind, ModelId, UserId};

/// What is known of an entry that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptEntry {
    /// Whose it is.
    pub user: UserId,
    pub kind: EntryKind,
    pub model: Option<ModelId>,
    /// Tokens of a consumption, else whatever its kind counts.
    pub amount: i64,
    /// How much of that was reversed.
    pub reversed: i64,
}

/// Those asked for that there are, by their ids.
#[derive(Debug, Default)]
pub(crate) struct KeptEntries(HashMap<i64, KeptEntry>);

impl KeptEntries {
    /// Takes note of one.
    pub(crate) fn insert(&mut self, id: i64, entry: KeptEntry) {
        self.0.insert(id, entry);
    }

    /// One of the user's own.
    pub(super) fn of(&mut self, user: &UserId, id: i64) -> Option<&mut KeptEntry> {
        self.0.get_mut(&id).filter(|entry| entry.user == *user)
    }

    /// Forgets those of `user`.
    pub(super) fn forget(&mut self, user: &UserId) {
        self.0.retain(|_, entry| entry.user != *user);
    }
}
