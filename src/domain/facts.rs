//! What operations ask to know before they decide, and what they are told. A new fact is a field in
//! each, and a statement an engine that reads it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{Account, CapacityLimits, PriceList, Replays, StoreTransactionId, UserId, UserKey};

/// What has to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Whose accounts.
    pub users: Vec<UserId>,
    /// Whether the prices.
    pub prices: bool,
    /// To whom these purchases were granted, if they were.
    pub store_transaction_ids: Vec<StoreTransactionId>,
    /// What these requests came to, if they were carried out.
    pub keys: Vec<UserKey>,
}

impl Wanted {
    /// The same, each once and in order.
    pub(crate) fn each_once(mut self) -> Self {
        self.users.sort_unstable();
        self.users.dedup();
        self.store_transaction_ids.sort_unstable();
        self.store_transaction_ids.dedup();
        self.keys.sort_unstable();
        self.keys.dedup();
        self
    }

    /// How many of the things asked for are new if all goes well: purchases and requests.
    pub(crate) const fn hoped_new(&self) -> usize {
        self.store_transaction_ids.len().saturating_add(self.keys.len())
    }
}

/// What is so, as the operations of a batch find it and leave it, in order.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The accounts asked for; new ones for users nobody has seen.
    pub accounts: Accounts,
    /// The prices, if asked for.
    pub prices: PriceList,
    /// Most tokens per category.
    pub limits: CapacityLimits,
    /// Who got which of the purchases asked for.
    pub granted: GrantedPurchases,
    /// The replays of those of the requests that were carried out.
    pub replays: Replays,
    /// When all of the batch happens.
    pub now: DateTime<Utc>,
}

/// Accounts by their users.
#[derive(Debug, Default)]
pub(crate) struct Accounts(HashMap<UserId, Account>);

impl Accounts {
    /// The account of a user whose account was asked for.
    pub(crate) fn of(&mut self, user: &UserId) -> &mut Account {
        self.0.get_mut(user).expect("every account asked for is there, a new one too")
    }

    pub(crate) fn get(&self, user: &UserId) -> Option<&Account> {
        self.0.get(user)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Account> {
        self.0.values()
    }

    pub(crate) fn into_all(self) -> impl ExactSizeIterator<Item = Account> {
        self.0.into_values()
    }
}

impl FromIterator<Account> for Accounts {
    fn from_iter<I: IntoIterator<Item = Account>>(accounts: I) -> Self {
        Self(accounts.into_iter().map(|account| (account.user().clone(), account)).collect())
    }
}

/// Which purchases were granted, and to whom.
#[derive(Debug, Default)]
pub(crate) struct GrantedPurchases(HashMap<StoreTransactionId, UserId>);

impl GrantedPurchases {
    /// Who got the purchase called `id`.
    pub(crate) fn owner(&self, id: &StoreTransactionId) -> Option<&UserId> {
        self.0.get(id)
    }

    pub(crate) fn insert(&mut self, id: StoreTransactionId, user: UserId) {
        self.0.insert(id, user);
    }

    /// Forgets all that was granted to `user`.
    pub(crate) fn forget(&mut self, user: &UserId) {
        self.0.retain(|_, owner| owner != user);
    }
}
