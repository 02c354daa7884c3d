//! The verdicts on what a client hands over as Apple's, with every single thing wrong in turn: first the
//! certificates, then the JWS, then the payload.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{IsCa, date_time_ymd};
use serde_json::{Value, json};

use super::{
    samples::{
        BUNDLE, Chain, INTERMEDIATE_MARK, LEAF_MARK, Plan, VERSION_3, critical, mark, now,
        purchase, x5c,
    },
    signed::Unproven,
    verifier::Verifier,
    wrong_chains::WRONG_CHAINS,
};
use crate::domain::{
    Environment, PaidPurchase, PurchasedItem, Store, StoreRefund, StoreWord, WHOLE_MILLIUNITS,
};

const ID: &str = "2000000999000001";

fn verifier(chain: &Chain) -> Verifier {
    Verifier::new(Some(&chain.root), BUNDLE.to_owned()).expect("a root")
}

fn verdict(chain: &Chain, jws: &str) -> Result<StoreWord, Unproven> {
    verifier(chain).transaction(jws, now())
}

fn paid(word: Result<StoreWord, Unproven>) -> PaidPurchase {
    match word {
        Ok(StoreWord::Paid(purchase)) => *purchase,
        other => panic!("not paid: {other:?}"),
    }
}

/// A payload with one field replaced, or left out.
fn payload_with(field: &str, value: &Value) -> Value {
    let mut payload = purchase();
    let fields = payload.as_object_mut().expect("an object");
    if value == "left out" {
        fields.remove(field);
    } else {
        fields.insert(field.to_owned(), value.clone());
    }
    payload
}

fn unjudged(reason: &'static str) -> Result<StoreWord, Unproven> {
    Err(Unproven::Chain {
        reason,
        transaction_id: Some(ID.to_owned()),
        environment: Some(Environment::Sandbox),
    })
}

fn forged(reason: &'static str) -> Result<StoreWord, Unproven> {
    Err(Unproven::Forged(reason))
}

fn strange(reason: &'static str) -> Result<StoreWord, Unproven> {
    Err(Unproven::Strange(reason))
}

#[test]
fn a_purchase_is_told_as_apple_says_it() {
    let chain = Plan::default().chain();
    let mut purchase = paid(verdict(&chain, &chain.sign(&purchase())));
    let verified: Value = serde_json::from_str(&purchase.verified).expect("JSON");
    purchase.verified.clear();
    assert_eq!(
        purchase,
        PaidPurchase {
            store: Store::Apple,
            environment: Environment::Sandbox,
            store_id: Some(ID.to_owned()),
            original_id: Some(ID.to_owned()),
            items: vec![PurchasedItem::new("noteapp.credits.small", 1).expect("an item")],
            account: None,
            purchased_at: Some(now() - TimeDelta::milliseconds(62_345)),
            price_milliunits: Some(300_000),
            currency: Some("JPY".to_owned()),
            acknowledged: true,
            consumed: true,
            said_at: Some(now() - TimeDelta::minutes(1)),
            refund: StoreRefund::default(),
            verified: String::new(),
        }
    );
    let mut kept = super::samples::purchase();
    for field in ["originalPurchaseDate", "storefrontId", "appTransactionId", "deviceVerification"]
    {
        kept.as_object_mut().expect("an object").remove(field);
    }
    assert_eq!(verified, kept);
}

