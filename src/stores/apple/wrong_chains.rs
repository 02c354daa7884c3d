//! Chains of certificates in which a single thing is wrong, and the reason each is refused for: for tests.

use rcgen::{
    BasicConstraints, IsCa, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, date_time_ymd,
};

use super::samples::{
    ECDSA_WITH_SHA384, INTERMEDIATE_MARK, LEAF_MARK, Plan, VERSION_3, critical, garbled, mark,
};

const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const ECDSA_WITH_SHA256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const VERSION_2: &[u8] = &[0xa0, 3, 2, 1, 1];

/// What is wrong with a chain, how it becomes so, and the reason it is refused for.
pub(crate) type WrongChain = (&'static str, fn(&mut Plan), &'static str);

/// Every single thing wrong in turn.
pub(crate) const WRONG_CHAINS: [WrongChain; 26] = [
    (
        "the intermediate is not signed by the root",
        |plan| plan.has_false_root = true,
        "the intermediate certificate is not of the root that is trusted",
    ),
    (
        "the intermediate names another issuer",
        |plan| plan.root_alias = Some("Apple Root CA - G4"),
        "the intermediate certificate is not of the root that is trusted",
    ),
    (
        "the leaf is not signed by the intermediate",
        |plan| plan.has_false_intermediate = true,
        "the leaf certificate is not of the intermediate",
    ),
    (
        "the leaf names another issuer",
        |plan| plan.intermediate_alias = Some("G7"),
        "the leaf certificate is not of the intermediate",
    ),
    (
        "the leaf has expired",
        |plan| plan.leaf.not_after = date_time_ymd(2026, 11, 27),
        "a certificate was not valid when it was used",
    ),
    (
        "the leaf is not valid yet",
        |plan| plan.leaf.not_before = date_time_ymd(2026, 11, 28),
        "a certificate was not valid when it was used",
    ),
    (
        "the intermediate has expired",
        |plan| plan.intermediate.not_after = date_time_ymd(2026, 11, 27),
        "a certificate was not valid when it was used",
    ),
    (
        "the root has expired",
        |plan| plan.root.not_after = date_time_ymd(2026, 11, 27),
        "a certificate was not valid when it was used",
    ),
    (
        "the leaf lacks its mark",
        |plan| plan.leaf.custom_extensions.clear(),
        "the leaf certificate lacks Apple's mark",
    ),
    (
        "the leaf has the intermediate's mark",
        |plan| plan.leaf.custom_extensions = vec![mark(INTERMEDIATE_MARK)],
        "the leaf certificate lacks Apple's mark",
    ),
    (
        "the intermediate lacks its mark",
        |plan| plan.intermediate.custom_extensions.clear(),
        "the intermediate certificate lacks Apple's mark",
    ),
    (
        "the leaf is a CA",
        |plan| plan.leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        "the leaf certificate may issue others",
    ),
    (
        "the intermediate is expressly no CA",
        |plan| plan.intermediate.is_ca = IsCa::ExplicitNoCa,
        "a certificate issued another and is no CA",
    ),
    (
        "the intermediate does not say that it is a CA",
        |plan| plan.intermediate.is_ca = IsCa::NoCa,
        "a certificate issued another and is no CA",
    ),
    (
        "the leaf may not sign",
        |plan| plan.leaf.key_usages = vec![KeyUsagePurpose::KeyAgreement],
        "the leaf certificate may not sign",
    ),
    (
        "the intermediate may not issue",
        |plan| plan.intermediate.key_usages = vec![KeyUsagePurpose::DigitalSignature],
        "a certificate issued another and may not",
    ),
    (
        "the leaf has an unknown critical extension",
        |plan| plan.leaf.custom_extensions.push(critical(&[1, 2, 3])),
        "a certificate has a critical extension that is unknown",
    ),
    (
        "the intermediate has an unknown critical extension",
        |plan| plan.intermediate.custom_extensions.push(critical(&[1, 2, 3])),
        "a certificate has a critical extension that is unknown",
    ),
    (
        "an extension stands twice",
        |plan| plan.leaf.custom_extensions.push(mark(LEAF_MARK)),
        "a certificate is not made as it must be",
    ),
    (
        "the leaf's key is P-384",
        |plan| plan.leaf_key = &PKCS_ECDSA_P384_SHA384,
        "the leaf certificate's key is not P-256",
    ),
    (
        "the leaf's basic constraints can't be read",
        |plan| {
            plan.leaf.is_ca = IsCa::NoCa;
            plan.leaf.custom_extensions.push(garbled(BASIC_CONSTRAINTS));
        },
        "a certificate is not made as it must be",
    ),
    (
        "what the leaf is for can't be read",
        |plan| {
            plan.leaf.key_usages.clear();
            plan.leaf.custom_extensions.push(garbled(KEY_USAGE));
        },
        "a certificate is not made as it must be",
    ),
    (
        "what the intermediate is for can't be read",
        |plan| {
            plan.intermediate.key_usages.clear();
            plan.intermediate.custom_extensions.push(garbled(KEY_USAGE));
        },
        "a certificate is not made as it must be",
    ),
    (
        "the intermediate's key is of another kind",
        |plan| plan.intermediate_key = &PKCS_ED25519,
        "a certificate has a key of an unknown kind",
    ),
    (
        "the leaf is of an old version",
        |plan| plan.leaf_patch = Some((VERSION_3, VERSION_2)),
        "a certificate is not made as it must be",
    ),
    (
        "the leaf names two algorithms",
        |plan| plan.leaf_patch = Some((ECDSA_WITH_SHA384, ECDSA_WITH_SHA256)),
        "a certificate's signature is of an unknown kind",
    ),
];
