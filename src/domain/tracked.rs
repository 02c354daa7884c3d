//! A store's purchase as it is kept, from the moment somebody brings it: its state, and all that it is known by.
//! What moves it from one state to the next is in `receipt`, `grant` and `errand`.

use std::{collections::HashMap, fmt, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::{
    Credits, Environment, PaidPurchase, ProductId, ProductList, PurchaseName, PurchaseToken,
    PurchasedItem, Store, StoreTransactionId, UserId, names::hash,
};

/// How long to wait before a store is asked again the first time. Each further time doubles it.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(2);
/// Longest wait.
const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(1);
/// For how long a store is asked so often.
const OFTEN_FOR: TimeDelta = TimeDelta::days(3);
/// How often after that.
const SELDOM: TimeDelta = TimeDelta::days(1);
/// How long a purchase may wait for its store's word.
const WAITS_FOR: TimeDelta = TimeDelta::days(30);
/// How long a store has to say that it does not know a purchase before that is believed: its servers learn of one
/// after the other.
const UNKNOWN_FOR: TimeDelta = TimeDelta::hours(24);
/// Longer than anything is put off.
const PUT_OFF_MAX: TimeDelta = TimeDelta::days(2);
/// How long whoever has begun on a purchase has it for itself.
pub(super) const LEASE: TimeDelta = TimeDelta::seconds(30);

/// What a purchase is known by to its store. Of one purchase all keys lead to the same row, and no two purchases
/// share one.
///
/// A [`PurchaseName`] is what an entry of the history is known by, also one that was believed on a client's word. A
/// grant makes both: the keys see to it that it is the only one, the names that it stays so while the stores are not
/// asked, and that what was believed before is not granted again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PurchaseKey(Arc<str>);

impl PurchaseKey {
    /// Google's token, which is secret.
    pub(crate) fn google_token(token: &PurchaseToken) -> Self {
        Self::new("google:token:", &hash(token.as_str()))
    }

    /// Google's order.
    pub(crate) fn google_order(order: &str) -> Self {
        Self::new("google:order:", order)
    }

    /// Apple's transaction.
    pub(crate) fn apple_transaction(environment: Environment, id: &str) -> Self {
        Self::new(&format!("apple:{}:", environment.name()), id)
    }

    /// Apple's original transaction. Of a consumable it has one purchase; its id may differ from the transaction's.
    pub(crate) fn apple_original(environment: Environment, id: &str) -> Self {
        Self::new(&format!("apple:{}:original:", environment.name()), id)
    }

    /// Apple's id as a client brings it, which does not tell the environment.
    pub(crate) fn apple_id(id: &str) -> Self {
        Self::new("apple:id:", id)
    }

    /// All keys of a purchase that its store tells.
    pub(crate) fn all_of(paid: &PaidPurchase) -> Vec<Self> {
        let (id, environment) = (paid.store_id.as_deref(), paid.environment);
        match paid.store {
            Store::Google => id.map(Self::google_order).into_iter().collect(),
            Store::Apple => {
                let transaction = id.map(|id| Self::apple_transaction(environment, id));
                let original =
                    paid.original_id.as_deref().map(|id| Self::apple_original(environment, id));
                let brought = id.map(Self::apple_id);
                transaction.into_iter().chain(original).chain(brought).collect()
            }
        }
    }

    /// A proof that tells no id. Nothing is kept under it.
    pub(crate) fn of_unknown(token: &PurchaseToken) -> Self {
        Self::new("unknown:", token.as_str())
    }

    /// One that was kept.
    pub(crate) fn kept(key: &str) -> Self {
        Self(key.into())
    }

    /// A long id is known by its hash.
    fn new(kind: &str, id: &str) -> Self {
        Self(format!("{kind}{}", PurchaseName::of(id).as_str()).into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Twelve hexadecimal digits by which the log tells purchases apart.
    pub(crate) fn short_hash(&self) -> String {
        let hash = match self.0.strip_prefix("google:token:") {
            Some(hash) => hash.to_owned(),
            None => hash(&self.0),
        };
        hash.chars().skip("sha256:".len()).take(12).collect()
    }
}

/// How far a purchase has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PurchaseState {
    /// Written down; its store has not said anything that counts.
    Received,
    /// Its store says that it is not paid yet.
    Pending,
    /// Its credits were granted.
    Granted,
    /// It is not granted, for a reason.
    Refused,
    /// It is paid, and something has to be cleared up before it is granted.
    Review,
    /// Its store told of it, and nobody has brought it yet.
    Unclaimed,
    /// It was granted, and the money went back, at least in part; or it went back before the grant.
    Refunded,
}

impl PurchaseState {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Received,
        Self::Pending,
        Self::Granted,
        Self::Refused,
        Self::Review,
        Self::Unclaimed,
        Self::Refunded,
    ];

    /// Whether something is still to come.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Received | Self::Pending | Self::Review)
    }

    /// Its name in the database and in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Pending => "pending",
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Review => "review",
            Self::Unclaimed => "unclaimed",
            Self::Refunded => "refunded",
        }
    }
}

