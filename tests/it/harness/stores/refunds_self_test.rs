//! That the stand-in tells of refunds, and asks about them, as the stores do, and sees what is wrong with a request.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    super::token::now,
    Answer, Call, GooglePurchase, Market, Notification, StandIn,
    apple::{ISSUER, KEY_ID},
    consumable, google_token,
    self_test::{access_token, api_token, ask, purchases},
    voided,
};

const SMALL: &str = "noteapp.credits.small";
const FIXED: &str = "type=0&includeQuantityBasedPartialRefund=true";
const HOUR_MS: u64 = 3_600_000;

fn now_ms() -> u64 {
    now() * 1_000
}

/// What makes part of a query of a text.
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test]
async fn the_list_of_voids_is_told_page_by_page_from_a_time_on() {
    let stand_in = StandIn::new();
    let refunds = &stand_in.google.refunds;
    let bearer = access_token(&stand_in).await;
    let base = format!("{}/voidedpurchases?{FIXED}", purchases(&stand_in));
    let page = async |place: &str, entries: usize| {
        let url = format!("{base}&{place}&maxResults={entries}");
        ask(Method::GET, &url, &bearer, None).await.ok()
    };
    let start = format!("startTime={}", now_ms() - 2 * HOUR_MS);
    assert_eq!(page(&start, 1_000).await, json!({}));
    let tokens = ["oldest", "middle", "newest"].map(google_token);
    let void = |number: u64| {
        let token = &tokens[usize::try_from(number).expect("a small number")];
        voided(token, &format!("GPA.{number}"), now_ms() - HOUR_MS + number)
    };
    let mut in_part = void(1);
    in_part["voidedQuantity"] = json!(2);
    in_part["voidedTimeMillis"] = json!(now_ms() - HOUR_MS + 1);
    refunds.void(&void(2));
    refunds.void(&in_part);
    refunds.void(&voided(&google_token("long ago"), "GPA.9", now_ms() - 3 * HOUR_MS));
    refunds.void(&void(0));
    let first = page(&start, 2).await;
    assert_eq!(first["voidedPurchases"].as_array().map(Vec::len), Some(2));
    assert_eq!(first["voidedPurchases"][0]["purchaseToken"], tokens[0]);
    assert_eq!(first["voidedPurchases"][1], in_part);
    let next = first["tokenPagination"]["nextPageToken"].as_str().expect("there is more");
    let next = format!("token={}", encoded(next));
    for _ in 0..2 {
        let last = page(&next, 2).await;
        assert_eq!(last["voidedPurchases"][0]["purchaseToken"], tokens[2]);
        assert!(last.get("tokenPagination").is_none(), "{last}");
    }
    refunds.a_page_holds(1);
    assert_eq!(page(&start, 1_000).await["voidedPurchases"].as_array().map(Vec::len), Some(1));
    let sent = stand_in.on(Call::Voided).sent();
    assert_eq!((sent.len(), sent[0].body.is_null()), (5, true));
    assert_eq!(sent[0].query["maxResults"], "1000");
    // Google lists no longer back, and a clock that is wrong is no fault of the request.
    stand_in.shift(31 * 86_400);
    let url = format!("{base}&{start}&maxResults=1000");
    assert_eq!(ask(Method::GET, &url, &bearer, None).await.status, 400);
}

#[tokio::test]
async fn lists_of_voids_that_are_asked_for_wrongly_are_seen() {
    let stand_in = StandIn::new();
    let bearer = access_token(&stand_in).await;
    let start = format!("startTime={}", now_ms());
    for query in [
        String::new(),
        FIXED.to_owned(),
        format!("{FIXED}&{start}"),
        format!("{FIXED}&{start}&maxResults=0"),
        format!("{FIXED}&{start}&maxResults=1001"),
        format!("{FIXED}&{start}&maxResults=1&token=CAAS%2B%2F0%3D%3D"),
        format!("{FIXED}&{start}&maxResults=1&endTime={}", now_ms()),
        format!("{FIXED}&{start}&{start}&maxResults=1"),
        format!("{FIXED}&startTime=yesterday&maxResults=1"),
        format!("{FIXED}&token=unknown&maxResults=1"),
        format!("type=1&includeQuantityBasedPartialRefund=true&{start}&maxResults=1"),
        format!("type=0&includeQuantityBasedPartialRefund=false&{start}&maxResults=1"),
        format!("type=0&{start}&maxResults=1"),
    ] {
        let url = format!("{}/voidedpurchases?{query}", purchases(&stand_in));
        ask(Method::GET, &url, &bearer, None).await;
        assert_eq!(stand_in.desk.take_faults().len(), 1, "{query}");
    }
    let url = format!("{}/voidedpurchases?{FIXED}&{start}&maxResults=1", purchases(&stand_in));
    for (method, bearer, body) in [
        (Method::GET, "", None),
        (Method::GET, &*bearer, Some("{}")),
        (Method::POST, &bearer, None),
    ] {
        ask(method, &url, bearer, body).await;
        assert_eq!(stand_in.desk.take_faults().len(), 1);
    }
    // Nothing else takes a query.
    let url = format!("{}/productsv2/tokens/{}?a=b", purchases(&stand_in), google_token("a"));
    ask(Method::GET, &url, &bearer, None).await;
    assert_eq!(stand_in.desk.take_faults().len(), 1);
}

