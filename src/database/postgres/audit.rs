//! The audit: every balance worked out again from the transactions, and whatever else must hold. The
//! server looks after its files itself.

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{Found, MIGRATIONS, OpenError, PostgresDatabase, ids, look};
use crate::database::{
    Audit, Check,
    audit::{COUNTS, Texts, bonus_back, wrong_backs, wrong_purchases},
    newest_known,
    purchase_names::{SOME_TO_NAME, check_names},
    refund_check::check_refunds,
    summary_check::{SummaryTexts, check_summary, summary_texts},
    usage_check::{check_usage, checked_usage},
};

/// What there is to check.
const CHECKS: [Check; 13] = [
    Check::Balances,
    Check::Bonus,
    Check::Owners,
    Check::Changes,
    Check::Backs,
    Check::Grants,
    Check::Holds,
    Check::Purchases,
    Check::Usage,
    Check::Summary,
    Check::References,
    Check::Names,
    Check::Ids,
];

/// Balances that are not what the transactions come to. A sum of nothing is 0. Entries of whoever is being erased count
/// for the account, under either name.
const BALANCES: &str = "
    WITH changes AS MATERIALIZED (
        SELECT user_id, model_id, count(*) AS entries,
            sum(credits_delta) AS credits, sum(bonus_delta) AS bonus,
            sum(tokens_delta) AS tokens
        FROM transactions GROUP BY user_id, model_id
    ),
    owned AS (
        SELECT coalesce(users.user_id, changes.user_id) AS owner, changes.*
        FROM changes LEFT JOIN erasures ON erasures.user_id = changes.user_id
        LEFT JOIN users ON users.id = erasures.account
    ),
    credit_sums AS (
        SELECT owner AS user_id, sum(entries) AS entries, sum(credits) AS sum, sum(bonus) AS bonus
        FROM owned GROUP BY owner
    ),
    token_sums AS (
        SELECT owner AS user_id, model_id, sum(entries)::bigint AS entries, sum(tokens) AS sum
        FROM owned WHERE model_id IS NOT NULL GROUP BY owner, model_id
    )
    SELECT coalesce(sums.user_id, held.user_id) AS user_id, NULL AS model_id, held.credits AS held,
        coalesce(div(sums.sum, 4294967296), 0)::bigint AS high,
        coalesce(mod(sums.sum, 4294967296), 0)::bigint AS low,
        coalesce(sums.entries, 0)::bigint AS entries, false AS given
    FROM credit_sums AS sums FULL JOIN credits AS held ON held.user_id = sums.user_id
    WHERE held.credits IS NULL OR held.credits < 0 OR held.credits <> coalesce(sums.sum, 0)
    UNION ALL
    SELECT held.user_id, NULL, held.bonus, coalesce(div(sums.bonus, 4294967296), 0)::bigint,
        coalesce(mod(sums.bonus, 4294967296), 0)::bigint, coalesce(sums.entries, 0)::bigint, true
    FROM credits AS held LEFT JOIN credit_sums AS sums ON held.user_id = sums.user_id
    WHERE held.bonus < 0 OR held.bonus > greatest(held.credits, 0)
        OR held.bonus <> coalesce(sums.bonus, 0)
    UNION ALL
    SELECT coalesce(sums.user_id, held.user_id), coalesce(sums.model_id, held.model_id),
        held.allocated_tokens,
        coalesce(div(sums.sum, 4294967296), 0)::bigint,
        coalesce(mod(sums.sum, 4294967296), 0)::bigint, coalesce(sums.entries, 0), false
    FROM token_sums AS sums FULL JOIN token_balances AS held
        ON held.user_id = sums.user_id AND held.model_id = sums.model_id
    WHERE held.allocated_tokens IS NULL OR held.allocated_tokens < 0
        OR held.allocated_tokens <> coalesce(sums.sum, 0)";

/// Rows that refer to no user, with whose they are. The server refuses them, but for those who tell it
/// not to, or where it is about entries. One of whoever is being erased leads to the account.
const REFERENCES: &str = "
    SELECT 'credits' AS origin, 'users' AS parent, user_id, NULL AS model_id FROM credits
    WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = credits.user_id)
    UNION ALL
    SELECT 'token_balances', 'users', user_id, model_id FROM token_balances
    WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = token_balances.user_id)
    UNION ALL
    SELECT 'transactions', 'users', user_id, model_id FROM transactions
    WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = transactions.user_id)
        AND NOT EXISTS (SELECT FROM erasures WHERE erasures.user_id = transactions.user_id)
    UNION ALL
    SELECT 'purchase_keys', 'purchases', NULL, NULL FROM purchase_keys
    WHERE NOT EXISTS (SELECT FROM purchases WHERE purchases.id = purchase_keys.purchase_id)";

