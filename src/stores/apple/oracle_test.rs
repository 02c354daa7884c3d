//! Our verdicts against those of `app-store-server-library`, which reads Apple's rules on its own: what we believe
//! it must believe, and what only it believes, we refuse for a reason that is known here.

use std::{collections::BTreeMap, sync::LazyLock};

use app_store_server_library::{
    chain_verifier::ChainVerifier,
    models::app_store_environment::Environment as Place,
    signed_data_verifier::{SignedDataVerifier, SignedDataVerifierError},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::{
    fixtures_test::Fixtures,
    samples::{BUNDLE, Chain, Plan, now, purchase},
    signed::Unproven,
    transaction::Transaction,
    verifier::Verifier,
    wrong_chains::WRONG_CHAINS,
};

/// Where we are stricter than the library, and why.
const STRICTER: [(&str, &str); 12] = [
    (
        "a part of it is not base64url",
        "a JWS has no padding (RFC 7515, 2); the library cuts it off",
    ),
    ("its header is no object with certificates", "a struct is read from an array as well"),
    ("its header has critical extensions", "they must be understood (RFC 7515, 4.1.11)"),
    ("its time can't be read", "the library takes a time that is a text"),
    ("it was signed in the future", "a time of signing counts a day ahead at most"),
    ("something follows a certificate", "what follows is signed by nobody"),
    ("the leaf certificate may issue others", "a leaf of Apple's is none"),
    ("the leaf certificate may not sign", "the library does not ask what keys are for"),
    ("a certificate issued another and may not", "the library does not ask what keys are for"),
    ("a certificate's signature is of an unknown kind", "it is named twice, and alike"),
    ("a certificate has a key of an unknown kind", "Apple's keys are on P-256 and P-384"),
    (
        "a certificate is not made as it must be",
        "what stands twice or can't be read is not trusted",
    ),
];

static CHAIN: LazyLock<Chain> = LazyLock::new(|| Plan::default().chain());
static OTHER: LazyLock<Chain> = LazyLock::new(|| Plan::default().chain());

/// What is changed before the leaf signs.
#[derive(Debug, Clone)]
enum Change {
    FlipCertificate(usize, Index, u8),
    FollowCertificate(usize),
    ReplaceCertificate(usize, usize),
    DropCertificate(usize),
    RepeatCertificate(usize),
    SwapCertificates(usize, usize),
    Header(&'static str, Value),
    HeaderAsArray,
    Payload(&'static str, Value),
}

/// What is changed afterwards.
#[derive(Debug, Clone)]
enum Damage {
    FlipCharacter(Index, u8),
    FlipPart(usize, Index, u8),
    DropPart(usize),
    RepeatPart(usize),
    SwapParts(usize, usize),
    Pad(usize),
    Space,
}

fn changes() -> impl Strategy<Value = Change> {
    let any_of_three = || 0..3_usize;
    let header = [
        ("alg", json!("ES384")),
        ("alg", json!("none")),
        ("alg", Value::Null),
        ("typ", json!("JWT")),
        ("kid", json!("1")),
        ("crit", json!(["exp"])),
        ("x5c", Value::Null),
        ("x5c", json!([])),
        ("x5c", json!("AAAA")),
    ];
    let now_ms = now().timestamp_millis();
    let payload = [
        ("signedDate", Value::Null),
        ("signedDate", json!(now_ms + 60_000)),
        ("signedDate", json!(now_ms + 90_000_000)),
        ("signedDate", json!(0)),
        ("signedDate", json!(-1)),
        ("signedDate", json!(1_735_689_600_000.75)),
        ("signedDate", json!(1_735_689_600_000.75).to_string().into()),
        ("signedDate", json!("1735689600000")),
        ("signedDate", json!(2_500_000_000_000_u64)),
        ("signedDate", json!(u64::MAX)),
        ("bundleId", json!("com.iwash.Other")),
        ("environment", json!("Xcode")),
        ("price", json!("300")),
        ("quantity", json!("1")),
        ("appAccountToken", json!("no uuid")),
        ("revocationType", json!("REFUND_FULL")),
        ("unheardOf", json!([{}])),
    ];
    prop_oneof![
        4 => (any_of_three(), any::<Index>(), 0..8_u8)
            .prop_map(|(which, at, bit)| Change::FlipCertificate(which, at, bit)),
        1 => any_of_three().prop_map(Change::FollowCertificate),
        1 => (any_of_three(), any_of_three())
            .prop_map(|(which, with)| Change::ReplaceCertificate(which, with)),
        1 => any_of_three().prop_map(Change::DropCertificate),
        1 => any_of_three().prop_map(Change::RepeatCertificate),
        1 => (any_of_three(), any_of_three())
            .prop_map(|(one, two)| Change::SwapCertificates(one, two)),
        2 => prop::sample::select(header.to_vec())
            .prop_map(|(name, value)| Change::Header(name, value)),
        1 => Just(Change::HeaderAsArray),
        6 => prop::sample::select(payload.to_vec())
            .prop_map(|(name, value)| Change::Payload(name, value)),
    ]
}

fn damages() -> impl Strategy<Value = Damage> {
    let part = || 0..3_usize;
    prop_oneof![
        4 => (any::<Index>(), 0..7_u8).prop_map(|(at, bit)| Damage::FlipCharacter(at, bit)),
        4 => (part(), any::<Index>(), 0..8_u8)
            .prop_map(|(which, at, bit)| Damage::FlipPart(which, at, bit)),
        1 => part().prop_map(Damage::DropPart),
        1 => part().prop_map(Damage::RepeatPart),
        1 => (part(), part()).prop_map(|(one, two)| Damage::SwapParts(one, two)),
        1 => part().prop_map(Damage::Pad),
        1 => Just(Damage::Space),
    ]
}

/// Flips a bit of one of the bytes; of none, none.
fn flip(bytes: &mut [u8], at: Index, bit: u8) {
    if !bytes.is_empty() {
        bytes[at.index(bytes.len())] ^= 1 << bit;
    }
}

/// What is signed, still in pieces.
struct Draft {
    certificates: Vec<Vec<u8>>,
    header: BTreeMap<&'static str, Value>,
    is_array: bool,
    payload: Value,
}

impl Draft {
    fn new() -> Self {
        Self {
            certificates: vec![CHAIN.leaf.clone(), CHAIN.intermediate.clone(), CHAIN.root.clone()],
            header: BTreeMap::from([("alg", json!("ES256"))]),
            is_array: false,
            payload: purchase(),
        }
    }

    fn change(&mut self, change: Change) {
        let certificates = &mut self.certificates;
        let count = certificates.len();
        match change {
            Change::FlipCertificate(which, at, bit) if which < count => {
                flip(&mut certificates[which], at, bit);
            }
            Change::FollowCertificate(which) if which < count => certificates[which].push(0),
            Change::ReplaceCertificate(which, with) if which < count => {
                let others = [&OTHER.leaf, &OTHER.intermediate, &OTHER.root];
                certificates[which].clone_from(others[with]);
            }
            Change::DropCertificate(which) if which < count => {
                certificates.remove(which);
            }
            Change::RepeatCertificate(which) if which < count => {
                certificates.push(certificates[which].clone());
            }
            Change::SwapCertificates(one, two) if one.max(two) < count => {
                certificates.swap(one, two);
            }
            Change::Header(name, value) => {
                self.header.insert(name, value);
            }
            Change::HeaderAsArray => self.is_array = true,
            Change::Payload(name, value) => self.payload[name] = value,
            _ => {}
        }
    }

    fn sign(&self) -> String {
        let x5c = self.certificates.iter().map(|der| Value::from(STANDARD.encode(der))).collect();
        let mut header = self.header.clone();
        header.entry("x5c").or_insert(x5c);
        let header =
            if self.is_array { json!([header["alg"], header["x5c"]]) } else { json!(header) };
        CHAIN.sign_under(&header, self.payload.to_string().as_bytes())
    }
}

fn damaged(jws: &str, damage: &Damage) -> String {
    let mut parts: Vec<String> = jws.split('.').map(str::to_owned).collect();
    let count = parts.len();
    match *damage {
        Damage::FlipCharacter(at, bit) => {
            let mut bytes = jws.as_bytes().to_vec();
            flip(&mut bytes, at, bit);
            return String::from_utf8(bytes).unwrap_or_default();
        }
        Damage::FlipPart(which, at, bit) if which < count => {
            let mut bytes = URL_SAFE_NO_PAD.decode(&parts[which]).unwrap_or_default();
            flip(&mut bytes, at, bit);
            parts[which] = URL_SAFE_NO_PAD.encode(bytes);
        }
        Damage::DropPart(which) if which < count => {
            parts.remove(which);
        }
        Damage::RepeatPart(which) if which < count => parts.push(parts[which].clone()),
        Damage::SwapParts(one, two) if one.max(two) < count => parts.swap(one, two),
        Damage::Pad(which) if which < count => parts[which].push('='),
        Damage::Space => parts.push(" ".to_owned()),
        _ => {}
    }
    parts.join(".")
}

/// What the library makes of it.
#[derive(Debug, PartialEq)]
enum Oracle {
    Believes,
    Refuses,
    /// It could not read the payload into its own types, which comes before it looks at certificates.
    CannotRead,
}

fn oracle(root: &[u8], jws: &str) -> Oracle {
    let library = SignedDataVerifier::new(
        vec![root.to_vec()],
        Place::Sandbox,
        BUNDLE.to_owned(),
        Some(1234),
        false,
    )
    .expect("an oracle");
    match library.verify_and_decode_signed_transaction(jws) {
        // The signature is seen first, then whose it is.
        Ok(_)
        | Err(
            SignedDataVerifierError::InvalidAppIdentifier
            | SignedDataVerifierError::InvalidEnvironment,
        ) => Oracle::Believes,
        Err(SignedDataVerifierError::InternalJWSError(error))
            if error.to_string().contains("InvalidJson") =>
        {
            Oracle::CannotRead
        }
        Err(_) => Oracle::Refuses,
    }
}

/// Both verdicts on one text; fails where they differ in a way that is not known.
fn compare(root: &[u8], jws: &str) -> Oracle {
    let verifier = Verifier::new(Some(root), BUNDLE.to_owned()).expect("a root");
    let ours = verifier.payload::<Transaction>(jws, now());
    let theirs = oracle(root, jws);
    match (&ours, &theirs) {
        (Ok(_), Oracle::Believes) | (Err(_), Oracle::Refuses | Oracle::CannotRead) => {}
        (Ok(_), Oracle::CannotRead) => assert!(leads(root, jws), "only we believe it"),
        (Ok(_), Oracle::Refuses) => panic!("only we believe it"),
        (Err(unproven), Oracle::Believes) => {
            let (Unproven::Forged(reason)
            | Unproven::Chain { reason, .. }
            | Unproven::Strange(reason)) = unproven;
            let is_known = STRICTER.iter().any(|(known, _)| known == reason);
            assert!(is_known, "only the library believes it: {reason}");
        }
    }
    theirs
}

/// What the library says of the certificates alone. Where it can't read a payload and we can, it is because ours
/// has fields that decide nothing and may be anything.
fn leads(root: &[u8], jws: &str) -> bool {
    let part = |which: usize| -> Value {
        let part = jws.split('.').nth(which).expect("a part");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
    };
    let certificate = |which: usize| {
        STANDARD.decode(part(0)["x5c"][which].as_str().expect("a text")).expect("base64")
    };
    let signed_at_s = part(1)["signedDate"].as_u64().map(|ms| ms / 1_000);
    ChainVerifier::new(vec![root.to_vec()])
        .verify(&certificate(0), &certificate(1), signed_at_s, false)
        .is_ok()
}

#[test]
fn the_library_believes_what_we_believe() {
    assert_eq!(compare(&CHAIN.root, &CHAIN.sign(&purchase())), Oracle::Believes);
    assert_eq!(compare(&OTHER.root, &CHAIN.sign(&purchase())), Oracle::Refuses);
    let mut draft = Draft::new();
    draft.change(Change::Payload("price", json!("300")));
    assert_eq!(compare(&CHAIN.root, &draft.sign()), Oracle::CannotRead);
}

#[test]
fn the_library_agrees_on_each_wrong_chain_or_is_laxer_for_a_known_reason() {
    for (wrong, spoil, _) in WRONG_CHAINS {
        eprintln!("{wrong}");
        let mut plan = Plan::default();
        spoil(&mut plan);
        let chain = plan.chain();
        compare(&chain.root, &chain.sign(&purchase()));
    }
}

#[test]
fn the_library_believes_what_we_believe_of_apples_test_data() {
    let Some(fixtures) = Fixtures::find() else { return };
    let root = fixtures.bytes("testCA.der");
    for (name, expected) in [
        ("transactionInfo", Oracle::Believes),
        ("testNotification", Oracle::Believes),
        ("wrongBundleId", Oracle::Believes),
        ("renewalInfo", Oracle::Believes),
        ("missingX5CHeaderClaim", Oracle::Refuses),
        ("legacyTransaction", Oracle::Refuses),
        ("xcode-signed-transaction", Oracle::Refuses),
        ("xcode-signed-app-transaction", Oracle::Refuses),
        ("xcode-signed-renewal-info", Oracle::Refuses),
    ] {
        assert_eq!(compare(&root, &fixtures.text(name)), expected, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_library_believes_what_we_believe_however_it_is_mutated(
        changes in prop::collection::vec(changes(), 0..3),
        damages in prop::collection::vec(damages(), 0..2),
    ) {
        let mut draft = Draft::new();
        for change in changes {
            draft.change(change);
        }
        let jws = damages.into_iter().fold(draft.sign(), |jws, damage| damaged(&jws, &damage));
        compare(&CHAIN.root, &jws);
    }

    #[test]
    fn the_library_believes_what_we_believe_of_damaged_certificates(
        which in 0..2_usize,
        flips in prop::collection::vec((any::<Index>(), 0..8_u8), 0..4),
        cut in prop::option::weighted(0.1, any::<Index>()),
    ) {
        let mut draft = Draft::new();
        let certificate = &mut draft.certificates[which];
        for (at, bit) in flips {
            flip(certificate, at, bit);
        }
        if let Some(at) = cut {
            certificate.truncate(at.index(certificate.len()));
        }
        compare(&CHAIN.root, &draft.sign());
    }

    #[test]
    fn any_text_gets_a_verdict(text in any::<String>()) {
        compare(&CHAIN.root, &text);
    }
}
