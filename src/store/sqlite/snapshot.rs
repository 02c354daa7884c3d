//! Accounts, prices and grants as one statement reads them, for the writer and the readers alike.
//!
//! One statement, because each costs a hop to SQLite's thread, and because it sees one moment.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt;
use serde::Serialize;
use sqlx::{Row, SqlSafeStr, SqliteConnection, sqlite::SqliteRow};

use super::StoreError;
use crate::{
    domain::{Account, Category, Credits, ModelId, Price, StoreTransactionId, Tokens, UserId},
    store::{Loaded, Wanted},
};

/// Joined in this order (`CROSS`), so that each name is looked up in an index, and nothing is gathered
/// first. `$1` users, `$2` whether prices are wanted, `$3` store transaction ids; lists are JSON arrays.
macro_rules! snapshot_sql {
    () => {
        "SELECT 'credits' AS source, c.user_id AS owner, NULL AS name, c.credits AS amount
         FROM json_each($1) AS wanted CROSS JOIN credits AS c ON c.user_id = wanted.value
         UNION ALL
         SELECT 'tokens', b.user_id, b.model_id, b.allocated_tokens
         FROM json_each($1) AS wanted CROSS JOIN token_balances AS b ON b.user_id = wanted.value
         UNION ALL
         SELECT 'price', category, model_id, price_per_m_token FROM token_pricing WHERE $2
         UNION ALL
         SELECT 'granted', t.user_id, t.transaction_id, 0
         FROM json_each($3) AS wanted
         CROSS JOIN transactions AS t ON t.transaction_id = wanted.value"
    };
}
pub(super) use snapshot_sql;

/// What a statement found.
pub(super) struct Snapshot {
    pub(super) loaded: Loaded,
    /// The version of the database, if it was asked for.
    pub(super) data_version: Option<i64>,
}

/// Runs `sql`, which must hold [`snapshot_sql`], and gathers what it finds.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    sql: impl SqlSafeStr,
    wanted: &Wanted,
) -> Result<Snapshot, StoreError> {
    let query = sqlx::query(sql)
        .bind(json(&wanted.users))
        .bind(wanted.prices)
        .bind(json(&wanted.store_transaction_ids));
    let mut rows = query.fetch(connection);
    let mut found = Found::default();
    while let Some(row) = rows.try_next().await? {
        found.take(&row)?;
    }
    Ok(found.into_snapshot(&wanted.users))
}

pub(super) fn json<T: Serialize + ?Sized>(list: &T) -> String {
    serde_json::to_string(list).expect("texts and numbers always have a JSON form")
}

#[derive(Default)]
struct Found {
    credits: HashMap<String, Credits>,
    tokens: HashMap<String, BTreeMap<ModelId, Tokens>>,
    prices: Vec<(ModelId, Price)>,
    granted: Vec<(StoreTransactionId, UserId)>,
    data_version: Option<i64>,
}

impl Found {
    fn take(&mut self, row: &SqliteRow) -> Result<(), StoreError> {
        let source: &str = row.try_get(0)?;
        let owner: &str = row.try_get(1)?;
        let amount: i64 = row.try_get(3)?;
        if source == "credits" {
            self.credits
                .insert(owner.to_owned(), possible(Credits::new(amount), "credits", owner)?);
            return Ok(());
        }
        let name: &str = row.try_get(2)?;
        match source {
            "version" => self.data_version = Some(amount),
            "tokens" => {
                let model = possible(ModelId::new(name), "token_balances.model_id", name)?;
                let tokens = possible(Tokens::new(amount), "allocated_tokens", owner)?;
                self.tokens.entry(owner.to_owned()).or_default().insert(model, tokens);
            }
            "price" => {
                let model = possible(ModelId::new(name), "token_pricing.model_id", name)?;
                let category = Category::from_name(owner)
                    .ok_or_else(|| StoreError::Corrupt(format!("category of {name}")))?;
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

    fn into_snapshot(mut self, users: &[UserId]) -> Snapshot {
        let mut loaded = Loaded { prices: self.prices.into_iter().collect(), ..Loaded::default() };
        for user in users {
            let credits = self.credits.remove(user.as_str()).unwrap_or_default();
            let tokens = self.tokens.remove(user.as_str()).unwrap_or_default();
            loaded.accounts.insert(user.clone(), Account::loaded(user.clone(), credits, tokens));
        }
        for (id, user) in self.granted {
            loaded.granted.insert(id, user);
        }
        Snapshot { loaded, data_version: self.data_version }
    }
}

/// A value of the database as the rules know it.
pub(super) fn possible<T, E: std::fmt::Display>(
    value: Result<T, E>,
    column: &str,
    whose: &str,
) -> Result<T, StoreError> {
    value.map_err(|error| StoreError::Corrupt(format!("{column} of '{whose}': {error}")))
}