#[test]
fn certificates_that_differ_where_they_may_are_accepted() {
    type Change = fn(&mut Plan);
    let may_differ: [(&str, Change); 10] = [
        ("no difference", |_| {}),
        ("P-256 everywhere", |plan| {
            plan.root_key = plan.leaf_key;
            plan.intermediate_key = plan.leaf_key;
        }),
        ("a leaf without basic constraints", |plan| plan.leaf.is_ca = IsCa::NoCa),
        ("a leaf that does not say what it is for", |plan| plan.leaf.key_usages.clear()),
        ("an intermediate that does not", |plan| plan.intermediate.key_usages.clear()),
        ("a root that does not", |plan| plan.root.key_usages.clear()),
        ("a leaf that was signed by hand", |plan| plan.leaf_patch = Some((VERSION_3, VERSION_3))),
        ("an extension more", |plan| plan.leaf.custom_extensions.push(mark(&[1, 2, 3]))),
        ("marks that are critical", |plan| {
            plan.leaf.custom_extensions = vec![critical(LEAF_MARK)];
            plan.intermediate.custom_extensions = vec![critical(INTERMEDIATE_MARK)];
        }),
        ("certificates that name keys", |plan| {
            plan.leaf.use_authority_key_identifier_extension = true;
            plan.intermediate.use_authority_key_identifier_extension = true;
        }),
    ];
    for (difference, make) in may_differ {
        let mut plan = Plan::default();
        make(&mut plan);
        let chain = plan.chain();
        let word = verdict(&chain, &chain.sign(&purchase()));
        assert!(matches!(word, Ok(StoreWord::Paid(_))), "{difference}: {word:?}");
    }
}

#[test]
fn certificates_with_one_thing_wrong_are_no_proof_and_no_forgery() {
    for (wrong, spoil, reason) in WRONG_CHAINS {
        let mut plan = Plan::default();
        spoil(&mut plan);
        let chain = plan.chain();
        assert_eq!(verdict(&chain, &chain.sign(&purchase())), unjudged(reason), "{wrong}");
    }
}

#[test]
fn only_the_chosen_root_is_trusted() {
    let chain = Plan::default().chain();
    let jws = chain.sign(&purchase());
    let reason = "the intermediate certificate is not of the root that is trusted";
    let of_apple = Verifier::new(None, BUNDLE.to_owned()).expect("Apple's root");
    assert_eq!(of_apple.transaction(&jws, now()), unjudged(reason));
    let another = Plan::default().chain();
    assert_eq!(verdict(&another, &jws), unjudged(reason));
}

#[test]
fn a_list_of_certificates_with_one_thing_wrong_is_no_proof_and_no_forgery() {
    let chain = Plan::default().chain();
    let Chain { leaf, intermediate, root, .. } = &chain;
    let followed = |der: &[u8]| [der, &[0]].concat();
    let text = |engine: &str| Value::from(engine);
    let url_safe = URL_SAFE.encode(intermediate);
    // Only where the alphabets differ is it another text.
    assert_ne!(url_safe, STANDARD.encode(intermediate));
    let counted = "there are not three certificates";
    for (wrong, list, reason) in [
        ("one", x5c(&[leaf]), counted),
        ("two", x5c(&[leaf, intermediate]), counted),
        ("four", x5c(&[leaf, intermediate, root, root]), counted),
        (
            "a leaf with a byte behind it",
            x5c(&[&followed(leaf), intermediate, root]),
            "something follows a certificate",
        ),
        (
            "an intermediate with a byte behind it",
            x5c(&[leaf, &followed(intermediate), root]),
            "something follows a certificate",
        ),
        (
            "a leaf cut short",
            x5c(&[&leaf[..200], intermediate, root]),
            "a certificate can't be read",
        ),
        ("no intermediate", x5c(&[leaf, &[], root]), "a certificate can't be read"),
        ("a long certificate", x5c(&[leaf, &vec![0; 8_193], root]), "a certificate is too long"),
        (
            "the root in the intermediate's place",
            x5c(&[leaf, root, root]),
            "the intermediate certificate lacks Apple's mark",
        ),
        (
            "a leaf that is no base64",
            json!(["*", STANDARD.encode(intermediate), STANDARD.encode(root)]),
            "a certificate is not base64",
        ),
        (
            "an intermediate in base64url",
            json!([STANDARD.encode(leaf), text(&url_safe), STANDARD.encode(root)]),
            "a certificate is not base64",
        ),
        (
            "a third that is no base64",
            json!([STANDARD.encode(leaf), STANDARD.encode(intermediate), "*"]),
            "a certificate is not base64",
        ),
    ] {
        let header = json!({"alg": "ES256", "x5c": list});
        let jws = chain.sign_under(&header, purchase().to_string().as_bytes());
        assert_eq!(verdict(&chain, &jws), unjudged(reason), "{wrong}");
    }
}

