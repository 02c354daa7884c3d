//! What the stores push: which of it is taken, how that is answered, and what it must not hold up. What becomes of
//! what is taken does not belong here.

use std::{convert::Infallible, iter, time::Instant};

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

use super::{SMALL, bring, granted, with_login};
use crate::harness::{
    Client, Engine, Launch, Reply, Server, begun,
    clock::Clock,
    eventually, on_both_engines,
    stores::{
        Authority, Flaw, GooglePurchase, Market, StandIn, consumable, google_token,
        pushes::{
            APPLE_ID, Pusher, app_store_notification, play_notification, play_purchase, play_void,
            push_claims, push_proof, pushed,
        },
    },
};

on_both_engines![
    what_google_pushes_is_taken,
    a_push_with_one_thing_wrong_in_its_proof_is_not,
    what_google_pushes_and_is_not_for_us_does_not_come_again,
    what_apple_tells_is_taken,
    what_apple_did_not_sign_is_not,
    what_apple_tells_and_is_not_for_us_does_not_come_again,
    without_keys_nothing_is_judged_until_they_are_there,
    what_can_not_be_written_comes_again,
    keys_may_change,
    long_messages_have_a_limit_of_their_own,
    many_long_messages_at_a_time_hold_up_nothing_else,
    a_store_that_does_not_push_has_no_address,
    nobody_logs_in_and_nobodys_budget_is_used,
    only_posts_are_messages,
    nothing_secret_is_in_the_log,
    what_proves_nothing_is_told_together_and_keeps_nobody_out,
    what_is_passed_over_is_told_together_too,
];

const GOOGLE: &str = "/api/billing/notifications/google";
const APPLE: &str = "/api/billing/notifications/apple";
const UUID: &str = "002e14d5-51f5-4503-b5a8-c3a1af68eb20";
const ORDER: &str = "GPA.3301-1111-2222-33333";
/// Most bytes of a message, and of any other request's body.
const MESSAGE_LIMIT_BYTES: usize = 262_144;
const BODY_LIMIT_BYTES: usize = 65_536;
/// Most long messages at a time.
const LONG_MESSAGES_MAX: usize = 32;

/// A service to which both stores push.
struct Door {
    server: Server,
    stores: StandIn,
    pusher: Pusher,
    client: Client,
}

impl Door {
    fn open(engine: Engine) -> Self {
        Self::open_as(engine, Launch::new())
    }

    fn open_as(engine: Engine, launch: Launch) -> Self {
        let (stores, pusher) = (StandIn::new(), Pusher::new("k1"));
        let launch = pusher.known_to(with_login(stores.known_to(launch)));
        let launch = launch.set("BILLING_APPLE_APP_ID", APPLE_ID.to_string());
        let server = Server::start_as(engine, launch);
        let client = server.client();
        Self { server, stores, pusher, client }
    }

    async fn push(&self, proof: Option<&str>, body: impl Into<Vec<u8>>) -> Reply {
        let request = self.client.request(Method::POST, GOOGLE).body(body.into());
        Reply::to(match proof {
            Some(proof) => request.header("authorization", proof),
            None => request,
        })
        .await
    }

    /// Pushes with a good proof.
    async fn push_good(&self, message: &Value) -> Reply {
        self.push(Some(&good()), message.to_string()).await
    }

    async fn tell(&self, body: impl Into<Vec<u8>>) -> Reply {
        Reply::to(self.client.request(Method::POST, APPLE).body(body.into())).await
    }

    /// Tells what Apple signed.
    async fn tell_signed(&self, payload: &Value) -> Reply {
        self.tell(body(&self.stores.apple.signed(payload))).await
    }

    /// A refund as it should be.
    fn refund(&self) -> Value {
        let mut transaction = consumable("1001", SMALL);
        transaction["revocationDate"] = transaction["signedDate"].clone();
        app_store_notification("REFUND", UUID, &self.stores.apple.signed(&transaction))
    }

