//! A public key that can verify tokens of one algorithm. Where it comes from is not known here.

use std::ops::RangeInclusive;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};

/// Least and most bits of an RSA key's modulus, by which the verification of RS256 goes.
const RSA_BITS: RangeInclusive<usize> = 2_048..=8_192;

/// A key, with the one algorithm it verifies.
#[derive(Debug)]
pub(crate) struct PublicKey {
    /// The key.
    pub(crate) key: DecodingKey,
    /// RS256, ES256 or EdDSA.
    pub(crate) algorithm: Algorithm,
}

impl PublicKey {
    /// The key, if it can verify tokens of the algorithm.
    pub(super) fn new(key: DecodingKey, algorithm: Algorithm) -> Option<Self> {
        can_verify(&key, algorithm).then_some(Self { key, algorithm })
    }
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
