//! The purchases that the operations of a batch work on: found by any of their keys, and what is to be written of
//! them. What one of them is, is in `tracked`.

use std::collections::HashMap;

use super::{PurchaseKey, TrackedPurchase, UserId};

/// The purchases that operations ask for, as they find them and leave them.
#[derive(Debug, Default)]
pub(crate) struct TrackedPurchases {
    all: Vec<TrackedPurchase>,
    by_key: HashMap<PurchaseKey, usize>,
    /// Keys to keep, with the purchase each leads to.
    new_keys: Vec<(PurchaseKey, usize)>,
    changed: Vec<usize>,
}

impl TrackedPurchases {
    /// Takes note of one that is kept, known by `key` and maybe by others.
    pub(crate) fn insert_kept(&mut self, key: PurchaseKey, purchase: TrackedPurchase) {
        let place = self.all.iter().position(|known| known.key == purchase.key);
        let place = place.unwrap_or_else(|| self.push(purchase));
        self.by_key.insert(key, place);
    }

    /// How many entries took back something of them.
    pub(crate) fn parts(&self) -> usize {
        self.all.iter().map(|purchase| purchase.parts.len()).sum()
    }

    /// Who got those that are granted.
    pub(super) fn owners_of_granted(&self) -> impl Iterator<Item = &UserId> {
        let granted = self.all.iter().filter(|purchase| purchase.is_granted());
        granted.filter_map(|purchase| purchase.user.as_ref())
    }

    /// Whether an entry granted one of them.
    pub(super) fn have_entry(&self, entry: i64) -> bool {
        self.all.iter().any(|purchase| purchase.entry_id == Some(entry))
    }

    fn push(&mut self, purchase: TrackedPurchase) -> usize {
        self.all.push(purchase);
        self.all.len().saturating_sub(1)
    }

    /// Those known by any of `keys`, each once, in the order of the keys.
    pub(super) fn find(&self, keys: &[PurchaseKey]) -> Vec<usize> {
        let mut places: Vec<usize> = Vec::new();
        for place in keys.iter().filter_map(|key| self.by_key.get(key)) {
            if !places.contains(place) {
                places.push(*place);
            }
        }
        places
    }

    pub(super) fn at(&self, place: usize) -> &TrackedPurchase {
        &self.all[place]
    }

    /// Changes one.
    pub(super) fn change(&mut self, place: usize) -> &mut TrackedPurchase {
        if !self.changed.contains(&place) {
            self.changed.push(place);
        }
        &mut self.all[place]
    }

    /// Adds one, known by its key.
    pub(super) fn add(&mut self, purchase: TrackedPurchase) -> usize {
        let key = purchase.key.clone();
        let place = self.push(purchase);
        self.changed.push(place);
        self.add_key(key, place);
        place
    }

    /// Has one known by `key` too, if nothing is known by it.
    pub(super) fn add_key(&mut self, key: PurchaseKey, place: usize) {
        if !self.by_key.contains_key(&key) {
            self.by_key.insert(key.clone(), place);
            self.new_keys.push((key, place));
        }
    }

    /// Those to be kept as they are now.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &TrackedPurchase> {
        self.changed.iter().map(|place| &self.all[*place])
    }

    /// Keys to be kept, each with the first key of its purchase.
    pub(crate) fn new_keys(&self) -> impl Iterator<Item = (&PurchaseKey, &PurchaseKey)> {
        self.new_keys.iter().map(|(key, place)| (key, &self.all[*place].key))
    }
}
