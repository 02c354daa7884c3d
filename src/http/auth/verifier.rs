//! One key, with what a token signed with it must say. Where keys come from, and which one is asked, is not
//! known here.

use std::ops::RangeInclusive;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
};
use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, Header, Validation, dangerous::insecure_decode, decode,
};
use serde::Deserialize;

use crate::domain::UserId;

/// How much clocks may differ, in seconds.
const CLOCK_LEEWAY_SECONDS: u64 = 5;
/// The only kind of token that may ask, where a token names its kind.
const ACCESS: &str = "access";
/// Least and most bits of an RSA key's modulus, by which the verification of RS256 goes.
const RSA_BITS: RangeInclusive<usize> = 2_048..=8_192;

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
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Verifier {
    /// Takes HS256 tokens.
    pub(super) fn of_secret(secret: &[u8], expected: &Expected) -> Self {
        let (key, algorithm) = (DecodingKey::from_secret(secret), Algorithm::HS256);
        Self { key, validation: validation(algorithm, expected) }
    }

    /// Takes tokens of one algorithm, if the public key can verify such.
    pub(super) fn of_public_key(
        key: DecodingKey,
        algorithm: Algorithm,
        expected: &Expected,
    ) -> Option<Self> {
        can_verify(&key, algorithm)
            .then(|| Self { key, validation: validation(algorithm, expected) })
    }

    /// Whose token it is, if it proves it.
    pub(super) fn user(&self, token: &str) -> Option<UserId> {
        let token = decode::<Claims>(token, &self.key, &self.validation).ok()?;
        user(&token.header, token.claims)
    }
}

/// Whether a key could make the token good. Else it need not be looked for.
pub(super) fn may_be_good(token: &str) -> bool {
    insecure_decode::<Claims>(token).is_ok_and(|token| user(&token.header, token.claims).is_some())
}

fn user(header: &Header, Claims { sub, kind }: Claims) -> Option<UserId> {
    // What `crit` names must be understood (RFC 7515), and we understand none of it; an unencoded payload
    // (`b64`, RFC 7797) is one such thing.
    let understood = header.crit.is_none() && !header.extras.inner().contains_key("b64");
    let access = kind.is_none_or(|kind| kind == ACCESS);
    (understood && access).then(|| UserId::new(sub).ok()).flatten()
}

fn can_verify(key: &DecodingKey, algorithm: Algorithm) -> bool {
    match (key.kind(), algorithm) {
        (DecodingKeyKind::RsaModulusExponent { n, e }, Algorithm::RS256) => {
            RSA_BITS.contains(&bits(n)) && e.iter().any(|byte| *byte != 0)
        }
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::RS256) => {
            ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bytes).is_ok()
                && modulus(bytes).is_some_and(|modulus| RSA_BITS.contains(&bits(modulus)))
        }
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::ES256) => {
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).is_ok()
        }
        (DecodingKeyKind::SecretOrDer(bytes), Algorithm::EdDSA) => {
            ParsedPublicKey::new(&ED25519, bytes).is_ok()
        }
        _ => false,
    }
}

/// The first integer of an RSA key's DER, which parsing has proved to be sound: `SEQUENCE { n, e }`.
fn modulus(der: &[u8]) -> Option<&[u8]> {
    let (_, inner) = headed(der)?;
    let (length, rest) = headed(inner)?;
    rest.get(..length)
}

/// The length that a value of DER announces, and what follows.
fn headed(der: &[u8]) -> Option<(usize, &[u8])> {
    let (_tag, rest) = der.split_first()?;
    let (short, rest) = rest.split_first()?;
    let Some(count) = short.checked_sub(0x80) else { return Some((usize::from(*short), rest)) };
    let (long, rest) = rest.split_at_checked(usize::from(count))?;
    let length = long.iter().try_fold(0_usize, |length, byte| {
        length.checked_mul(0x100)?.checked_add(usize::from(*byte))
    })?;
    Some((length, rest))
}

/// How many bits a number has.
fn bits(number: &[u8]) -> usize {
    let digits = number.iter().skip_while(|byte| **byte == 0);
    let zeros = digits.clone().next().map_or(0, |first| first.leading_zeros());
    let zeros = usize::try_from(zeros).unwrap_or_default();
    digits.count().saturating_mul(8).saturating_sub(zeros)
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