    /// Stops it, and returns what the log says of notifications that came.
    async fn came(mut self) -> Vec<String> {
        let mut log = self.server.stop().await;
        log.retain(|line| line.contains("a notification came"));
        log
    }
}

fn good() -> String {
    push_proof("k1", &push_claims())
}

fn void() -> Value {
    pushed("1", &play_void(&google_token("a"), ORDER))
}

fn body(signed: &str) -> String {
    json!({ "signedPayload": signed }).to_string()
}

fn taken_by_google(reply: &Reply) {
    assert_eq!((reply.status, &*reply.text), (204, ""), "{reply:?}");
}

fn taken_by_apple(reply: &Reply) {
    reply.is(200, &json!({}));
}

fn unproved(reply: &Reply) {
    let detail = "Invalid or expired token. Please login again.";
    reply.is(401, &json!({"detail": detail, "code": "unauthorized"}));
}

/// Checks that it comes again.
fn later(reply: &Reply, code: &str) {
    assert_eq!((reply.status, &reply.json()["code"]), (503, &json!(code)), "{reply:?}");
    assert_eq!(reply.header("retry-after"), Some("1"), "{reply:?}");
}

async fn what_google_pushes_is_taken(engine: Engine) {
    let door = Door::open(engine);
    let token = google_token("a");
    let review = json!({
        "version": "1.0", "pendingRefundToken": "t", "orderId": ORDER, "refundReason": 7,
    });
    for (id, told) in [
        ("11", play_purchase(&token, SMALL)),
        ("12", play_void(&token, ORDER)),
        ("13", play_notification("pendingRefundReviewNotification", review)),
        // It may come twice.
        ("12", play_void(&token, ORDER)),
    ] {
        taken_by_google(&door.push_good(&pushed(id, &told)).await);
    }
    // The type of its content does not matter.
    for kind in ["application/json", "text/plain", "application/octet-stream"] {
        let request = door.client.request(Method::POST, GOOGLE).header("content-type", kind);
        let request = request.header("authorization", good()).body(void().to_string());
        taken_by_google(&Reply::to(request).await);
    }
    assert_eq!(door.pusher.fetches(), 1);
    let came = door.came().await;
    let events = ["purchase changed", "purchase voided", "refund under review", "purchase voided"];
    for ((line, id), event) in came.iter().zip(["11", "12", "13", "12"]).zip(events) {
        for text in [&format!("google:push:{id}"), event, "google", "purchase="] {
            assert!(line.contains(text), "{text}: {line}");
        }
    }
    assert_eq!(came.len(), 7, "{came:#?}");
}

async fn a_push_with_one_thing_wrong_in_its_proof_is_not(engine: Engine) {
    let door = Door::open(engine);
    let with = |name: &str, value: Value| {
        let mut claims = push_claims();
        claims[name] = value;
        push_proof("k1", &claims)
    };
    let exp = push_claims()["exp"].as_u64().expect("a time");
    let (head, _) =
        good().rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a token");
    let other = with("sub", json!("7"));
    let (_, others_signature) = other.rsplit_once('.').expect("a token");
    let proofs = [
        with("aud", json!("https://other.example")),
        with("email", json!("push@other.iam.gserviceaccount.com")),
        with("email_verified", json!(false)),
        with("iss", json!("https://other.example")),
        with("exp", json!(exp - 3_600 - 60)),
        push_proof("k2", &push_claims()),
        format!("{head}.{others_signature}"),
        format!("{head}."),
        "Bearer nonsense".to_owned(),
        String::new(),
    ];
    for proof in proofs.iter().map(|proof| Some(&**proof)).chain([None]) {
        unproved(&door.push(proof, void().to_string()).await);
    }
    // A login of ours is no proof.
    let reply = door.client.of("ann").post("/notifications/google", &void()).await;
    unproved(&reply);
    assert_eq!(door.came().await, [""; 0]);
}