/// Why a purchase is refused or in review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// Its product is not in the list: granted as soon as it is.
    UnknownProduct,
    /// It names the account of another user: an operator has to decide.
    AnotherAccount,
    /// It can never become valid.
    Invalid,
    /// It is a test purchase, and those are not granted to this user.
    Sandbox,
    /// Another purchase is the same one.
    Duplicate,
    /// Its store never said anything that counts.
    GivenUp,
}

/// A purchase as it is kept. The names of its fields are those of the columns.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TrackedPurchase {
    /// None, until it is kept.
    pub id: Option<i64>,
    /// The first of its keys.
    pub key: PurchaseKey,
    pub store: Store,
    pub state: PurchaseState,
    pub reason: Option<Reason>,
    #[serde(rename = "user_id")]
    pub user: Option<UserId>,
    /// What its store is asked with, as long as it has to be.
    pub token: Option<PurchaseToken>,
    /// What the client sent about it, until it is granted.
    pub record: Option<String>,
    pub environment: Option<Environment>,
    pub store_id: Option<String>,
    pub original_id: Option<String>,
    /// Of several products all names, with commas between.
    pub product_id: Option<String>,
    /// Of how many things in all.
    pub quantity: Option<i64>,
    /// JSON: product, quantity, and the credits that one was granted for.
    pub items: Option<String>,
    pub credits: Option<Credits>,
    pub price_milliunits: Option<i64>,
    pub currency: Option<String>,
    pub verified: Option<String>,
    /// When it was brought, the last time if it had come to an end.
    #[serde(serialize_with = "microseconds")]
    pub received_at: DateTime<Utc>,
    #[serde(serialize_with = "microseconds_if_any")]
    pub purchased_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "microseconds_if_any")]
    pub granted_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "microseconds_if_any")]
    pub acknowledged_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "microseconds_if_any")]
    pub consumed_at: Option<DateTime<Utc>>,
    /// When its store is to be asked or told next, or how long somebody has it for that. None where nothing is left
    /// to do, or only a person can.
    #[serde(serialize_with = "microseconds_if_any")]
    pub due_at: Option<DateTime<Utc>>,
    /// Since when its store has said that it does not know it.
    #[serde(serialize_with = "microseconds_if_any")]
    pub unknown_since: Option<DateTime<Utc>>,
    /// How often that was tried.
    pub attempts: u32,
}

/// Without the token, and what the client sent.
impl fmt::Debug for TrackedPurchase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedPurchase")
            .field("key", &self.key)
            .field("state", &self.state)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// Times are kept with as many digits as all others, so that their texts sort.
fn microseconds<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn microseconds_if_any<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => microseconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

impl TrackedPurchase {
    /// One that nothing is known of but what it is called.
    pub(super) fn new(key: PurchaseKey, store: Store, user: UserId, now: DateTime<Utc>) -> Self {
        Self {
            id: None,
            key,
            store,
            state: PurchaseState::Received,
            reason: None,
            user: Some(user),
            token: None,
            record: None,
            environment: None,
            store_id: None,
            original_id: None,
            product_id: None,
            quantity: None,
            items: None,
            credits: None,
            price_milliunits: None,
            currency: None,
            verified: None,
            received_at: now,
            purchased_at: None,
            granted_at: None,
            acknowledged_at: None,
            consumed_at: None,
            due_at: None,
            unknown_since: None,
            attempts: 0,
        }
    }

    /// Until when anything can be put off from `now` on.
    pub(crate) fn latest_due(now: DateTime<Utc>) -> DateTime<Utc> {
        now.checked_add_signed(PUT_OFF_MAX).unwrap_or(now)
    }

