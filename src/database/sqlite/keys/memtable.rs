//! The memtable: the idempotency keys that are not in the index yet. When they go there is told in `keys`.

use hashbrown::HashTable;

/// A key's digest and its row's id.
pub(in super::super) type DigestAndId = (i64, i64);

/// Several may have the same digest.
#[derive(Debug, Default)]
pub(super) struct Memtable(HashTable<DigestAndId>);

impl Memtable {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes one that is not here yet.
    pub(super) fn insert(&mut self, key: DigestAndId) {
        self.0.insert_unique(hash(&key), key, hash);
    }

    pub(super) fn remove(&mut self, key: DigestAndId) {
        if let Ok(entry) = self.0.find_entry(hash(&key), |held| *held == key) {
            entry.remove();
        }
    }

    pub(super) fn contains(&self, key: DigestAndId) -> bool {
        self.ids(key.0).any(|id| id == key.1)
    }

    /// The ids of all with this digest.
    pub(super) fn ids(&self, digest: i64) -> impl Iterator<Item = i64> {
        let alike = self.0.iter_hash(hash(&(digest, 0)));
        alike.filter(move |held| held.0 == digest).map(|(_, id)| *id)
    }

    /// All of them, in the order of the index.
    pub(super) fn sorted(&self) -> Vec<DigestAndId> {
        let mut all: Vec<_> = self.0.iter().copied().collect();
        all.sort_unstable();
        all
    }

    pub(super) fn forget_up_to(&mut self, id: i64) {
        self.0.retain(|held| held.1 > id);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A digest is a hash already.
const fn hash((digest, _): &DigestAndId) -> u64 {
    digest.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_digest_are_told_apart_by_their_ids() {
        let mut memtable = Memtable::default();
        for key in [(7, 1), (7, 2), (-3, 3)] {
            memtable.insert(key);
        }
        assert_eq!(memtable.sorted(), [(-3, 3), (7, 1), (7, 2)]);
        memtable.remove((7, 1));
        memtable.remove((7, 9));
        assert_eq!(memtable.ids(7).collect::<Vec<_>>(), [2]);
        assert!(
            memtable.contains((7, 2)) && !memtable.contains((7, 1)) && !memtable.contains((8, 2))
        );
        memtable.forget_up_to(2);
        assert_eq!(memtable.sorted(), [(-3, 3)]);
        memtable.clear();
        assert_eq!(memtable.len(), 0);
    }
}
