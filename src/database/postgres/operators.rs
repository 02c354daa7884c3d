//! What operators do: how PostgreSQL reads and writes it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::PostgresReader;
use crate::{
    database::{
        DatabaseError,
        changes::OperatorChanges,
        operator_log::{LogRow, bounds, page, select_log},
        price_history::{PriceRow, price_page, select_prices},
    },
    domain::{LogFilter, LogPage, ModelId, PricePage, UserId},
};

/// `$1` the time, `$2` users, each with whether frozen.
const FREEZE: &str = "
    UPDATE credits SET frozen = (said.value ->> 1)::boolean, updated_at = $1
    FROM jsonb_array_elements($2::jsonb) AS said (value)
    WHERE credits.user_id = ANY(ARRAY[said.value ->> 0])";

/// `$1` the time, `$2` prices.
const SET_PRICES: &str = "
    INSERT INTO token_pricing
        (updated_at, model_id, price_per_m_token, category, exchange_rate, margin_percent)
    SELECT $1, said.value ->> 0, (said.value ->> 1)::bigint, said.value ->> 2, 0, 0
    FROM jsonb_array_elements($2::jsonb) AS said (value)
    ON CONFLICT (model_id) DO UPDATE SET price_per_m_token = excluded.price_per_m_token,
        category = excluded.category, updated_at = excluded.updated_at";

/// `$1` models.
const REMOVE_PRICES: &str = "
    DELETE FROM token_pricing
    WHERE model_id IN (SELECT jsonb_array_elements_text($1::jsonb))";

/// `$1` the time, `$2` products.
const SET_PRODUCTS: &str = "
    INSERT INTO products (updated_at, product_id, credits, active)
    SELECT $1, said.value ->> 0, (said.value ->> 1)::bigint, (said.value ->> 2)::boolean
    FROM jsonb_array_elements($2::jsonb) AS said (value)
    ON CONFLICT (product_id) DO UPDATE SET credits = excluded.credits, active = excluded.active,
        updated_at = excluded.updated_at";

/// `$1` the time, `$2` lines.
const LOG: &str = "
    INSERT INTO operator_log
        (created_at, actor, action, account, before, after, reason, request_id)
    SELECT $1, line.actor, line.action, users.id, line.before, line.after, line.reason,
        line.request_id
    FROM jsonb_to_recordset($2::jsonb) AS line (
        actor text, action text, account text, before text, after text, reason text,
        request_id text)
    LEFT JOIN users ON users.user_id = ANY(ARRAY[line.account])";

/// `$1` the time, `$2` users with their new names. References are looked at when all of it is done.
const ERASE: &str = "
    WITH said AS (
        SELECT value ->> 0 AS old_name, value ->> 1 AS new_name
        FROM jsonb_array_elements($2::jsonb) AS list (value)
    ), noted AS (
        INSERT INTO erasures (account, user_id, swept_holds)
        SELECT users.id, users.user_id, '' FROM said JOIN users ON users.user_id = ANY(ARRAY[old_name])
    ), named AS (
        UPDATE users SET user_id = new_name FROM said WHERE users.user_id = ANY(ARRAY[old_name])
    ), balances AS (
        UPDATE token_balances SET user_id = new_name
        FROM said WHERE token_balances.user_id = ANY(ARRAY[old_name])
    ), consents AS (
        DELETE FROM consents USING said WHERE consents.user_id = ANY(ARRAY[old_name])
    ), summed AS (
        DELETE FROM usage_state USING said WHERE usage_state.user_id = ANY(ARRAY[old_name])
    )
    UPDATE credits SET user_id = new_name, updated_at = $1
    FROM said WHERE credits.user_id = ANY(ARRAY[old_name])";

/// As [`crate::database::timestamp`] writes it.
const READ_LOG: &str = select_log!(
    "to_char(log.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    ""
);
const READ_LOG_OF: &str = select_log!(
    "to_char(log.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    "AND log.account = (SELECT id FROM users WHERE user_id = $3)"
);

const READ_PRICES: &str =
    select_prices!("to_char(changed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");

const KNOWS: &str = "SELECT EXISTS (SELECT FROM users WHERE user_id = $1)";

/// Writes what operators did in the open transaction, after everything else: users it names are there then. Returns
/// whether all of it could be; if not, another instance was the first.
pub(super) async fn save(
    connection: &mut PgConnection,
    changes: &OperatorChanges<'_>,
    now: DateTime<Utc>,
) -> Result<bool, DatabaseError> {
    let OperatorChanges { frozen, prices, unpriced, products, log, erased } = changes;
    if !frozen.is_empty() {
        let query = sqlx::query(FREEZE).bind(now).bind(json(frozen));
        let changed = query.execute(&mut *connection).await?.rows_affected();
        if usize::try_from(changed) != Ok(frozen.len()) {
            return Ok(false);
        }
    }
    if !prices.is_empty() {
        sqlx::query(SET_PRICES).bind(now).bind(json(prices)).execute(&mut *connection).await?;
    }
    if !unpriced.is_empty() {
        sqlx::query(REMOVE_PRICES).bind(json(unpriced)).execute(&mut *connection).await?;
    }
    if !products.is_empty() {
        sqlx::query(SET_PRODUCTS).bind(now).bind(json(products)).execute(&mut *connection).await?;
    }
    sqlx::query(LOG).bind(now).bind(json(log)).execute(&mut *connection).await?;
    if erased.is_empty() {
        return Ok(true);
    }
    let query = sqlx::query(ERASE).bind(now).bind(json(erased));
    let changed = query.execute(connection).await?.rows_affected();
    Ok(usize::try_from(changed) == Ok(erased.len()))
}

fn json<T: Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).expect("texts and numbers always have a JSON form")
}

impl PostgresReader {
    /// A page of the operators' log, newest first.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn operator_log(
        &self,
        filter: &LogFilter,
    ) -> Result<LogPage, DatabaseError> {
        let (before, limit) = bounds(filter);
        let query = sqlx::query_as(if filter.user.is_some() { READ_LOG_OF } else { READ_LOG })
            .bind(before)
            .bind(limit);
        let query = match &filter.user {
            Some(user) => query.bind(user.as_str()),
            None => query,
        };
        let rows = self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
        let rows: Vec<LogRow> = rows;
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
        let query = sqlx::query_as(READ_PRICES)
            .bind(before.unwrap_or(i64::MAX))
            .bind(i64::from(limit).saturating_add(1))
            .bind(model.as_str());
        let rows = self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
        let rows: Vec<PriceRow> = rows;
        price_page(rows, limit)
    }

    /// Whether somebody has seen this user.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn knows(&self, user: &UserId) -> Result<bool, DatabaseError> {
        let query = sqlx::query_scalar(KNOWS).bind(user.as_str());
        self.read_on(async |connection| Ok(query.fetch_one(connection).await?)).await
    }
}
