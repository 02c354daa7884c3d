//! Purchases that the app stores confirm: what a client is answered, what an account gets, and what the stores
//! are asked. Both stores are a stand-in; see `harness::stores`.

mod answers;
mod apple_chains;
mod apple_ids;
mod apple_payloads;
mod believed;
mod books;
mod checks;
mod counter;
mod decisions;
mod erasures;
mod google_answers;
mod grants;
mod kills;
mod labels;
mod messages;
mod missed;
mod notifications;
mod outages;
mod owners;
mod products;
mod races;
mod refund_storms;
mod refunds;
mod starts;
mod switches;
mod waits;

use std::{cell::RefCell, net::SocketAddr};

use serde_json::{Value, json};

use crate::harness::{
    Client, Database, Engine, Home, Launch, Reply, Server, eventually,
    stores::{Call, StandIn},
    token::{SECRET, now},
};

/// A product, and what it is worth in credits at first; the others too.
const SMALL: &str = "noteapp.credits.small";
const REGULAR: &str = "noteapp.credits.regular";
const LARGE: &str = "noteapp.credits.large";

/// What `Retry-After` says where it may pass soon, and where it will take longer.
const SOON: &str = "30";
const LATER: &str = "3600";

/// A service with a login, and the stores it asks.
struct Shop {
    server: Server,
    stores: StandIn,
    /// One for all users; a client of each one's own takes the most part of a test.
    client: RefCell<Option<(SocketAddr, Client)>>,
}

impl Shop {
    /// A service that asks both stores, and grants test purchases.
    fn open(engine: Engine) -> Self {
        Self::open_with(engine, &[])
    }

    /// The same with further settings.
    fn open_with(engine: Engine, settings: &[(&str, &str)]) -> Self {
        Self::open_at(Home::new(engine), |launch| {
            settings.iter().fold(launch, |launch, (name, value)| launch.set(name, *value))
        })
    }

    /// The same in surroundings that were made before, with what `set` sets.
    fn open_at(home: Home, set: impl FnOnce(Launch) -> Launch) -> Self {
        Self::open_on(StandIn::new(), home, set)
    }

    /// The same with stores that were told before what to answer.
    fn open_on(stores: StandIn, home: Home, set: impl FnOnce(Launch) -> Launch) -> Self {
        let launch = set(with_login(stores.known_to(Launch::new())));
        Self { server: Server::start_at(home, launch), stores, client: RefCell::default() }
    }

    /// The same with none of the settings whose name holds one of these texts.
    fn open_without(engine: Engine, unset: &[&str], settings: &[(&str, &str)]) -> Self {
        let stores = StandIn::new();
        let given = stores.settings().into_iter();
        let kept = given.filter(|(name, _)| !unset.iter().any(|text| name.contains(text)));
        let launch = kept.fold(Launch::new(), |launch, (name, value)| launch.set(name, value));
        let launch = settings.iter().fold(launch, |launch, (name, value)| launch.set(name, *value));
        let server = Server::start_as(engine, with_login(launch));
        Self { server, stores, client: RefCell::default() }
    }

    fn user(&self, name: &str) -> Client {
        self.anybody().of(name)
    }

    /// Somebody without a login.
    fn anybody(&self) -> Client {
        let address = self.server.address();
        let mut client = self.client.borrow_mut();
        // Each start has an address of its own.
        if client.as_ref().is_none_or(|(known, _)| *known != address) {
            *client = Some((address, self.server.client()));
        }
        let (_, client) = client.as_ref().expect("just made");
        client.clone()
    }

    /// Store and state of each purchase of a user's, oldest first.
    async fn states(&self, user: &str) -> Vec<String> {
        let sql = format!(
            "SELECT store || ' ' || state FROM purchases WHERE user_id = '{user}' ORDER BY id"
        );
        self.server.database().texts(&sql).await
    }

    /// Waits until a user's balance is this.
    async fn balance_becomes(&self, user: &str, credits: i64) {
        let client = self.user(user);
        eventually(&format!("{user} has {credits} credits"), async || {
            (client.balance().await["credits"] == credits).then_some(())
        })
        .await;
    }

    /// Waits until Google was told of each purchase that was granted. None may have been by the app.
    async fn all_acknowledged(&self) {
        let sql = "SELECT key FROM purchases WHERE store = 'google' AND state = 'granted'";
        let granted = self.server.database().texts(sql).await.len();
        // Looking again and again takes more of the machine.
        self.stores.on(Call::Acknowledge).reach(granted).await;
        self.until_none(&format!("{sql} AND acknowledged_at IS NULL")).await;
    }

    /// Puts what waits off for so long that only news, or whoever brings it, can have its store asked again.
    async fn put_off(&self) {
        let tomorrow = counter::at(now() + 86_400);
        let put_off = format!(
            "UPDATE purchases SET due_at = '{tomorrow}' WHERE state IN ('received', 'pending', 'review')"
        );
        self.server.database().execute(&put_off).await;
    }

    /// Waits until a query finds nothing.
    async fn until_none(&self, sql: &str) {
        let mut connection = self.server.database().connect().await;
        eventually(sql, async || connection.texts(sql).await.is_empty().then_some(())).await;
        connection.close().await;
    }
}

fn with_login(launch: Launch) -> Launch {
    launch.set("BILLING_AUTH", "jwt").set("BILLING_JWT_SECRET", SECRET)
}

/// What an app sends: the store's token, and labels that are wrong in every way.
fn receipt(token: &str) -> Value {
    json!({
        "credits": 7,
        "purchase_record": {
            "id": "GPA.label",
            "productId": "noteapp.credits.label",
            "transactionId": "GPA.label",
            "purchaseToken": token,
            "purchaseDate": "2026-11-27T09:00:00Z",
            "amount": 7,
            "creditsAdded": 7,
        },
    })
}

async fn bring(client: &Client, token: &str) -> Reply {
    client.post("/credits/add", &receipt(token)).await
}

/// Checks that credits were added just now.
fn granted(reply: &Reply, balance: i64) {
    reply.is(200, &json!({"success": true, "new_balance": balance}));
    assert!(!reply.is_replayed(), "{reply:?}");
}

/// Checks that this user got it before.
fn repeated(reply: &Reply, balance: i64) {
    reply.is(200, &json!({"success": true, "new_balance": balance}));
    assert!(reply.is_replayed(), "{reply:?}");
}

/// Checks that it is somebody else's.
fn anothers(reply: &Reply) {
    let body =
        json!({"detail": "Purchase already processed", "code": "purchase_already_processed"});
    reply.is(409, &body);
}

/// Checks that it can never become valid.
fn invalid(reply: &Reply) {
    reply.is(400, &json!({"detail": "Invalid receipt", "code": "invalid_receipt"}));
}

/// Checks that it may pass, and that the text does not end the purchase in the field client.
fn later(reply: &Reply, code: &str, retry_after: &str) {
    let body = reply.json();
    assert_eq!((reply.status, &body["code"]), (503, &json!(code)), "{reply:?}");
    assert_eq!(reply.header("retry-after"), Some(retry_after), "{reply:?}");
    let detail = body["detail"].as_str().expect("a text");
    assert!(!detail.contains(|c: char| c.is_ascii_digit()), "{detail}");
    let lower = detail.to_lowercase();
    assert!(!lower.contains("already processed") && !lower.contains("invalid receipt"), "{detail}");
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(2), "{body}");
}

/// Every entry of every ledger. Balances are their sums, which is checked when the service is dropped.
async fn entries(database: &Database) -> Vec<String> {
    let mut rows = database.digest().await;
    rows.retain(|row| row.starts_with("[\"transaction\""));
    rows
}
