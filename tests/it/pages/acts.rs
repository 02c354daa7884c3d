//! What is done on the pages: it is what the API does, after a second look, and on the record.

use serde_json::{Value, json};

use super::{OPERATOR, SETTINGS};
use crate::harness::{Browser, Client, Engine, Reply, Server, on_both_engines};

on_both_engines![
    a_grant_is_looked_at_twice_and_done_once,
    what_is_wrong_comes_back_beside_its_field,
    every_number_of_a_user_is_the_apis,
    a_stale_price_is_told_and_both_are_shown,
    a_stale_product_is_told_and_both_are_shown,
    what_is_emptied_comes_back_empty,
    pages_speak_japanese_to_the_last_word,
    an_account_is_erased_after_all_was_said,
    whoever_and_whatever_is_unknown_is_not_found,
];

const MODEL: &str = "gemini-2.0-flash";
const USER: &str = "a b/ü.%";

async fn entered(engine: Engine) -> (Server, Browser) {
    let server = Server::start_with(engine, &SETTINGS);
    let mut browser = Browser::of(&server);
    assert_eq!(browser.log_in(OPERATOR).await.status, 303);
    (server, browser)
}

/// A request to the API with curl, as the operator.
async fn asked(client: &Client, method: &str, path: &str, body: Option<&Value>) -> Reply {
    let method = method.parse().expect("a method");
    let request = client.request(method, &format!("/api/billing{path}")).bearer_auth(OPERATOR);
    let request = match body {
        Some(body) => request.header("idempotency-key", path.len().to_string()).json(body),
        None => request,
    };
    Reply::to(request).await
}

/// The value of a hidden field.
fn hidden(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).expect("such a field");
    rest.split('"').next().expect("its end").to_owned()
}

fn has(page: &Reply, parts: &[&str]) {
    for part in parts {
        assert!(page.text.contains(part), "no {part:?} in {}", page.text);
    }
}

async fn a_grant_is_looked_at_twice_and_done_once(engine: Engine) {
    let (server, mut browser) = entered(engine).await;
    let form = browser.open("/user/grant").await;
    let key = hidden(&form.text, "key");
    let filled = [("key", key.as_str()), ("id", USER), ("amount", "1,500"), ("reason", "welcome")];
    let look = browser.send("/user/grant", &filled).await;
    assert_eq!(look.status, 200);
    has(&look, &["Look again before it is done", "1,500", "welcome"]);
    let log = async || asked(&server.client(), "GET", "/operator/log", None).await.ok();
    assert_eq!(log().await["items"], json!([]), "nothing is done yet");
    let confirmed = [&filled[..], &[("confirmed", "yes")]].concat();
    for _ in 0..2 {
        let done = browser.send("/user/grant", &confirmed).await;
        let page = "/user?id=a+b%2F%C3%BC.%25&done=grant";
        assert_eq!((done.status, done.header("location")), (303, Some(page)));
    }
    let page = browser.open("/user?id=a+b%2F%C3%BC.%25&done=grant").await;
    has(&page, &["Granted.", "+1,500", "welcome", "a b/ü.%"]);
    let log = log().await;
    assert_eq!(log["items"].as_array().map(Vec::len), Some(1), "sent twice, done once: {log}");
    assert_eq!(log["items"][0]["reason"], "welcome");
    has(&browser.open("/log").await, &["welcome", "operator"]);
    has(&browser.open("/users?query=a+b").await, &["a b/ü.%"]);
}

async fn what_is_wrong_comes_back_beside_its_field(engine: Engine) {
    let (server, mut browser) = entered(engine).await;
    let long = "r".repeat(201);
    for (credits, reason, wrong) in [
        ("ten", "r", "amount-wrong"),
        ("0", "r", "amount-wrong"),
        ("-5", "r", "amount-wrong"),
        ("99999999999999999999", "r", "amount-wrong"),
        ("5", "", "reason-wrong"),
        ("5", &long, "reason-wrong"),
    ] {
        let fields = [("id", "ann"), ("amount", credits), ("reason", reason), ("confirmed", "yes")];
        let page = browser.send("/user/grant", &fields).await;
        assert_eq!(page.status, 422, "{credits} {reason}");
        has(&page, &[&format!("id=\"{wrong}\""), &format!("value=\"{credits}\""), "aria-invalid"]);
    }
    // What only the API knows comes back too.
    let fields = [("id", "ann"), ("amount", "5"), ("reason", "r"), ("confirmed", "yes")];
    assert_eq!(browser.send("/user/grant", &fields).await.status, 303);
    let fields =
        [("id", "ann"), ("model", ""), ("amount", "-6"), ("reason", "r"), ("confirmed", "yes")];
    let page = browser.send("/user/adjust", &fields).await;
    assert_eq!(page.status, 422);
    has(&page, &["It was not done.", "value=\"-6\""]);
    let fields = [("id", "ann"), ("typed", "bob"), ("reason", "r"), ("confirmed", "yes")];
    let page = browser.send("/user/erase", &fields).await;
    assert_eq!(page.status, 422);
    has(&page, &["This is not the user&#39;s id."]);
    drop(server);
}

