//! The public keys of whoever issues tokens, fetched from a JWKS address: when they are fetched, kept and
//! found. What a token must say beside its signature is for those who ask for a key.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::warn;

use super::PublicKey;
use crate::outgoing::Outgoing;

/// How long to wait after a fetch before an unknown key leads to another.
const FETCH_INTERVAL: Duration = Duration::from_mins(1);
/// How long to wait after a first fetch that failed; each further one that fails doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait after a fetch that failed.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Most bytes of a key set.
const KEY_SET_MAX_BYTES: usize = 262_144;

/// The keys of an issuer, each made into what judges its tokens.
#[derive(Debug)]
pub(crate) struct KeySet<V> {
    issuer: Arc<Issuer<V>>,
    fetches: Arc<Mutex<Fetches>>,
}

/// The keys can't be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfetched;

/// Where the keys are fetched, and what was.
struct Issuer<V> {
    /// Whose they are, for the log.
    name: &'static str,
    url: Url,
    client: Outgoing,
    judge: Judge<V>,
    known: RwLock<Known<V>>,
}

/// Makes of a key what judges tokens; nothing of one that is not for them.
type Judge<V> = Box<dyn Fn(PublicKey) -> Option<V> + Send + Sync>;

/// What judges, by the ids of keys, of which several may share one: an issuer may give one to keys of different
/// types.
type Known<V> = HashMap<String, Arc<[V]>>;

impl<V> fmt::Debug for Issuer<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name).finish_non_exhaustive()
    }
}

/// When the keys were fetched, and when they may be again.
#[derive(Debug, Default)]
struct Fetches {
    succeeded_at: Option<Instant>,
    /// Since the last success.
    failed: Option<Failed>,
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    at: Instant,
    pause: Duration,
}

/// A key set as it is served. An entry may be anything: one that we can't read must not spoil the others.
#[derive(Deserialize)]
struct Served {
    keys: Vec<Value>,
}

impl<V: Send + Sync + 'static> KeySet<V> {
    /// Keys that are fetched when the first is asked for. The log calls them by `name`; `judge` makes of each what
    /// judges tokens, and passes over those that are not for them.
    pub(crate) fn at(
        name: &'static str,
        url: Url,
        client: Outgoing,
        judge: impl Fn(PublicKey) -> Option<V> + Send + Sync + 'static,
    ) -> Self {
        let (judge, known) = (Box::new(judge), RwLock::default());
        let issuer = Arc::new(Issuer { name, url, client, judge, known });
        Self { issuer, fetches: Arc::default() }
    }

    /// What judges by the keys called `id`, if they were fetched before.
    pub(crate) fn known(&self, id: &str) -> Option<Arc<[V]>> {
        self.issuer.known(id)
    }

    /// The same, fetched unless the last fetch brought none just now. So it is only for tokens that may be good.
    ///
    /// # Errors
    /// [`Unfetched`] when they can't be had.
    pub(crate) async fn fetched(&self, id: &str) -> Result<Option<Arc<[V]>>, Unfetched> {
        // Whoever waits here for another's fetch finds what it brought.
        let fetches = Arc::clone(&self.fetches).lock_owned().await;
        if let Some(keys) = self.issuer.known(id) {
            return Ok(Some(keys));
        }
        if fetches.succeeded_at.is_none_or(|at| at.elapsed() >= FETCH_INTERVAL) {
            self.try_fetch(fetches).await?;
        }
        Ok(self.issuer.known(id))
    }

    /// Whether there are keys, or they can be fetched now.
    pub(crate) async fn can_be_had(&self) -> bool {
        let fetches = Arc::clone(&self.fetches).lock_owned().await;
        fetches.succeeded_at.is_some() || self.try_fetch(fetches).await.is_ok()
    }

    /// Fetches the keys, unless the last try failed just now.
    async fn try_fetch(&self, fetches: OwnedMutexGuard<Fetches>) -> Result<(), Unfetched> {
        if fetches.failed.is_some_and(|failed| failed.at.elapsed() < failed.pause) {
            return Err(Unfetched);
        }
        // On a task of its own: whoever asked may go away, and what is fetched must not go with them.
        let fetching = tokio::spawn(Arc::clone(&self.issuer).renew(fetches));
        fetching.await.unwrap_or(Err(Unfetched))
    }
}

impl<V> Issuer<V> {
    fn known(&self, id: &str) -> Option<Arc<[V]>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Fetches the keys, and takes note of how that went.
    async fn renew(
        self: Arc<Self>,
        mut fetches: OwnedMutexGuard<Fetches>,
    ) -> Result<(), Unfetched> {
        match self.fetch().await {
            Ok(known) => {
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
                fetches.succeeded_at = Some(Instant::now());
                fetches.failed = None;
                Ok(())
            }
            Err(reason) => {
                let pause = fetches.failed.map_or(FIRST_PAUSE, |failed| {
                    failed.pause.saturating_mul(2).min(LONGEST_PAUSE)
                });
                let pause_s = pause.as_secs();
                let of = self.name;
                warn!(
                    of,
                    reason, pause_s, "the keys of tokens can't be fetched; the old ones stay"
                );
                fetches.failed = Some(Failed { at: Instant::now(), pause });
                Err(Unfetched)
            }
        }
    }

    async fn fetch(&self) -> Result<Known<V>, String> {
        let body = self.client.get(&self.url, KEY_SET_MAX_BYTES).await?;
        let served: Served = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let mut verifiers: HashMap<String, Vec<V>> = HashMap::new();
        for (id, verifier) in served.keys.iter().filter_map(|key| self.verifier(key)) {
            verifiers.entry(id).or_default().push(verifier);
        }
        Ok(verifiers.into_iter().map(|(id, verifiers)| (id, verifiers.into())).collect())
    }

    /// What judges by a key, with the key's id. Others in the set are not for us.
    fn verifier(&self, key: &Value) -> Option<(String, V)> {
        let key = Jwk::deserialize(key).ok()?;
        let algorithm = algorithm(&key)?;
        let decoding_key = DecodingKey::from_jwk(&key).ok()?;
        let verifier = (self.judge)(PublicKey::new(decoding_key, algorithm)?)?;
        Some((key.common.key_id?, verifier))
    }
}

/// The one algorithm a key is used with, if it is there to verify; never a shared secret, which has no place
/// in a public set.
fn algorithm(key: &Jwk) -> Option<Algorithm> {
    let algorithm = match &key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let common = &key.common;
    let signs = common.public_key_use.as_ref().is_none_or(|use_| *use_ == PublicKeyUse::Signature);
    let verifies = common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let made_for =
        common.key_algorithm.is_none_or(|made_for| made_for == KeyAlgorithm::from(algorithm));
    (signs && verifies && made_for).then_some(algorithm)
}
