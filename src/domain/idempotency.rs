//! What makes a repeated request harmless: the key its client gave it, the fingerprint by which
//! another request under the same key is told apart, and the receipt that answers it again. When they
//! are looked up is the ledger's business.

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::UserId;

/// Most characters of an idempotency key.
pub const IDEMPOTENCY_KEY_MAX_CHARS: usize = 255;

/// The text is no idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be 1 to {IDEMPOTENCY_KEY_MAX_CHARS} visible ASCII characters")]
pub struct InvalidIdempotencyKey;

/// A client's name for a request, and for every repetition of it. Its user's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// Checks and keeps a text.
    ///
    /// # Errors
    /// [`InvalidIdempotencyKey`] when it is empty, too long, or holds anything but visible ASCII.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, InvalidIdempotencyKey> {
        let text = text.into();
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=IDEMPOTENCY_KEY_MAX_CHARS).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(InvalidIdempotencyKey)
        }
    }

    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared and not copied.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// A number by which the key is found among all users' keys. Others may have the same.
    #[must_use]
    pub fn digest(&self, user: &UserId) -> i64 {
        // A user's name holds no line break.
        digest(&[user.as_str(), "\n", &self.0])
    }
}

/// The first 64 bits of the SHA-256 of all parts. Kept for days, so it may not change with the program.
fn digest(parts: &[&str]) -> i64 {
    let digest = parts.iter().fold(Sha256::new(), Digest::chain_update).finalize();
    i64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default())
}

/// Tells requests apart: equal ones have the same, others almost certainly not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(i64);

impl Fingerprint {
    /// The fingerprint of a request, from its path and its body in canonical form.
    #[must_use]
    pub fn of(path: &str, body: &str) -> Self {
        // A path holds no line break, so the two can't flow into each other.
        Self(digest(&[path, "\n", body]))
    }

    /// One that was kept.
    #[must_use]
    pub const fn kept(number: i64) -> Self {
        Self(number)
    }

    /// As it is kept.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// A request that may come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyed {
    /// What its client calls it.
    pub key: IdempotencyKey,
    /// What it asks for.
    pub fingerprint: Fingerprint,
}

/// What a successful request is answered with when it comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// The operation's outcome, as JSON.
    pub outcome: String,
}

/// The receipts of the requests at hand: those that were kept, and those to keep.
#[derive(Debug, Default)]
pub struct Receipts {
    kept: HashMap<UserId, HashMap<IdempotencyKey, Receipt>>,
    new: HashMap<UserId, HashMap<IdempotencyKey, Receipt>>,
}

impl Receipts {
    /// The receipt of a request that was carried out.
    #[must_use]
    pub fn get(&self, user: &UserId, key: &IdempotencyKey) -> Option<&Receipt> {
        [&self.new, &self.kept].into_iter().find_map(|receipts| receipts.get(user)?.get(key))
    }

    /// Takes note of a receipt that is kept already.
    pub fn insert_kept(&mut self, user: UserId, key: IdempotencyKey, receipt: Receipt) {
        self.kept.entry(user).or_default().insert(key, receipt);
    }

    /// Adds the receipt of a request just carried out.
    pub fn insert_new(&mut self, user: UserId, key: IdempotencyKey, receipt: Receipt) {
        self.new.entry(user).or_default().insert(key, receipt);
    }

    /// Forgets all receipts of `user`.
    pub fn forget(&mut self, user: &UserId) {
        self.kept.remove(user);
        self.new.remove(user);
    }

    /// The receipts to keep.
    pub fn new_ones(&self) -> impl Iterator<Item = (&UserId, &IdempotencyKey, &Receipt)> {
        self.new.iter().flat_map(|(user, receipts)| {
            receipts.iter().map(move |(key, receipt)| (user, key, receipt))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_visible_ascii() {
        for text in ["a", "~!", &"k".repeat(255)] {
            assert!(IdempotencyKey::new(text).is_ok(), "{text}");
        }
        for text in ["", " ", "a b", "a\t", "é", "\u{7f}", &"k".repeat(256)] {
            assert_eq!(IdempotencyKey::new(text), Err(InvalidIdempotencyKey), "{text}");
        }
    }

    #[test]
    fn path_and_body_make_the_fingerprint() {
        let fingerprint = Fingerprint::of("/a", "{}");
        assert_eq!(fingerprint, Fingerprint::of("/a", "{}"));
        assert_ne!(fingerprint, Fingerprint::of("/a", "{ }"));
        assert_ne!(fingerprint, Fingerprint::of("/b", "{}"));
        assert_eq!(fingerprint.get(), -7_695_854_171_873_750_332);
    }
}
