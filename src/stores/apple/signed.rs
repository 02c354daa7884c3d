//! What Apple signs: a JWS whose certificates come with it, and whether it is Apple's. What the payload means
//! does not belong here.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Number, Value};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;

use super::chain::{self, Root};
use crate::domain::Environment;

/// Most bytes of a JWS: an answer of Apple's is not read further.
const JWS_MAX_BYTES: usize = 1_048_576;
/// Bytes of an ES256 signature: two numbers.
const SIGNATURE_BYTES: usize = 64;
/// How far a payload's time may be ahead of ours.
const AHEAD_MAX: TimeDelta = TimeDelta::hours(24);
/// Most digits of a transaction's id.
const TRANSACTION_ID_MAX_DIGITS: usize = 20;

/// Why a JWS proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Unproven {
    /// It can never become valid: it is no JWS, or not signed by its own leaf's key. The one verdict here that
    /// may close a purchase, where a client handed it over; where Apple answers so, the answer was damaged.
    #[error("it is forged or damaged: {0}")]
    Forged(&'static str),
    /// Its own leaf's key signed it, but whether that is Apple's can't be told: a new root of Apple's looks like
    /// this, and so does a forger's own chain.
    #[error("its certificates lead to no root that is trusted: {reason}")]
    Chain {
        /// A constant sentence for the log.
        reason: &'static str,
        /// What to ask Apple for instead, of digits. It is not proved.
        transaction_id: Option<String>,
        /// Where to ask first. It is not proved.
        environment: Option<Environment>,
    },
    /// Apple signed it, but it says what we do not understand. That Apple never means it can't be told.
    #[error("Apple signed what is not understood: {0}")]
    Strange(&'static str),
}

/// What the payload of a JWS is read into.
pub(super) trait Payload: DeserializeOwned {
    /// The environment it names.
    fn environment(&self) -> Option<&str>;
}

/// The payload of a JWS that leads to the root, as the bytes of a JSON object.
///
/// The leaf's signature is verified before its certificates are judged, so that nothing forged leads to a
/// question to Apple.
pub(super) fn prove(jws: &str, root: &Root, now: DateTime<Utc>) -> Result<Vec<u8>, Unproven> {
    let jws = Jws::read(jws)?;
    let leaf = jws.certificates.first().ok_or(Unproven::Forged("it has no certificates"))?;
    let leaf = decoded(leaf);
    let leaf = leaf.as_deref().map_err(|reason| *reason).and_then(chain::certificate);
    let is_signed = leaf.as_ref().ok().and_then(|leaf| jws.is_signed_by(leaf));
    if is_signed == Some(false) {
        return Err(Unproven::Forged("its leaf certificate's key did not sign it"));
    }
    let claims = Claims::read(&jws.payload)?;
    let judged = leaf.and_then(|leaf| match is_signed {
        Some(true) => jws.judge(&leaf, root, claims.signed_at(now)?),
        _ => Err("the leaf certificate's key is not P-256"),
    });
    judged.map_err(|reason| claims.unproven(reason))?;
    Ok(jws.payload)
}

/// A payload that was proved, as what it is read into.
pub(super) fn parsed<T: Payload>(payload: &[u8]) -> Result<T, Unproven> {
    serde_json::from_slice(payload)
        .map_err(|_| Unproven::Strange("the payload has not the shape that Apple describes"))
}

/// Its environment can only be one of the App Store's own by name; no other name is guessed at.
pub(super) fn environment(name: &str) -> Option<Environment> {
    match name {
        "Production" => Some(Environment::Production),
        "Sandbox" => Some(Environment::Sandbox),
        _ => None,
    }
}

/// Whether it can be the id of a transaction. It becomes part of an address.
pub(super) fn is_transaction_id(text: &str) -> bool {
    (1..=TRANSACTION_ID_MAX_DIGITS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A time in milliseconds. Xcode's have a fraction, which is left out.
pub(super) fn time(ms: &Number) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(whole(ms)?)
}

/// A number without its fraction.
pub(super) fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        number.as_f64().and_then(|number| format!("{:.0}", number.floor()).parse().ok())
    })
}

