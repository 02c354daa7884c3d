//! The audit: every balance worked out again from the transactions, and whatever else must hold. The
//! server looks after its files itself.

use futures_util::TryStreamExt;
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};

use super::{MIGRATIONS, OpenError, PostgresDatabase, newest_migration};
use crate::database::{
    Audit, Check, Counts, Difference,
    audit::{CHANGES, COUNTS},
    newest_known,
};

/// What there is to check.
const CHECKS: [Check; 6] = [
    Check::Balances,
    Check::Owners,
    Check::Changes,
    Check::Grants,
    Check::References,
    Check::Names,
];

/// One transaction, so that all of its checks see one moment.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Balances that are not what the transactions come to: user, model, what is held, the sum as a text, for
/// it may be of any size, and the number of transactions. A sum of nothing is 0.
const BALANCES: &str = "
    WITH changes AS MATERIALIZED (
        SELECT user_id, model_id, count(*) AS entries,
            sum(credits_delta) AS credits, sum(tokens_delta) AS tokens
        FROM transactions GROUP BY user_id, model_id
    ),
    credit_sums AS (
        SELECT user_id, sum(entries) AS entries, sum(credits) AS sum
        FROM changes GROUP BY user_id
    ),
    token_sums AS (
        SELECT user_id, model_id, entries, tokens AS sum FROM changes WHERE model_id IS NOT NULL
    )
    SELECT coalesce(sums.user_id, held.user_id), NULL, held.credits,
        coalesce(sums.sum, 0)::text, coalesce(sums.entries, 0)::bigint
    FROM credit_sums AS sums FULL JOIN credits AS held ON held.user_id = sums.user_id
    WHERE held.credits IS NULL OR held.credits < 0 OR held.credits <> coalesce(sums.sum, 0)
    UNION ALL
    SELECT coalesce(sums.user_id, held.user_id), coalesce(sums.model_id, held.model_id),
        held.allocated_tokens, coalesce(sums.sum, 0)::text, coalesce(sums.entries, 0)
    FROM token_sums AS sums FULL JOIN token_balances AS held
        ON held.user_id = sums.user_id AND held.model_id = sums.model_id
    WHERE held.allocated_tokens IS NULL OR held.allocated_tokens < 0
        OR held.allocated_tokens <> coalesce(sums.sum, 0)";

/// Store transactions granted more than once.
const GRANTS: &str = "
    SELECT transaction_id, count(*), min(user_id), max(user_id) FROM transactions
    WHERE transaction_id IS NOT NULL GROUP BY transaction_id HAVING count(*) > 1";

/// Rows that refer to no user, with whose they are. The server refuses them, but for those who tell it
/// not to.
const REFERENCES: &str = "
    SELECT 'credits', 'users', user_id, NULL FROM credits
    WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = credits.user_id)
    UNION ALL
    SELECT 'token_balances', 'users', user_id, model_id FROM token_balances
    WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = token_balances.user_id)
    UNION ALL
    SELECT 'transactions', 'users', user_id, model_id FROM transactions
    WHERE NOT EXISTS (SELECT FROM users WHERE users.user_id = transactions.user_id)";

/// Users, and models of a balance or with a price, whose names hold a control character. There is no NUL
/// in a text.
const NAMES: &str = r"
    SELECT user_id, NULL FROM users WHERE user_id ~ '[\u0001-\u001f\u007f-\u009f]'
    UNION ALL
    SELECT user_id, model_id FROM token_balances WHERE model_id ~ '[\u0001-\u001f\u007f-\u009f]'
    UNION ALL
    SELECT NULL, model_id FROM token_pricing WHERE model_id ~ '[\u0001-\u001f\u007f-\u009f]'";

/// What one statement looks for; its differences may also break a related check.
struct Search {
    check: Check,
    sql: &'static str,
    difference: fn(&PgRow) -> Result<Difference, sqlx::Error>,
}

const SEARCHES: [Search; 5] = [
    Search { check: Check::Balances, sql: BALANCES, difference: balance },
    Search { check: Check::Changes, sql: CHANGES, difference: change },
    Search { check: Check::Grants, sql: GRANTS, difference: grant },
    Search { check: Check::References, sql: REFERENCES, difference: reference },
    Search { check: Check::Names, sql: NAMES, difference: name },
];

impl PostgresDatabase {
    /// Looks whether everything in the database is as it must be, at one moment, without writing to it.
    /// `progress` is told what is looked at next.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be read.
    pub(crate) async fn audit(&self, progress: impl FnMut(Check)) -> Result<Audit, OpenError> {
        let mut connection = self.connect().await?;
        let found =
            newest_migration(&mut connection).await.map_err(|error| self.unreadable(&error))?;
        let known = newest_known(&MIGRATIONS);
        if let Some(error) = OpenError::not_current(&self.name, &found, known) {
            return Err(error);
        }
        let audit = async {
            sqlx::raw_sql(BEGIN).execute(&mut connection).await?;
            let audit = books(&mut connection, progress).await?;
            connection.close().await?;
            Ok(audit)
        };
        audit.await.map_err(|error| self.unreadable(&error))
    }
}

/// Looks through everything in the open transaction.
pub(in crate::database) async fn books(
    connection: &mut PgConnection,
    mut progress: impl FnMut(Check),
) -> Result<Audit, sqlx::Error> {
    let mut audit = Audit::of(&CHECKS);
    audit.counts = Some(count(connection).await?);
    for search in &SEARCHES {
        progress(search.check);
        let mut rows = sqlx::query(search.sql).fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            audit.add((search.difference)(&row)?);
        }
    }
    Ok(audit)
}

async fn count(connection: &mut PgConnection) -> Result<Counts, sqlx::Error> {
    let row = sqlx::query(COUNTS).fetch_one(connection).await?;
    let column = |place: usize| {
        let count: i64 = row.try_get(place)?;
        Ok::<_, sqlx::Error>(u64::try_from(count).unwrap_or_default())
    };
    Ok(Counts {
        users: column(0)?,
        balances: column(1)?,
        transactions: column(2)?,
        idempotency_keys: column(3)?,
    })
}

fn balance(row: &PgRow) -> Result<Difference, sqlx::Error> {
    let (user, model, held) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let sum: &str = row.try_get(3)?;
    let sum = sum.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Difference::wrong_balance(user, model, held, sum, row.try_get(4)?))
}

fn change(row: &PgRow) -> Result<Difference, sqlx::Error> {
    let transaction = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let changed = (row.try_get(5)?, row.try_get(6)?);
    Ok(Difference::wrong_change(row.try_get(3)?, row.try_get(4)?, transaction, changed))
}

fn grant(row: &PgRow) -> Result<Difference, sqlx::Error> {
    let (user, other) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Difference::repeated_grant(row.try_get(0)?, row.try_get(1)?, user, other))
}

fn reference(row: &PgRow) -> Result<Difference, sqlx::Error> {
    let (table, parent) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Difference::dangling_reference(row.try_get(2)?, row.try_get(3)?, table, parent))
}

fn name(row: &PgRow) -> Result<Difference, sqlx::Error> {
    Ok(Difference::unreadable_name(row.try_get(0)?, row.try_get(1)?))
}
