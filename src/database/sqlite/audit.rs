//! The audit: every balance worked out again from the transactions, and whatever else must hold.

use futures_util::TryStreamExt;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{OpenError, PRIMARY_CODE_MASK, SQLITE_CORRUPT, SqliteDatabase, describe, result_code};
use crate::database::{
    Audit, Check, Counts, Difference,
    audit::{CHANGES, COUNTS},
};

/// One transaction, so that all of its checks see one moment. The file is mapped into memory, as much of
/// it as SQLite maps: looking up a million rows in each index costs mostly the way to their pages.
const BEGIN: &str = "PRAGMA mmap_size = 2147418112; BEGIN";

/// Balances that are not what the transactions come to: user, model, what is held, the sum's high and low
/// half, and the number of transactions.
///
/// The sums are made in halves of 32 bits, because `sum` gives up where 64 bits do not suffice, and it
/// is wrong amounts that are looked for here. The balances are on the joins' right, where they have an
/// index; a sum of nothing is 0.
const BALANCES: &str = "
    WITH changes AS MATERIALIZED (
        SELECT user_id, model_id, count(*) AS entries,
            sum(credits_delta >> 32) AS credits_high, sum(credits_delta & 4294967295) AS credits_low,
            sum(tokens_delta >> 32) AS tokens_high, sum(tokens_delta & 4294967295) AS tokens_low
        FROM transactions GROUP BY user_id, model_id
    ),
    credit_sums AS (
        SELECT user_id, sum(entries) AS entries,
            sum(credits_high) + (sum(credits_low) >> 32) AS high,
            sum(credits_low) & 4294967295 AS low
        FROM changes GROUP BY user_id
    ),
    token_sums AS (
        SELECT user_id, model_id, entries,
            tokens_high + (tokens_low >> 32) AS high, tokens_low & 4294967295 AS low
        FROM changes WHERE model_id IS NOT NULL
    )
    SELECT coalesce(sums.user_id, held.user_id), NULL, held.credits,
        coalesce(sums.high, 0), coalesce(sums.low, 0), coalesce(sums.entries, 0)
    FROM credit_sums AS sums FULL JOIN credits AS held ON held.user_id = sums.user_id
    WHERE held.credits IS NULL OR held.credits < 0
        OR held.credits >> 32 <> coalesce(sums.high, 0)
        OR held.credits & 4294967295 <> coalesce(sums.low, 0)
    UNION ALL
    SELECT coalesce(sums.user_id, held.user_id), coalesce(sums.model_id, held.model_id),
        held.allocated_tokens,
        coalesce(sums.high, 0), coalesce(sums.low, 0), coalesce(sums.entries, 0)
    FROM token_sums AS sums FULL JOIN token_balances AS held
        ON held.user_id = sums.user_id AND held.model_id = sums.model_id
    WHERE held.allocated_tokens IS NULL OR held.allocated_tokens < 0
        OR held.allocated_tokens >> 32 <> coalesce(sums.high, 0)
        OR held.allocated_tokens & 4294967295 <> coalesce(sums.low, 0)";

/// Store transactions granted more than once. Read from the table: the index that forbids it may be what
/// is broken.
const GRANTS: &str = "
    SELECT transaction_id, count(*), min(user_id), max(user_id) FROM transactions NOT INDEXED
    WHERE transaction_id IS NOT NULL GROUP BY transaction_id HAVING count(*) > 1";

/// Rows that refer to nothing, with whose they are.
const REFERENCES: &str = "
    SELECT wrong.\"table\", wrong.parent,
        coalesce(credits.user_id, token_balances.user_id, transactions.user_id),
        coalesce(token_balances.model_id, transactions.model_id)
    FROM pragma_foreign_key_check AS wrong
    LEFT JOIN credits ON wrong.\"table\" = 'credits' AND credits.rowid = wrong.rowid
    LEFT JOIN token_balances
        ON wrong.\"table\" = 'token_balances' AND token_balances.rowid = wrong.rowid
    LEFT JOIN transactions ON wrong.\"table\" = 'transactions' AND transactions.rowid = wrong.rowid";

/// Users, and models of a balance or with a price, whose names hold a control character. A NUL is looked
/// for in the bytes, because texts end there.
const NAMES: &str = "
    WITH pattern (control) AS (
        SELECT '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*')
    SELECT user_id, NULL FROM users, pattern
    WHERE user_id GLOB control OR instr(CAST(user_id AS BLOB), x'00')
    UNION ALL
    SELECT user_id, model_id FROM token_balances, pattern
    WHERE model_id GLOB control OR instr(CAST(model_id AS BLOB), x'00')
    UNION ALL
    SELECT NULL, model_id FROM token_pricing, pattern
    WHERE model_id GLOB control OR instr(CAST(model_id AS BLOB), x'00')";

/// A row of `ok`, or one per flaw, of which SQLite tells at most this number.
const FILE: &str = "PRAGMA integrity_check(10000)";

