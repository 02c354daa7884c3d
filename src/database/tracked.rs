//! Purchases that the stores confirm, as either engine finds and writes them: as JSON, whose members are the
//! columns. The statements are the engines'.

use std::collections::{HashMap, HashSet};

use serde::de::DeserializeOwned;

use super::{DatabaseError, rows::row};
use crate::domain::{
    Credits, EntryKind, Facts, Inbox, KeptEntries, KeptEntry, Lot, Product, ProductId, ProductList,
    PurchaseKey, PurchaseState, Store, Sweeps, Tokens, TrackedPurchase, TrackedPurchases, UserId,
    Wanted,
};

/// The columns that a [`TrackedPurchase`] is kept in, but for its id.
pub(super) const COLUMNS: [&str; 32] = [
    "key",
    "store",
    "state",
    "reason",
    "user_id",
    "token",
    "record",
    "environment",
    "store_id",
    "original_id",
    "product_id",
    "quantity",
    "items",
    "credits",
    "price_milliunits",
    "currency",
    "verified",
    "received_at",
    "purchased_at",
    "granted_at",
    "acknowledged_at",
    "consumed_at",
    "due_at",
    "unknown_since",
    "attempts",
    "entry_id",
    "refund",
    "refund_told_at",
    "refund_store",
    "refund_operator",
    "taken_credits",
    "shortfall_credits",
];
/// Those that a `TrackedMessage` is kept in.
pub(super) const INBOX_COLUMNS: [&str; 8] =
    ["message_id", "store", "way", "content", "received_at", "due_at", "attempts", "outcome"];
/// Those that a `TrackedSweep` is kept in.
pub(super) const SWEEP_COLUMNS: [&str; 4] = ["name", "done_until", "due_at", "attempts"];

row! {
    /// A row of the statement that reads what operations on purchases must know.
    pub(super) struct StoreFactRow<'r> {
        /// The kind: a `purchase` by one of its keys, a `product`, a `user`, how many purchases of a user are
        /// `waiting`, a `message`, a `sweep`, and a `lot` of a user's.
        source: &'r str,
        name: &'r str,
        /// JSON.
        value: &'r str,
    }
}

/// How many more tokens a balance may have by the time a lot goes back: those that reversals and
/// adjustments of the same batch bring.
pub(super) const fn may_come_back(wanted: &Wanted) -> i64 {
    if wanted.reversing.is_empty() && !wanted.adds_tokens { 0 } else { Tokens::MAX.get() }
}

/// How many given credits the refund `part` took, with the engine's name for the larger of two numbers. Of an
/// allocation bought credits go back first, so it is what went back beyond them, with it and before it.
macro_rules! bonus_of_part {
    ($larger:literal) => {
        concat!(
            "CASE WHEN part.allocation_id IS NULL THEN -part.bonus_delta ELSE (
                 SELECT CAST(",
            $larger,
            "(sum(back.amount) - min(lot.amount + lot.bonus_delta), 0) - ",
            $larger,
            "(sum(back.amount) - part.amount - min(lot.amount + lot.bonus_delta), 0) AS BIGINT)
                 FROM transactions AS back JOIN transactions AS lot ON lot.id = back.allocation_id
                 WHERE back.allocation_id = part.allocation_id AND back.id <= part.id
             ) END"
        )
    };
}
pub(super) use bonus_of_part;

/// What was found so far.
#[derive(Default)]
pub(super) struct StoreFacts {
    purchases: TrackedPurchases,
    products: Vec<(ProductId, Product)>,
    users: HashSet<UserId>,
    waiting: HashMap<UserId, u64>,
    inbox: Inbox,
    sweeps: Sweeps,
    lots: HashMap<UserId, Vec<Lot>>,
    entries: KeptEntries,
}

/// A purchase as a list shows it: JSON, without the entries that took it back.
pub(super) fn listed(json: &str) -> Result<TrackedPurchase, DatabaseError> {
    parsed("purchase", "a list", json)
}