#[test]
fn the_third_certificate_is_not_looked_at() {
    let chain = Plan::default().chain();
    let Chain { leaf, intermediate, .. } = &chain;
    for third in [Plan::default().chain().root, leaf.clone(), b"no certificate".to_vec()] {
        let header = json!({"alg": "ES256", "x5c": x5c(&[leaf, intermediate, &third])});
        paid(verdict(&chain, &chain.sign_under(&header, purchase().to_string().as_bytes())));
    }
}

#[test]
fn certificates_are_judged_at_the_time_of_signing() {
    let mut plan = Plan::default();
    plan.leaf.not_after = date_time_ymd(2025, 10, 11);
    let chain = plan.chain();
    let signed_at = |time: &str| {
        let ms = time.parse::<DateTime<Utc>>().expect("a time").timestamp_millis();
        verdict(&chain, &chain.sign(&payload_with("signedDate", &ms.into())))
    };
    let expired = "a certificate was not valid when it was used";
    paid(signed_at("2025-10-10T12:00:00Z"));
    paid(signed_at("2025-10-11T00:00:00.999Z"));
    assert_eq!(signed_at("2025-10-11T00:00:01Z"), unjudged(expired));
    assert_eq!(signed_at("2023-12-31T23:59:59.999Z"), unjudged(expired));
    let jws = chain.sign(&payload_with("signedDate", &"left out".into()));
    assert_eq!(verdict(&chain, &jws), unjudged(expired));
    let then = "2025-10-10T12:00:00Z".parse().expect("a time");
    paid(verifier(&chain).transaction(&jws, then));
}

#[test]
fn the_time_of_signing_is_only_believed_a_day_ahead() {
    let chain = Plan::default().chain();
    let now_ms = now().timestamp_millis();
    let signed = |date: &Value| verdict(&chain, &chain.sign(&payload_with("signedDate", date)));
    paid(signed(&(now_ms + 86_400_000).into()));
    paid(signed(&Value::Null));
    paid(signed(&json!(1_697_679_936_056.485_f64 + 90_000_000_000.0)));
    assert_eq!(signed(&(now_ms + 86_400_001).into()), unjudged("it was signed in the future"));
    for unreadable in [json!("1795780800000"), json!(true), json!(1e300), json!(i64::MAX)] {
        assert_eq!(signed(&unreadable), unjudged("its time can't be read"), "{unreadable}");
    }
}

