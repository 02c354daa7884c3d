//! A store's purchase as it is kept, from the moment somebody brings it, and when its store is asked again. What moves
//! it from one state to the next is in `receipt`, `grant` and `errand`.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize, Serializer};

use super::{
    Credits, Environment, PaidPurchase, ProductId, ProductList, PurchaseKey, PurchaseName,
    PurchaseRecord, PurchaseState, PurchaseToken, PurchasedItem, Reason, Store, StoreRefund,
    StoreTransactionId, UserId, pause,
    store_refund::{self, GrantedItem},
};

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
    /// The entry that granted it.
    pub entry_id: Option<i64>,
    /// What is refunded by its store's word; none where nothing is.
    #[serde(with = "store_refund::kept")]
    pub refund: Option<StoreRefund>,
    /// When its store said so, where it says when.
    #[serde(serialize_with = "microseconds_if_any")]
    pub refund_told_at: Option<DateTime<Utc>>,
    /// How many of its credits that is, and how many an operator gave the money back for. The larger counts.
    pub refund_store: Credits,
    pub refund_operator: Credits,
    /// What was taken for it, and what could not be.
    pub taken_credits: Credits,
    pub shortfall_credits: Credits,
    /// The entries that took it, the oldest first.
    #[serde(skip_serializing, default)]
    pub parts: Vec<RefundPart>,
}

/// An entry that took back something of a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct RefundPart {
    pub entry: i64,
    /// What it took, in credits.
    pub credits: Credits,
    /// How many of those had been given.
    pub bonus: Credits,
    /// What was given back of that.
    pub given_back: Credits,
}

impl RefundPart {
    /// One of which nothing was given back.
    pub(super) const fn new(entry: i64, credits: Credits, bonus: Credits) -> Self {
        Self { entry, credits, bonus, given_back: Credits::ZERO }
    }

    /// Gives so many more credits back. Tells how many of those had been given: they were taken last, and come back
    /// first.
    pub(super) fn give_back(&mut self, credits: Credits) -> Credits {
        let before = self.given_back.min(self.bonus);
        self.given_back = self
            .given_back
            .checked_add(credits)
            .expect("no more is given back than was taken, which is an amount");
        self.given_back.min(self.bonus).beyond(before)
    }
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
pub(super) fn microseconds<S: Serializer>(
    time: &DateTime<Utc>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true))
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
pub(super) fn microseconds_if_any<S: Serializer>(
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
        let nobodys = Self::unclaimed(key, store, now);
        Self { state: PurchaseState::Received, user: Some(user), ..nobodys }
    }

    /// One that its store tells of, and nobody has brought.
    pub(super) fn unclaimed(key: PurchaseKey, store: Store, now: DateTime<Utc>) -> Self {
        Self {
            id: None,
            key,
            store,
            state: PurchaseState::Unclaimed,
            reason: None,
            user: None,
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
            entry_id: None,
            refund: None,
            refund_told_at: None,
            refund_store: Credits::ZERO,
            refund_operator: Credits::ZERO,
            taken_credits: Credits::ZERO,
            shortfall_credits: Credits::ZERO,
            parts: Vec::new(),
        }
    }

    /// Its id for the history: the store's, or the hash of its token.
    pub(crate) fn shown_id(&self) -> StoreTransactionId {
        let key = self.key.as_str();
        let id = self
            .store_id
            .as_deref()
            .unwrap_or_else(|| key.rsplit_once("token:").map_or(key, |(_, hash)| hash));
        StoreTransactionId::new(id).expect("a store's id is checked before it is kept")
    }

    /// What its entry is known by besides, as far as the client told it.
    pub(crate) fn record_token_name(&self) -> Option<PurchaseName> {
        PurchaseRecord::new(self.record.clone()?).token_name()
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

    /// Whether it is another one, that was granted.
    pub(super) fn is_duplicate(&self) -> bool {
        self.state == PurchaseState::Refused && self.reason == Some(Reason::Duplicate)
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

    /// What its store said, where that was signed: it can't be asked again.
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
            account: self.named_account(),
            purchased_at: self.purchased_at,
            price_milliunits: self.price_milliunits,
            currency: self.currency.clone(),
            acknowledged: false,
            consumed: false,
            said_at: None,
            refund: StoreRefund::default(),
            verified: self.verified.clone()?,
        })
    }

    /// The account that the app named to Apple when it was sold: it may have been refunded before anybody looked
    /// whose that is.
    fn named_account(&self) -> Option<String> {
        let verified: serde_json::Value = serde_json::from_str(self.verified.as_deref()?).ok()?;
        let account = verified.get("appAccountToken")?.as_str()?;
        (!account.is_empty()).then(|| account.to_owned())
    }

    /// What a granted purchase was granted for.
    pub(super) fn granted_items(&self) -> Vec<GrantedItem> {
        let items = self.items.as_deref().expect("what is granted was learned");
        GrantedItem::all_kept(items).expect("what is granted has a product with credits each")
    }

    /// Comes to an end in which its store needs neither be asked nor told anything.
    pub(super) fn end(&mut self, state: PurchaseState, reason: Reason) {
        self.state = state;
        self.reason = Some(reason);
        self.token = None;
        self.record = None;
        self.due_at = None;
    }

    /// Comes to an end as another one that was granted to `owner`.
    pub(super) fn end_as_duplicate(&mut self, owner: &UserId) {
        self.end(PurchaseState::Refused, Reason::Duplicate);
        self.user = Some(owner.clone());
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
        let is_seldom = age >= OFTEN_FOR && !self.is_granted();
        let pause = if is_seldom { SELDOM } else { pause::after(self.attempts) };
        let pause = pause::scattered(pause, self.key.as_str(), self.attempts);
        self.due_at = now.checked_add_signed(pause);
        self.attempts = self.attempts.saturating_add(1);
    }
}
