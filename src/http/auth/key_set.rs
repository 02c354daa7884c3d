//! The public keys of whoever issues tokens, fetched from a JWKS address: when they are fetched, kept and
//! found. What a token must say beside its signature is checked in `auth`.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet},
};
use reqwest::Url;
use tokio::sync::Mutex;
use tracing::warn;

use super::{Expected, Verifier, validation};
use crate::outgoing::{self, Outgoing};

/// How long to wait after a fetch before an unknown key leads to another.
const FETCH_INTERVAL: Duration = Duration::from_mins(1);
/// Most bytes of a key set.
const KEY_SET_MAX_BYTES: usize = 262_144;

/// The keys of an issuer, by their ids.
#[derive(Debug)]
pub(crate) struct KeySet {
    url: Url,
    client: Outgoing,
    expected: Expected,
    verifiers: RwLock<HashMap<String, Arc<Verifier>>>,
    fetched_at: Mutex<Option<Instant>>,
}

impl KeySet {
    /// Keys that are fetched when the first token comes.
    ///
    /// # Errors
    /// A sentence when the address may not be used.
    pub(crate) fn at(url: &str, expected: Expected) -> Result<Self, String> {
        let url = outgoing::address(url)?;
        let client = Outgoing::new()?;
        let (verifiers, fetched_at) = (RwLock::default(), Mutex::default());
        Ok(Self { url, client, expected, verifiers, fetched_at })
    }

    /// The key called `id`, fetched if it is not known and the last fetch is long enough ago.
    pub(super) async fn get(&self, id: &str) -> Option<Arc<Verifier>> {
        if let Some(verifier) = self.known(id) {
            return Some(verifier);
        }
        // Whoever waits here for another's fetch finds what it brought.
        let mut fetched_at = self.fetched_at.lock().await;
        let just_now = fetched_at.is_some_and(|fetched_at| fetched_at.elapsed() < FETCH_INTERVAL);
        if !just_now && self.known(id).is_none() {
            *fetched_at = Some(Instant::now());
            match self.fetch().await {
                Ok(verifiers) => {
                    *self.verifiers.write().unwrap_or_else(PoisonError::into_inner) = verifiers;
                }
                Err(reason) => {
                    warn!(reason, "the keys of tokens can't be fetched; the old ones stay");
                }
            }
        }
        self.known(id)
    }

    fn known(&self, id: &str) -> Option<Arc<Verifier>> {
        self.verifiers.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    async fn fetch(&self) -> Result<HashMap<String, Arc<Verifier>>, String> {
        let body = self.client.get(&self.url, KEY_SET_MAX_BYTES).await?;
        let set: JwkSet = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        Ok(set.keys.iter().filter_map(|key| self.verifier(key)).collect())
    }

    /// A key that can verify tokens, with its id. Others in the set are not for us.
    fn verifier(&self, key: &Jwk) -> Option<(String, Arc<Verifier>)> {
        let algorithm = algorithm(&key.algorithm)?;
        let decoding_key = DecodingKey::from_jwk(key).ok()?;
        let validation: Validation = validation(algorithm, &self.expected);
        Some((key.common.key_id.clone()?, Arc::new(Verifier::new(decoding_key, validation))))
    }
}

/// The one algorithm a key is used with; never a shared secret, which has no place in a public set.
fn algorithm(parameters: &AlgorithmParameters) -> Option<Algorithm> {
    match parameters {
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Some(Algorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Some(Algorithm::EdDSA)
        }
        _ => None,
    }
}
