//! Rows of a load, as either engine finds them, made into what the rules know.

use std::collections::{BTreeMap, HashMap};

use super::{DatabaseError, Loaded};
use crate::domain::{
    Account, Category, Credits, Fingerprint, IdempotencyKey, ModelId, Price, Replay,
    StoreTransactionId, Tokens, UserId, UserKey,
};

/// What was found so far.
#[derive(Default)]
pub(super) struct Found {
    credits: HashMap<String, Credits>,
    tokens: HashMap<String, BTreeMap<ModelId, Tokens>>,
    prices: Vec<(ModelId, Price)>,
    granted: Vec<(StoreTransactionId, UserId)>,
}

impl Found {
    /// Takes a row: `credits` of an owner; `tokens` of an owner and a model; the `price` of a model, with
    /// its category for an owner; or a store transaction `granted` to an owner.
    pub(super) fn take(
        &mut self,
        source: &str,
        owner: &str,
        name: &str,
        amount: i64,
    ) -> Result<(), DatabaseError> {
        match source {
            "credits" => {
                let credits = possible(Credits::new(amount), "credits", owner)?;
                self.credits.insert(owner.to_owned(), credits);
            }
            "tokens" => {
                let model = possible(ModelId::new(name), "token_balances.model_id", name)?;
                let tokens = possible(Tokens::new(amount), "allocated_tokens", owner)?;
                self.tokens.entry(owner.to_owned()).or_default().insert(model, tokens);
            }
            "price" => {
                let model = possible(ModelId::new(name), "token_pricing.model_id", name)?;
                let category = Category::from_name(owner)
                    .ok_or_else(|| DatabaseError::Corrupt(format!("category of {name}")))?;
                self.prices.push((model, possible(Price::new(amount, category), "price", name)?));
            }
            _ => {
                let id = possible(StoreTransactionId::new(name), "transaction_id", owner)?;
                let user = possible(UserId::new(owner), "user_id", owner)?;
                self.granted.push((id, user));
            }
        }
        Ok(())
    }

    /// All of it, with new accounts for those of `users` of whom nothing was found.
    pub(super) fn into_loaded(mut self, users: &[UserId]) -> Loaded {
        let mut loaded = Loaded { prices: self.prices.into_iter().collect(), ..Loaded::default() };
        for user in users {
            let credits = self.credits.remove(user.as_str()).unwrap_or_default();
            let tokens = self.tokens.remove(user.as_str()).unwrap_or_default();
            loaded.accounts.insert(user.clone(), Account::loaded(user.clone(), credits, tokens));
        }
        for (id, user) in self.granted {
            loaded.granted.insert(id, user);
        }
        loaded
    }
}

/// A replay as it was kept, with whose it is.
pub(super) fn replay(
    user: &str,
    key: &str,
    fingerprint: i64,
    outcome: String,
) -> Result<(UserKey, Replay), DatabaseError> {
    let key = possible(IdempotencyKey::new(key), "idempotency_keys.key", user)?;
    let user = possible(UserId::new(user), "idempotency_keys.user_id", user)?;
    let replay = Replay { fingerprint: Fingerprint::kept(fingerprint), outcome };
    Ok((UserKey::new(user, key), replay))
}

/// A value of the database as the rules know it.
fn possible<T, E: std::fmt::Display>(
    value: Result<T, E>,
    column: &str,
    whose: &str,
) -> Result<T, DatabaseError> {
    value.map_err(|error| DatabaseError::Corrupt(format!("{column} of '{whose}': {error}")))
}
