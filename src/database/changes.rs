//! The rows that a batch comes to, table by table, for either engine to bind. How they are written is the
//! engine's business.

use std::collections::BTreeMap;

use crate::domain::{
    Account, Actor, Credits, Entry, EntryKind, EntryReason, Facts, Hold, HoldId, ModelId,
    OperatorLine, Price, ProductId, PurchaseKey, PurchaseName, Recorded, Replay,
    StoreTransactionId, Tokens, TrackedMessage, TrackedPurchase, TrackedSweep, UserId, UserKey,
};

/// What is to be written.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    /// Users of whom everything older is to be forgotten, before the rest is written.
    pub(super) resets: Vec<&'a UserId>,
    /// Users whose credits grow, who may be new.
    pub(super) users: Vec<&'a UserId>,
    /// Credits, and those of them that were given.
    pub(super) credits: Vec<(&'a UserId, Credits, Credits)>,
    pub(super) tokens: Vec<(&'a UserId, &'a ModelId, Tokens)>,
    pub(super) entries: Vec<EntryRow<'a>>,
    /// Names of purchases, with who got them.
    pub(super) names: Vec<(&'a PurchaseName, &'a UserId)>,
    pub(super) replays: Vec<(&'a UserKey, &'a Replay)>,
    /// Holds that are new and open.
    pub(super) opened: Vec<&'a Hold>,
    /// Holds that were closed, as they are now.
    pub(super) closed: Vec<&'a Hold>,
    pub(super) stores: StoreChanges<'a>,
    pub(super) operators: OperatorChanges<'a>,
}

/// What operators have to be written.
#[derive(Debug, Default)]
pub(super) struct OperatorChanges<'a> {
    /// Users who are frozen from now on, or no longer.
    pub(super) frozen: Vec<(&'a UserId, bool)>,
    /// Prices from now on, and models that are taken off.
    pub(super) prices: Vec<(&'a ModelId, i64, &'static str)>,
    pub(super) unpriced: Vec<&'a ModelId>,
    /// Products from now on: credits of one, and whether it is offered.
    pub(super) products: Vec<(&'a ProductId, Credits, bool)>,
    /// Lines of their log.
    pub(super) log: Vec<&'a OperatorLine>,
    /// Users who are erased from now on, with their new names.
    pub(super) erased: Vec<(&'a UserId, &'a UserId)>,
}

impl<'a> OperatorChanges<'a> {
    /// Whoever is frozen is among the accounts.
    fn of(facts: &'a Facts) -> Self {
        let priced = |(model, price): (&'a ModelId, &Option<Price>)| {
            price.map(|price| (model, price.price_per_m_token(), price.category().name()))
        };
        let unpriced = facts.price_changes.iter().filter(|(_, price)| price.is_none());
        let products = facts.product_changes.iter();
        Self {
            frozen: Vec::new(),
            prices: facts.price_changes.iter().filter_map(priced).collect(),
            unpriced: unpriced.map(|(model, _)| model).collect(),
            products: products.map(|(id, it)| (id, it.credits, it.active)).collect(),
            log: facts.log.iter().collect(),
            erased: facts.erased.iter().map(|(user, name)| (user, name)).collect(),
        }
    }

    /// Whether nothing is to be written: nothing is without a line in the log.
    pub(super) const fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// Whether prices change.
    pub(super) const fn change_prices(&self) -> bool {
        !self.prices.is_empty() || !self.unpriced.is_empty()
    }
}

/// What is to be written about the app stores.
#[derive(Debug, Default)]
pub(super) struct StoreChanges<'a> {
    /// Purchases that the stores confirm, as they are now.
    pub(super) purchases: Vec<&'a TrackedPurchase>,
    /// What they are known by, with the first key of each.
    pub(super) purchase_keys: Vec<(&'a PurchaseKey, &'a PurchaseKey)>,
    /// The stores' messages, and how far their lists were read, as they are now.
    pub(super) messages: Vec<&'a TrackedMessage>,
    pub(super) sweeps: Vec<&'a TrackedSweep>,
    /// Users and their last word.
    pub(super) consents: BTreeMap<&'a UserId, bool>,
}

impl<'a> StoreChanges<'a> {
    fn of(facts: &'a Facts) -> Self {
        let mut changes = Self {
            purchases: facts.purchases.changed().collect(),
            purchase_keys: facts.purchases.new_keys().collect(),
            messages: facts.inbox.changed().collect(),
            sweeps: facts.sweeps.changed().collect(),
            consents: facts.consents.iter().map(|(user, word)| (user, *word)).collect(),
        };
        changes.purchases.sort_unstable_by_key(|purchase| &purchase.key);
        changes.purchase_keys.sort_unstable();
        changes
    }

