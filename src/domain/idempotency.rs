//! What makes a repeated request harmless: the key its client gave it, the fingerprint by which
//! another request under the same key is told apart, and the replay that answers it again. When they
//! are looked up is the ledger's business.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::Arc,
};

use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::UserId;

/// Most characters of an idempotency key.
pub(crate) const IDEMPOTENCY_KEY_MAX_CHARS: usize = 255;

/// The text is no idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be 1 to {IDEMPOTENCY_KEY_MAX_CHARS} visible ASCII characters")]
pub(crate) struct InvalidIdempotencyKey;

/// A client's name for a request, and for every repetition of it. Its user's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub(crate) struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// Checks and keeps a text.
    ///
    /// # Errors
    /// [`InvalidIdempotencyKey`] when it is empty, too long, or holds anything but visible ASCII.
    pub(crate) fn new(text: impl Into<Arc<str>>) -> Result<Self, InvalidIdempotencyKey> {
        let text = text.into();
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=IDEMPOTENCY_KEY_MAX_CHARS).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(InvalidIdempotencyKey)
        }
    }

    /// The text as it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, shared and not copied.
    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// A key with the user it belongs to: what a request is known by among all users' requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UserKey {
    // First, because it tells nearly all keys apart.
    digest: i64,
    user: UserId,
    key: IdempotencyKey,
}

impl UserKey {
    /// The user's key, with its digest.
    pub(crate) fn new(user: UserId, key: IdempotencyKey) -> Self {
        // A user's name holds no line break.
        let digest = digest(&[user.as_str(), "\n", key.as_str()]);
        Self { digest, user, key }
    }

    /// Whose it is.
    pub(crate) const fn user(&self) -> &UserId {
        &self.user
    }

    /// What the user's client calls the request.
    pub(crate) const fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    /// A number by which the key is found among all users' keys. Others may have the same.
    pub(crate) const fn digest(&self) -> i64 {
        self.digest
    }
}

impl Hash for UserKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

/// Takes a digest as it is: it is a hash already. Who makes many keys with digests alike slows down
/// only the batches they are in.
#[derive(Debug, Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_i64(&mut self, digest: i64) {
        self.0 = digest.cast_unsigned();
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Builds the hasher of maps by digest.
pub(crate) type BuildDigestHasher = BuildHasherDefault<DigestHasher>;

/// The first 64 bits of the SHA-256 of all parts. Kept for days, so it may not change with the program.
fn digest(parts: &[&str]) -> i64 {
    let digest = parts.iter().fold(Sha256::new(), Digest::chain_update).finalize();
    i64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default())
}

/// Tells requests apart: equal ones have the same, others almost certainly not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(i64);

impl Fingerprint {
    /// The fingerprint of a request, from its path and its body in canonical form.
    pub(crate) fn of(path: &str, body: &str) -> Self {
        // A path holds no line break, so the two can't flow into each other.
        Self(digest(&[path, "\n", body]))
    }

    /// One that was kept.
    pub(crate) const fn kept(number: i64) -> Self {
        Self(number)
    }

    /// As it is kept.
    pub(crate) const fn get(self) -> i64 {
        self.0
    }
}

/// A request that may come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyed {
    /// What its client calls it.
    pub key: IdempotencyKey,
    /// What it asks for.
    pub fingerprint: Fingerprint,
    /// Whether the key is one of the operators' own, whatever account the request is about.
    pub by_operator: bool,
}

/// What a successful request is answered with when it comes again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replay {
    /// What was asked for.
    pub fingerprint: Fingerprint,
    /// The operation's outcome, as JSON.
    pub outcome: String,
}

/// The replays of the requests at hand: those that were kept, and those to keep.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    kept: HashMap<UserKey, Replay, BuildDigestHasher>,
    new: HashMap<UserKey, Replay, BuildDigestHasher>,
}

impl Replays {
    /// The replay of a request that was carried out.
    pub(crate) fn get(&self, key: &UserKey) -> Option<&Replay> {
        self.new.get(key).or_else(|| self.kept.get(key))
    }

    /// Takes note of a replay that is kept already.
    pub(crate) fn insert_kept(&mut self, key: UserKey, replay: Replay) {
        self.kept.insert(key, replay);
    }

    /// Adds the replay of a request just carried out.
    pub(crate) fn insert_new(&mut self, key: UserKey, replay: Replay) {
        self.new.insert(key, replay);
    }

    /// Forgets all replays of `user`.
    pub(crate) fn forget(&mut self, user: &UserId) {
        self.kept.retain(|key, _| key.user() != user);
        self.new.retain(|key, _| key.user() != user);
    }

    /// The replays to keep.
    pub(crate) fn new_ones(&self) -> impl ExactSizeIterator<Item = (&UserKey, &Replay)> {
        self.new.iter()
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

    fn user_key(user: &str, key: &str) -> UserKey {
        let user = UserId::new(user).expect("a valid name");
        UserKey::new(user, IdempotencyKey::new(key).expect("a valid key"))
    }

    #[test]
    fn user_and_key_make_the_digest() {
        assert_eq!(user_key("ann", "k").digest(), -5_677_591_085_982_624_543);
        assert_ne!(user_key("ann", "k").digest(), user_key("ann", "l").digest());
        assert_ne!(user_key("ann", "k").digest(), user_key("bob", "k").digest());
    }

    #[test]
    fn keys_of_one_digest_are_told_apart() {
        let key = user_key("ann", "k");
        let alike = UserKey { digest: key.digest(), ..user_key("bob", "k") };
        let replay = |outcome: &str| Replay {
            fingerprint: Fingerprint::kept(1),
            outcome: outcome.to_owned(),
        };
        let mut replays = Replays::default();
        replays.insert_kept(key.clone(), replay("1"));
        assert_eq!(replays.get(&alike), None);
        replays.insert_new(alike.clone(), replay("2"));
        assert_eq!(replays.get(&key), Some(&replay("1")));
        assert_eq!(replays.get(&alike), Some(&replay("2")));
        replays.forget(key.user());
        assert_eq!(replays.get(&key), None);
        assert_eq!(replays.new_ones().collect::<Vec<_>>(), [(&alike, &replay("2"))]);
        replays.forget(alike.user());
        assert_eq!(replays.new_ones().len(), 0);
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
