//! One key, with what a token signed with it must say. Where keys come from, and which one is asked, is not
//! known here.

use std::time::Duration;

use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, dangerous::insecure_decode, decode,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Login;
use crate::{domain::UserId, key_sets::PublicKey};

/// How much clocks may differ, in seconds.
const CLOCK_LEEWAY_SECONDS: u64 = 5;
/// The only kind of token that may ask, where a token names its kind.
const ACCESS: &str = "access";

/// What a token must say beside its user and its end.
#[derive(Debug, Default, Clone)]
pub(crate) struct Expected {
    /// `iss`.
    pub(crate) issuer: Option<String>,
    /// `aud`.
    pub(crate) audience: Option<String>,
}

/// Judges tokens by one key.
#[derive(Debug)]
pub(crate) struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// When it ends, in seconds since 1970; it may have decimals (RFC 7519).
    exp: f64,
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Of any type: only a text says something.
    scope: Option<Box<RawValue>>,
}

impl Verifier {
    /// Takes HS256 tokens.
    pub(super) fn of_secret(secret: &[u8], expected: &Expected) -> Self {
        let (key, algorithm) = (DecodingKey::from_secret(secret), Algorithm::HS256);
        Self { key, validation: validation(algorithm, expected) }
    }

    /// Takes tokens of the key's algorithm.
    pub(super) fn of_public_key(
        PublicKey { key, algorithm }: PublicKey,
        expected: &Expected,
    ) -> Self {
        Self { key, validation: validation(algorithm, expected) }
    }

    /// Whose token it is, if it proves it.
    pub(super) fn login(&self, token: &str) -> Option<Login> {
        let token = decode::<Claims>(token, &self.key, &self.validation).ok()?;
        login(&token.header, token.claims)
    }
}

/// Whether a key could make the token good. Else it need not be looked for.
pub(super) fn may_be_good(token: &str) -> bool {
    insecure_decode::<Claims>(token).is_ok_and(|token| login(&token.header, token.claims).is_some())
}

fn login(header: &Header, Claims { sub, exp, kind, scope }: Claims) -> Option<Login> {
    // What `crit` names must be understood (RFC 7515), and we understand none of it; an unencoded payload
    // (`b64`, RFC 7797) is one such thing.
    let understood = header.crit.is_none() && !header.extras.inner().contains_key("b64");
    let access = kind.is_none_or(|kind| kind == ACCESS);
    if !understood || !access {
        return None;
    }
    let scope = scope.and_then(|scope| serde_json::from_str::<String>(scope.get()).ok());
    let login = Login::of_user(UserId::new(sub).ok()?, &scope.unwrap_or_default());
    // One that ends later than can be told ends with whatever else ends.
    let ends = Duration::try_from_secs_f64(exp).map_or(u64::MAX, |end| end.as_secs());
    Some(login.until(ends))
}

fn validation(algorithm: Algorithm, expected: &Expected) -> Validation {
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