async fn what_google_pushes_and_is_not_for_us_does_not_come_again(engine: Engine) {
    let door = Door::open(engine);
    let token = google_token("a");
    let mut other_app = play_void(&token, ORDER);
    other_app["packageName"] = json!("com.example.other");
    let mut other_subscription = void();
    other_subscription["subscription"] = json!("projects/other/subscriptions/play");
    let of = |kind: &str, content: Value| pushed("2", &play_notification(kind, content));
    let subscription = json!({"notificationType": 4, "purchaseToken": token});
    let cases = [
        pushed("2", &other_app),
        other_subscription,
        of("testNotification", json!({"version": "1.0"})),
        of("subscriptionNotification", subscription),
        of("somethingNew", json!({})),
        pushed("2", &json!("nothing")),
        json!({}),
    ];
    for message in &cases {
        taken_by_google(&door.push_good(message).await);
    }
    for bytes in [&b""[..], b"{", b"\xff\xfe"] {
        taken_by_google(&door.push(Some(&good()), bytes).await);
    }
    door.server.wait_for_log("it is a test");
    assert_eq!(door.came().await, [""; 0]);
}

async fn what_apple_tells_is_taken(engine: Engine) {
    let door = Door::open(engine);
    let transaction = door.stores.apple.signed(&consumable("1001", SMALL));
    for kind in
        ["ONE_TIME_CHARGE", "REFUND", "REFUND_REVERSED", "REFUND_DECLINED", "CONSUMPTION_REQUEST"]
    {
        let payload = app_store_notification(kind, UUID, &transaction);
        taken_by_apple(&door.tell_signed(&payload).await);
    }
    taken_by_apple(&door.tell_signed(&door.refund()).await);
    // Who lets us look up is not asked.
    assert_eq!(door.stores.calls(), []);
    let came = door.came().await;
    assert_eq!(came.len(), 6, "{came:#?}");
    for line in &came {
        let id = format!("apple:{UUID}");
        assert!(line.contains(&id) && line.contains("purchase="), "{line}");
    }
    assert!(came[4].contains("consumption asked for"), "{came:#?}");
}

async fn what_apple_did_not_sign_is_not(engine: Engine) {
    let door = Door::open(engine);
    let authority = &door.stores.apple.authority;
    let (good, transaction) = (door.refund(), consumable("1001", SMALL));
    for flaw in Flaw::ALL {
        let chain = authority.flawed(flaw);
        let nested = app_store_notification("REFUND", UUID, &chain.sign(&transaction));
        for signed in [chain.sign(&good), door.stores.apple.signed(&nested)] {
            let reply = door.tell(body(&signed)).await;
            assert_eq!(reply.status, 401, "{flaw:?}: {reply:?}");
        }
    }
    let signed = door.stores.apple.signed(&good);
    let (message, _) = signed.rsplit_once('.').expect("three parts");
    let other = Authority::new();
    let mut production = door.refund();
    production["data"]["environment"] = json!("Production");
    for signed in [
        other.chain.sign(&good),
        message.to_owned(),
        format!("{message}.{}", "A".repeat(86)),
        // A root for tests can't vouch for production.
        door.stores.apple.signed(&production),
        String::new(),
    ] {
        unproved(&door.tell(body(&signed)).await);
    }
    for bytes in [&b""[..], b"{}", b"[]", b"\xff", b"{\"signedPayload\":1}"] {
        unproved(&door.tell(bytes).await);
    }
    let reply = door.tell(door.stores.apple.signed(&good)).await;
    unproved(&reply);
    assert_eq!(door.came().await, [""; 0]);
}

