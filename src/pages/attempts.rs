//! How often an address may try a token. A wrong one costs; a right one does not.
//!
//! Addresses are led to a fixed number of places by a hash that nobody outside can foresee, as the rate limit does it:
//! nothing is added, and nothing has to be forgotten.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Wrong tokens that an address may try at once.
const ATTEMPTS: u32 = 5;
/// After how long it has one more: five a minute.
const INTERVAL: Duration = Duration::from_secs(12);
const PLACES: u64 = 4_096;

/// The attempts of all addresses.
#[derive(Debug)]
pub(super) struct Attempts {
    /// When all attempts of a place are there again.
    full_at: Mutex<Vec<Option<Instant>>>,
    hash_key: RandomState,
}

impl Attempts {
    pub(super) fn new() -> Self {
        let places = usize::try_from(PLACES).expect("few places");
        Self { full_at: Mutex::new(vec![None; places]), hash_key: RandomState::new() }
    }

    /// Takes an attempt, or says how long to wait for the next.
    pub(super) fn take(&self, from: &impl Hash, now: Instant) -> Result<(), Duration> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut full_at[self.place(from)];
        let spent = place.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let spent = spent.saturating_add(INTERVAL);
        let most = INTERVAL.saturating_mul(ATTEMPTS);
        if spent > most {
            return Err(spent.saturating_sub(most));
        }
        *place = now.checked_add(spent);
        Ok(())
    }

    /// Gives back the attempt that was a right one.
    pub(super) fn give_back(&self, from: &impl Hash) {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut full_at[self.place(from)];
        *place = place.and_then(|at| at.checked_sub(INTERVAL));
    }

    fn place(&self, from: &impl Hash) -> usize {
        usize::try_from(self.hash_key.hash_one(from) % PLACES).expect("few places")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_at_once_and_then_one_each_twelve_seconds() {
        let (attempts, start) = (Attempts::new(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for _ in 0..5 {
            assert_eq!(attempts.take(&"a", at(0)), Ok(()));
        }
        assert_eq!(attempts.take(&"a", at(0)), Err(Duration::from_secs(12)));
        assert_eq!(attempts.take(&"a", at(11)), Err(Duration::from_secs(1)));
        assert_eq!(attempts.take(&"a", at(12)), Ok(()));
        assert!(attempts.take(&"a", at(12)).is_err());
        for _ in 0..5 {
            assert_eq!(attempts.take(&"a", at(120)), Ok(()));
        }
        assert!(attempts.take(&"a", at(120)).is_err());
    }

    #[test]
    fn right_ones_cost_nothing_and_others_are_not_hindered() {
        let (attempts, now) = (Attempts::new(), Instant::now());
        for _ in 0..100 {
            assert_eq!(attempts.take(&"a", now), Ok(()));
            attempts.give_back(&"a");
        }
        while attempts.take(&"a", now).is_ok() {}
        let free = (0..100).filter(|other| attempts.take(other, now).is_ok()).count();
        assert!(free >= 98, "{free} of 100 others");
    }
}
