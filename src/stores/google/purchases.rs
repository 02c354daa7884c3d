//! What Google's `productsv2` says of a purchase, read into our words. How it is asked does not belong here.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use super::lenient::Whole;
use crate::{
    domain::{
        Environment, PaidPurchase, ProductId, PurchasedItem, Store, StoreRefund,
        StoreTransactionId, StoreWord, UserId,
    },
    stores::StoreError,
};

const CONSUMED: &str = "CONSUMPTION_STATE_CONSUMED";
const ACKNOWLEDGED: &str = "ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED";

/// A `ProductPurchaseV2`, as far as it matters.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    product_line_item: Option<Vec<LineItem>>,
    purchase_state_context: Option<StateContext>,
    /// There for test purchases only.
    test_purchase_context: Option<IgnoredAny>,
    /// Missing for promotions.
    order_id: Option<String>,
    region_code: Option<String>,
    purchase_completion_time: Option<String>,
    acknowledgement_state: Option<String>,
    obfuscated_external_account_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StateContext {
    purchase_state: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LineItem {
    product_id: Option<String>,
    product_offer_details: Option<OfferDetails>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct OfferDetails {
    purchase_option_id: Option<String>,
    offer_id: Option<String>,
    quantity: Option<Whole>,
    refundable_quantity: Option<Whole>,
    consumption_state: Option<String>,
}

/// What is kept of it.
#[derive(Serialize)]
struct Verified<'a> {
    items: Vec<VerifiedItem<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    test: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledgement: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
}

#[derive(Serialize)]
struct VerifiedItem<'a> {
    product: &'a str,
    quantity: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    refundable_quantity: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purchase_option: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumption: Option<&'a str>,
}

/// What the body of a `productsv2` answer means.
///
/// # Errors
/// [`StoreError::Unreachable`] when it can't be read, or says what we don't know: that may pass.
pub(super) fn word(body: &[u8]) -> Result<StoreWord, StoreError> {
    let purchase: Answer = object(body)?;
    let state = purchase.purchase_state_context.as_ref();
    match state.and_then(|context| context.purchase_state.as_deref()) {
        Some("PURCHASED") => paid(&purchase),
        Some("PENDING") => Ok(StoreWord::Unpaid),
        Some("CANCELLED") => Ok(StoreWord::Never("Google says that it was cancelled")),
        _ => Err(unreadable("a state of a purchase that is not known")),
    }
}

/// A JSON object. An array would else be taken for a struct.
pub(super) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, StoreError> {
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let read = is_object.then(|| serde_json::from_slice(body).ok()).flatten();
    read.ok_or_else(|| unreadable("no JSON that can be read"))
}

fn paid(purchase: &Answer) -> Result<StoreWord, StoreError> {
    let lines = purchase.product_line_item.as_deref().unwrap_or_default();
    if lines.is_empty() {
        return Err(unreadable("a purchase of nothing"));
    }
    // Google leaves the number out where it does not know it, so only a zero that is there counts.
    let refunded = |line: &LineItem| line.refundable_quantity() == Some(0);
    if lines.iter().all(refunded) {
        return Ok(StoreWord::Never("Google says that all of it was refunded"));
    }
    let items = lines.iter().map(LineItem::item).collect::<Result<Vec<_>, _>>()?;
    let account = purchase.obfuscated_external_account_id.as_deref();
    let test = purchase.test_purchase_context.is_some();
    let verified = verified(purchase, lines, &items)?;
    let pieces = refunded_pieces(lines, &items);
    Ok(StoreWord::Paid(Box::new(PaidPurchase {
        store: Store::Google,
        environment: if test { Environment::Sandbox } else { Environment::Production },
        store_id: purchase.store_id()?,
        original_id: None,
        items,
        // What can't be a user's name is nobody's account.
        account: account.filter(|id| UserId::new(*id).is_ok()).map(str::to_owned),
        purchased_at: purchase.completed_at(),
        price_milliunits: None,
        currency: None,
        acknowledged: purchase.acknowledgement_state.as_deref() == Some(ACKNOWLEDGED),
        consumed: lines.iter().all(LineItem::is_consumed),
        said_at: None,
        refund: StoreRefund { pieces, ..StoreRefund::default() },
        verified,
    })))
}