async fn what_apple_tells_and_is_not_for_us_does_not_come_again(engine: Engine) {
    let door = Door::open(engine);
    let changed = |changes: &dyn Fn(&mut Value)| {
        let mut payload = door.refund();
        changes(&mut payload);
        payload
    };
    let nested = |name: &str, value: Value| {
        let mut transaction = consumable("1001", SMALL);
        transaction[name] = value;
        app_store_notification("REFUND", UUID, &door.stores.apple.signed(&transaction))
    };
    for payload in [
        changed(&|payload| payload["notificationType"] = json!("TEST")),
        changed(&|payload| payload["notificationType"] = json!("DID_RENEW")),
        changed(&|payload| payload["data"]["bundleId"] = json!("com.example.other")),
        changed(&|payload| payload["data"]["appAppleId"] = json!(7)),
        changed(&|payload| payload["data"] = json!(null)),
        changed(&|payload| payload["notificationUUID"] = json!(null)),
        nested("bundleId", json!("com.example.other")),
        nested("type", json!("Auto-Renewable Subscription")),
        json!({}),
    ] {
        taken_by_apple(&door.tell_signed(&payload).await);
    }
    door.server.wait_for_log("it is a test");
    assert_eq!(door.came().await, [""; 0]);
}

async fn without_keys_nothing_is_judged_until_they_are_there(engine: Engine) {
    let clock = Clock::new();
    let door = Door::open_as(engine, clock.timing(Launch::new()));
    door.pusher.is_broken(true);
    later(&door.push_good(&void()).await, "login_unavailable");
    // Apple's carry their own.
    taken_by_apple(&door.tell_signed(&door.refund()).await);
    // What is wrong anyway needs none.
    unproved(&door.push(Some("Bearer nonsense"), "").await);
    assert_eq!(door.pusher.fetches(), 1);
    door.pusher.is_broken(false);
    clock.pass(2);
    taken_by_google(&door.push_good(&void()).await);
    assert_eq!(door.pusher.fetches(), 2);
}

async fn what_can_not_be_written_comes_again(engine: Engine) {
    let door = Door::open(engine);
    let refund = door.refund();
    let database = door.server.database();
    database.set_read_only(true).await;
    for reply in [door.push_good(&void()).await, door.tell_signed(&refund).await] {
        let code = reply.json()["code"].clone();
        assert_eq!((reply.status, code), (503, json!("database_unavailable")), "{reply:?}");
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
    }
    database.set_read_only(false).await;
    let kept = "SELECT message_id FROM inbox ORDER BY message_id";
    assert_eq!(database.texts(kept).await, [""; 0]);
    taken_by_google(&door.push_good(&void()).await);
    taken_by_apple(&door.tell_signed(&refund).await);
    let apple = format!("apple:{UUID}");
    assert_eq!(database.texts(kept).await, [&*apple, "google:push:1"]);
    assert_eq!(door.came().await.len(), 2);
}

async fn keys_may_change(engine: Engine) {
    let clock = Clock::new();
    let door = Door::open_as(engine, clock.timing(Launch::new()));
    taken_by_google(&door.push_good(&void()).await);
    door.pusher.rotate(&["k2", "k3"]);
    let by = |id| push_proof(id, &push_claims());
    let push = async |proof: &str| door.push(Some(proof), void().to_string()).await;
    // Whoever makes up names of keys has them fetched no more often than this.
    for id in ["k2", "x", "y"] {
        unproved(&push(&by(id)).await);
    }
    assert_eq!(door.pusher.fetches(), 1);
    clock.pass(61);
    for id in ["k2", "k3"] {
        taken_by_google(&push(&by(id)).await);
    }
    unproved(&push(&by("k1")).await);
    assert_eq!(door.pusher.fetches(), 2);
    // They are kept while they can't be had.
    door.pusher.is_broken(true);
    clock.pass(122);
    later(&push(&by("k4")).await, "login_unavailable");
    taken_by_google(&push(&by("k3")).await);
}

/// A body with blanks after it, so long.
fn padded(body: String, bytes: usize) -> Vec<u8> {
    let mut body = body.into_bytes();
    assert!(body.len() <= bytes, "it is short");
    body.resize(bytes, b' ');
    body
}