#[tokio::test]
async fn a_review_is_answered_by_its_token_and_written_rightly() {
    let stand_in = StandIn::new();
    let bearer = access_token(&stand_in).await;
    let orders = purchases(&stand_in).replace("/purchases", "/orders");
    stand_in.google.refunds.review("GPA.1", "secret");
    let good = json!({
        "pendingRefundToken": "secret",
        "sampleContentProvided": false,
        "refundPreference": "NEUTRAL",
        "consumptionPercentageMilliunits": 62_500,
    });
    let answer = async |order: &str, name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        let url = format!("{orders}/{order}:reviewrefund");
        ask(Method::POST, &url, &bearer, Some(&body.to_string())).await.status
    };
    let none = "sampleContentProvided";
    for _ in 0..2 {
        assert_eq!(answer("GPA.1", none, json!(false)).await, 200);
    }
    assert_eq!(answer("GPA.2", none, json!(false)).await, 404);
    assert_eq!(answer("GPA.1", "pendingRefundToken", json!("another")).await, 400);
    let sent = stand_in.on(Call::Review).of("GPA.1").sent();
    assert_eq!((sent.len(), &sent[0].body), (3, &good));
    stand_in.on(Call::Review).of("GPA.1").next(1, Answer::empty(503));
    assert_eq!(answer("GPA.1", none, json!(false)).await, 503);
    assert_eq!(stand_in.calls(), [Call::Review; 5]);
    for (name, value) in [
        ("pendingRefundToken", json!("")),
        ("pendingRefundToken", Value::Null),
        ("sampleContentProvided", json!("false")),
        ("refundPreference", json!("REFUND_PREFERENCE_UNSPECIFIED")),
        ("consumptionPercentageMilliunits", json!(100_001)),
        ("consumptionPercentageMilliunits", json!(-1)),
        ("consumptionPercentageMilliunits", json!(62.5)),
        ("more", json!(1)),
    ] {
        answer("GPA.1", name, value.clone()).await;
        assert_eq!(stand_in.desk.take_faults().len(), 1, "{name} {value}");
    }
    for path in ["GPA.1", "GPA.1:refund", "GPA:1:reviewrefund"] {
        let url = format!("{orders}/{path}");
        ask(Method::POST, &url, &bearer, Some(&good.to_string())).await;
        assert_eq!(stand_in.desk.take_faults().len(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_purchase_that_was_given_back_in_part_says_so() {
    let stand_in = StandIn::new();
    let token = google_token("part");
    stand_in.google.sell(GooglePurchase::paid(&token, SMALL).times(3).refunded(2));
    let bearer = access_token(&stand_in).await;
    let url = format!("{}/productsv2/tokens/{token}", purchases(&stand_in));
    let told = ask(Method::GET, &url, &bearer, None).await.ok();
    assert_eq!(told["productLineItem"][0]["productOfferDetails"]["refundableQuantity"], 1);
}

#[tokio::test]
async fn the_notifications_of_a_server_are_listed_page_by_page() {
    let stand_in = StandIn::new();
    let refunds = &stand_in.apple.refunds;
    let [_, production, sandbox] = stand_in.origins.urls();
    let bearer = api_token(&stand_in, KEY_ID, "iss", json!(ISSUER));
    let sent_ms = now_ms() - HOUR_MS;
    let list = |kind, missed, sent_ms, signed: &str| {
        let signed = signed.to_owned();
        refunds.list(Market::Sandbox, Notification { kind, sent_ms, missed, signed });
    };
    for number in 0..21 {
        list("REFUND", false, sent_ms + number, &format!("refund-{number}"));
    }
    list("ONE_TIME_CHARGE", true, sent_ms, "charge");
    list("REFUND_REVERSED", true, sent_ms, "reversal");
    list("REFUND", true, sent_ms - HOUR_MS, "too old");
    let asked_for = |name: &str, value: Value| {
        let mut body = json!({"startDate": sent_ms, "endDate": now_ms()});
        body[name] = value;
        body
    };
    let page = async |origin: &str, query: &str, body: &Value| {
        let url = format!("{origin}/inApps/v1/notifications/history{query}");
        ask(Method::POST, &url, &bearer, Some(&body.to_string())).await.ok()
    };
    let signed = |page: &Value| -> Vec<String> {
        let entries = page["notificationHistory"].as_array().expect("a list").iter();
        let text =
            |entry: &Value| entry["signedPayload"].as_str().expect("it is signed").to_owned();
        entries.map(text).collect()
    };
    let missed = page(&sandbox, "", &asked_for("onlyFailures", json!(true))).await;
    assert_eq!(signed(&missed), ["charge", "reversal"]);
    assert_eq!(missed["hasMore"], false);
    let reversed = asked_for("notificationType", json!("REFUND_REVERSED"));
    assert_eq!(signed(&page(&sandbox, "", &reversed).await), ["reversal"]);
    let refunded = asked_for("notificationType", json!("REFUND"));
    let none = page(&production, "", &refunded).await;
    assert_eq!(none, json!({"notificationHistory": [], "hasMore": false}));
    let first = page(&sandbox, "", &refunded).await;
    assert_eq!((signed(&first).len(), &first["hasMore"]), (20, &json!(true)));
    let next = encoded(first["paginationToken"].as_str().expect("there is more"));
    let next = format!("?paginationToken={next}");
    assert_eq!(signed(&page(&sandbox, &next, &refunded).await), ["refund-20"]);
    let on = stand_in.on(Call::SandboxHistory).of("REFUND");
    assert_eq!(on.sent().last().expect("it was asked").body, refunded);
    assert_eq!(stand_in.on(Call::SandboxHistory).of("missed").count(), 1);
    assert!(stand_in.calls().is_empty(), "no call is about one purchase");
    // What follows must be asked for as it began.
    let mut other = refunded.clone();
    other["startDate"] = json!(sent_ms - 1);
    page(&sandbox, &next, &other).await;
    assert_eq!(stand_in.desk.take_faults().len(), 1);
    refunds.a_page_holds(1);
    assert_eq!(signed(&page(&sandbox, "", &refunded).await).len(), 1);
}

#[tokio::test]
async fn lists_of_notifications_that_are_asked_for_wrongly_are_seen() {
    let stand_in = StandIn::new();
    let [_, production, _] = stand_in.origins.urls();
    let bearer = api_token(&stand_in, KEY_ID, "iss", json!(ISSUER));
    let url = format!("{production}/inApps/v1/notifications/history");
    let good = json!({"startDate": now_ms() - 1, "endDate": now_ms(), "onlyFailures": true});
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body.to_string()
    };
    for (query, body) in [
        ("", String::new()),
        ("", with("startDate", json!(now_ms()))),
        ("", with("startDate", json!(1.5))),
        ("", with("endDate", Value::Null)),
        ("", with("onlyFailures", json!(false))),
        ("", with("notificationType", json!("REFUND"))),
        ("?paginationToken=", good.to_string()),
        ("?paginationToken=a%2B%2F0%3D%3D", good.to_string()),
        ("?revision=1", good.to_string()),
    ] {
        ask(Method::POST, &format!("{url}{query}"), &bearer, Some(&body)).await;
        assert_eq!(stand_in.desk.take_faults().len(), 1, "{query} {body}");
    }
    ask(Method::GET, &url, &bearer, None).await;
    assert_eq!(stand_in.desk.take_faults().len(), 1);
    let too_old = with("startDate", json!(now_ms() - 181 * 24 * HOUR_MS));
    let told = ask(Method::POST, &url, &bearer, Some(&too_old)).await;
    assert_eq!((told.status, &told.json()["errorCode"]), (400, &json!(4_000_012)));
}

#[tokio::test]
async fn what_was_used_of_a_transaction_is_told_where_it_is_known() {
    let stand_in = StandIn::new();
    let [_, production, sandbox] = stand_in.origins.urls();
    let bearer = api_token(&stand_in, KEY_ID, "iss", json!(ISSUER));
    let signed = stand_in.apple.signed(&consumable("1", SMALL));
    stand_in.apple.sell(Market::Sandbox, "1", &signed);
    let good = json!({
        "customerConsented": true,
        "sampleContentProvided": false,
        "deliveryStatus": "DELIVERED",
        "consumptionPercentage": 62_500,
    });
    let tell = async |origin: &str, changes: &[(&str, Value)]| {
        let mut body = good.clone();
        for (name, value) in changes {
            body[name] = value.clone();
        }
        let url = format!("{origin}/inApps/v2/transactions/consumption/1");
        ask(Method::PUT, &url, &bearer, Some(&body.to_string())).await.status
    };
    assert_eq!(tell(&sandbox, &[]).await, 202);
    assert_eq!(tell(&production, &[]).await, 404);
    let undelivered = ("deliveryStatus", json!("UNDELIVERED_OTHER"));
    assert_eq!(
        tell(&sandbox, &[undelivered.clone(), ("consumptionPercentage", json!(0))]).await,
        202
    );
    let sent = stand_in.on(Call::SandboxConsumption).of("1").sent();
    assert_eq!((sent.len(), &sent[0].body), (2, &good));
    let on = stand_in.on(Call::SandboxConsumption);
    on.next(1, Answer::apple(400, 4_000_035, "Invalid request."));
    assert_eq!(tell(&sandbox, &[]).await, 400);
    for (name, value) in [
        undelivered,
        ("customerConsented", json!(false)),
        ("sampleContentProvided", Value::Null),
        ("deliveryStatus", json!(0)),
        ("consumptionPercentage", json!(100_001)),
        ("consumptionPercentage", json!(62.5)),
        ("refundPreference", json!("APPROVE")),
        ("refundPreference", Value::Null),
    ] {
        tell(&sandbox, &[(name, value.clone())]).await;
        assert_eq!(stand_in.desk.take_faults().len(), 1, "{name} {value}");
    }
}
