//! A counter at which money goes back: a service to which both stores push, and that reads their lists. What is said
//! there, and what becomes of it, does not belong here.

use chrono::{DateTime, SecondsFormat};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Shop, bring};
use crate::{
    harness::{
        Client, Engine, Home, Launch, Reply, eventually,
        stores::{
            Call, GooglePurchase, Market, Notification, On, consumable, google_token,
            pushes::{
                APPLE_ID, Pusher, app_store_notification, play_notification, push_claims,
                push_proof, pushed,
            },
            voided,
        },
        token::now,
    },
    verify::check_clean,
};

const GOOGLE: &str = "/api/billing/notifications/google";
const APPLE: &str = "/api/billing/notifications/apple";
const KEY: &str = "k1";

/// A shop to which the stores push.
pub(super) struct Counter {
    pub(super) shop: Shop,
}

/// What Pub/Sub needs to be told of a message.
pub(super) async fn push(client: &Client, id: &str, told: &Value) -> reqwest::Result<Reply> {
    let request = client.request(Method::POST, GOOGLE).body(pushed(id, told).to_string());
    Reply::try_to(request.header("authorization", push_proof(KEY, &push_claims()))).await
}

/// Has Apple's server send what it signed.
pub(super) async fn tell(client: &Client, signed: &str) -> reqwest::Result<Reply> {
    let body = json!({ "signedPayload": signed }).to_string();
    Reply::try_to(client.request(Method::POST, APPLE).body(body)).await
}

/// That some of a purchase, or all of it, was voided.
pub(super) fn play_voided(token: &str, order: &str, is_whole: bool) -> Value {
    let kind = if is_whole { 1 } else { 2 };
    let content =
        json!({"purchaseToken": token, "orderId": order, "productType": 2, "refundType": kind});
    play_notification("voidedPurchaseNotification", content)
}

/// What Google's list says of some pieces, or of all.
pub(super) fn listed(sold: &GooglePurchase, voided_ms: u64, pieces: Option<u32>) -> Value {
    let mut entry = voided(sold.token(), sold.order(), voided_ms);
    if let Some(pieces) = pieces {
        entry["voidedQuantity"] = json!(pieces);
    }
    entry
}

/// A time as the service keeps it.
pub(super) fn at(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).expect("a time of today");
    let time = DateTime::from_timestamp(seconds, 0).expect("a time of today");
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The time as the stores count it.
pub(super) fn now_ms() -> u64 {
    now() * 1_000
}

/// A transaction of Apple's as it was signed so many seconds from now on, with so much of it refunded.
pub(super) fn as_of(id: &str, product: &str, seconds: i64, milliunits: Option<u32>) -> Value {
    let mut transaction = consumable(id, product);
    transaction["signedDate"] = json!(now().saturating_add_signed(seconds) * 1_000);
    if let Some(milliunits) = milliunits {
        transaction["revocationDate"] = transaction["signedDate"].clone();
        transaction["revocationReason"] = json!(0);
        transaction["revocationType"] = json!("REFUND_PRORATED");
        transaction["revocationPercentage"] = json!(milliunits);
    }
    transaction
}

/// The same, refunded without a word of how much of it.
pub(super) fn refunded_as_of(id: &str, product: &str, seconds: i64) -> Value {
    let mut transaction = as_of(id, product, seconds, None);
    transaction["revocationDate"] = transaction["signedDate"].clone();
    transaction["revocationReason"] = json!(0);
    transaction
}

/// A client of the socket where the numbers are.
pub(super) fn scraper(counter: &Counter) -> Client {
    let line = counter.shop.server.wait_for_log("metrics=127.0.0.1:");
    let (_, address) = line.rsplit_once("metrics=").expect("just looked for");
    Client::new(address.trim().parse().expect("a socket address"))
}

/// What is told there of a series, if anything is.
pub(super) async fn value(scraper: &Client, series: &str) -> Option<f64> {
    let reply = Reply::to(scraper.request(reqwest::Method::GET, "/metrics")).await;
    let prefix = format!("token_billing_{series} ");
    reply.text.lines().find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
}

/// Has a service tell its numbers.
pub(super) fn with_metrics(launch: Launch) -> Launch {
    launch.set("BILLING_METRICS_LISTEN", "127.0.0.1:0")
}

impl Counter {
    pub(super) fn open(engine: Engine) -> Self {
        Self::open_with(engine, |launch| launch)
    }

    /// The same, with what `set` sets.
    pub(super) fn open_with(engine: Engine, set: impl FnOnce(Launch) -> Launch) -> Self {
        let pusher = Pusher::new(KEY);
        let shop = Shop::open_at(Home::new(engine), |launch| {
            let launch = launch.set("BILLING_APPLE_APP_ID", APPLE_ID.to_string());
            set(pusher.known_to(launch))
        });
        Self { shop }
    }

    pub(super) fn user(&self, name: &str) -> Client {
        self.shop.user(name)
    }