/// A body whose length is not told ahead.
fn chunked(client: &Client, path: &str, body: &[u8]) -> reqwest::RequestBuilder {
    let pieces: Vec<_> = body.chunks(60_000).map(<[u8]>::to_vec).collect();
    let pieces =
        pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
    let body = StreamBody::new(futures_util::stream::iter(pieces));
    client.request(Method::POST, path).body(reqwest::Body::wrap(body))
}

async fn long_messages_have_a_limit_of_their_own(engine: Engine) {
    let door = Door::open(engine);
    let signed = body(&door.stores.apple.signed(&door.refund()));
    for bytes in [BODY_LIMIT_BYTES, BODY_LIMIT_BYTES + 1, MESSAGE_LIMIT_BYTES] {
        let google = padded(void().to_string(), bytes);
        let apple = padded(signed.clone(), bytes);
        taken_by_google(&door.push(Some(&good()), google.clone()).await);
        taken_by_apple(&door.tell(apple.clone()).await);
        let request = chunked(&door.client, GOOGLE, &google).header("authorization", good());
        taken_by_google(&Reply::to(request).await);
        taken_by_apple(&Reply::to(chunked(&door.client, APPLE, &apple)).await);
    }
    let too_long = MESSAGE_LIMIT_BYTES + 1;
    // On a connection each, for it ends.
    let reply = door.server.client().request(Method::POST, APPLE);
    let reply = Reply::to(reply.body(padded(signed.clone(), too_long))).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    let reply = chunked(&door.server.client(), APPLE, &padded(signed, too_long));
    let reply = Reply::to(reply).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    let google = padded(void().to_string(), too_long);
    let reply = door.server.client().request(Method::POST, GOOGLE);
    let reply = Reply::to(reply.header("authorization", good()).body(google)).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    // Elsewhere nothing has changed.
    let reply = door.server.client().of("ann");
    let reply = reply.post_bytes("/credits/add", vec![b' '; BODY_LIMIT_BYTES + 1]).await;
    assert_eq!(reply.status, 413, "{reply:?}");
    assert_eq!(door.came().await.len(), 12);
}

async fn many_long_messages_at_a_time_hold_up_nothing_else(engine: Engine) {
    let door = Door::open(engine);
    let head = format!(
        "POST {APPLE} HTTP/1.1\r\nhost: billing\r\ncontent-length: {MESSAGE_LIMIT_BYTES}\r\n\r\n{{"
    );
    let long = padded(body("a.b.c"), BODY_LIMIT_BYTES + 1);
    let mut slow = Vec::new();
    eventually("there are too many long messages", async || {
        // Each is listened to for some seconds only.
        slow.extend(
            iter::repeat_with(|| {
                let mut connection = door.server.connect();
                connection.send(&head);
                connection
            })
            .take(LONG_MESSAGES_MAX),
        );
        let replies: Vec<_> =
            futures_util::future::join_all((0..4).map(|_| door.tell(long.clone()))).await;
        let refused = replies.into_iter().find(|reply| reply.status != 401)?;
        later(&refused, "overloaded");
        Some(())
    })
    .await;
    taken_by_apple(&door.tell_signed(&door.refund()).await);
    taken_by_google(&door.push_good(&void()).await);
    door.client.get("/pricing").await.ok();
    // Who is too slow is told so, or sent away at once.
    let answer = slow[0].read_head();
    assert!(answer.starts_with("http/1.1 503 "), "{answer}");
    drop(slow);
    eventually("long messages are taken again", async || {
        (door.tell(long.clone()).await.status == 401).then_some(())
    })
    .await;
}

/// What is answered, but for what is another each time.
fn shape(mut reply: Reply, path: &str) -> (u16, HeaderMap, String) {
    reply.headers.remove("x-request-id");
    reply.headers.remove("date");
    (reply.status, reply.headers, reply.text.replace(path, "path"))
}

