//! Chains of certificates as Apple's are, what they sign, and the payload of a purchase: for tests.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::{DateTime, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, SignatureAlgorithm,
    SigningKey, date_time_ymd,
};
use serde_json::{Value, json};

/// The app of all samples.
pub(crate) const BUNDLE: &str = "com.iwash.NoteApp";
/// The mark of a leaf.
pub(crate) const LEAF_MARK: &[u64] = &[1, 2, 840, 113_635, 100, 6, 11, 1];
/// The mark of an intermediate.
pub(crate) const INTERMEDIATE_MARK: &[u64] = &[1, 2, 840, 113_635, 100, 6, 2, 1];
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 3;
/// An object id, with its tag and length.
pub(crate) const ECDSA_WITH_SHA384: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
/// The version of all certificates.
pub(crate) const VERSION_3: &[u8] = &[0xa0, 3, 2, 1, 2];
const NULL: [u8; 2] = [5, 0];

/// The time in all samples.
pub(crate) fn now() -> DateTime<Utc> {
    "2026-11-27T12:00:00Z".parse().expect("a time")
}

/// What a consumable's transaction says, signed a minute ago.
pub(crate) fn purchase() -> Value {
    let now_ms = now().timestamp_millis();
    json!({
        "transactionId": "2000000999000001",
        "originalTransactionId": "2000000999000001",
        "bundleId": BUNDLE,
        "productId": "noteapp.credits.small",
        "purchaseDate": now_ms - 62_345,
        "originalPurchaseDate": now_ms - 62_345,
        "quantity": 1,
        "type": "Consumable",
        "inAppOwnershipType": "PURCHASED",
        "signedDate": now_ms - 60_000,
        "environment": "Sandbox",
        "transactionReason": "PURCHASE",
        "storefront": "JPN",
        "storefrontId": "143462",
        "price": 300_000,
        "currency": "JPY",
        "appTransactionId": "704000000000000001",
        "deviceVerification": "AAAA",
    })
}

/// A chain to be made, which a test spoils first.
pub(crate) struct Plan {
    pub(crate) root: CertificateParams,
    pub(crate) intermediate: CertificateParams,
    pub(crate) leaf: CertificateParams,
    pub(crate) root_key: &'static SignatureAlgorithm,
    pub(crate) intermediate_key: &'static SignatureAlgorithm,
    pub(crate) leaf_key: &'static SignatureAlgorithm,
    /// Whether another of the root's name signs the intermediate.
    pub(crate) has_false_root: bool,
    /// Whether another of the intermediate's name signs the leaf.
    pub(crate) has_false_intermediate: bool,
    /// Another name for the root in the intermediate.
    pub(crate) root_alias: Option<&'static str>,
    /// Another name for the intermediate in the leaf.
    pub(crate) intermediate_alias: Option<&'static str>,
    /// Bytes of the leaf, and what stands there when the intermediate signs it.
    pub(crate) leaf_patch: Option<(&'static [u8], &'static [u8])>,
}

impl Default for Plan {
    fn default() -> Self {
        let ca = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let mut root = params("Test Root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages.clone_from(&ca);
        let mut intermediate = params("Test Intermediate");
        intermediate.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        intermediate.key_usages = ca;
        intermediate.custom_extensions = vec![mark(INTERMEDIATE_MARK)];
        let mut leaf = params("Test Leaf");
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.custom_extensions = vec![mark(LEAF_MARK)];
        Self {
            root,
            intermediate,
            leaf,
            root_key: &PKCS_ECDSA_P384_SHA384,
            intermediate_key: &PKCS_ECDSA_P384_SHA384,
            leaf_key: &PKCS_ECDSA_P256_SHA256,
            has_false_root: false,
            has_false_intermediate: false,
            root_alias: None,
            intermediate_alias: None,
            leaf_patch: None,
        }
    }
}

/// An extension without content.
pub(crate) fn mark(id: &[u64]) -> CustomExtension {
    CustomExtension::from_oid_content(id, NULL.to_vec())
}

/// An extension without content that must be understood.
pub(crate) fn critical(id: &[u64]) -> CustomExtension {
    let mut extension = mark(id);
    extension.set_criticality(true);
    extension
}

/// An extension whose content no certificate's should be.
pub(crate) fn garbled(id: &[u64]) -> CustomExtension {
    CustomExtension::from_oid_content(id, vec![4, 1, 0])
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2034, 1, 1);
    params
}