impl StoreFacts {
    pub(super) fn take(&mut self, row: &StoreFactRow<'_>) -> Result<(), DatabaseError> {
        let StoreFactRow { source, name, value } = *row;
        let user = || UserId::new(name).map_err(|error| impossible(source, name, &error));
        match source {
            "purchase" => {
                let purchase: TrackedPurchase = parsed(source, name, value)?;
                self.purchases.insert_kept(PurchaseKey::kept(name), purchase);
            }
            "product" => self.products.push(product(name, value)?),
            "user" => drop(self.users.insert(user()?)),
            "waiting" => drop(self.waiting.insert(user()?, parsed(source, name, value)?)),
            "message" => self.inbox.insert_kept(parsed(source, name, value)?),
            "sweep" => self.sweeps.insert_kept(parsed(source, name, value)?),
            "lot" => {
                let (allocation, model, credits, bonus, tokens, tokens_back) =
                    parsed(source, name, value)?;
                let lot = Lot { allocation, model, credits, bonus, tokens, tokens_back };
                self.lots.entry(user()?).or_default().push(lot);
            }
            "entry" => {
                let (user, kind, model, amount, reversed): (_, String, _, _, _) =
                    parsed(source, name, value)?;
                let kind = EntryKind::from_name(&kind)
                    .ok_or_else(|| impossible(source, name, &"its type is unknown"))?;
                let entry = KeptEntry { user, kind, model, amount, reversed };
                self.entries.insert(parsed(source, name, name)?, entry);
            }
            other => return Err(DatabaseError::Corrupt(format!("a row of '{other}'"))),
        }
        Ok(())
    }

    /// How many entries there may be because of what was found, beside those of the operations themselves: each
    /// lot may go back in part, by refunds and by each return, of the lots too that the batch itself makes; and what
    /// was taken be given back.
    ///
    /// Several operations may follow each other in a batch: what one buys or takes, the next takes or gives back. Each
    /// lot and each part comes to its end once, and each operation ends within one lot and one part.
    pub(super) fn entries(&self, wanted: &Wanted) -> usize {
        let lots: usize = self.lots.values().map(Vec::len).sum();
        let of_one = lots.saturating_add(self.purchases.parts());
        let followed = wanted.entries > 1 && !wanted.lots_of.is_empty();
        let by_followers =
            if followed { lots.saturating_add(wanted.entries.saturating_mul(7)) } else { 0 };
        let returns = wanted.returning.len();
        let by_returns = returns.saturating_mul(lots.saturating_add(wanted.entries));
        of_one.saturating_add(by_followers).saturating_add(by_returns)
    }

    /// Adds all of it to `facts`, to whose accounts those of `lots_of` are added too.
    pub(super) fn add_to(mut self, facts: &mut Facts, lots_of: &[UserId]) {
        for user in lots_of {
            let lots = self.lots.remove(user).unwrap_or_default().into_iter().collect();
            facts.accounts.of(user).know_lots(lots);
        }
        facts.entries = self.entries;
        facts.inbox = self.inbox;
        facts.sweeps = self.sweeps;
        facts.purchases = self.purchases;
        facts.products = self.products.into_iter().collect();
        facts.user_ids = self.users;
        facts.waiting = self.waiting;
    }

    /// The products.
    pub(super) fn into_products(self) -> ProductList {
        self.products.into_iter().collect()
    }
}

fn product(name: &str, value: &str) -> Result<(ProductId, Product), DatabaseError> {
    let (credits, active): (Credits, bool) = parsed("product", name, value)?;
    let id = ProductId::new(name).map_err(|error| impossible("product", name, &error))?;
    Ok((id, Product { credits, active }))
}

fn parsed<T: DeserializeOwned>(what: &str, name: &str, json: &str) -> Result<T, DatabaseError> {
    serde_json::from_str(json).map_err(|error| impossible(what, name, &error))
}

fn impossible(what: &str, name: &str, error: &dyn std::fmt::Display) -> DatabaseError {
    DatabaseError::Corrupt(format!("{what} '{name}': {error}"))
}

/// A purchase whose store is to be asked or told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DuePurchase {
    /// Its first key.
    pub key: PurchaseKey,
    /// Whose it is.
    pub user: UserId,
}

row! {
    /// [`DuePurchase`].
    pub(super) struct DueRow<'r> {
        key: &'r str,
        user_id: &'r str,
    }
}

impl DueRow<'_> {
    pub(super) fn into_due(self) -> Result<DuePurchase, DatabaseError> {
        let user = UserId::new(self.user_id)
            .map_err(|error| impossible("purchases.user_id", self.user_id, &error))?;
        Ok(DuePurchase { key: PurchaseKey::kept(self.key), user })
    }
}