/// Users, and models of a balance or with a price, whose names hold a control character. There is no NUL
/// in a text.
const NAMES: &str = r"
    SELECT user_id, NULL AS model_id FROM users WHERE user_id ~ '[\u0001-\u001f\u007f-\u009f]'
    UNION ALL
    SELECT user_id, model_id FROM token_balances WHERE model_id ~ '[\u0001-\u001f\u007f-\u009f]'
    UNION ALL
    SELECT NULL, model_id FROM token_pricing WHERE model_id ~ '[\u0001-\u001f\u007f-\u009f]'";

const PURCHASES: &str = wrong_purchases!(
    "(SELECT sum((item ->> 1)::bigint * (item ->> 2)::bigint)
      FROM jsonb_array_elements(items::jsonb) AS item)"
);

const BACKS: &str =
    wrong_backs!("true", "div(bought.amount::numeric * back.tokens, bought.tokens_delta::numeric)");

const USAGE: &str = checked_usage!("CAST(floor(extract(epoch FROM created_at) / 900) AS bigint)");

const SUMMARY: SummaryTexts =
    summary_texts!("CAST(floor(extract(epoch FROM created_at) / 900) AS bigint)");

const TEXTS: Texts = Texts {
    balances: BALANCES,
    backs: BACKS,
    purchases: PURCHASES,
    references: REFERENCES,
    names: NAMES,
};

impl PostgresDatabase {
    /// Looks whether everything in the database is as it must be, at one moment, without writing to it.
    /// `progress` is told what is looked at next.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be read.
    pub(crate) async fn audit(&self, progress: impl FnMut(Check)) -> Result<Audit, OpenError> {
        let mut connection = self.open_current().await?;
        let audit = async {
            let audit = books(&mut connection, progress).await?;
            connection.close().await?;
            Ok(audit)
        };
        audit.await.map_err(|error| self.unreadable(&error))
    }

    /// A connection to read on as of one moment, however long that takes, if the tables are those this version knows.
    pub(super) async fn open_current(&self) -> Result<PgConnection, OpenError> {
        let mut connection = self.connect().await?;
        let found = self.look_as_of_now(&mut connection).await;
        let (found, unnamed) = found.map_err(|error| self.unreadable(&error))?;
        let known = newest_known(&MIGRATIONS);
        if let Some(error) = OpenError::not_current(&self.name, &found.tables, known) {
            return Err(error);
        }
        if unnamed {
            return Err(OpenError::Unnamed { database: self.name.clone() });
        }
        Ok(connection)
    }

    /// Begins the transaction in which everything is read, and tells what is found and whether purchases have still
    /// to be named.
    async fn look_as_of_now(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(Found, bool), sqlx::Error> {
        sqlx::raw_sql(self.session.begin_snapshot()).execute(&mut *connection).await?;
        let found = look(connection).await?;
        if !found.is_current() {
            return Ok((found, false));
        }
        let only = format!("SET LOCAL search_path = {}", found.schema);
        sqlx::raw_sql(AssertSqlSafe(only)).execute(&mut *connection).await?;
        let unnamed = sqlx::query_scalar(SOME_TO_NAME).fetch_one(connection).await?;
        Ok((found, unnamed))
    }
}

/// Looks through everything in the open transaction.
pub(in crate::database) async fn books(
    connection: &mut PgConnection,
    mut progress: impl FnMut(Check),
) -> Result<Audit, sqlx::Error> {
    let mut audit = Audit::of(&CHECKS);
    audit.counts = Some(sqlx::query_as(COUNTS).fetch_one(&mut *connection).await?);
    for search in TEXTS.searches() {
        progress(search.check);
        let mut rows = sqlx::query(search.sql).fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            audit.add((search.difference)(&row)?);
        }
    }
    check_refunds(&mut *connection, &mut audit).await?;
    progress(Check::Grants);
    check_names(connection, &mut audit).await?;
    progress(Check::Usage);
    check_usage(&mut *connection, USAGE, &mut audit).await?;
    progress(Check::Summary);
    check_summary(&mut *connection, &SUMMARY, &mut audit).await?;
    progress(Check::Ids);
    ids::check(connection, &mut audit).await?;
    Ok(audit)
}