/// How many of each product can't be refunded any more, because they were. A number that is not given says nothing.
fn refunded_pieces(lines: &[LineItem], items: &[PurchasedItem]) -> BTreeMap<ProductId, u32> {
    let mut pieces = BTreeMap::new();
    for (line, item) in lines.iter().zip(items) {
        let refundable = line.refundable_quantity().and_then(|left| u32::try_from(left).ok());
        let refunded = item.quantity.saturating_sub(refundable.unwrap_or(item.quantity));
        if refunded > 0 {
            let sum: &mut u32 = pieces.entry(item.product.clone()).or_default();
            *sum = sum.saturating_add(refunded);
        }
    }
    pieces
}

impl Answer {
    /// The order's id, which may be missing or empty, which is the same.
    fn store_id(&self) -> Result<Option<String>, StoreError> {
        let Some(id) = self.order_id.as_deref().filter(|id| !id.is_empty()) else {
            return Ok(None);
        };
        StoreTransactionId::new(id).map_err(|_| unreadable("an order's id that is none"))?;
        Ok(Some(id.to_owned()))
    }

    fn completed_at(&self) -> Option<DateTime<Utc>> {
        self.purchase_completion_time.as_deref()?.parse().ok()
    }
}

impl LineItem {
    fn refundable_quantity(&self) -> Option<i64> {
        self.product_offer_details.as_ref()?.refundable_quantity.map(|quantity| quantity.0)
    }

    fn is_consumed(&self) -> bool {
        let details = self.product_offer_details.as_ref();
        // As a whole: another state ends in the same letters.
        details.is_some_and(|details| details.consumption_state.as_deref() == Some(CONSUMED))
    }

    fn item(&self) -> Result<PurchasedItem, StoreError> {
        let details = self.product_offer_details.as_ref();
        let quantity =
            details.and_then(|details| details.quantity).map_or(1, |quantity| quantity.0);
        let quantity = u32::try_from(quantity).ok().filter(|quantity| *quantity > 0);
        let quantity = quantity.ok_or_else(|| unreadable("a quantity that is none"))?;
        PurchasedItem::new(self.product_id.as_deref().unwrap_or_default(), quantity)
            .map_err(|_| unreadable("a product without a name"))
    }
}

fn verified(
    purchase: &Answer,
    lines: &[LineItem],
    items: &[PurchasedItem],
) -> Result<String, StoreError> {
    let unnamed = OfferDetails::default();
    let items = lines.iter().zip(items).map(|(line, item)| {
        let details = line.product_offer_details.as_ref().unwrap_or(&unnamed);
        VerifiedItem {
            product: item.product.as_str(),
            quantity: item.quantity,
            refundable_quantity: details.refundable_quantity.map(|quantity| quantity.0),
            purchase_option: details.purchase_option_id.as_deref(),
            offer: details.offer_id.as_deref(),
            consumption: details.consumption_state.as_deref(),
        }
    });
    let verified = Verified {
        items: items.collect(),
        test: purchase.test_purchase_context.is_some(),
        order_id: purchase.order_id.as_deref(),
        region_code: purchase.region_code.as_deref(),
        completed_at: purchase.purchase_completion_time.as_deref(),
        acknowledgement: purchase.acknowledgement_state.as_deref(),
        account: purchase.obfuscated_external_account_id.as_deref(),
    };
    serde_json::to_string(&verified).map_err(|_| unreadable("what can't be kept"))
}

