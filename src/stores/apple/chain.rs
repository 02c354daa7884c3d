//! Certificates: whether a leaf and an intermediate lead to the root that is trusted. What the leaf has signed
//! does not belong here.
//!
//! The chain has one fixed shape, so nothing is searched: the leaf is the intermediate's, the intermediate the
//! root's. What revokes a certificate is not asked for, because a purchase must not wait for a third party.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{PoisonError, RwLock},
};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use x509_parser::{
    asn1_rs::{BitString, Oid, oid},
    certificate::X509Certificate,
    extensions::KeyUsage,
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384, OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE,
    },
    parse_x509_certificate,
    pem::parse_x509_pem,
    x509::X509Version,
};

/// Apple Root CA - G3, which all that the App Store signs leads to.
const ROOT_OF_APPLE: &[u8] = include_bytes!("AppleRootCA-G3.cer");
/// Most bytes of a certificate; Apple's have 1,100 at most.
const CERTIFICATE_MAX_BYTES: usize = 8_192;
/// Most pairs of certificates whose signatures are remembered. Apple uses few at a time.
const PROVEN_MAX: usize = 64;
/// Bytes of a P-256 key: a mark that it is not compressed, and two coordinates.
const P256_KEY_BYTES: usize = 65;
/// Bytes of a P-384 key.
const P384_KEY_BYTES: usize = 97;
/// The mark of a key that is not compressed.
const UNCOMPRESSED: u8 = 4;
/// Marks the certificates that Apple signs purchases with.
const SIGNS_PURCHASES: Oid<'static> = oid!(1.2.840.113635.100.6.11.1);
/// Marks the certificates that Apple issues those with.
const ISSUES_SIGNERS: Oid<'static> = oid!(1.2.840.113635.100.6.2.1);

/// The certificate that all others must lead to.
#[derive(Debug)]
pub(super) struct Root {
    /// Read once already, when it was made.
    der: Vec<u8>,
    proven: Proven,
}

/// Leaves and their intermediates whose signatures lead to one root. Each of Apple's leaves comes with a great many
/// purchases, and two signatures with P-384 take longer than all the rest of one. Nothing else about a chain is
/// remembered, and nothing that was refused, so that nobody can add what Apple has not signed.
#[derive(Debug, Default)]
struct Proven(RwLock<HashSet<[u8; 32]>>);

impl Proven {
    fn holds(&self, pair: &[u8; 32]) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(pair)
    }

    fn add(&self, pair: [u8; 32]) {
        let mut pairs = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() >= PROVEN_MAX {
            pairs.clear();
        }
        pairs.insert(pair);
    }
}

/// The hash of both. A certificate in DER tells its length, so that two pairs are never the same bytes.
fn pair(leaf: &X509Certificate<'_>, intermediate: &X509Certificate<'_>) -> [u8; 32] {
    Sha256::new().chain_update(leaf.as_raw()).chain_update(intermediate.as_raw()).finalize().into()
}

impl Root {
    /// Apple's own.
    pub(super) fn of_apple() -> Self {
        Self { der: ROOT_OF_APPLE.to_vec(), proven: Proven::default() }
    }

    /// One from a file, in DER or PEM.
    ///
    /// # Errors
    /// A sentence that says what to give instead.
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        let pem = parse_x509_pem(file).ok().filter(|(_, pem)| pem.label == "CERTIFICATE");
        let der = pem.map_or_else(|| file.to_vec(), |(_, pem)| pem.contents);
        let refuse = |fault| format!("{fault}; give one root certificate, in DER or PEM");
        let root = certificate(&der).map_err(|_| refuse("it holds no certificate"))?;
        may_issue(&root).map_err(|_| refuse("its certificate may not issue others"))?;
        if root.basic_constraints().is_ok_and(|found| {
            found.is_some_and(|constraints| constraints.value.path_len_constraint == Some(0))
        }) {
            return Err(refuse("its certificate allows none between itself and a leaf"));
        }
        Ok(Self { der, proven: Proven::default() })
    }
}

/// A certificate in DER, without anything behind it.
pub(super) fn certificate(der: &[u8]) -> Result<X509Certificate<'_>, &'static str> {
    if der.len() > CERTIFICATE_MAX_BYTES {
        return Err("a certificate is too long");
    }
    match parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("something follows a certificate"),
        Err(_) => Err("a certificate can't be read"),
    }
}

/// The key of a leaf, if it is one that ES256 is made with.
pub(super) fn p256_key<'a>(leaf: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    elliptic_key(leaf).filter(|key| key.len() == P256_KEY_BYTES)
}

