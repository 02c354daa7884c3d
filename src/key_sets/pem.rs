//! The public key of a PEM file: which kind it is, and why it can't be used. A key that could verify nothing
//! must stop the start: else every token is refused without a word.

use jsonwebtoken::{Algorithm, DecodingKey};

use super::PublicKey;

/// What every text of a key begins with.
const BEGIN: &str = "-----BEGIN ";
const KINDS: &str = "RSA (2,048 to 8,192 bits), P-256 or Ed25519";

/// The key that verifies what the private half of this one signs: RS256, ES256 or EdDSA, as the key is.
///
/// # Errors
/// A sentence when it is no such key.
pub(crate) fn from_pem(pem: &[u8]) -> Result<PublicKey, String> {
    let text = str::from_utf8(pem).map_err(|_| "is no text in PEM".to_owned())?;
    let mut labels = text.match_indices(BEGIN).filter_map(|(start, _)| {
        let (label, _) = text.get(start..)?.strip_prefix(BEGIN)?.split_once("-----")?;
        Some(label)
    });
    match (labels.next(), labels.next()) {
        (Some("PUBLIC KEY" | "RSA PUBLIC KEY"), None) => {}
        (Some(_), Some(_)) => return Err("holds more than one key; give one".to_owned()),
        (Some(label), None) if label.ends_with("PRIVATE KEY") => {
            return Err("holds a private key; only its public half belongs here".to_owned());
        }
        (Some("CERTIFICATE"), None) => {
            return Err("holds a certificate; give the public key alone".to_owned());
        }
        _ => return Err(format!("holds no public key in PEM ({KINDS})")),
    }
    DecodingKey::from_rsa_pem(pem)
        .map(|key| PublicKey::new(key, Algorithm::RS256))
        .or_else(|_| DecodingKey::from_ec_pem(pem).map(|key| PublicKey::new(key, Algorithm::ES256)))
        .or_else(|_| DecodingKey::from_ed_pem(pem).map(|key| PublicKey::new(key, Algorithm::EdDSA)))
        .ok()
        .flatten()
        .ok_or_else(|| format!("holds a key that can't be used; {KINDS} can"))
}
