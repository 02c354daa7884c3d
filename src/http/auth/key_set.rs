//! The public keys of whoever issues tokens, fetched from a JWKS address: when they are fetched, kept and
//! found. What a token must say beside its signature is `verifier`'s.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::warn;

use super::{
    Unidentified,
    verifier::{Expected, Verifier, may_be_good},
};
use crate::{
    domain::UserId,
    outgoing::{self, Outgoing},
};

/// How long to wait after a fetch before an unknown key leads to another.
const FETCH_INTERVAL: Duration = Duration::from_mins(1);
/// How long to wait after a first fetch that failed; each further one that fails doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait after a fetch that failed.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Most bytes of a key set.
const KEY_SET_MAX_BYTES: usize = 262_144;

/// The keys of an issuer.
#[derive(Debug)]
pub(crate) struct KeySet {
    issuer: Arc<Issuer>,
    fetches: Arc<Mutex<Fetches>>,
}

/// Where the keys are fetched, and what was.
#[derive(Debug)]
struct Issuer {
    url: Url,
    client: Outgoing,
    expected: Expected,
    known: RwLock<Known>,
}

/// The keys by their ids, of which several may share one: an issuer may give one to keys of different types.
type Known = HashMap<String, Arc<[Verifier]>>;

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

impl KeySet {
    /// Keys that are fetched when the first token comes.
    ///
    /// # Errors
    /// A sentence when the address may not be used.
    pub(crate) fn at(url: &str, expected: Expected) -> Result<Self, String> {
        let url = outgoing::address(url)?;
        let client = Outgoing::new()?;
        let issuer = Arc::new(Issuer { url, client, expected, known: RwLock::default() });
        Ok(Self { issuer, fetches: Arc::default() })
    }

    /// Whose token it is, if it proves it.
    pub(super) async fn user(&self, token: &str) -> Result<Option<UserId>, Unidentified> {
        let Some(id) = decode_header(token).ok().and_then(|header| header.kid) else {
            return Ok(None);
        };
        let keys = match self.issuer.known(&id) {
            Some(keys) => Some(keys),
            None if may_be_good(token) => self.fetched(&id).await?,
            None => None,
        };
        Ok(keys.and_then(|keys| keys.iter().find_map(|verifier| verifier.user(token))))
    }

    /// Whether there are keys, or they can be fetched now.
    pub(super) async fn can_be_had(&self) -> bool {
        let fetches = Arc::clone(&self.fetches).lock_owned().await;
        fetches.succeeded_at.is_some() || self.try_fetch(fetches).await.is_ok()
    }

    /// The keys called `id`, fetched unless the last fetch brought none just now.
    async fn fetched(&self, id: &str) -> Result<Option<Arc<[Verifier]>>, Unidentified> {
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

    /// Fetches the keys, unless the last try failed just now.
    async fn try_fetch(&self, fetches: OwnedMutexGuard<Fetches>) -> Result<(), Unidentified> {
        if fetches.failed.is_some_and(|failed| failed.at.elapsed() < failed.pause) {
            return Err(Unidentified::LoginUnavailable);
        }
        // On a task of its own: whoever asked may go away, and what is fetched must not go with them.
        let fetching = tokio::spawn(Arc::clone(&self.issuer).renew(fetches));
        fetching.await.unwrap_or(Err(Unidentified::LoginUnavailable))
    }
}

impl Issuer {
    fn known(&self, id: &str) -> Option<Arc<[Verifier]>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Fetches the keys, and takes note of how that went.
    async fn renew(
        self: Arc<Self>,
        mut fetches: OwnedMutexGuard<Fetches>,
    ) -> Result<(), Unidentified> {
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
                warn!(reason, pause_s, "the keys of tokens can't be fetched; the old ones stay");
                fetches.failed = Some(Failed { at: Instant::now(), pause });
                Err(Unidentified::LoginUnavailable)
            }
        }
    }

    async fn fetch(&self) -> Result<Known, String> {
        let body = self.client.get(&self.url, KEY_SET_MAX_BYTES).await?;
        let served: Served = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let mut verifiers: HashMap<String, Vec<Verifier>> = HashMap::new();
        for (id, verifier) in served.keys.iter().filter_map(|key| self.verifier(key)) {
            verifiers.entry(id).or_default().push(verifier);
        }
        Ok(verifiers.into_iter().map(|(id, verifiers)| (id, verifiers.into())).collect())
    }

    /// A key that can verify tokens, with its id. Others in the set are not for us.
    fn verifier(&self, key: &Value) -> Option<(String, Verifier)> {
        let key = Jwk::deserialize(key).ok()?;
        let algorithm = algorithm(&key)?;
        let decoding_key = DecodingKey::from_jwk(&key).ok()?;
        let verifier = Verifier::of_public_key(decoding_key, algorithm, &self.expected)?;
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
