//! What the last transactions read and left behind, so that the next need not read it again.
//!
//! It is never trusted: it holds as long as SQLite's `data_version` stands still, which moves when
//! any other connection, of whatever process, has written. The writer has SQLite compare the two
//! under the lock of the transaction that rests on it.

use std::collections::HashMap;

use crate::domain::{Account, Accounts, Facts, PriceList, UserId, Wanted};

/// Most accounts that are remembered; they come to some megabytes.
const ACCOUNTS_MAX: usize = 10_000;

/// Accounts and prices as of one version of the database.
#[derive(Debug, Default)]
pub(super) struct Recent {
    version: i64,
    accounts: HashMap<UserId, Account>,
    prices: Option<PriceList>,
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
        if !known || (wanted.prices && self.prices.is_none()) {
            return None;
        }
        let prices = self.prices.as_ref().filter(|_| wanted.prices).cloned().unwrap_or_default();
        let accounts = wanted
            .users
            .iter()
            .map(|user| self.accounts.remove(user).expect("each is asked for once, and is known"));
        Some(Facts { accounts: accounts.collect(), prices, ..Facts::default() })
    }

    /// Goes on from what was just read, and forgets what is of another version.
    pub(super) fn renew(&mut self, version: i64, wanted: &Wanted, facts: &Facts) {
        if self.version != version {
            *self = Self { version, ..Self::default() };
        }
        if wanted.prices {
            self.prices = Some(facts.prices.clone());
        }
    }

    /// Remembers accounts as they were saved.
    pub(super) fn keep(&mut self, accounts: Accounts) {
        let accounts = accounts.into_all();
        if self.accounts.len().saturating_add(accounts.len()) > ACCOUNTS_MAX {
            self.accounts.clear();
        }
        let saved = accounts.map(|account| (account.user().clone(), account.into_saved()));
        self.accounts.extend(saved);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