#[test]
fn what_is_no_jws_of_its_leafs_is_forged() {
    let chain = Plan::default().chain();
    let payload = purchase().to_string();
    let jws = chain.sign(&purchase());
    let [header, body, signature] =
        jws.split('.').collect::<Vec<_>>().try_into().expect("three parts");
    let under = |header: Value| chain.sign_under(&header, payload.as_bytes());
    let x5c = || chain.header()["x5c"].clone();
    let other = Plan::default().chain().sign(&purchase());
    let (_, others_signature) = other.rsplit_once('.').expect("parts");
    let changed = URL_SAFE_NO_PAD.encode(payload.replace("small", "large"));
    let three = "it has not three parts";
    let encoded = "a part of it is not base64url";
    let object = "its header is no object with certificates";
    let unsigned = "its leaf certificate's key did not sign it";
    for (wrong, jws, reason) in [
        ("nothing", String::new(), three),
        ("two parts", format!("{header}.{body}"), three),
        ("four parts", format!("{jws}.{signature}"), three),
        ("no header", format!(".{body}.{signature}"), object),
        ("a padded part", format!("{header}.{body}.{signature}=="), encoded),
        ("a space behind", format!("{jws} "), encoded),
        ("a header that is no JSON", format!("YWJj.{body}.{signature}"), object),
        ("a header that is an array", under(json!(["ES256", x5c(), null])), object),
        ("no alg", under(json!({"x5c": x5c()})), object),
        ("no x5c", under(json!({"alg": "ES256", "x5cwrong": x5c()})), object),
        ("x5c is a text", under(json!({"alg": "ES256", "x5c": x5c()[0]})), object),
        ("x5c is of numbers", under(json!({"alg": "ES256", "x5c": [1, 2, 3]})), object),
        ("x5c is empty", under(json!({"alg": "ES256", "x5c": []})), "it has no certificates"),
        ("alg none", under(json!({"alg": "none", "x5c": x5c()})), "it is not signed with ES256"),
        ("alg HS256", under(json!({"alg": "HS256", "x5c": x5c()})), "it is not signed with ES256"),
        ("no signature", format!("{header}.{body}."), "its signature is not of 64 bytes"),
        (
            "a short signature",
            format!("{header}.{body}.{}", &signature[..84]),
            "its signature is not of 64 bytes",
        ),
        ("another's signature", format!("{header}.{body}.{others_signature}"), unsigned),
        ("another payload", format!("{header}.{changed}.{signature}"), unsigned),
        (
            "a payload that is no JSON",
            chain.sign_under(&chain.header(), b"{"),
            "its payload is no object",
        ),
        (
            "a payload that is an array",
            chain.sign_under(&chain.header(), b"[]"),
            "its payload is no object",
        ),
        (
            "a payload that is deeply nested",
            chain.sign_under(
                &chain.header(),
                format!("{{\"signedDate\":{}1", "[".repeat(500_000)).as_bytes(),
            ),
            "its payload is no object",
        ),
        ("a very long text", "a".repeat(1_048_577), "it is too long"),
    ] {
        assert_eq!(verdict(&chain, &jws), forged(reason), "{wrong}");
    }
}

#[test]
fn a_header_that_demands_more_is_no_forgery() {
    let chain = Plan::default().chain();
    let mut header = chain.header();
    header["typ"] = "JWT".into();
    header["kid"] = "Apple_Key".into();
    paid(verdict(&chain, &chain.sign_under(&header, purchase().to_string().as_bytes())));
    header["crit"] = json!(["exp"]);
    let jws = chain.sign_under(&header, purchase().to_string().as_bytes());
    assert_eq!(verdict(&chain, &jws), unjudged("its header has critical extensions"));
}

#[test]
fn what_to_ask_apple_for_is_digits_or_nothing() {
    let stranger = Plan::default().chain();
    let chain = Plan::default().chain();
    let ask = |field: &str, value: Value| match verdict(
        &chain,
        &stranger.sign(&payload_with(field, &value)),
    ) {
        Err(Unproven::Chain { transaction_id, environment, .. }) => (transaction_id, environment),
        other => panic!("judged: {other:?}"),
    };
    let sandbox = Some(Environment::Sandbox);
    let digits = "9".repeat(20);
    assert_eq!(ask("transactionId", digits.as_str().into()), (Some(digits), sandbox));
    for wrong in ["".into(), "9".repeat(21).into(), "1/../2".into(), "１".into(), json!(7)] {
        assert_eq!(ask("transactionId", wrong), (None, sandbox));
    }
    let id = Some(ID.to_owned());
    assert_eq!(
        ask("environment", "Production".into()),
        (id.clone(), Some(Environment::Production))
    );
    for wrong in ["Xcode".into(), "production".into(), json!(1), Value::Null] {
        assert_eq!(ask("environment", wrong), (id.clone(), None));
    }
}