fn unreadable(what: &str) -> StoreError {
    StoreError::Unreachable(format!("it answered with {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// As Google answers for a purchase of one product.
    fn answer() -> Value {
        json!({
            "kind": "androidpublisher#productPurchaseV2",
            "productLineItem": [line("noteapp.credits.small", &json!({
                "purchaseOptionId": "legacy-base",
                "quantity": 1,
                "refundableQuantity": 1,
                "consumptionState": "CONSUMPTION_STATE_YET_TO_BE_CONSUMED",
                "offerTags": [],
            }))],
            "purchaseStateContext": {"purchaseState": "PURCHASED"},
            "orderId": "GPA.3301-1111-2222-33333",
            "regionCode": "JP",
            "purchaseCompletionTime": "2026-11-27T09:00:00.123Z",
            "acknowledgementState": "ACKNOWLEDGEMENT_STATE_PENDING",
            "obfuscatedExternalAccountId": "alice",
        })
    }

    fn line(product: &str, details: &Value) -> Value {
        json!({"productId": product, "productOfferDetails": details})
    }

    fn said(answer: &Value) -> Result<StoreWord, StoreError> {
        word(answer.to_string().as_bytes())
    }

    fn with(name: &str, value: Value) -> Value {
        let mut answer = answer();
        answer[name] = value;
        answer
    }

    fn without(name: &str) -> Value {
        let mut answer = answer();
        answer.as_object_mut().expect("an object").remove(name);
        answer
    }

    fn of_lines(lines: &[Value]) -> Value {
        with("productLineItem", json!(lines))
    }

    fn purchase(answer: &Value) -> PaidPurchase {
        match said(answer) {
            Ok(StoreWord::Paid(purchase)) => *purchase,
            other => panic!("{other:?}"),
        }
    }

    fn quantities(answer: &Value) -> Vec<(String, u32)> {
        let items = purchase(answer).items;
        items.into_iter().map(|item| (item.product.as_str().to_owned(), item.quantity)).collect()
    }

    #[test]
    fn a_paid_purchase_is_read_whole() {
        let purchase = purchase(&answer());
        assert_eq!(purchase.store, Store::Google);
        assert_eq!(purchase.environment, Environment::Production);
        assert_eq!(purchase.store_id.as_deref(), Some("GPA.3301-1111-2222-33333"));
        assert_eq!(purchase.account.as_deref(), Some("alice"));
        let purchased_at = purchase.purchased_at.expect("a time");
        assert_eq!(purchased_at.timestamp_millis(), 1_795_770_000_123);
        assert!(!purchase.acknowledged && !purchase.consumed);
        let kept: Value = serde_json::from_str(&purchase.verified).expect("JSON");
        assert_eq!(kept["items"][0]["product"], "noteapp.credits.small");
        assert_eq!(kept["order_id"], "GPA.3301-1111-2222-33333");
        assert_eq!(quantities(&answer()), [("noteapp.credits.small".to_owned(), 1)]);
    }

    #[test]
    fn each_state_is_its_word_and_an_unknown_one_may_pass() {
        let in_state =
            |state: Value| said(&with("purchaseStateContext", json!({"purchaseState": state})));
        assert_eq!(in_state(json!("PENDING")), Ok(StoreWord::Unpaid));
        assert!(matches!(in_state(json!("CANCELLED")), Ok(StoreWord::Never(_))));
        for state in [
            json!("PURCHASE_STATE_UNSPECIFIED"),
            json!("CANCELED"),
            json!("purchased"),
            json!(null),
        ] {
            assert!(matches!(in_state(state), Err(StoreError::Unreachable(_))));
        }
        assert!(said(&without("purchaseStateContext")).is_err());
        let mut pending = without("orderId");
        pending["purchaseStateContext"]["purchaseState"] = json!("PENDING");
        assert_eq!(said(&pending), Ok(StoreWord::Unpaid));
    }

    #[test]
    fn what_may_be_missing_may_be_missing() {
        for name in [
            "orderId",
            "regionCode",
            "purchaseCompletionTime",
            "acknowledgementState",
            "obfuscatedExternalAccountId",
        ] {
            purchase(&without(name));
            purchase(&with(name, Value::Null));
            purchase(&with(name, json!("")));
        }
        assert_eq!(purchase(&with("orderId", json!(""))).store_id, None);
        assert!(said(&with("orderId", json!("GPA.\u{0}"))).is_err());
        let accounts = [json!(""), json!("a".repeat(129)), json!("\u{0}")];
        for account in accounts {
            assert_eq!(purchase(&with("obfuscatedExternalAccountId", account)).account, None);
        }
    }

    #[test]
    fn quantities_are_numbers_or_texts_and_missing_ones_are_one() {
        for (quantity, read) in [
            (json!(3), Some(3)),
            (json!("3"), Some(3)),
            (json!(null), Some(1)),
            (json!(0), None),
            (json!(-1), None),
            (json!(4_294_967_296_i64), None),
            (json!(1.5), None),
            (json!("three"), None),
        ] {
            let answer = of_lines(&[line("a", &json!({"quantity": quantity}))]);
            match (said(&answer), read) {
                (Ok(StoreWord::Paid(purchase)), Some(read)) => {
                    assert_eq!(purchase.items[0].quantity, read);
                }
                (Err(StoreError::Unreachable(_)), None) => {}
                other => panic!("{quantity}: {other:?}"),
            }
        }
        assert_eq!(quantities(&of_lines(&[json!({"productId": "a"})])), [("a".to_owned(), 1)]);
    }

    #[test]
    fn several_products_are_all_there_and_none_is_an_error() {
        let two = of_lines(&[line("a", &json!({"quantity": 2})), line("b", &json!({}))]);
        assert_eq!(quantities(&two), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        for answer in [
            without("productLineItem"),
            of_lines(&[]),
            of_lines(&[json!({})]),
            of_lines(&[line("", &json!({}))]),
            of_lines(&[line("a", &json!({})), json!({"productId": "a\u{0}b"})]),
        ] {
            assert!(matches!(said(&answer), Err(StoreError::Unreachable(_))), "{answer}");
        }
    }

    #[test]
    fn only_all_of_it_refunded_is_the_end() {
        let left = |refundable: Value| {
            line("a", &json!({"quantity": 2, "refundableQuantity": refundable}))
        };
        for (lines, is_refunded) in [
            (vec![left(json!(0))], true),
            (vec![left(json!("0")), left(json!(0))], true),
            (vec![left(json!(1))], false),
            (vec![left(json!(0)), left(json!(1))], false),
            (vec![left(json!(0)), line("a", &json!({}))], false),
            (vec![line("a", &json!({}))], false),
        ] {
            let never = matches!(said(&of_lines(&lines)), Ok(StoreWord::Never(_)));
            assert_eq!(never, is_refunded, "{lines:?}");
        }
    }

    #[test]
    fn whole_words_say_whether_it_was_consumed_and_acknowledged() {
        let consumed = json!({"consumptionState": "CONSUMPTION_STATE_CONSUMED"});
        let not_yet = json!({"consumptionState": "CONSUMPTION_STATE_YET_TO_BE_CONSUMED"});
        for (lines, is_consumed) in [
            (vec![line("a", &consumed)], true),
            (vec![line("a", &not_yet)], false),
            (vec![line("a", &consumed), line("b", &not_yet)], false),
            (vec![line("a", &json!({}))], false),
        ] {
            assert_eq!(purchase(&of_lines(&lines)).consumed, is_consumed, "{lines:?}");
        }
        for (state, is_acknowledged) in [
            ("ACKNOWLEDGEMENT_STATE_ACKNOWLEDGED", true),
            ("ACKNOWLEDGEMENT_STATE_PENDING", false),
            ("ACKNOWLEDGEMENT_STATE_UNSPECIFIED", false),
        ] {
            let answer = with("acknowledgementState", json!(state));
            assert_eq!(purchase(&answer).acknowledged, is_acknowledged, "{state}");
        }
    }

    #[test]
    fn a_test_purchase_is_of_the_sandbox() {
        for context in
            [json!({"fopType": "TEST"}), json!({"fopType": "FOP_TYPE_UNSPECIFIED"}), json!({})]
        {
            let purchase = purchase(&with("testPurchaseContext", context));
            assert_eq!(purchase.environment, Environment::Sandbox);
        }
        let purchase = purchase(&with("testPurchaseContext", Value::Null));
        assert_eq!(purchase.environment, Environment::Production);
    }

    #[test]
    fn what_can_not_be_read_may_pass() {
        let text = answer().to_string();
        let twice = text.replacen('{', r#"{"orderId":"GPA.1","#, 1);
        let deep = format!(r#"{{"a":{}"#, "[".repeat(100_000));
        let huge =
            text.replacen('{', r#"{"orderId2":1e999999,"purchaseStateContext":1e999999,"#, 1);
        let bodies =
            ["", "<html></html>", "{}", "null", "[]", r#"[[],{"purchaseState":"PENDING"}]"#];
        for body in bodies.into_iter().chain([&twice[..], &deep, &huge, &text[..text.len() - 1]]) {
            assert!(matches!(word(body.as_bytes()), Err(StoreError::Unreachable(_))), "{body:.80}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = word(&body);
        }
    }
}
