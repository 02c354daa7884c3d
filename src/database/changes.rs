//! The rows that a batch comes to, table by table, for either engine to bind. How they are written is the
//! engine's business.

use crate::domain::{
    Account, Accounts, Credits, Entry, EntryKind, GrantedPurchases, ModelId, PurchaseKey,
    PurchaseName, Replay, Replays, StoreTransactionId, Tokens, TrackedPurchase, TrackedPurchases,
    UserId, UserKey,
};

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    /// Users of whom everything older is to be forgotten, before the rest is written.
    pub(super) resets: Vec<&'a UserId>,
    /// Users whose credits grow, who may be new.
    pub(super) users: Vec<&'a UserId>,
    pub(super) credits: Vec<(&'a UserId, Credits)>,
    pub(super) tokens: Vec<(&'a UserId, &'a ModelId, Tokens)>,
    pub(super) entries: Vec<EntryRow<'a>>,
    /// Names of purchases, with who got them.
    pub(super) names: Vec<(&'a PurchaseName, &'a UserId)>,
    pub(super) replays: Vec<(&'a UserKey, &'a Replay)>,
    /// Purchases that the stores confirm, as they are now.
    pub(super) purchases: Vec<&'a TrackedPurchase>,
    /// What they are known by, with the first key of each.
    pub(super) purchase_keys: Vec<(&'a PurchaseKey, &'a PurchaseKey)>,
    /// Those of them that the entries tell of, by first key, user and store id.
    pub(super) granted: Vec<(&'a PurchaseKey, &'a UserId, &'a StoreTransactionId)>,
}

/// A row of `transactions`, but for its id and its time.
#[derive(Debug)]
pub(super) struct EntryRow<'a> {
    pub(super) user: &'a UserId,
    pub(super) kind: EntryKind,
    pub(super) amount: i64,
    pub(super) model: Option<&'a ModelId>,
    pub(super) store_transaction_id: Option<&'a StoreTransactionId>,
    pub(super) record: Option<&'a str>,
    pub(super) input_tokens: Option<i64>,
    pub(super) output_tokens: Option<i64>,
    pub(super) price_per_m_token: Option<i64>,
    pub(super) credits_delta: i64,
    pub(super) tokens_delta: i64,
}

impl<'a> Changes<'a> {
    /// Rows are in the order of their users, whoever makes them: two who write the same ones meet at the
    /// first, and don't wait for each other.
    pub(super) fn of(
        accounts: &'a Accounts,
        granted: &'a GrantedPurchases,
        replays: &'a Replays,
        purchases: &'a TrackedPurchases,
    ) -> Self {
        let mut changes = Self {
            names: granted.new_ones().collect(),
            replays: replays.new_ones().collect(),
            purchases: purchases.changed().collect(),
            purchase_keys: purchases.new_keys().collect(),
            ..Self::default()
        };
        changes.names.sort_unstable();
        changes.purchases.sort_unstable_by_key(|purchase| &purchase.key);
        changes.purchase_keys.sort_unstable();
        let granted = purchases.granted().iter();
        changes.granted = granted.map(|it| (&it.key, &it.user, &it.store_transaction_id)).collect();
        let mut accounts: Vec<&Account> = accounts.iter().collect();
        accounts.sort_unstable_by_key(|account| account.user());
        for account in accounts {
            changes.add(account);
        }
        changes
    }

    /// Whether nothing is to be written.
    pub(super) const fn is_empty(&self) -> bool {
        self.resets.is_empty()
            && self.entries.is_empty()
            && self.replays.is_empty()
            && self.purchases.is_empty()
    }

    fn add(&mut self, account: &'a Account) {
        let (user, entries) = (account.user(), account.entries());
        if account.is_reset() {
            self.resets.push(user);
        }
        if entries.iter().any(|entry| entry.credits_delta() > 0) {
            self.users.push(user);
        }
        if entries.iter().any(|entry| entry.credits_delta() != 0) {
            self.credits.push((user, account.credits()));
        }
        let mut models: Vec<&ModelId> = entries.iter().filter_map(Entry::model).collect();
        models.sort_unstable();
        models.dedup();
        for model in models {
            let held = account.tokens().get(model).expect("an entry's model has a balance");
            self.tokens.push((user, model, *held));
        }
        self.entries.extend(entries.iter().map(|entry| EntryRow::of(user, entry)));
    }
}

impl<'a> EntryRow<'a> {
    fn of(user: &'a UserId, entry: &'a Entry) -> Self {
        let row = Self {
            user,
            kind: entry.kind(),
            amount: entry.amount(),
            model: entry.model(),
            store_transaction_id: None,
            record: None,
            input_tokens: None,
            output_tokens: None,
            price_per_m_token: None,
            credits_delta: entry.credits_delta(),
            tokens_delta: entry.tokens_delta(),
        };
        match entry {
            Entry::Purchase { store_transaction_id, record, .. } => Self {
                store_transaction_id: store_transaction_id.as_ref(),
                record: Some(record.as_json()),
                ..row
            },
            Entry::Allocation { price_per_m_token, .. } => {
                Self { price_per_m_token: Some(*price_per_m_token), ..row }
            }
            Entry::Consumption { usage, price_per_m_token, .. } => Self {
                price_per_m_token: *price_per_m_token,
                input_tokens: Some(usage.input().get()),
                output_tokens: Some(usage.output().get()),
                ..row
            },
        }
    }
}