    /// Whether its store is to be asked or told now. What is put off for longer than anything is was put off by a
    /// clock that was ahead.
    pub(super) fn is_due(&self, now: DateTime<Utc>) -> bool {
        self.due_at.is_some_and(|due_at| due_at <= now || due_at > Self::latest_due(now))
    }

    /// Its store says that it does not know it. Only of what it never knew that is believed, and after a day.
    pub(super) fn note_unknown(&mut self, now: DateTime<Utc>) {
        let since = *self.unknown_since.get_or_insert(now);
        let never_known = self.state == PurchaseState::Received;
        if never_known && now.signed_duration_since(since) >= UNKNOWN_FOR {
            self.end(PurchaseState::Refused, Reason::Invalid);
        } else {
            self.try_again(now);
        }
    }

    /// Is brought again after it came to an end.
    pub(super) fn reopen(&mut self, user: &UserId, now: DateTime<Utc>) {
        self.state = PurchaseState::Received;
        self.reason = None;
        self.user = Some(user.clone());
        self.received_at = now;
        self.unknown_since = None;
        self.attempts = 0;
    }

    /// Whether its credits were granted, whatever became of them.
    pub(crate) const fn is_granted(&self) -> bool {
        self.granted_at.is_some()
    }

    /// Whether its store's word is still waited for.
    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self.state, PurchaseState::Received | PurchaseState::Pending)
    }

    pub(super) fn is_of(&self, user: &UserId) -> bool {
        self.user.as_ref() == Some(user)
    }

    /// Takes note of what its store says.
    pub(super) fn learn(&mut self, paid: &PaidPurchase, products: &ProductList) {
        self.unknown_since = None;
        self.environment = Some(paid.environment);
        self.store_id.clone_from(&paid.store_id);
        self.original_id.clone_from(&paid.original_id);
        self.purchased_at = paid.purchased_at;
        self.price_milliunits = paid.price_milliunits;
        self.currency.clone_from(&paid.currency);
        self.verified = Some(paid.verified.clone());
        let names: Vec<&str> = paid.items.iter().map(|item| item.product.as_str()).collect();
        self.product_id = Some(names.join(","));
        self.quantity = Some(paid.items.iter().map(|item| i64::from(item.quantity)).sum());
        let items: Vec<_> = paid
            .items
            .iter()
            .map(|item| (&item.product, item.quantity, products.credits(&item.product)))
            .collect();
        self.items =
            Some(serde_json::to_string(&items).expect("texts and numbers have a JSON form"));
    }

    /// What its store said, where that was signed: it can't be asked again. The account it names was looked at
    /// then.
    pub(super) fn paid(&self) -> Option<PaidPurchase> {
        if self.token.is_some() {
            return None;
        }
        let items: Vec<(ProductId, u32, Option<Credits>)> =
            serde_json::from_str(self.items.as_deref()?).ok()?;
        let items =
            items.into_iter().map(|(product, quantity, _)| PurchasedItem { product, quantity });
        Some(PaidPurchase {
            store: self.store,
            environment: self.environment?,
            store_id: self.store_id.clone(),
            original_id: self.original_id.clone(),
            items: items.collect(),
            account: None,
            purchased_at: self.purchased_at,
            price_milliunits: self.price_milliunits,
            currency: self.currency.clone(),
            acknowledged: false,
            consumed: false,
            verified: self.verified.clone().unwrap_or_default(),
        })
    }

    /// Comes to an end in which its store needs neither be asked nor told anything.
    pub(super) fn end(&mut self, state: PurchaseState, reason: Reason) {
        self.state = state;
        self.reason = Some(reason);
        self.token = None;
        self.record = None;
        self.due_at = None;
    }

    /// Is for whoever has begun on it.
    pub(super) fn lease(&mut self, now: DateTime<Utc>) {
        self.due_at = now.checked_add_signed(LEASE);
    }

    /// Is to be tried again, in growing pauses.
    pub(super) fn try_again(&mut self, now: DateTime<Utc>) {
        let age = now.signed_duration_since(self.received_at);
        if self.is_waiting() && age >= WAITS_FOR {
            self.end(PurchaseState::Refused, Reason::GivenUp);
            return;
        }
        let doubled = FIRST_PAUSE.checked_mul(1_i32.checked_shl(self.attempts).unwrap_or(0));
        let pause = match doubled {
            _ if age >= OFTEN_FOR && !self.is_granted() => SELDOM,
            Some(doubled) if self.attempts < 12 => doubled.min(LONGEST_PAUSE),
            _ => LONGEST_PAUSE,
        };
        self.due_at = now.checked_add_signed(self.scattered(pause));
        self.attempts = self.attempts.saturating_add(1);
    }

    /// Up to a tenth longer or shorter, so that what failed together is not tried together again.
    fn scattered(&self, pause: TimeDelta) -> TimeDelta {
        let digest = Sha256::digest(format!("{} {}", self.key.as_str(), self.attempts));
        let percent = i32::from(digest.first().copied().unwrap_or(0)).checked_rem(21).unwrap_or(0);
        let percent = percent.saturating_add(90);
        pause
            .checked_mul(percent)
            .and_then(|hundredfold| hundredfold.checked_div(100))
            .unwrap_or(pause)
    }
}

