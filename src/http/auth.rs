//! Who may ask: nobody has to log in, or a JSON Web Token says who it is. Where the keys come from is told
//! by the settings; which algorithm counts follows from the key, never from a token.

use std::fmt;

use axum::http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation, decode};
use serde::Deserialize;

use crate::domain::UserId;

/// How much clocks may differ, in seconds.
pub const CLOCK_LEEWAY_SECONDS: u64 = 5;
/// Least bytes of a shared secret: as many as the hash has.
pub const SECRET_MIN_BYTES: usize = 32;
/// The only kind of token that may ask, where a token names its kind.
const ACCESS: &str = "access";

/// Whether callers have to say who they are.
#[derive(Debug)]
pub enum Authentication {
    /// Everyone is the default user.
    None,
    /// A token says who it is.
    Jwt(Box<TokenVerifier>),
}

/// There is no token, or it proves nothing. Why is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unauthorized;

impl Authentication {
    /// Who sent these headers.
    pub(super) fn user(&self, headers: &HeaderMap) -> Result<UserId, Unauthorized> {
        match self {
            Self::None => Ok(UserId::default_user()),
            Self::Jwt(verifier) => verifier.verify(bearer_token(headers)?),
        }
    }
}

/// The token of the one `Authorization` header.
fn bearer_token(headers: &HeaderMap) -> Result<&str, Unauthorized> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(Unauthorized) };
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Unauthorized)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(Unauthorized) }
}

/// Checks tokens with keys of one family.
pub struct TokenVerifier {
    keys: Vec<DecodingKey>,
    validation: Validation,
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenVerifier").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// What a token must say beside its issuer and audience.
#[derive(Debug, Default, Clone)]
pub struct Expected {
    /// `iss`.
    pub issuer: Option<String>,
    /// `aud`.
    pub audience: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl TokenVerifier {
    /// Takes HS256 tokens made with any of these secrets, separated by commas.
    ///
    /// # Errors
    /// A sentence when one of them is too short.
    pub fn with_secrets(secrets: &str, expected: Expected) -> Result<Self, String> {
        let secrets: Vec<&str> = secrets.split(',').collect();
        if secrets.iter().any(|secret| secret.len() < SECRET_MIN_BYTES) {
            return Err(format!("each secret must have at least {SECRET_MIN_BYTES} bytes"));
        }
        let keys = secrets.iter().map(|secret| DecodingKey::from_secret(secret.as_bytes()));
        Ok(Self { keys: keys.collect(), validation: validation(Algorithm::HS256, expected) })
    }

    /// Takes tokens made with the private half of this PEM key: RS256, ES256 or EdDSA, as the key is.
    ///
    /// # Errors
    /// A sentence when it is no such key.
    pub fn with_public_key(pem: &[u8], expected: Expected) -> Result<Self, String> {
        let (key, algorithm) = DecodingKey::from_rsa_pem(pem)
            .map(|key| (key, Algorithm::RS256))
            .or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| (key, Algorithm::ES256)))
            .or_else(|_| DecodingKey::from_ed_pem(pem).map(|key| (key, Algorithm::EdDSA)))
            .map_err(|_| "holds no RSA, P-256 or Ed25519 public key in PEM".to_owned())?;
        Ok(Self { keys: vec![key], validation: validation(algorithm, expected) })
    }

    fn verify(&self, token: &str) -> Result<UserId, Unauthorized> {
        let claims = self
            .keys
            .iter()
            .find_map(|key| decode::<Claims>(token, key, &self.validation).ok())
            .map(|TokenData { claims, .. }| claims)
            .ok_or(Unauthorized)?;
        if claims.kind.is_some_and(|kind| kind != ACCESS) {
            return Err(Unauthorized);
        }
        UserId::new(claims.sub).map_err(|_| Unauthorized)
    }
}

fn validation(algorithm: Algorithm, expected: Expected) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = CLOCK_LEEWAY_SECONDS;
    validation.validate_nbf = true;
    validation.validate_aud = expected.audience.is_some();
    let mut required = vec!["exp", "sub"];
    if let Some(issuer) = expected.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    if let Some(audience) = expected.audience {
        validation.set_audience(&[audience]);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}