#[test]
fn a_payload_with_one_thing_wrong_is_refused_for_good_only_for_a_reason_on_the_list() {
    let chain = Plan::default().chain();
    let out = || Value::from("left out");
    let never = |reason| Ok(StoreWord::Never(reason));
    let shape = "the payload has not the shape that Apple describes";
    for (field, value, expected) in [
        ("bundleId", json!("com.iwash.Other"), never("it is for another app")),
        ("bundleId", json!("com.iwash.noteapp"), never("it is for another app")),
        ("bundleId", out(), strange("it names no bundle")),
        ("bundleId", json!(1), strange(shape)),
        ("environment", json!("Xcode"), strange("its environment is unknown")),
        ("environment", json!("LocalTesting"), strange("its environment is unknown")),
        ("environment", json!("Staging"), strange("its environment is unknown")),
        ("environment", out(), strange("it names no environment")),
        ("type", json!("Non-Consumable"), never("it is for another kind of product")),
        ("type", json!("Auto-Renewable Subscription"), never("it is for another kind of product")),
        ("type", json!("Non-Renewing Subscription"), never("it is for another kind of product")),
        ("type", json!("consumable"), strange("its kind of product is unknown")),
        ("type", out(), strange("it names no kind of product")),
        ("inAppOwnershipType", json!("FAMILY_SHARED"), never("a consumable can't be shared")),
        ("inAppOwnershipType", json!("ASSIGNED"), strange("its ownership is unknown")),
        ("transactionId", out(), strange("it has no id")),
        ("transactionId", json!(""), strange("it has no id")),
        ("transactionId", json!("12a"), strange("its id is not of digits")),
        ("transactionId", json!(12), strange(shape)),
        ("originalTransactionId", json!("GPA.1"), strange("its id is not of digits")),
        ("productId", out(), strange("it names no product")),
        ("productId", json!("a\u{0}b"), strange("its product's name can't be one")),
        ("productId", json!("a".repeat(256)), strange("its product's name can't be one")),
        ("quantity", json!(0), strange("its quantity can't be one")),
        ("quantity", json!(-1), strange("its quantity can't be one")),
        ("quantity", json!(1_001), strange("its quantity can't be one")),
        ("quantity", json!(4_294_967_297_u64), strange("its quantity can't be one")),
        ("quantity", json!(1e40), strange("its quantity can't be one")),
        ("quantity", json!("2"), strange(shape)),
        ("appAccountToken", json!("a\nb"), strange("its account can't be one")),
        ("appAccountToken", json!("a".repeat(129)), strange("its account can't be one")),
        ("revocationType", json!("FAMILY_REVOKE"), never("it was revoked")),
        ("revocationType", json!("OTHER"), strange("what was refunded of it can't be read")),
        ("revocationPercentage", json!(-1), strange("what was refunded of it can't be read")),
        ("revocationPercentage", json!(1e40), strange("what was refunded of it can't be read")),
        ("revocationPercentage", json!("50000"), strange(shape)),
    ] {
        let jws = chain.sign(&payload_with(field, &value));
        assert_eq!(verdict(&chain, &jws), expected, "{field}: {value}");
    }
}

#[test]
fn a_refund_in_part_leaves_a_purchase_paid() {
    let chain = Plan::default().chain();
    let mut payload = purchase();
    payload["revocationDate"] = 1_795_900_000_000_u64.into();
    payload["revocationReason"] = 0.into();
    payload["revocationType"] = "REFUND_PRORATED".into();
    payload["revocationPercentage"] = 99_999.into();
    let paid = paid(verdict(&chain, &chain.sign(&payload)));
    let verified: Value = serde_json::from_str(&paid.verified).expect("JSON");
    for field in ["revocationDate", "revocationReason", "revocationType", "revocationPercentage"] {
        assert_eq!(verified[field], payload[field]);
    }
    payload["revocationType"] = Value::Null;
    assert!(matches!(verdict(&chain, &chain.sign(&payload)), Ok(StoreWord::Paid(_))));
    payload["revocationType"] = "OTHER".into();
    let unread = strange("what was refunded of it can't be read");
    assert_eq!(verdict(&chain, &chain.sign(&payload)), unread);
    payload["revocationType"] = "REFUND_FULL".into();
    assert_eq!(refunded(&chain, &payload), WHOLE_MILLIUNITS);
}