/// What one statement looks for; its differences may also break a related check.
struct Search {
    check: Check,
    sql: &'static str,
    difference: fn(&SqliteRow) -> Result<Option<Difference>, sqlx::Error>,
}

const BOOKS: [Search; 5] = [
    Search { check: Check::Balances, sql: BALANCES, difference: balance },
    Search { check: Check::Changes, sql: CHANGES, difference: change },
    Search { check: Check::Grants, sql: GRANTS, difference: grant },
    Search { check: Check::References, sql: REFERENCES, difference: reference },
    Search { check: Check::Names, sql: NAMES, difference: name },
];

const SOUNDNESS: Search = Search { check: Check::File, sql: FILE, difference: flaw };

impl SqliteDatabase {
    /// Looks whether everything in the database is as it must be, at one moment, without writing to it.
    /// `progress` is told what is looked at next.
    ///
    /// The file is looked through on a connection of its own: it takes as long as all the rest, and
    /// it is sound at every moment or at none.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be read.
    pub(crate) async fn audit(&self, mut progress: impl FnMut(Check)) -> Result<Audit, OpenError> {
        let books = async {
            let books = self.read(async |connection| books(connection, &mut progress).await).await;
            progress(Check::File);
            books
        };
        let (books, flaws) = tokio::join!(books, self.read(flaws));
        let mut audit = books?;
        audit.append(flaws?);
        Ok(audit)
    }
}

async fn books(
    connection: &mut SqliteConnection,
    progress: &mut impl FnMut(Check),
) -> Result<Audit, sqlx::Error> {
    sqlx::query(BEGIN).execute(&mut *connection).await?;
    let mut audit = Audit::of(&Check::ALL);
    match count(connection).await {
        Err(error) if is_corrupt(&error) => audit.add(Difference::damaged_file(describe(&error))),
        counts => audit.counts = Some(counts?),
    }
    for search in &BOOKS {
        progress(search.check);
        run(connection, search, &mut audit).await?;
    }
    Ok(audit)
}

async fn flaws(connection: &mut SqliteConnection) -> Result<Audit, sqlx::Error> {
    sqlx::query(BEGIN).execute(&mut *connection).await?;
    let mut audit = Audit::default();
    run(connection, &SOUNDNESS, &mut audit).await?;
    Ok(audit)
}

async fn count(connection: &mut SqliteConnection) -> Result<Counts, sqlx::Error> {
    let row = sqlx::query(COUNTS).fetch_one(connection).await?;
    Ok(Counts {
        users: row.try_get(0)?,
        balances: row.try_get(1)?,
        transactions: row.try_get(2)?,
        idempotency_keys: row.try_get(3)?,
    })
}

async fn run(
    connection: &mut SqliteConnection,
    search: &Search,
    audit: &mut Audit,
) -> Result<(), sqlx::Error> {
    let mut rows = sqlx::query(search.sql).fetch(connection);
    loop {
        match rows.try_next().await {
            Ok(Some(row)) => {
                if let Some(difference) = (search.difference)(&row)? {
                    audit.add(difference);
                }
            }
            Ok(None) => return Ok(()),
            Err(error) if is_corrupt(&error) => {
                audit.add(Difference::damaged_file(describe(&error)));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

fn balance(row: &SqliteRow) -> Result<Option<Difference>, sqlx::Error> {
    let (high, low): (i64, i64) = (row.try_get(3)?, row.try_get(4)?);
    let sum = (i128::from(high) << 32) | i128::from(low);
    let (user, model, held) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(Some(Difference::wrong_balance(user, model, held, sum, row.try_get(5)?)))
}

fn change(row: &SqliteRow) -> Result<Option<Difference>, sqlx::Error> {
    let transaction = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let changed = (row.try_get(5)?, row.try_get(6)?);
    Ok(Some(Difference::wrong_change(row.try_get(3)?, row.try_get(4)?, transaction, changed)))
}

fn grant(row: &SqliteRow) -> Result<Option<Difference>, sqlx::Error> {
    let (user, other) = (row.try_get(2)?, row.try_get(3)?);
    Ok(Some(Difference::repeated_grant(row.try_get(0)?, row.try_get(1)?, user, other)))
}

fn reference(row: &SqliteRow) -> Result<Option<Difference>, sqlx::Error> {
    let (table, parent) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Some(Difference::dangling_reference(row.try_get(2)?, row.try_get(3)?, table, parent)))
}

fn name(row: &SqliteRow) -> Result<Option<Difference>, sqlx::Error> {
    Ok(Some(Difference::unreadable_name(row.try_get(0)?, row.try_get(1)?)))
}

fn flaw(row: &SqliteRow) -> Result<Option<Difference>, sqlx::Error> {
    let text: String = row.try_get(0)?;
    Ok(if text == "ok" { None } else { Some(Difference::damaged_file(text)) })
}

/// Whether the file itself is damaged, and not just out of reach.
fn is_corrupt(error: &sqlx::Error) -> bool {
    result_code(error).is_some_and(|code| code & PRIMARY_CODE_MASK == SQLITE_CORRUPT)
}