    /// Whether nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.purchases.is_empty()
            && self.messages.is_empty()
            && self.sweeps.is_empty()
            && self.consents.is_empty()
    }
}

/// A row of `transactions`, but for its time.
#[derive(Debug)]
pub(super) struct EntryRow<'a> {
    pub(super) id: i64,
    pub(super) actor: Option<Actor>,
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
    /// What only few kinds have.
    pub(super) rare: RareColumns<'a>,
}

/// Columns that are empty in nearly all rows of `transactions`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RareColumns<'a> {
    pub(super) reverses: Option<i64>,
    pub(super) allocation: Option<i64>,
    pub(super) reason: Option<&'a EntryReason>,
    pub(super) bonus_delta: i64,
    pub(super) hold: Option<HoldId>,
    pub(super) shortfall: Option<Tokens>,
}

impl RareColumns<'_> {
    /// Whether all are empty.
    pub(super) fn are_empty(self) -> bool {
        self == Self::default()
    }

    /// Whether all are empty but for what a settled hold has.
    pub(super) fn are_at_most_of_a_hold(self) -> bool {
        Self { hold: None, shortfall: None, ..self }.are_empty()
    }
}

impl<'a> Changes<'a> {
    /// Rows are in the order of their users, whoever makes them: two who write the same ones meet at the
    /// first, and don't wait for each other.
    pub(super) fn of(facts: &'a Facts) -> Self {
        let mut changes = Self {
            names: facts.granted.new_ones().collect(),
            replays: facts.replays.new_ones().collect(),
            stores: StoreChanges::of(facts),
            operators: OperatorChanges::of(facts),
            ..Self::default()
        };
        changes.names.sort_unstable();
        let mut accounts: Vec<&Account> = facts.accounts.iter().collect();
        accounts.sort_unstable_by_key(|account| account.user());
        for account in accounts {
            changes.add(account);
        }
        changes
    }

    /// Whether nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.resets.is_empty()
            && !self.change_accounts()
            && self.replays.is_empty()
            && self.stores.is_empty()
            && self.operators.is_empty()
    }

    /// Whether there is anything of what nearly every batch comes to.
    pub(super) fn change_accounts(&self) -> bool {
        !(self.entries.is_empty() && self.opened.is_empty() && self.closed.is_empty())
    }

    fn add(&mut self, account: &'a Account) {
        let (user, entries) = (account.user(), account.entries());
        if account.is_reset() {
            self.resets.push(user);
        }
        if let Some(frozen) = account.said_frozen() {
            self.operators.frozen.push((user, frozen));
        }
        if entries.iter().any(|it| it.entry.credits_delta() > 0) {
            self.users.push(user);
        }
        if entries.iter().any(|it| it.entry.credits_delta() != 0) {
            let funds = account.funds();
            self.credits.push((user, funds.total(), funds.bonus()));
        }
        let models = entries.iter().filter_map(|it| it.entry.model());
        let mut models: Vec<&ModelId> = models.collect();
        models.sort_unstable();
        models.dedup();
        for model in models {
            let held = account.tokens().get(model).expect("an entry's model has a balance");
            self.tokens.push((user, model, *held));
        }
        self.opened.extend(account.holds().opened());
        self.closed.extend(account.holds().closed());
        self.entries.extend(entries.iter().map(|entry| EntryRow::of(user, entry)));
    }
}

impl<'a> EntryRow<'a> {
    fn of(user: &'a UserId, recorded: &'a Recorded) -> Self {
        let Recorded { id, actor, entry } = recorded;
        let row = Self {
            id: *id,
            actor: *actor,
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
            rare: RareColumns {
                reverses: entry.reverses(),
                allocation: entry.allocation(),
                reason: entry.reason(),
                bonus_delta: entry.bonus_delta(),
                ..RareColumns::default()
            },
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
            Entry::Consumption { usage, price_per_m_token, hold, shortfall, .. } => Self {
                rare: RareColumns { hold: *hold, shortfall: *shortfall, ..row.rare },
                price_per_m_token: *price_per_m_token,
                input_tokens: Some(usage.input().get()),
                output_tokens: Some(usage.output().get()),
                ..row
            },
            Entry::CreditsRefund { .. }
            | Entry::TokensRefund { .. }
            | Entry::RefundReversal { .. }
            | Entry::ConsumptionReversal { .. }
            | Entry::Return { .. }
            | Entry::Grant { .. }
            | Entry::CreditsAdjustment { .. }
            | Entry::TokensAdjustment { .. } => row,
        }
    }
}