fn refunded(chain: &Chain, payload: &Value) -> u32 {
    paid(verdict(chain, &chain.sign(payload))).refund.milliunits
}

/// It may be reversed, so it is a purchase all the same.
#[test]
fn a_whole_refund_is_told_as_one_whatever_says_it() {
    let chain = Plan::default().chain();
    for (field, value) in [
        ("revocationDate", json!(1_795_900_000_000_u64)),
        ("revocationType", json!("REFUND_FULL")),
        ("revocationType", json!("REFUND_PRORATED")),
        ("revocationPercentage", json!(100_000)),
        ("revocationPercentage", json!(200_000)),
    ] {
        let payload = payload_with(field, &value);
        assert_eq!(refunded(&chain, &payload), WHOLE_MILLIUNITS, "{field}: {value}");
    }
    assert_eq!(refunded(&chain, &purchase()), 0);
}

#[test]
fn what_does_not_decide_may_be_odd_or_missing() {
    let chain = Plan::default().chain();
    let told = |field: &str, value: Value| {
        paid(verdict(&chain, &chain.sign(&payload_with(field, &value))))
    };
    let out = || Value::from("left out");
    for (field, value) in [
        // It was 33 s after the signing in a real message.
        ("purchaseDate", json!(now().timestamp_millis() + 33_000)),
        ("offerType", json!(3)),
        ("offerIdentifier", json!("WELCOME")),
        ("storefront", json!(["JPN"])),
        ("inAppOwnershipType", out()),
        ("unheardOf", json!({"a": [1, 2]})),
    ] {
        told(field, value);
    }
    let quantity = |value| told("quantity", value).items[0].quantity;
    assert_eq!(quantity(out()), 1);
    assert_eq!(quantity(json!(3)), 3);
    assert_eq!(quantity(json!(1_000)), 1_000);
    assert_eq!(told("originalTransactionId", out()).original_id, None);
    let account = |value| told("appAccountToken", value).account;
    assert_eq!(account(json!("7E3FB20B-4CDB")), Some("7E3FB20B-4CDB".to_owned()));
    assert_eq!(account(json!("")), None);
    let at = |value| told("purchaseDate", value).purchased_at;
    assert_eq!(at(json!(1_697_679_936_049.729_7)), "2023-10-19T01:45:36.049Z".parse().ok());
    assert_eq!(at(json!("yesterday")), None);
    assert_eq!(at(out()), None);
    let price = |value| told("price", value).price_milliunits;
    assert_eq!(price(json!(0)), Some(0));
    assert_eq!(price(json!(-1)), None);
    assert_eq!(price(json!("300")), None);
    let currency = |value| told("currency", value).currency;
    assert_eq!(currency(json!("jpy")), None);
    assert_eq!(currency(json!("YENS")), None);
    assert_eq!(currency(out()), None);
}

#[test]
fn no_verdict_holds_what_was_handed_over() {
    let chain = Plan::default().chain();
    let jws = chain.sign(&purchase());
    let stranger = Plan::default().chain();
    let mut texts = vec![paid(verdict(&chain, &jws)).verified];
    texts.extend([verdict(&stranger, &jws), verdict(&chain, &jws[1..])].into_iter().map(|word| {
        let unproven = word.expect_err("no proof");
        format!("{unproven} {unproven:?}")
    }));
    for text in texts {
        for part in jws.split('.') {
            assert!(!text.contains(&part[1..20]), "{text}");
        }
    }
}
