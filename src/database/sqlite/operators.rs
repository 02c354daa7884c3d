//! What operators do: how SQLite reads and writes it.

use std::sync::Arc;

use sqlx::SqliteConnection;

use super::{DatabaseError, SqliteReader, snapshot::json};
use crate::{
    database::{
        changes::OperatorChanges,
        operator_log::{LogRow, bounds, page, select_log},
        price_history::{PriceRow, price_page, select_prices},
    },
    domain::{LogFilter, LogPage, ModelId, PricePage, UserId},
};

/// `?` the time and users, each with whether frozen; the time and prices; models without one; the time and products;
/// the time and lines of the log. Lists are JSON arrays.
const SAVE: &str = "
    UPDATE credits SET frozen = said.value ->> 1, updated_at = ?
    FROM json_each(?) AS said WHERE credits.user_id = said.value ->> 0;

    INSERT INTO token_pricing
        (updated_at, model_id, price_per_m_token, category, exchange_rate, margin_percent)
    SELECT ?, value ->> 0, value ->> 1, value ->> 2, 0, 0 FROM json_each(?) WHERE true
    ON CONFLICT (model_id) DO UPDATE SET price_per_m_token = excluded.price_per_m_token,
        category = excluded.category, updated_at = excluded.updated_at;

    DELETE FROM token_pricing WHERE model_id IN (SELECT value FROM json_each(?));

    INSERT INTO products (updated_at, product_id, credits, active)
    SELECT ?, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?) WHERE true
    ON CONFLICT (product_id) DO UPDATE SET credits = excluded.credits, active = excluded.active,
        updated_at = excluded.updated_at;

    INSERT INTO operator_log
        (created_at, actor, action, account, before, after, reason, request_id)
    SELECT ?, value ->> 'actor', value ->> 'action',
        (SELECT id FROM users WHERE user_id = value ->> 'account'), value ->> 'before',
        value ->> 'after', value ->> 'reason', value ->> 'request_id'
    FROM json_each(?)";

/// `?` users with their new names, and the time, in the order of the statements. What refers to a user's name goes with it
/// before the transaction ends.
const ERASE: &str = "
    PRAGMA defer_foreign_keys = ON;

    INSERT INTO erasures (account, user_id, swept_holds)
    SELECT users.id, users.user_id, '' FROM json_each(?) AS said JOIN users ON users.user_id = said.value ->> 0;

    UPDATE users SET user_id = said.value ->> 1
    FROM json_each(?) AS said WHERE users.user_id = said.value ->> 0;

    UPDATE credits SET user_id = said.value ->> 1, updated_at = ?
    FROM json_each(?) AS said WHERE credits.user_id = said.value ->> 0;

    UPDATE token_balances SET user_id = said.value ->> 1
    FROM json_each(?) AS said WHERE token_balances.user_id = said.value ->> 0;

    DELETE FROM consents WHERE user_id IN (SELECT value ->> 0 FROM json_each(?));

    DELETE FROM usage_state WHERE user_id IN (SELECT value ->> 0 FROM json_each(?))";

const READ_LOG: &str = select_log!("log.created_at", "");
const READ_LOG_OF: &str =
    select_log!("log.created_at", "AND log.account = (SELECT id FROM users WHERE user_id = $3)");

const READ_PRICES: &str = select_prices!("changed_at");

const KNOWS: &str = "SELECT EXISTS (SELECT * FROM users WHERE user_id = $1)";

/// Writes what operators did in the open transaction, after everything else.
pub(super) async fn save(
    connection: &mut SqliteConnection,
    changes: &OperatorChanges<'_>,
    now: &Arc<str>,
) -> Result<(), sqlx::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let OperatorChanges { frozen, prices, unpriced, products, log, erased } = changes;
    let query = sqlx::query(SAVE)
        .bind(Arc::clone(now))
        .bind(json(frozen))
        .bind(Arc::clone(now))
        .bind(json(prices))
        .bind(json(unpriced))
        .bind(Arc::clone(now))
        .bind(json(products))
        .bind(Arc::clone(now))
        .bind(json(log));
    query.execute(&mut *connection).await?;
    if erased.is_empty() {
        return Ok(());
    }
    let erased = json(erased);
    let query = sqlx::query(ERASE)
        .bind(erased.clone())
        .bind(erased.clone())
        .bind(Arc::clone(now))
        .bind(erased.clone())
        .bind(erased.clone())
        .bind(erased.clone())
        .bind(erased);
    query.execute(connection).await?;
    Ok(())
}

impl SqliteReader {
    /// A page of the operators' log, newest first.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn operator_log(
        &self,
        filter: &LogFilter,
    ) -> Result<LogPage, DatabaseError> {
        let mut connection = self.connection().await?;
        let (before, limit) = bounds(filter);
        let query = sqlx::query_as(if filter.user.is_some() { READ_LOG_OF } else { READ_LOG })
            .bind(before)
            .bind(limit);
        let query = match &filter.user {
            Some(user) => query.bind(user.as_str().to_owned()),
            None => query,
        };
        let rows: Vec<LogRow> = query.fetch_all(&mut *connection).await?;
        Ok(page(rows, filter))
    }

    /// A page of the changes of a model's price, newest first.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn price_history(
        &self,
        model: &ModelId,
        limit: u16,
        before: Option<i64>,
    ) -> Result<PricePage, DatabaseError> {
        let mut connection = self.connection().await?;
        let query = sqlx::query_as(READ_PRICES)
            .bind(before.unwrap_or(i64::MAX))
            .bind(i64::from(limit).saturating_add(1))
            .bind(model.as_str().to_owned());
        let rows: Vec<PriceRow> = query.fetch_all(&mut *connection).await?;
        price_page(rows, limit)
    }

    /// Whether somebody has seen this user.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn knows(&self, user: &UserId) -> Result<bool, DatabaseError> {
        let mut connection = self.connection().await?;
        let query = sqlx::query_scalar(KNOWS).bind(user.as_str().to_owned());
        Ok(query.fetch_one(&mut *connection).await?)
    }
}