/// The parts of a JWS, of which nothing is proved.
struct Jws<'a> {
    signing_input: &'a str,
    certificates: Vec<String>,
    is_extended: bool,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    x5c: Vec<String>,
    crit: Option<Value>,
}

impl<'a> Jws<'a> {
    fn read(text: &'a str) -> Result<Self, Unproven> {
        if text.len() > JWS_MAX_BYTES {
            return Err(Unproven::Forged("it is too long"));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Unproven::Forged("it has not three parts"));
        };
        let (signing_input, _) = text.rsplit_once('.').unwrap_or((text, ""));
        let header: Header = object(&part(header)?)
            .ok_or(Unproven::Forged("its header is no object with certificates"))?;
        if header.alg != "ES256" {
            return Err(Unproven::Forged("it is not signed with ES256"));
        }
        let signature = part(signature)?;
        if signature.len() != SIGNATURE_BYTES {
            return Err(Unproven::Forged("its signature is not of 64 bytes"));
        }
        Ok(Self {
            signing_input,
            certificates: header.x5c,
            is_extended: header.crit.is_some(),
            payload: part(payload)?,
            signature,
        })
    }

    /// Whether the leaf's key signed it; nothing, if that key is of another kind.
    fn is_signed_by(&self, leaf: &X509Certificate<'_>) -> Option<bool> {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, chain::p256_key(leaf)?);
        Some(key.verify(self.signing_input.as_bytes(), &self.signature).is_ok())
    }

    /// Whether its certificates lead to the root. What the third says does not count: which root is trusted is
    /// not the sender's to say, and in Apple's own test data it is another certificate of the root's key.
    fn judge(
        &self,
        leaf: &X509Certificate<'_>,
        root: &Root,
        at: DateTime<Utc>,
    ) -> Result<(), &'static str> {
        let [_, intermediate, third] = self.certificates.as_slice() else {
            return Err("there are not three certificates");
        };
        if self.is_extended {
            return Err("its header has critical extensions");
        }
        decoded(third)?;
        let intermediate = decoded(intermediate)?;
        chain::judge(leaf, &chain::certificate(&intermediate)?, root, at)
    }
}

/// What the payload says before it is proved: no more than it takes to judge the certificates, and to ask Apple
/// where they can't be.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    signed_date: Option<Value>,
    transaction_id: Option<Value>,
    environment: Option<Value>,
}

impl Claims {
    fn read(payload: &[u8]) -> Result<Self, Unproven> {
        object(payload).ok_or(Unproven::Forged("its payload is no object"))
    }

    /// When it says that it was signed, which is what its certificates had to be valid at: devices hand over
    /// what was signed long ago.
    fn signed_at(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>, &'static str> {
        let signed_at = match &self.signed_date {
            None => now,
            Some(Value::Number(ms)) => time(ms).ok_or("its time can't be read")?,
            Some(_) => return Err("its time can't be read"),
        };
        if signed_at.signed_duration_since(now) > AHEAD_MAX {
            return Err("it was signed in the future");
        }
        Ok(signed_at)
    }

    fn unproven(&self, reason: &'static str) -> Unproven {
        let text =
            |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
        Unproven::Chain {
            reason,
            transaction_id: text(&self.transaction_id).filter(|id| is_transaction_id(id)),
            environment: text(&self.environment).and_then(|name| environment(&name)),
        }
    }
}

/// A JSON object. Into a struct an array would be read as well.
fn object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let starts = json.trim_ascii_start().starts_with(b"{");
    starts.then(|| serde_json::from_slice(json).ok()).flatten()
}

/// A part of a JWS: base64url without padding.
fn part(text: &str) -> Result<Vec<u8>, Unproven> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Unproven::Forged("a part of it is not base64url"))
}

/// A certificate in a header, which is standard base64 there (RFC 7515, 4.1.6).
fn decoded(certificate: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(certificate).map_err(|_| "a certificate is not base64")
}
