//! Exchanges with Google about money that goes back: the list of voided purchases, and the answer to a review.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::exchange_test::{NOW, TOKEN, google, paid, refusal};
use crate::{
    domain::{MessageId, PurchaseToken, StoreEvent, StoreRefund, hash},
    stores::{Answered, RefundPreference, StoreError, google::VoidedPage},
};

const LIST: &str =
    "GET /androidpublisher/v3/applications/com.example.app/purchases/voidedpurchases?";
const REST: &str = "&type=0&includeQuantityBasedPartialRefund=true&maxResults=400";
const REVIEW: &str =
    "POST /androidpublisher/v3/applications/com.example.app/orders/GPA.1%2F2:reviewrefund";
const VOIDED_MS: i64 = 1_795_852_800_000;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).expect("a time")
}

fn entry() -> Value {
    json!({
        "kind": "androidpublisher#voidedPurchase",
        "purchaseToken": TOKEN,
        "purchaseTimeMillis": "1795766400123",
        "voidedTimeMillis": VOIDED_MS.to_string(),
        "orderId": "GPA.1",
        "voidedSource": 0,
        "voidedReason": 1,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut entry = entry();
    entry[name] = value;
    entry
}

fn page_of(entries: &[Value]) -> (u16, String) {
    (200, json!({ "voidedPurchases": entries }).to_string())
}

/// The page that Google answers with this.
async fn read(answer: (u16, String)) -> Result<VoidedPage, StoreError> {
    let (google, stage) = google().await;
    stage.say([answer]);
    google.voided_page(now(), None, true).await
}

/// What the only message of such an entry is.
async fn told(entry: Value) -> (MessageId, StoreEvent) {
    let page = read(page_of(&[entry])).await.expect("a page");
    let [message] = <[_; 1]>::try_from(page.messages).expect("one message");
    (message.id, message.event)
}

fn void(order: Option<&str>, refund: StoreRefund) -> StoreEvent {
    let token = PurchaseToken::new(TOKEN).expect("a token");
    StoreEvent::GoogleVoid { token, order: order.map(str::to_owned), refund }
}

fn whole() -> StoreRefund {
    StoreRefund { whole: true, ..StoreRefund::default() }
}

#[tokio::test]
async fn a_list_is_asked_for_since_a_time_that_google_still_lists() {
    let (google, stage) = google().await;
    let ago = |span| now().checked_sub_signed(span).expect("a time");
    for (from, asked_s) in [
        (ago(TimeDelta::days(1)), NOW - 86_400),
        (ago(TimeDelta::days(31)), NOW - 30 * 86_400 + 3_600),
        (DateTime::UNIX_EPOCH, NOW - 30 * 86_400 + 3_600),
        (now() + TimeDelta::days(1), NOW),
    ] {
        stage.say([(200, "{}".to_owned())]);
        let page = google.voided_page(from, None, true).await.expect("a page");
        assert_eq!(page, VoidedPage { messages: Vec::new(), next: None });
        assert_eq!(stage.asked(), [format!("{LIST}startTime={asked_s}000{REST}")]);
    }
}

#[tokio::test]
async fn a_further_page_is_asked_for_by_its_name_alone() {
    let (google, stage) = google().await;
    for (pagination, next) in [
        (json!({"nextPageToken": "CAAS+/="}), Some("CAAS+/=")),
        (json!({"nextPageToken": "", "previousPageToken": "b"}), None),
        (json!({}), None),
        (Value::Null, None),
    ] {
        let answer = json!({"tokenPagination": pagination, "voidedPurchases": [entry()]});
        stage.say([(200, answer.to_string())]);
        let page =
            google.voided_page(now(), Some("a+b/c&d".to_owned()), true).await.expect("a page");
        assert_eq!((page.messages.len(), page.next.as_deref()), (1, next));
        assert_eq!(stage.asked(), [format!("{LIST}token=a%2Bb%2Fc%26d{REST}")]);
    }
}

#[tokio::test]
async fn an_entry_tells_that_all_of_a_purchase_is_void_or_so_many_pieces() {
    let pieces = |quantity| {
        let voids = BTreeMap::from([(VOIDED_MS, quantity)]);
        StoreRefund { voids, ..StoreRefund::default() }
    };
    for (entry, refund, quantity) in [
        (entry(), whole(), "0"),
        (with("voidedQuantity", Value::Null), whole(), "0"),
        (with("voidedQuantity", json!(2)), pieces(2), "2"),
        (with("voidedQuantity", json!("3")), pieces(3), "3"),
        // It was in part, at least.
        (with("voidedQuantity", json!(0)), StoreRefund::default(), "part"),
        (with("voidedTimeMillis", json!(VOIDED_MS)), whole(), "0"),
        (with("voidedSource", json!("DEVELOPER")), whole(), "0"),
        (with("voidedReason", json!({"new": []})), whole(), "0"),
    ] {
        let id = format!("google:void:{}:{VOIDED_MS}:{quantity}", hash(TOKEN));
        let (told, event) = told(entry).await;
        assert_eq!((told.as_str(), event), (&*id, void(Some("GPA.1"), refund)));
    }
}

/// All of it is all of it, and how many pieces there were its purchase tells.
#[tokio::test]
async fn an_entry_whose_numbers_can_not_be_read_still_names_its_purchase() {
    for time in [Value::Null, json!("yesterday"), json!(1.5)] {
        assert_eq!(told(with("voidedTimeMillis", time)).await.1, void(Some("GPA.1"), whole()));
    }
    for quantity in [json!(-1), json!(1.5), json!("all"), json!([]), json!(4_294_967_296_i64)] {
        let (_, event) = told(with("voidedQuantity", quantity)).await;
        assert_eq!(event, void(Some("GPA.1"), StoreRefund::default()));
    }
    // Two that differ are two, or the second would be taken for the first that comes again.
    let mut ids = BTreeSet::new();
    for time in [Value::Null, json!("yesterday"), json!("today")] {
        let mut part = with("voidedQuantity", json!(2));
        part["voidedTimeMillis"] = time;
        let (id, event) = told(part).await;
        assert_eq!(event, void(Some("GPA.1"), StoreRefund::default()));
        ids.insert(id.as_str().to_owned());
    }
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn an_entry_may_do_without_an_order() {
    for order in [Value::Null, json!(""), json!("GPA.\u{0}")] {
        assert_eq!(told(with("orderId", order)).await.1, void(None, whole()));
    }
}

#[tokio::test]
async fn an_entry_that_can_not_be_read_stops_no_other() {
    let strange = [
        json!({}),
        json!([]),
        json!(null),
        json!("text"),
        json!([TOKEN, "GPA.1", VOIDED_MS, null]),
        with("purchaseToken", Value::Null),
        with("purchaseToken", json!("")),
        with("purchaseToken", json!("a\u{0}b")),
        with("purchaseToken", json!(7)),
        with("orderId", json!(7)),
    ];
    let mut entries = Vec::new();
    for (number, strange) in strange.into_iter().enumerate() {
        entries.extend([strange, with("purchaseToken", json!(format!("token-{number}")))]);
    }
    let page = read(page_of(&entries)).await.expect("a page");
    assert_eq!(page.messages.len() * 2, entries.len());
}

#[tokio::test]
async fn the_largest_page_can_be_read_and_what_is_none_is_an_error() {
    let token = |number: usize| json!(format!("{number:_>2048}"));
    let entries: Vec<_> = (0..400).map(|number| with("purchaseToken", token(number))).collect();
    let (status, body) = page_of(&entries);
    let value: Value = serde_json::from_str(&body).expect("JSON");
    let written_for_people = serde_json::to_string_pretty(&value).expect("JSON");
    let page = read((status, written_for_people)).await.expect("a page");
    assert_eq!(page.messages.len(), 400);
    let shown = format!("{page:?}");
    assert!(!shown.contains("____"), "{shown:.300}");
    let deep = "[".repeat(100_000);
    for body in ["", "[]", "null", "<html></html>", r#"{"voidedPurchases":7}"#, &deep] {
        let error = read((200, body.to_owned())).await.expect_err("no page");
        assert_eq!(error.name(), "unreachable", "{body:.80}");
    }
    for (answer, name) in [
        (refusal(403, "forbidden"), "refused"),
        (refusal(404, "applicationNotFound"), "refused"),
        (refusal(404, "notFound"), "refused"),
        (refusal(400, "invalid"), "unreachable"),
        (refusal(429, "rateLimitExceeded"), "limited"),
        (refusal(503, "backendError"), "unreachable"),
    ] {
        let error = read(answer.clone()).await.expect_err("no page");
        assert_eq!(error.name(), name, "{answer:?}");
    }
}

#[tokio::test]
async fn a_review_is_answered_as_is_preferred() {
    let (google, stage) = google().await;
    for (used, told, answer, (preference, preferred)) in [
        (0, 0, (200, "{}"), (RefundPreference::Nothing, "NEUTRAL")),
        (62_500, 62_500, (204, ""), (RefundPreference::Decline, "DECLINE")),
        (100_001, 100_000, (200, ""), (RefundPreference::Grant, "APPROVE")),
    ] {
        stage.say([(answer.0, answer.1.to_owned())]);
        let answered = google.review_answer("GPA.1/2", "secret", used, preference).await;
        assert_eq!(answered, Ok(Answered::Taken));
        let body = json!({
            "pendingRefundToken": "secret",
            "sampleContentProvided": false,
            "refundPreference": preferred,
            "consumptionPercentageMilliunits": told,
        });
        assert_eq!(stage.asked(), [format!("{REVIEW} {body}")]);
    }
}

#[tokio::test]
async fn a_review_that_is_over_is_not_answered_again() {
    // What Google answers, and what comes out before anything shows that our package is right, and after.
    let answers = [
        (refusal(400, "invalid"), "final", "final"),
        (refusal(400, "invalidValue"), "final", "final"),
        (refusal(400, "invalidPurchaseState"), "final", "final"),
        (refusal(404, "purchaseTokenNotFound"), "final", "final"),
        (refusal(410, "purchaseTokenNoLongerValid"), "final", "final"),
        (refusal(404, "notFound"), "refused", "final"),
        (refusal(404, "applicationNotFound"), "refused", "refused"),
        (refusal(400, "purchaseTokenDoesNotMatchPackageName"), "refused", "refused"),
        (refusal(403, "forbidden"), "refused", "refused"),
        (refusal(400, "badRequest"), "unreachable", "unreachable"),
        (refusal(409, "concurrentUpdate"), "unreachable", "unreachable"),
        (refusal(429, "rateLimitExceeded"), "limited", "limited"),
        (refusal(500, "backendError"), "unreachable", "unreachable"),
        ((404, "<html></html>".to_owned()), "unreachable", "unreachable"),
        ((302, String::new()), "unreachable", "unreachable"),
    ];
    let (google, stage) = google().await;
    for is_ours in [false, true] {
        if is_ours {
            stage.say([paid()]);
            google.purchase(TOKEN).await.expect("it is known");
        }
        for (answer, before, after) in answers.clone() {
            stage.say([answer.clone()]);
            let name =
                match google.review_answer("GPA.1/2", "secret", 0, RefundPreference::Nothing).await
                {
                    Ok(Answered::Final(_)) => "final",
                    Ok(Answered::Taken) => "taken",
                    Err(error) => error.name(),
                };
            assert_eq!(name, if is_ours { after } else { before }, "{answer:?}");
        }
    }
}