    /// Sells one of a product at Google, so many pieces.
    pub(super) fn sell(&self, name: &str, product: &str, pieces: u32) -> GooglePurchase {
        let sold = GooglePurchase::paid(&google_token(name), product).times(pieces);
        self.shop.stores.google.sell(sold.clone());
        sold
    }

    /// Sells it, and has a user bring it.
    pub(super) async fn sell_to(
        &self,
        user: &str,
        name: &str,
        product: &str,
        pieces: u32,
    ) -> GooglePurchase {
        let sold = self.sell(name, product, pieces);
        bring(&self.user(user), sold.token()).await.ok();
        sold
    }

    /// Has a user bring what Apple signed.
    pub(super) async fn bring_signed(&self, user: &str, transaction: &Value) -> Reply {
        bring(&self.user(user), &self.shop.stores.apple.signed(transaction)).await
    }

    /// Google pushes a message.
    pub(super) async fn push(&self, id: &str, told: &Value) {
        let reply = push(&self.shop.anybody(), id, told).await.expect("the service answers");
        assert_eq!((reply.status, &*reply.text), (204, ""), "{reply:?}");
    }

    /// Apple tells of a transaction.
    pub(super) async fn tell(&self, kind: &str, id: &str, transaction: &Value) {
        let signed = self.signed(kind, id, transaction);
        let reply = tell(&self.shop.anybody(), &signed).await.expect("the service answers");
        reply.is(200, &json!({}));
    }

    /// What Apple signs to tell of it.
    pub(super) fn signed(&self, kind: &str, id: &str, transaction: &Value) -> String {
        let apple = &self.shop.stores.apple;
        apple.signed(&app_store_notification(kind, id, &apple.signed(transaction)))
    }

    /// Apple's list tells of it.
    pub(super) fn list(&self, kind: &'static str, id: &str, transaction: &Value) {
        let signed = self.signed(kind, id, transaction);
        let sent = Notification { kind, sent_ms: now_ms(), missed: true, signed };
        self.shop.stores.apple.refunds.list(Market::Sandbox, sent);
    }

    /// Waits until nothing is left of what came.
    pub(super) async fn all_done(&self) {
        self.shop.until_none("SELECT message_id FROM inbox WHERE due_at IS NOT NULL").await;
    }

    /// Starts it again, so that it reads all lists, and waits until what they tell is done.
    pub(super) async fn start_again(&mut self) {
        self.shop.server.stop().await;
        self.lists_are_due().await;
        let read = self.last_list().count();
        self.shop.server.start_again();
        self.lists_read(read).await;
        self.all_done().await;
    }

    /// As if it had been down for long: lists that were read just before are left alone.
    pub(super) async fn lists_are_due(&self) {
        self.shop.server.database().execute("UPDATE sweeps SET due_at = NULL").await;
    }

    /// The list that is read after all others.
    pub(super) fn last_list(&self) -> On<'_> {
        self.shop.stores.on(Call::SandboxHistory).of("REFUND_REVERSED")
    }

    /// Waits until all lists were read once more, where the last had been read so often.
    pub(super) async fn lists_read(&self, often: usize) {
        self.last_list().reach(often + 1).await;
        // Whoever reads a list has it for some minutes; one that was read is left alone for a day.
        let tonight = at(now() + 43_200);
        let reading = format!(
            "SELECT name FROM sweeps WHERE name = 'apple sandbox reversals' AND due_at < '{tonight}'"
        );
        self.shop.until_none(&reading).await;
    }

    /// State, what was taken and what was missing of each of a user's purchases, oldest first.
    pub(super) async fn books(&self, user: &str) -> Vec<String> {
        let sql = format!(
            "SELECT state || ' ' || CAST(taken_credits AS TEXT) || ' '
                 || CAST(shortfall_credits AS TEXT)
             FROM purchases WHERE user_id = '{user}' ORDER BY id"
        );
        self.shop.server.database().texts(&sql).await
    }

    /// Checks what a user has, and what was booked for its purchases in whatever order, and that the books are sound.
    pub(super) async fn has(&self, user: &str, credits: i64, books: &[&str]) {
        assert_eq!(self.user(user).balance().await["credits"], credits, "{books:?}");
        let (mut found, mut books) = (self.books(user).await, books.to_vec());
        found.sort();
        books.sort_unstable();
        assert_eq!(found, books);
        check_clean(self.shop.server.home()).await;
    }

    /// The amounts of a user's entries of a type, oldest first.
    pub(super) async fn entries(&self, user: &str, kind: &str) -> Vec<i64> {
        let path = format!("/transactions?type={kind}");
        let entries = self.user(user).get(&path).await.ok();
        let entries = entries.as_array().expect("an array");
        let amounts = entries.iter().rev().map(|entry| {
            assert_eq!(entry["type"], kind);
            entry["amount"].as_i64().expect("an amount")
        });
        amounts.collect()
    }

    /// Waits until each of some users has what is said.
    pub(super) async fn becomes(&self, user: &str, books: &[&str]) {
        eventually(&format!("{user} has {books:?}"), async || {
            (self.books(user).await == books).then_some(())
        })
        .await;
    }
}
