//! The Bloom filter over the index of idempotency keys: which keys are certainly not in there, told from
//! memory. What is in the index, and as of when, is `keys`' business.

use fastbloom::BloomFilter;

use crate::domain::BuildDigestHasher;

/// 1 MiB. Of a million keys in the index it takes one new key in fifty for one of them; of ten million
/// nearly every one, and then the index is asked as if this were not here.
const BITS: usize = 1 << 23;
/// Bits per key.
const HASHES: u32 = 4;
/// How many keys of the index are read at once: so few that it costs no more than a batch, should others
/// write all the time and all that was read be in vain.
pub(super) const READ_AT_ONCE: usize = 1_024;
/// After so many were deleted, all that are left are read anew: what is in here stays.
const DELETED_MAX: usize = 262_144;

/// Knows nothing until the whole index was read.
#[derive(Debug, Default)]
pub(super) struct IndexFilter {
    digests: Option<BloomFilter<BuildDigestHasher>>,
    reading: Reading,
    deleted: usize,
}

/// How far the index was read, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    From(i64),
    Done,
}

impl Default for Reading {
    fn default() -> Self {
        Self::From(i64::MIN)
    }
}

impl IndexFilter {
    /// Forgets all, because others have changed the index.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Whether a key with this digest may be in the index.
    pub(super) fn may_have(&self, digest: i64) -> bool {
        let Some(digests) = self.digests.as_ref().filter(|_| self.reading == Reading::Done) else {
            return true;
        };
        digests.contains_hash(digest.cast_unsigned())
    }

    /// The digest from which the index is to be read on, unless it was read to its end.
    pub(super) const fn reads_from(&self) -> Option<i64> {
        match self.reading {
            Reading::From(digest) => Some(digest),
            Reading::Done => None,
        }
    }

    /// Takes what was read from there, [`READ_AT_ONCE`] or all that were left.
    pub(super) fn take_in(&mut self, digests: &[i64]) {
        self.add(digests.iter().copied());
        let next = digests.last().and_then(|last| last.checked_add(1));
        self.reading = match next {
            Some(next) if digests.len() >= READ_AT_ONCE => Reading::From(next),
            _ => Reading::Done,
        };
    }

    /// Takes note of keys that go into the index.
    pub(super) fn add(&mut self, digests: impl Iterator<Item = i64>) {
        let empty = || {
            let hasher = BuildDigestHasher::default();
            BloomFilter::with_num_bits(BITS).hasher(hasher).hashes(HASHES)
        };
        let filter = self.digests.get_or_insert_with(empty);
        for digest in digests {
            filter.insert_hash(digest.cast_unsigned());
        }
    }

    /// Takes note that so many keys of the index were deleted.
    pub(super) fn note_deleted(&mut self, keys: usize) {
        self.deleted = self.deleted.saturating_add(keys);
        if self.deleted > DELETED_MAX {
            self.restart();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digests(count: usize) -> Vec<i64> {
        let spread = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed());
        (1..).map(spread).take(count).collect()
    }

    #[test]
    fn it_tells_nothing_before_all_was_read_and_then_of_each() {
        let mut filter = IndexFilter::default();
        let all = digests(READ_AT_ONCE + 2);
        let (first, rest) = all.split_at(READ_AT_ONCE);
        assert!(filter.may_have(1));
        filter.take_in(first);
        assert_eq!(filter.reads_from(), first.last().map(|last| last + 1));
        assert!(filter.may_have(1));
        filter.take_in(rest);
        assert_eq!(filter.reads_from(), None);
        assert!(all.iter().all(|digest| filter.may_have(*digest)));
        assert!(!filter.may_have(1));
        filter.add([1].into_iter());
        assert!(filter.may_have(1));
    }

    #[test]
    fn it_takes_few_new_keys_for_known_ones() {
        let mut filter = IndexFilter::default();
        let all = digests(300_000);
        let (known, new) = all.split_at(200_000);
        filter.add(known.iter().copied());
        filter.take_in(&[]);
        let mistaken = new.iter().filter(|digest| filter.may_have(**digest)).count();
        assert!(mistaken < new.len() / 1_000, "{mistaken} of {}", new.len());
    }

    #[test]
    fn it_starts_again_when_many_are_gone() {
        let mut filter = IndexFilter::default();
        filter.take_in(&[]);
        filter.note_deleted(DELETED_MAX);
        assert!(!filter.may_have(1));
        filter.note_deleted(1);
        assert!(filter.may_have(1));
        assert_eq!(filter.reads_from(), Some(i64::MIN));
    }
}