async fn every_number_of_a_user_is_the_apis(engine: Engine) {
    let (server, mut browser) = entered(engine).await;
    let client = server.client();
    client.add(1_234_567, "GPA.1").await.ok();
    client.allocate(&[(MODEL, 300)]).await.ok();
    client.consume(MODEL, 1_000, 234).await.ok();
    let fields = [("id", "default_user"), ("amount", "89"), ("reason", "r"), ("confirmed", "yes")];
    assert_eq!(browser.send("/user/grant", &fields).await.status, 303);
    let page = browser.open("/user?id=default_user").await;
    let wallet = client.get("/wallet").await.ok();
    assert_eq!(wallet["credits"], json!({"total": 1_234_356, "bonus": 89}));
    // Paid, bonus and all of it; the tokens allocated, and the change of the consumption.
    has(&page, &["1,234,267", ">89<", "1,234,356", "3,998,766", "−1,234", "GPA.1"]);
    let csv = browser.open("/user/ledger.csv?id=default_user&type=consumption").await;
    assert_eq!(csv.header("content-disposition"), Some("attachment; filename=\"ledger.csv\""));
    assert_eq!(csv.text.lines().count(), 2, "{}", csv.text);
    let filtered = browser.open("/user?id=default_user&type=allocation").await;
    has(&filtered, &["+4,000,000"]);
    assert!(!filtered.text.contains("−1,234<"), "{}", filtered.text);
}

async fn a_stale_price_is_told_and_both_are_shown(engine: Engine) {
    let (server, mut browser) = entered(engine).await;
    let form = browser.open(&format!("/price?model={MODEL}")).await;
    let seen = hidden(&form.text, "if_price");
    assert_eq!(seen, "75");
    let other = json!({"price_per_m_token": 77, "category": "quick", "reason": "r"});
    let path = format!("/operator/prices/{MODEL}");
    asked(&server.client(), "PUT", &path, Some(&other)).await.ok();
    let send = |price: &'static str, seen: String| {
        [
            ("model", MODEL.to_owned()),
            ("price", price.to_owned()),
            ("category", "quick".to_owned()),
            ("reason", "dearer".to_owned()),
            ("if_price", seen),
            ("confirmed", "yes".to_owned()),
        ]
    };
    let fields = send("80", seen);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let page = browser.send("/price", &fields).await;
    assert_eq!(page.status, 422);
    has(&page, &["it is 77 now. You had seen 75.", "value=\"80\""]);
    let jump = send("8000", hidden(&page.text, "if_price"));
    let mut jump: Vec<_> = jump.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let page = browser.send("/price", &jump).await;
    assert_eq!(page.status, 422);
    has(&page, &["more than five times", "name=\"confirm\""]);
    jump.push(("confirm", "yes"));
    assert_eq!(browser.send("/price", &jump).await.status, 303);
    let prices = server.client().get("/pricing").await.ok();
    assert_eq!(prices[MODEL]["price_per_m_token"], 8_000);
    has(&browser.open(&format!("/price?model={MODEL}")).await, &[">75<", ">77<", ">8,000<"]);
}

async fn a_stale_product_is_told_and_both_are_shown(engine: Engine) {
    const PRODUCT: &str = "noteapp.credits.small";
    let (server, mut browser) = entered(engine).await;
    let seen = hidden(&browser.open(&format!("/product?product={PRODUCT}")).await.text, "seen");
    assert_eq!(seen, "300, Offered");
    let other = json!({"credits": 320, "active": false, "reason": "somebody else"});
    let path = format!("/operator/products/{PRODUCT}");
    asked(&server.client(), "PUT", &path, Some(&other)).await.ok();
    let fields = |seen| {
        [
            ("product", PRODUCT),
            ("credits", "350"),
            ("active", "yes"),
            ("reason", "r"),
            ("seen", seen),
        ]
    };
    // Before the second look, and after it.
    for confirmed in [None, Some(("confirmed", "yes"))] {
        let stale = [&fields(seen.as_str())[..], confirmed.as_slice()].concat();
        let page = browser.send("/product", &stale).await;
        assert_eq!(page.status, 422);
        has(&page, &["it is 320, Not offered now. You had seen 300, Offered.", "value=\"350\""]);
    }
    let again = [&fields("320, Not offered")[..], &[("confirmed", "yes")]].concat();
    assert_eq!(browser.send("/product", &again).await.status, 303);
    let products = server.client().get("/products").await.ok();
    assert_eq!(products[PRODUCT]["credits"], 350);
}