async fn a_store_that_does_not_push_has_no_address(engine: Engine) {
    let unset = [
        ("BILLING_GOOGLE_PUSH_AUDIENCE", ""),
        ("BILLING_GOOGLE_PUSH_ACCOUNT", ""),
        ("BILLING_GOOGLE_PUSH_SUBSCRIPTION", ""),
    ];
    let off = [("BILLING_RECEIPTS", "off")];
    let [google, apple] = ["google", "apple"].map(|name| [("BILLING_RECEIPTS", name)]);
    for (settings, closed, open) in [
        (&unset[..], &[GOOGLE][..], &[APPLE][..]),
        (&off, &[GOOGLE, APPLE], &[]),
        (&google, &[APPLE], &[GOOGLE]),
        (&apple, &[GOOGLE], &[APPLE]),
    ] {
        let (stores, pusher) = (StandIn::new(), Pusher::new("k1"));
        let launch = pusher.known_to(with_login(stores.known_to(Launch::new())));
        let launch = settings.iter().fold(launch, |launch, (name, value)| launch.set(name, *value));
        let server = Server::start_as(engine, launch);
        let unknown = "/api/billing/notifications/nobody";
        for path in closed {
            for method in [Method::POST, Method::GET, Method::DELETE] {
                for bytes in [2, BODY_LIMIT_BYTES + 1] {
                    let ask = async |path: &str| {
                        let request = server.client().request(method.clone(), path);
                        let request = request.header("authorization", good());
                        shape(Reply::to(request.body(vec![b' '; bytes])).await, path)
                    };
                    assert_eq!(ask(path).await, ask(unknown).await, "{settings:?} {method} {path}");
                }
            }
            let reply = Reply::to(server.client().request(Method::POST, path).body("{}")).await;
            reply.is(404, &json!({"detail": "Not Found"}));
        }
        for path in open {
            let reply = Reply::to(server.client().request(Method::POST, path).body("{}")).await;
            unproved(&reply);
        }
    }
}

async fn nobody_logs_in_and_nobodys_budget_is_used(engine: Engine) {
    let door = Door::open_as(engine, Launch::new().set("BILLING_RATE_LIMIT", "1"));
    let refund = door.refund();
    for _ in 0..10 {
        let reply = door.push_good(&void()).await;
        taken_by_google(&reply);
        assert_eq!(reply.header("ratelimit"), None);
        taken_by_apple(&door.tell_signed(&refund).await);
        unproved(&door.tell("{}").await);
    }
    // Nor is that of this address, from which somebody without a login asks.
    assert_eq!(door.client.get("/balance").await.status, 401);
    door.client.of("ann").get("/balance").await.ok();
}

async fn only_posts_are_messages(engine: Engine) {
    let door = Door::open(engine);
    for path in [GOOGLE, APPLE] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let reply = Reply::to(door.client.request(method, path)).await;
            reply.is(405, &json!({"detail": "Method Not Allowed"}));
        }
        let reply = Reply::to(door.client.request(Method::POST, &format!("{path}/"))).await;
        reply.is(404, &json!({"detail": "Not Found"}));
    }
    let document = door.client.get("/openapi.json").await;
    assert!(!document.text.contains("notifications"), "clients do not call it");
}