/// Whether the leaf leads to the root by the intermediate, and was valid at that time.
///
/// # Errors
/// A constant sentence that says what is wrong.
pub(super) fn judge(
    leaf: &X509Certificate<'_>,
    intermediate: &X509Certificate<'_>,
    root: &Root,
    at: DateTime<Utc>,
) -> Result<(), &'static str> {
    let Root { der, proven } = root;
    let root = certificate(der)?;
    may_sign_purchases(leaf)?;
    may_issue(intermediate)?;
    if !is_marked(intermediate, &ISSUES_SIGNERS) {
        return Err("the intermediate certificate lacks Apple's mark");
    }
    if [leaf, intermediate, &root].into_iter().any(|one| !is_valid(one, at)) {
        return Err("a certificate was not valid when it was used");
    }
    if ![leaf, intermediate].into_iter().all(is_signed_with_ecdsa) {
        return Err("a certificate's signature is of an unknown kind");
    }
    let pair = pair(leaf, intermediate);
    if proven.holds(&pair) {
        return Ok(());
    }
    if !issued(&root, intermediate) {
        return Err("the intermediate certificate is not of the root that is trusted");
    }
    if !issued(intermediate, leaf) {
        return Err("the leaf certificate is not of the intermediate");
    }
    proven.add(pair);
    Ok(())
}

fn may_sign_purchases(leaf: &X509Certificate<'_>) -> Result<(), &'static str> {
    is_understood(leaf)?;
    if leaf.is_ca() {
        return Err("the leaf certificate may issue others");
    }
    if !is_for(leaf, KeyUsage::digital_signature) {
        return Err("the leaf certificate may not sign");
    }
    if !is_marked(leaf, &SIGNS_PURCHASES) {
        return Err("the leaf certificate lacks Apple's mark");
    }
    Ok(())
}

/// Whether it is a CA whose key we can verify with.
fn may_issue(issuer: &X509Certificate<'_>) -> Result<(), &'static str> {
    is_understood(issuer)?;
    if !issuer.is_ca() {
        return Err("a certificate issued another and is no CA");
    }
    if !is_for(issuer, KeyUsage::key_cert_sign) {
        return Err("a certificate issued another and may not");
    }
    elliptic_key(issuer).map(|_| ()).ok_or("a certificate has a key of an unknown kind")
}

/// A certificate may only be trusted by who understands all that it calls critical (RFC 5280, 4.2). What the
/// parser can't read it takes for absent, so that is looked for here.
fn is_understood(one: &X509Certificate<'_>) -> Result<(), &'static str> {
    let known = [
        &OID_X509_EXT_BASIC_CONSTRAINTS,
        &OID_X509_EXT_KEY_USAGE,
        &SIGNS_PURCHASES,
        &ISSUES_SIGNERS,
    ];
    let (known, unknown): (Vec<_>, Vec<_>) =
        one.extensions().iter().partition(|extension| known.contains(&&extension.oid));
    if unknown.iter().any(|extension| extension.critical) {
        return Err("a certificate has a critical extension that is unknown");
    }
    if one.version() != X509Version::V3
        || !are_distinct(one.extensions().iter().map(|extension| &extension.oid))
        || known.iter().any(|extension| extension.parsed_extension().error().is_some())
    {
        return Err("a certificate is not made as it must be");
    }
    Ok(())
}

/// Whether its key is for that. Some of Apple's test certificates do not say what theirs are for.
fn is_for(one: &X509Certificate<'_>, purpose: fn(&KeyUsage) -> bool) -> bool {
    one.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| purpose(usage.value)))
}

fn is_marked(one: &X509Certificate<'_>, mark: &Oid<'_>) -> bool {
    one.extensions().iter().any(|extension| extension.oid == *mark)
}

/// Both ends are included (RFC 5280, 4.1.2.5).
fn is_valid(one: &X509Certificate<'_>, at: DateTime<Utc>) -> bool {
    let validity = one.validity();
    let valid_s = validity.not_before.timestamp()..=validity.not_after.timestamp();
    valid_s.contains(&at.timestamp())
}

/// Whether its signature is of the one kind that Apple's have, and says so in both places (RFC 5280, 4.1.1.2).
fn is_signed_with_ecdsa(one: &X509Certificate<'_>) -> bool {
    let algorithm = &one.signature_algorithm;
    [OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384].contains(&algorithm.algorithm)
        && *algorithm == one.signature
        && is_whole(&one.signature_value)
}

/// Whether the other names it as its issuer, and its key signed the other. Names are compared byte by byte: who
/// issues a certificate copies its own name.
fn issued(issuer: &X509Certificate<'_>, other: &X509Certificate<'_>) -> bool {
    other.issuer().as_raw() == issuer.subject().as_raw()
        && other.verify_signature(Some(issuer.public_key())).is_ok()
}

/// The point of a key on P-256 or P-384.
fn elliptic_key<'a>(one: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    let key = one.public_key();
    let curve = key.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let bytes = if curve == OID_EC_P256 {
        P256_KEY_BYTES
    } else if curve == OID_NIST_EC_P384 {
        P384_KEY_BYTES
    } else {
        return None;
    };
    let point: &[u8] = &key.subject_public_key.data;
    let fits = key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && is_whole(&key.subject_public_key)
        && point.len() == bytes
        && point.first() == Some(&UNCOMPRESSED);
    fits.then_some(point)
}

/// Whether it ends with a byte.
fn is_whole(bits: &BitString<'_>) -> bool {
    bits.unused_bits == 0
}