/// The purchases that operations ask for, as they find them and leave them.
#[derive(Debug, Default)]
pub(crate) struct TrackedPurchases {
    all: Vec<TrackedPurchase>,
    by_key: HashMap<PurchaseKey, usize>,
    /// Keys to keep, with the purchase each leads to.
    new_keys: Vec<(PurchaseKey, usize)>,
    changed: Vec<usize>,
    granted: Vec<Granted>,
}

/// A purchase just granted, and the entry that tells of it.
#[derive(Debug)]
pub(crate) struct Granted {
    /// The purchase's first key.
    pub key: PurchaseKey,
    /// Who got it.
    pub user: UserId,
    /// The entry's store id.
    pub store_transaction_id: StoreTransactionId,
}

impl TrackedPurchases {
    /// Takes note of one that is kept, known by `key` and maybe by others.
    pub(crate) fn insert_kept(&mut self, key: PurchaseKey, purchase: TrackedPurchase) {
        let place = self.all.iter().position(|known| known.key == purchase.key);
        let place = place.unwrap_or_else(|| self.push(purchase));
        self.by_key.insert(key, place);
    }

    /// Who got those that are granted.
    pub(super) fn owners_of_granted(&self) -> impl Iterator<Item = &UserId> {
        let granted = self.all.iter().filter(|purchase| purchase.is_granted());
        granted.filter_map(|purchase| purchase.user.as_ref())
    }

    fn push(&mut self, purchase: TrackedPurchase) -> usize {
        self.all.push(purchase);
        self.all.len().saturating_sub(1)
    }

    /// Those known by any of `keys`, each once, in the order of the keys.
    pub(super) fn find(&self, keys: &[PurchaseKey]) -> Vec<usize> {
        let mut places: Vec<usize> = Vec::new();
        for place in keys.iter().filter_map(|key| self.by_key.get(key)) {
            if !places.contains(place) {
                places.push(*place);
            }
        }
        places
    }

    pub(super) fn at(&self, place: usize) -> &TrackedPurchase {
        &self.all[place]
    }

    /// Changes one.
    pub(super) fn change(&mut self, place: usize) -> &mut TrackedPurchase {
        if !self.changed.contains(&place) {
            self.changed.push(place);
        }
        &mut self.all[place]
    }

    /// Adds one, known by its key.
    pub(super) fn add(&mut self, purchase: TrackedPurchase) -> usize {
        let key = purchase.key.clone();
        let place = self.push(purchase);
        self.changed.push(place);
        self.add_key(key, place);
        place
    }

    /// Has one known by `key` too, if nothing is known by it.
    pub(super) fn add_key(&mut self, key: PurchaseKey, place: usize) {
        if !self.by_key.contains_key(&key) {
            self.by_key.insert(key.clone(), place);
            self.new_keys.push((key, place));
        }
    }

    /// Takes note of a grant.
    pub(super) fn note_granted(&mut self, granted: Granted) {
        self.granted.push(granted);
    }

    /// Those to be kept as they are now.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &TrackedPurchase> {
        self.changed.iter().map(|place| &self.all[*place])
    }

    /// Keys to be kept, each with the first key of its purchase.
    pub(crate) fn new_keys(&self) -> impl Iterator<Item = (&PurchaseKey, &PurchaseKey)> {
        self.new_keys.iter().map(|(key, place)| (key, &self.all[*place].key))
    }

    /// Those granted now.
    pub(crate) fn granted(&self) -> &[Granted] {
        &self.granted
    }
}
