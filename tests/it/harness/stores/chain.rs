//! Chains of certificates like those Apple signs with, made for one test, with any single thing wrong; and what
//! is signed with them. What is signed does not matter here.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use serde_json::{Value, json};

/// What marks a certificate that signs receipts.
const LEAF_MARK: [u64; 7] = [1, 2, 840, 113_635, 100, 6, 11];
/// What marks those who issue such certificates.
const INTERMEDIATE_MARK: [u64; 7] = [1, 2, 840, 113_635, 100, 6, 2];
/// The last part of both.
const MARK_END: u64 = 1;

/// The one thing that is wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Another root with the same name.
    OtherRoot,
    /// The leaf's issuer is another authority with the same name.
    OtherIntermediate,
    /// The intermediate does not issue certificates for receipts.
    IntermediateUnmarked,
    /// The leaf is not for receipts.
    LeafUnmarked,
    /// The intermediate is no authority.
    IntermediateNotCa,
    /// The leaf is one.
    LeafCa,
    /// The leaf was no longer good in 2026.
    LeafExpired,
    /// The leaf is not good yet in 2026.
    LeafTooNew,
    /// The intermediate was no longer good in 2026.
    IntermediateExpired,
    /// The leaf must not be used by whoever does not know an extension, which nobody knows.
    LeafCritical,
    /// The same of the intermediate.
    IntermediateCritical,
    /// Something follows the leaf.
    LeafTrails,
    /// Something follows the intermediate.
    IntermediateTrails,
    /// The third is missing.
    Two,
    /// There is a fourth.
    Four,
    /// Leaf and intermediate have changed places.
    Swapped,
}

impl Flaw {
    /// All that keep a chain from being believed.
    pub(crate) const ALL: [Self; 16] = [
        Self::OtherRoot,
        Self::OtherIntermediate,
        Self::IntermediateUnmarked,
        Self::LeafUnmarked,
        Self::IntermediateNotCa,
        Self::LeafCa,
        Self::LeafExpired,
        Self::LeafTooNew,
        Self::IntermediateExpired,
        Self::LeafCritical,
        Self::IntermediateCritical,
        Self::LeafTrails,
        Self::IntermediateTrails,
        Self::Two,
        Self::Four,
        Self::Swapped,
    ];
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A root, and who signs under it.
#[derive(Debug)]
pub(crate) struct Authority {
    root: Issuer,
    /// What is without a flaw.
    pub(crate) chain: Chain,
}

/// Certificates, leaf first, and the key of the leaf.
#[derive(Debug)]
pub(crate) struct Chain {
    key: EcdsaKeyPair,
    certificates: Vec<Vec<u8>>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn ca(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn root() -> Issuer {
    Issuer::self_signed(ca("Test Root CA - G3"), p384()).expect("a certificate")
}

fn p384() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key")
}

/// An extension whose presence is all it says.
fn mark(number: [u64; 7]) -> CustomExtension {
    let number = [&number[..], &[MARK_END]].concat();
    CustomExtension::from_oid_content(&number, vec![5, 0])
}

fn unknown() -> CustomExtension {
    let mut extension = mark([1, 3, 6, 1, 4, 1, 99_999]);
    extension.set_criticality(true);
    extension
}

fn intermediate(root: &Issuer, flaw: Option<Flaw>) -> Issuer {
    let mut params = ca("Test Worldwide Developer Relations");
    if flaw != Some(Flaw::IntermediateUnmarked) {
        params.custom_extensions.push(mark(INTERMEDIATE_MARK));
    }
    match flaw {
        Some(Flaw::IntermediateNotCa) => params.is_ca = IsCa::ExplicitNoCa,
        Some(Flaw::IntermediateExpired) => params.not_after = date_time_ymd(2025, 10, 11),
        Some(Flaw::IntermediateCritical) => params.custom_extensions.push(unknown()),
        _ => {}
    }
    Issuer::signed_by(params, p384(), root).expect("a certificate")
}

fn leaf(issuer: &Issuer, key: &KeyPair, flaw: Option<Flaw>) -> Vec<u8> {
    let mut params = params("Test App Store Receipt Signing");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    if flaw != Some(Flaw::LeafUnmarked) {
        params.custom_extensions.push(mark(LEAF_MARK));
    }
    match flaw {
        Some(Flaw::LeafCa) => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        Some(Flaw::LeafExpired) => params.not_after = date_time_ymd(2025, 10, 11),
        Some(Flaw::LeafTooNew) => params.not_before = date_time_ymd(3000, 1, 1),
        Some(Flaw::LeafCritical) => params.custom_extensions.push(unknown()),
        _ => {}
    }
    params.signed_by(key, issuer).expect("a certificate").der().to_vec()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let root = root();
        let chain = Chain::under(&root, None);
        Self { root, chain }
    }

    /// The root, as a file holds it.
    pub(crate) fn root_pem(&self) -> String {
        pem("CERTIFICATE", self.root_der())
    }

    /// The root's bytes.
    pub(super) fn root_der(&self) -> &[u8] {
        self.root.der()
    }

    /// A chain under the same root that is wrong in one thing.
    pub(crate) fn flawed(&self, flaw: Flaw) -> Chain {
        match flaw {
            Flaw::OtherRoot => Chain::under(&root(), Some(flaw)),
            _ => Chain::under(&self.root, Some(flaw)),
        }
    }

    /// A chain whose third certificate is none of the root's; nobody needs it.
    pub(crate) fn ending_elsewhere(&self) -> Chain {
        let mut chain = Chain::under(&self.root, None);
        chain.certificates[2] = root().der().to_vec();
        chain
    }
}

impl Chain {
    fn under(root: &Issuer, flaw: Option<Flaw>) -> Self {
        let issuer = intermediate(root, flaw);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let mut leaf = match flaw {
            Some(Flaw::OtherIntermediate) => leaf(&intermediate(root, None), &key, flaw),
            _ => leaf(&issuer, &key, flaw),
        };
        let mut middle = issuer.der().to_vec();
        match flaw {
            Some(Flaw::LeafTrails) => leaf.extend([5, 0]),
            Some(Flaw::IntermediateTrails) => middle.extend([5, 0]),
            _ => {}
        }
        let mut certificates = vec![leaf, middle, root.der().to_vec()];
        match flaw {
            Some(Flaw::Two) => certificates.truncate(2),
            Some(Flaw::Four) => certificates.push(root.der().to_vec()),
            Some(Flaw::Swapped) => certificates.swap(0, 1),
            _ => {}
        }
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.serialized_der());
        Self { key: key.expect("a key of this kind"), certificates }
    }

    /// The header of what it signs.
    pub(crate) fn header(&self) -> Value {
        let x5c: Vec<_> = self.certificates.iter().map(|der| BASE64_STANDARD.encode(der)).collect();
        json!({"alg": "ES256", "x5c": x5c})
    }

    /// A signed text.
    pub(crate) fn sign(&self, payload: &Value) -> String {
        self.sign_as(&self.header(), payload.to_string().as_bytes())
    }

    /// Signed bytes under a header of the test's own.
    pub(crate) fn sign_as(&self, header: &Value, payload: &[u8]) -> String {
        let message = message(header, payload);
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).expect("it signs");
        with_signature(&message, signature.as_ref())
    }
}

/// What is signed.
pub(crate) fn message(header: &Value, payload: &[u8]) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.encode(header.to_string());
    format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(payload))
}

/// The same with a signature, which may be any.
pub(crate) fn with_signature(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// Bytes as a text file holds them.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines = base64.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
