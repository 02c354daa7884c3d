//! Who may ask: nobody has to log in, or a JSON Web Token says who it is. Where the keys come from is told
//! by the settings; which algorithm counts follows from the key, never from a token.

mod key_set;

use std::fmt;

use axum::http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use crate::domain::UserId;
pub(crate) use key_set::KeySet;

/// How much clocks may differ, in seconds.
pub(super) const CLOCK_LEEWAY_SECONDS: u64 = 5;
/// Least bytes of a shared secret: as many as the hash has.
pub(super) const SECRET_MIN_BYTES: usize = 32;
/// The only kind of token that may ask, where a token names its kind.
const ACCESS: &str = "access";

/// Whether callers have to say who they are.
#[derive(Debug)]
pub(crate) enum Authentication {
    /// Everyone is the default user.
    None,
    /// A token says who it is, signed with one of these keys.
    Keys(Vec<Verifier>),
    /// A token says who it is, and by which key of the set.
    KeySet(Box<KeySet>),
}

/// There is no token, or it proves nothing. Why is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unauthorized;

/// What a token must say beside its user and its end.
#[derive(Debug, Default, Clone)]
pub(crate) struct Expected {
    /// `iss`.
    pub issuer: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
}

impl Authentication {
    /// Takes HS256 tokens made with any of these secrets, separated by commas.
    ///
    /// # Errors
    /// A sentence when one of them is too short.
    pub(crate) fn with_secrets(secrets: &str, expected: &Expected) -> Result<Self, String> {
        let verifier = |secret: &str| {
            (secret.len() >= SECRET_MIN_BYTES).then(|| {
                let key = DecodingKey::from_secret(secret.as_bytes());
                Verifier::new(key, validation(Algorithm::HS256, expected))
            })
        };
        let verifiers: Option<Vec<Verifier>> = secrets.split(',').map(verifier).collect();
        verifiers
            .map(Self::Keys)
            .ok_or_else(|| format!("each secret must have at least {SECRET_MIN_BYTES} bytes"))
    }

    /// Takes tokens made with the private half of this PEM key: RS256, ES256 or EdDSA, as the key is.
    ///
    /// # Errors
    /// A sentence when it is no such key.
    pub(crate) fn with_public_key(pem: &[u8], expected: &Expected) -> Result<Self, String> {
        let (key, algorithm) = DecodingKey::from_rsa_pem(pem)
            .map(|key| (key, Algorithm::RS256))
            .or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256)))
            .or_else(|_| DecodingKey::from_ed_pem(pem).map(|key| (key, Algorithm::EdDSA)))
            .map_err(|_| "holds no RSA, P-256 or Ed25519 public key in PEM".to_owned())?;
        Ok(Self::Keys(vec![Verifier::new(key, validation(algorithm, expected))]))
    }

    /// Who sent these headers.
    pub(super) async fn user(&self, headers: &HeaderMap) -> Result<UserId, Unauthorized> {
        let user = match self {
            Self::None => Some(UserId::default_user()),
            Self::Keys(verifiers) => {
                let token = bearer_token(headers).ok_or(Unauthorized)?;
                verifiers.iter().find_map(|verifier| verifier.user(token))
            }
            Self::KeySet(keys) => {
                let token = bearer_token(headers).ok_or(Unauthorized)?;
                let header = decode_header(token).map_err(|_| Unauthorized)?;
                let verifier = keys.get(&header.kid.ok_or(Unauthorized)?).await;
                verifier.and_then(|verifier| verifier.user(token))
            }
        };
        user.ok_or(Unauthorized)
    }
}

/// The token of the one `Authorization` header.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// One key, with what a token signed with it must say.
pub(crate) struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Verifier {
    pub(super) const fn new(key: DecodingKey, validation: Validation) -> Self {
        Self { key, validation }
    }

    /// Whose token it is, if it proves it.
    fn user(&self, token: &str) -> Option<UserId> {
        let claims = decode::<Claims>(token, &self.key, &self.validation).ok()?.claims;
        if claims.kind.is_some_and(|kind| kind != ACCESS) {
            return None;
        }
        UserId::new(claims.sub).ok()
    }
}

pub(super) fn validation(algorithm: Algorithm, expected: &Expected) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = CLOCK_LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.validate_aud = expected.audience.is_some();
    let mut required = vec!["exp", "sub"];
    if let Some(issuer) = &expected.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    if let Some(audience) = &expected.audience {
        validation.set_audience(&[audience]);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}