/// Those that are due at `$1`, at most `$2`, the longest due first. Nothing is put off beyond `$3`: there the clock
/// was ahead. Asked for apart, so that the many in between are not looked at.
pub(super) const DUE: &str = "
    SELECT key, user_id FROM (
        SELECT * FROM (
            SELECT key, user_id, due_at FROM purchases
            WHERE due_at <= $1 AND user_id IS NOT NULL ORDER BY due_at LIMIT $2) AS past
        UNION ALL
        SELECT * FROM (
            SELECT key, user_id, due_at FROM purchases
            WHERE due_at > $3 AND user_id IS NOT NULL ORDER BY due_at LIMIT $2) AS ahead) AS due
    ORDER BY due_at LIMIT $2";

/// Makes those due at `$1` that are to be asked for or acknowledged, at most `$2`.
pub(super) const MAKE_DUE: &str = "
    UPDATE purchases SET due_at = $1 WHERE id IN (
        SELECT id FROM purchases
        WHERE due_at IS NOT NULL AND due_at > $1
            AND (granted_at IS NULL OR acknowledged_at IS NULL)
        LIMIT $2)";
/// How many are made due at once.
pub(super) const MADE_DUE_AT_ONCE: i64 = 256;

/// How many purchases there are of each store and state, and since when the oldest waits; of those granted, whose store
/// was not told yet; and of those that wait, which their store did not confirm the last time.
pub(super) const COUNTS: &str = "
    SELECT store, state, count(*) AS purchases, CAST(min(received_at) AS TEXT) AS oldest
    FROM purchases GROUP BY store, state
    UNION ALL
    SELECT store, 'unacknowledged', count(*), CAST(min(granted_at) AS TEXT)
    FROM purchases
    WHERE store = 'google' AND granted_at IS NOT NULL AND acknowledged_at IS NULL
        AND due_at IS NOT NULL
    GROUP BY store
    UNION ALL
    SELECT store, 'unconfirmed', count(*), CAST(min(received_at) AS TEXT)
    FROM purchases WHERE state = 'received' AND attempts > 0
    GROUP BY store";

row! {
    /// A row of [`COUNTS`].
    pub(super) struct CountRow {
        store: String,
        state: String,
        purchases: i64,
        oldest: Option<String>,
    }
}

/// How many purchases there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct PurchaseCounts {
    /// Of each store and state that there are any of.
    pub by_state: Vec<(Store, PurchaseState, u64)>,
    /// When the oldest of those came that wait for their store's word, or for somebody to look.
    pub oldest_waiting: Option<chrono::DateTime<chrono::Utc>>,
    /// Granted purchases whose store was not told that they were delivered.
    pub unacknowledged: u64,
    /// When the oldest of those was granted.
    pub oldest_unacknowledged: Option<chrono::DateTime<chrono::Utc>>,
    /// Purchases that wait and that their store did not confirm the last time, of each store that there are any of.
    pub unconfirmed: Vec<(Store, u64)>,
}

impl PurchaseCounts {
    pub(super) fn of(rows: impl IntoIterator<Item = CountRow>) -> Self {
        let mut counts = Self::default();
        for CountRow { store, state, purchases, oldest } in rows {
            let oldest = oldest.as_deref().and_then(time);
            let earlier = |one: Option<_>| one.into_iter().chain(oldest).min();
            if state == "unacknowledged" {
                counts.unacknowledged =
                    counts.unacknowledged.saturating_add(purchases.unsigned_abs());
                counts.oldest_unacknowledged = earlier(counts.oldest_unacknowledged);
                continue;
            }
            let store = Store::from_name(&store);
            if let (Some(store), "unconfirmed") = (store, state.as_str()) {
                counts.unconfirmed.push((store, purchases.unsigned_abs()));
                continue;
            }
            let state = PurchaseState::ALL.into_iter().find(|known| known.name() == state);
            let (Some(store), Some(state)) = (store, state) else { continue };
            counts.by_state.push((store, state, purchases.unsigned_abs()));
            if state.is_open() {
                counts.oldest_waiting = earlier(counts.oldest_waiting);
            }
        }
        counts
    }
}

/// A time as either engine writes it.
pub(super) fn time(text: &str) -> Option<chrono::DateTime<chrono::Utc>> {
    use chrono::DateTime;
    let iso = DateTime::parse_from_rfc3339(text);
    let postgres = || DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z");
    iso.or_else(|_| postgres()).ok().map(|time| time.to_utc())
}