async fn nothing_secret_is_in_the_log(engine: Engine) {
    let mut door = Door::open(engine);
    let token = google_token("a");
    door.stores.google.sell(GooglePurchase::paid(&token, SMALL));
    let transaction = door.stores.apple.signed(&consumable("1001", SMALL));
    door.stores.apple.sell(Market::Sandbox, "1001", &transaction);
    let (proof, refund) = (good(), door.refund());
    let stranger = push_proof("k9", &push_claims());
    taken_by_google(&door.push(Some(&proof), void().to_string()).await);
    unproved(&door.push(Some(&stranger), void().to_string()).await);
    let signed = door.stores.apple.signed(&refund);
    taken_by_apple(&door.tell(body(&signed)).await);
    let foreign = Authority::new().chain.sign(&refund);
    unproved(&door.tell(body(&foreign)).await);
    let other = door.stores.apple.signed(&consumable("1002", SMALL));
    granted(&bring(&door.client.of("ann"), &other).await, 300);
    let log = door.server.stop().await.join("\n");
    for secret in [&token, &transaction, &other, &proof, &stranger, &signed, &foreign] {
        let end: String = secret.chars().skip(secret.len().saturating_sub(40)).collect();
        assert!(!log.contains(&end), "{end}");
    }
    // Purchases are told apart by digits of their hashes.
    let digits = |line: &str| {
        let (_, rest) = line.split_once("purchase=")?;
        Some(rest.chars().filter(|c| *c != '"').take(12).collect::<String>())
    };
    let came: Vec<_> = log.lines().filter(|line| line.contains("a notification came")).collect();
    assert_eq!(came.len(), 2, "{log}");
    for line in came {
        let digits = digits(line).expect("it names the purchase");
        assert!(digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    }
}

/// A window in which those that prove nothing are counted, in seconds; so many of them are told one by one.
const WINDOW: i64 = 10;
const TOLD_MAX: usize = 100;

async fn what_proves_nothing_is_told_together_and_keeps_nobody_out(engine: Engine) {
    let clock = Clock::new();
    let began_at = Instant::now();
    let mut door = Door::open_as(engine, clock.timing(Launch::new()));
    let refund = door.refund();
    // Neither a login nor a signature is missed as if nothing had come.
    unproved(&door.push(None, void().to_string()).await);
    door.server.wait_for_log("it has no token");
    let forged = pushed("2", &play_void(&google_token("b"), ORDER)).to_string();
    // Whoever stands in line for too long comes again.
    for _ in 0..3 {
        let many = (0..TOLD_MAX).map(|_| async {
            unproved(&begun(|| door.tell("{}")).await);
            unproved(&begun(|| door.push(Some("Bearer none"), forged.clone())).await);
        });
        let genuine = async {
            taken_by_google(&begun(|| async { door.push_good(&void()).await }).await);
            taken_by_apple(&begun(|| door.tell_signed(&refund)).await);
        };
        futures_util::future::join(futures_util::future::join_all(many), genuine).await;
    }
    clock.pass(WINDOW);
    let line = door.server.wait_for_log("more notifications are not taken");
    assert!(line.contains("notifications="), "{line}");
    taken_by_apple(&begun(|| door.tell_signed(&refund)).await);
    let log = door.server.stop().await;
    let told_max = told_max_since(began_at);
    for store in ["store=google", "store=apple"] {
        let told =
            |line: &&String| line.contains("a notification is not taken") && line.contains(store);
        assert!(log.iter().filter(told).count() <= told_max, "{store}");
    }
}

/// How many are told one by one at most in the windows that have begun since a moment, one of them made to pass.
fn told_max_since(moment: Instant) -> usize {
    let windows = moment.elapsed().as_secs() / WINDOW.unsigned_abs();
    TOLD_MAX * (2 + usize::try_from(windows).expect("few"))
}

/// Whoever sells another app can have Apple sign what does not concern us.
async fn what_is_passed_over_is_told_together_too(engine: Engine) {
    let clock = Clock::new();
    let began_at = Instant::now();
    let mut door = Door::open_as(engine, clock.timing(Launch::new()));
    let mut others = door.refund();
    others["data"]["bundleId"] = json!("com.example.other");
    let signed = door.stores.apple.signed(&others);
    for _ in 0..3 {
        let many = (0..TOLD_MAX).map(|_| async {
            taken_by_apple(&begun(|| door.tell(body(&signed))).await);
        });
        futures_util::future::join_all(many).await;
    }
    clock.pass(WINDOW);
    door.server.wait_for_log("more notifications are not taken, or passed over");
    let log = door.server.stop().await;
    let told = log.iter().filter(|line| line.contains("a notification is passed over")).count();
    assert!((TOLD_MAX..=told_max_since(began_at)).contains(&told), "{told}");
}