impl Plan {
    pub(crate) fn chain(&self) -> Chain {
        let generate = |algorithm| KeyPair::generate_for(algorithm).expect("a key");
        let named = |params: &CertificateParams, alias: Option<&str>| {
            let mut params = params.clone();
            if let Some(alias) = alias {
                params.distinguished_name.push(DnType::CommonName, alias);
            }
            params
        };
        let root_key = generate(self.root_key);
        let root = self.root.self_signed(&root_key).expect("a root");
        let signer = if self.has_false_root { generate(self.root_key) } else { root_key };
        let issuer = Issuer::new(named(&self.root, self.root_alias), signer);
        let key = generate(self.intermediate_key);
        let intermediate = self.intermediate.signed_by(&key, &issuer).expect("an intermediate");
        let signer =
            if self.has_false_intermediate { generate(self.intermediate_key) } else { key };
        let issuer = Issuer::new(named(&self.intermediate, self.intermediate_alias), signer);
        let leaf_key = generate(self.leaf_key);
        let leaf = self.leaf.signed_by(&leaf_key, &issuer).expect("a leaf");
        Chain {
            root: root.der().to_vec(),
            intermediate: intermediate.der().to_vec(),
            leaf: match self.leaf_patch {
                None => leaf.der().to_vec(),
                Some((from, to)) => patched(leaf.der(), from, to, issuer.key()),
            },
            key: signing_key(&leaf_key)
                .or_else(|| signing_key(&generate(&PKCS_ECDSA_P256_SHA256)))
                .expect("a key"),
        }
    }
}

/// A certificate with other bytes in it, signed again, with ECDSA and SHA-384.
fn patched(der: &[u8], from: &[u8], to: &[u8], signer: &KeyPair) -> Vec<u8> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).expect("a certificate");
    let mut content = certificate.tbs_certificate.as_ref().to_vec();
    let at = content.windows(from.len()).position(|bytes| bytes == from).expect("its bytes");
    content[at..at + from.len()].copy_from_slice(to);
    let mut signature = vec![0];
    signature.extend(signer.sign(&content).expect("signed"));
    content.extend(tagged(SEQUENCE, ECDSA_WITH_SHA384));
    content.extend(tagged(BIT_STRING, &signature));
    tagged(SEQUENCE, &content)
}

/// A value in DER, with its length in two bytes where one is too short.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a short value").to_be_bytes();
    let head = match length {
        [0, short @ ..0x80] => vec![tag, short],
        [0, long] => vec![tag, 0x81, long],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [head.as_slice(), content].concat()
}

fn signing_key(key: &KeyPair) -> Option<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.serialized_der()).ok()
}

/// Three certificates in DER, and the leaf's key. Where that is not P-256, another key signs.
pub(crate) struct Chain {
    pub(crate) root: Vec<u8>,
    pub(crate) intermediate: Vec<u8>,
    pub(crate) leaf: Vec<u8>,
    key: EcdsaKeyPair,
}

impl Chain {
    /// A header as Apple's.
    pub(crate) fn header(&self) -> Value {
        json!({"alg": "ES256", "x5c": x5c(&[&self.leaf, &self.intermediate, &self.root])})
    }

    /// A JWS as Apple's.
    pub(crate) fn sign(&self, payload: &Value) -> String {
        self.sign_under(&self.header(), payload.to_string().as_bytes())
    }

    /// A JWS with that header.
    pub(crate) fn sign_under(&self, header: &Value, payload: &[u8]) -> String {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
        let signature = self.key.sign(&SystemRandom::new(), input.as_bytes()).expect("signed");
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// Certificates as a header has them.
pub(crate) fn x5c(certificates: &[&[u8]]) -> Value {
    certificates.iter().map(|der| Value::from(STANDARD.encode(der))).collect()
}
