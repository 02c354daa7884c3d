//! All that a user has, at one moment: what the account holds, and what its categories still take.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Account, CapacityLimits, Category, Credits, ModelId, PriceList, Tokens};

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wallet {
    pub credits: Credits,
    /// How many of them were given.
    pub bonus: Credits,
    /// Of every model that ever got tokens.
    pub tokens: BTreeMap<ModelId, WalletTokens>,
    pub quick: CategoryRoom,
    pub think: CategoryRoom,
    /// Whether nothing may be spent or used.
    pub frozen: bool,
}

/// A model's tokens: those allocated are held or available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WalletTokens {
    pub allocated: Tokens,
    pub held: Tokens,
    pub available: Tokens,
}

/// What a category holds, may hold, and has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CategoryRoom {
    pub total: Tokens,
    pub limit: Tokens,
    pub free: Tokens,
}

impl Wallet {
    /// What an account comes to, with the prices and the limits of the moment by which its holds count.
    pub(crate) fn of(
        account: &Account,
        prices: &PriceList,
        limits: CapacityLimits,
        now: DateTime<Utc>,
    ) -> Self {
        let tokens = account.tokens().iter().map(|(model, allocated)| {
            let available = account.available(model, now);
            let held = allocated.checked_sub(available).expect("what is available is allocated");
            (model.clone(), WalletTokens { allocated: *allocated, held, available })
        });
        let room = |category: Category| {
            let total = account.category_total(category, prices);
            let limit = limits.limit_tokens(category);
            // Reversals and lower limits may leave more in a category than it takes.
            let free = limit.checked_sub(total).unwrap_or_default();
            CategoryRoom { total, limit, free }
        };
        Self {
            credits: account.credits(),
            bonus: account.funds().bonus(),
            tokens: tokens.collect(),
            quick: room(Category::Quick),
            think: room(Category::Think),
            frozen: account.is_frozen(),
        }
    }
}
