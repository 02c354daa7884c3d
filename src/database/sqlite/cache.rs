//! What the last transactions read and left behind, so that the next need not read it again.
//!
//! It is never trusted: it holds as long as SQLite's `data_version` stands still, which moves when
//! any other connection, of whatever process, has written. The writer has SQLite compare the two
//! under the lock of the transaction that rests on it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::domain::{Account, Accounts, EntryIds, Facts, PriceList, UserId, Wanted};

/// Most accounts that are remembered; they come to some megabytes.
const ACCOUNTS_MAX: usize = 10_000;

/// Most holds that are remembered with them; as many bytes as the accounts.
const HOLDS_MAX: usize = 20_000;

/// Accounts and prices as of one version of the database.
#[derive(Debug, Default)]
pub(super) struct Recent {
    version: i64,
    accounts: HashMap<UserId, Account>,
    /// How many holds the accounts have.
    holds: usize,
    prices: Option<PriceList>,
    /// The ids that the next entries get.
    entry_ids: EntryIds,
}

impl Recent {
    /// The version all of it is of.
    pub(super) const fn version(&self) -> i64 {
        self.version
    }

    /// Gives away what is wanted, if all of it is remembered. Whoever takes an account gives it back
    /// with [`Self::keep`] once it is saved, or it is forgotten.
    ///
    /// Whether a store transaction was granted or a request carried out is not remembered: the tables
    /// refuse both a second time.
    pub(super) fn take(&mut self, wanted: &Wanted) -> Option<Facts> {
        let known = wanted.users.iter().all(|user| self.accounts.contains_key(user));
        let holds = wanted.holds.iter().all(|(user, id)| {
            self.accounts.get(user).is_some_and(|account| account.holds().get(*id).is_some())
        });
        if !known || !holds || (wanted.prices && self.prices.is_none()) {
            return None;
        }
        let prices = self.prices.as_ref().filter(|_| wanted.prices).cloned().unwrap_or_default();
        let accounts = wanted
            .users
            .iter()
            .map(|user| self.accounts.remove(user).expect("each is asked for once, and is known"));
        let accounts: Accounts = accounts.collect();
        let taken: usize = accounts.iter().map(|account| account.holds().len()).sum();
        self.holds = self.holds.saturating_sub(taken);
        let accounts = accounts.with_ids(self.entry_ids.clone());
        Some(Facts { accounts, prices, ..Facts::default() })
    }

    /// Goes on from what was just read, and forgets what is of another version.
    pub(super) fn renew(&mut self, version: i64, wanted: &Wanted, facts: &Facts) {
        if self.version != version {
            let entry_ids = self.entry_ids.clone();
            *self = Self { version, entry_ids, ..Self::default() };
        }
        if wanted.prices {
            self.prices = Some(facts.prices.clone());
        }
    }

    /// The ids that entries get after the newest one that was just read. None is given twice, also where the newest
    /// ones were deleted.
    pub(super) fn ids_after(&mut self, newest: i64) -> EntryIds {
        if let EntryIds::From(next) = &mut self.entry_ids {
            *next = (*next).max(newest.saturating_add(1));
        }
        self.entry_ids.clone()
    }

    /// Remembers accounts as they were saved.
    pub(super) fn keep(&mut self, accounts: Accounts, now: DateTime<Utc>) {
        self.entry_ids.clone_from(accounts.ids());
        let accounts = accounts.into_all();
        if self.accounts.len().saturating_add(accounts.len()) > ACCOUNTS_MAX {
            self.forget_accounts();
        }
        for account in accounts.map(|account| account.into_saved(now)) {
            self.holds = self.holds.saturating_add(account.holds().len());
            if self.holds > HOLDS_MAX {
                self.forget_accounts();
                self.holds = account.holds().len();
            }
            if let Some(before) = self.accounts.insert(account.user().clone(), account) {
                self.holds = self.holds.saturating_sub(before.holds().len());
            }
        }
    }

    fn forget_accounts(&mut self) {
        self.accounts.clear();
        self.holds = 0;
    }

    /// Forgets the account of a user.
    pub(super) fn forget(&mut self, user: &UserId) {
        if let Some(account) = self.accounts.remove(user) {
            self.holds = self.holds.saturating_sub(account.holds().len());
        }
    }

    /// Forgets the prices, which have changed.
    pub(super) fn forget_prices(&mut self) {
        self.prices = None;
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        let entry_ids = self.entry_ids.clone();
        *self = Self { entry_ids, ..Self::default() };
    }
}