fn are_distinct<T: Hash + Eq>(mut all: impl Iterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    all.all(|one| seen.insert(one))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::apple::samples::Plan;
    use base64::{Engine, engine::general_purpose::STANDARD};

    /// What Apple signs with since September 2025, and who issued it: as the App Store sends them.
    const LEAF_OF_APPLE: &[u8] = include_bytes!("samples/apple-leaf-2025.cer");
    const INTERMEDIATE_OF_APPLE: &[u8] = include_bytes!("samples/AppleWWDRCA-G6.cer");

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn the_root_is_apples() {
        let fingerprint = Sha256::digest(ROOT_OF_APPLE)
            .iter()
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(fingerprint, "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179");
        assert!(Root::read(ROOT_OF_APPLE).is_ok());
    }

    #[test]
    fn what_apple_signs_with_leads_to_its_root_while_it_is_valid() {
        let leaf = certificate(LEAF_OF_APPLE).expect("Apple's leaf");
        let intermediate = certificate(INTERMEDIATE_OF_APPLE).expect("Apple's intermediate");
        // The same root each time: what it remembers must not outlive a certificate.
        let root = Root::of_apple();
        let judge = |at: DateTime<Utc>| judge(&leaf, &intermediate, &root, at);
        assert!(p256_key(&leaf).is_some());
        let expired = Err("a certificate was not valid when it was used");
        assert_eq!(judge(at("2025-09-19T19:44:50.999Z")), expired);
        assert_eq!(judge(at("2025-09-19T19:44:51Z")), Ok(()));
        assert_eq!(judge(at("2027-10-13T17:47:23.999Z")), Ok(()));
        assert_eq!(judge(at("2027-10-13T17:47:24Z")), expired);
    }

    #[test]
    fn what_led_to_the_root_vouches_for_no_other_pair() {
        let apples = Root::of_apple();
        let leaf = certificate(LEAF_OF_APPLE).expect("Apple's leaf");
        let intermediate = certificate(INTERMEDIATE_OF_APPLE).expect("Apple's intermediate");
        let at = at("2026-11-27T00:00:00Z");
        assert_eq!(judge(&leaf, &intermediate, &apples, at), Ok(()));
        assert_eq!(judge(&leaf, &intermediate, &apples, at), Ok(()));

        // The last byte is the signature's.
        let altered = |der: &[u8]| {
            let mut der = der.to_vec();
            *der.last_mut().expect("it is not empty") ^= 1;
            der
        };
        let (other_leaf, other) = (altered(LEAF_OF_APPLE), altered(INTERMEDIATE_OF_APPLE));
        let other_leaf = certificate(&other_leaf).expect("it can be read");
        let other = certificate(&other).expect("it can be read");
        let not_of_the_root = "the intermediate certificate is not of the root that is trusted";
        let not_of_it = "the leaf certificate is not of the intermediate";
        assert_eq!(judge(&other_leaf, &intermediate, &apples, at), Err(not_of_it));
        assert_eq!(judge(&leaf, &other, &apples, at), Err(not_of_the_root));

        let another = Root::read(&Plan::default().chain().root).expect("a root");
        assert_eq!(judge(&leaf, &intermediate, &another, at), Err(not_of_the_root));
    }

    #[test]
    fn a_leaf_of_another_issuer_is_refused_though_the_names_fit() {
        let leaf = certificate(LEAF_OF_APPLE).expect("Apple's leaf");
        let root = Root::of_apple();
        let chain = Plan::default().chain();
        let intermediate = certificate(&chain.intermediate).expect("a certificate");
        assert!(!issued(&intermediate, &leaf));
        let apples = certificate(INTERMEDIATE_OF_APPLE).expect("Apple's intermediate");
        assert!(issued(&certificate(&root.der).expect("a root"), &apples));
    }

    #[test]
    fn a_root_is_read_as_der_or_pem_and_must_be_one() {
        let chain = Plan::default().chain();
        let pem = |label: &str, der: &[u8]| {
            let body = STANDARD.encode(der);
            format!("a comment\n-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        let read = |file: &[u8]| Root::read(file).map(|root| root.der);
        assert_eq!(read(&chain.root), Ok(chain.root.clone()));
        assert_eq!(read(pem("CERTIFICATE", &chain.root).as_bytes()), Ok(chain.root.clone()));

        let mut followed = chain.root.clone();
        followed.push(0);
        let mut narrow = Plan::default();
        narrow.root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        for (file, fault) in [
            (b"".to_vec(), "it holds no certificate"),
            (b"-----BEGIN CERTIFICATE-----\n".to_vec(), "it holds no certificate"),
            (pem("PUBLIC KEY", &chain.root).into_bytes(), "it holds no certificate"),
            (followed, "it holds no certificate"),
            (chain.leaf.clone(), "its certificate may not issue others"),
            (narrow.chain().root, "its certificate allows none between itself and a leaf"),
        ] {
            let expected = format!("{fault}; give one root certificate, in DER or PEM");
            assert_eq!(read(&file), Err(expected));
        }
    }
}