async fn what_is_emptied_comes_back_empty(engine: Engine) {
    let (server, mut browser) = entered(engine).await;
    let fields = [("model", MODEL), ("price", ""), ("category", "quick"), ("reason", "dearer")];
    let page = browser.send("/price", &fields).await;
    assert_eq!(page.status, 422);
    has(&page, &["Enter a whole number of credits from 1 on.", "name=\"price\" value=\"\""]);
    let report = browser.open("/reports?at=2026-11-31&timezone=Asia/Nowhere").await;
    assert_eq!(report.status, 422);
    has(&report, &["type=\"text\" value=\"2026-11-31\"", "value=\"Asia/Nowhere\""]);
    has(&report, &["such as 2026-09-30", "Enter the name of a time zone, such as Asia/Tokyo."]);
    drop(server);
}

async fn pages_speak_japanese_to_the_last_word(engine: Engine) {
    let (server, mut browser) = entered(engine).await;
    server.client().buy_tokens(MODEL, 300).await;
    let chosen = browser.send("/language", &[("language", "ja"), ("to", "/")]).await;
    assert_eq!(chosen.status, 303);
    let grant =
        [("id", "default_user"), ("amount", "5"), ("reason", "お詫び"), ("confirmed", "yes")];
    assert_eq!(browser.send("/user/grant", &grant).await.status, 303);
    let user = browser.open("/user?id=default_user").await;
    has(&user, &[">付与<", ">購入<", ">割当<", "運用者", "ボーナス +5"]);
    has(&browser.open("/log").await, &[">付与<", "運用者", "お詫び"]);
}

async fn an_account_is_erased_after_all_was_said(engine: Engine) {
    let (server, mut browser) = entered(engine).await;
    let client = server.client();
    client.buy_tokens(MODEL, 300).await;
    let user = browser.open("/user?id=default_user").await;
    has(&user, &["href=\"/user/erase?id=default_user"]);
    let form = browser.open("/user/erase?id=default_user").await;
    assert!(!form.text.contains("name=\"forfeit\""), "no credits are left");
    let filled = [("id", "default_user"), ("typed", "default_user"), ("reason", "by mail")];
    let look = browser.send("/user/erase", &filled).await;
    has(&look, &["Look again before it is done", "erased:…"]);
    let confirmed = [&filled[..], &[("confirmed", "yes")]].concat();
    // Tokens that were paid for are left.
    let refused = browser.send("/user/erase", &confirmed).await;
    assert_eq!(refused.status, 422);
    has(&refused, &["Paid credits or tokens are left.", "name=\"forfeit\"", "value=\"by mail\""]);
    let forfeit = [&confirmed[..], &[("forfeit", "yes")]].concat();
    let done = browser.send("/user/erase", &forfeit).await;
    assert_eq!((done.status, done.header("location")), (303, Some("/users?done=erase")));
    has(&browser.open("/users?done=erase").await, &["It is being erased", "erased:"]);
    let log = asked(&client, "GET", "/operator/log", None).await.ok();
    let name = log["items"][0]["user_id"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("erased:"), "{log}");
    // All of it can be seen, and filtered, and kept; it can't be erased again.
    server.database().until_all_erased().await;
    let erased = browser.open(&format!("/user?id={name}")).await;
    has(&erased, &[&name, "by mail"]);
    assert!(!erased.text.contains("/user/erase"), "{}", erased.text);
    let filtered = browser.open(&format!("/user?id={name}&type=adjustment")).await;
    assert_eq!(filtered.status, 200);
    assert_eq!(browser.open(&format!("/user/ledger.csv?id={name}")).await.status, 200);
    assert_eq!(browser.open("/user?id=default_user").await.status, 404);
    assert_eq!(browser.open("/user/erase?id=default_user").await.status, 404);
}

async fn whoever_and_whatever_is_unknown_is_not_found(engine: Engine) {
    let (server, browser) = entered(engine).await;
    for page in [
        "/user?id=nobody",
        "/user",
        "/user/freeze?id=nobody",
        "/user/nothing?id=nobody",
        "/purchase/nothing?id=1",
        "/purchase/approve?id=1",
        "/purchase?id=1",
        "/purchase",
        "/price?model=no-such-model",
        "/product?product=nothing",
        "/nothing",
    ] {
        let reply = browser.open(page).await;
        assert_eq!(reply.status, 404, "{page}");
        has(&reply, &["There is no such page", "To the overview"]);
    }
    drop(server);
}
