//! The audit: every balance worked out again from the transactions, and whatever else must hold.

use futures_util::TryStreamExt;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    OpenError, PRIMARY_CODE_MASK, SQLITE_CORRUPT, SqliteDatabase, describe,
    read_only::{GivingWay, give_way},
    result_code,
};
use crate::database::{
    Audit, Check, Counts, Difference, Priority,
    audit::{COUNTS, Search, Texts, bonus_back, wrong_backs, wrong_purchases},
    purchase_names::check_names,
    refund_check::check_refunds,
    summary_check::{SummaryTexts, check_summary, summary_texts},
    usage_check::{check_usage, checked_usage},
};

/// One transaction, so that all of its checks see one moment. The file is mapped into memory, as much of
/// it as SQLite maps: looking up a million rows in each index costs mostly the way to their pages.
const BEGIN: &str = "PRAGMA mmap_size = 2147418112; BEGIN";

/// Balances that are not what the transactions come to.
///
/// The sums are made in halves of 32 bits, because `sum` gives up where 64 bits do not suffice. The balances
/// are on the joins' right, where they have an index; a sum of nothing is 0. Entries of whoever is being erased count for
/// the account, under either name.
const BALANCES: &str = "
    WITH changes AS MATERIALIZED (
        SELECT user_id, model_id, count(*) AS entries,
            sum(credits_delta >> 32) AS credits_high, sum(credits_delta & 4294967295) AS credits_low,
            sum(bonus_delta >> 32) AS bonus_high, sum(bonus_delta & 4294967295) AS bonus_low,
            sum(tokens_delta >> 32) AS tokens_high, sum(tokens_delta & 4294967295) AS tokens_low
        FROM transactions GROUP BY user_id, model_id
    ),
    owned AS (
        SELECT coalesce(users.user_id, changes.user_id) AS owner, changes.*
        FROM changes LEFT JOIN erasures ON erasures.user_id = changes.user_id
        LEFT JOIN users ON users.id = erasures.account
    ),
    credit_sums AS (
        SELECT owner AS user_id, sum(entries) AS entries,
            sum(credits_high) + (sum(credits_low) >> 32) AS high,
            sum(credits_low) & 4294967295 AS low,
            sum(bonus_high) + (sum(bonus_low) >> 32) AS bonus_high,
            sum(bonus_low) & 4294967295 AS bonus_low
        FROM owned GROUP BY owner
    ),
    token_sums AS (
        SELECT owner AS user_id, model_id, sum(entries) AS entries,
            sum(tokens_high) + (sum(tokens_low) >> 32) AS high,
            sum(tokens_low) & 4294967295 AS low
        FROM owned WHERE model_id IS NOT NULL GROUP BY owner, model_id
    )
    SELECT coalesce(sums.user_id, held.user_id) AS user_id, NULL AS model_id, held.credits AS held,
        coalesce(sums.high, 0) AS high, coalesce(sums.low, 0) AS low,
        coalesce(sums.entries, 0) AS entries, 0 AS given
    FROM credit_sums AS sums FULL JOIN credits AS held ON held.user_id = sums.user_id
    WHERE held.credits IS NULL OR held.credits < 0
        OR held.credits >> 32 <> coalesce(sums.high, 0)
        OR held.credits & 4294967295 <> coalesce(sums.low, 0)
    UNION ALL
    SELECT held.user_id, NULL, held.bonus, coalesce(sums.bonus_high, 0),
        coalesce(sums.bonus_low, 0), coalesce(sums.entries, 0), 1
    FROM credits AS held LEFT JOIN credit_sums AS sums ON held.user_id = sums.user_id
    WHERE held.bonus < 0 OR held.bonus > max(held.credits, 0)
        OR held.bonus >> 32 <> coalesce(sums.bonus_high, 0)
        OR held.bonus & 4294967295 <> coalesce(sums.bonus_low, 0)
    UNION ALL
    SELECT coalesce(sums.user_id, held.user_id), coalesce(sums.model_id, held.model_id),
        held.allocated_tokens,
        coalesce(sums.high, 0), coalesce(sums.low, 0), coalesce(sums.entries, 0), 0
    FROM token_sums AS sums FULL JOIN token_balances AS held
        ON held.user_id = sums.user_id AND held.model_id = sums.model_id
    WHERE held.allocated_tokens IS NULL OR held.allocated_tokens < 0
        OR held.allocated_tokens >> 32 <> coalesce(sums.high, 0)
        OR held.allocated_tokens & 4294967295 <> coalesce(sums.low, 0)";

/// Rows that refer to nothing, with whose they are. An entry of whoever is being erased leads to the account.
const REFERENCES: &str = "
    SELECT 'transactions' AS origin, 'users' AS parent, user_id, model_id FROM transactions
    WHERE NOT EXISTS (SELECT * FROM users WHERE users.user_id = transactions.user_id)
        AND NOT EXISTS (SELECT * FROM erasures WHERE erasures.user_id = transactions.user_id)
    UNION ALL
    SELECT wrong.\"table\", wrong.parent,
        coalesce(credits.user_id, token_balances.user_id), token_balances.model_id
    FROM pragma_foreign_key_check AS wrong
    LEFT JOIN credits ON wrong.\"table\" = 'credits' AND credits.rowid = wrong.rowid
    LEFT JOIN token_balances
        ON wrong.\"table\" = 'token_balances' AND token_balances.rowid = wrong.rowid";

/// Users, and models of a balance or with a price, whose names hold a control character. A NUL is looked
/// for in the bytes, because texts end there.
const NAMES: &str = "
    WITH pattern (control) AS (
        SELECT '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*')
    SELECT user_id, NULL AS model_id FROM users, pattern
    WHERE user_id GLOB control OR instr(CAST(user_id AS BLOB), x'00')
    UNION ALL
    SELECT user_id, model_id FROM token_balances, pattern
    WHERE model_id GLOB control OR instr(CAST(model_id AS BLOB), x'00')
    UNION ALL
    SELECT NULL, model_id FROM token_pricing, pattern
    WHERE model_id GLOB control OR instr(CAST(model_id AS BLOB), x'00')";

/// A row of `ok`, or one per flaw, of which SQLite tells at most this number.
const FILE: &str = "PRAGMA integrity_check(10000)";

const PURCHASES: &str = wrong_purchases!(
    "(SELECT sum((item.value ->> 1) * (item.value ->> 2)) FROM json_each(items) AS item)"
);

/// Where the product is more than an integer holds, it is not looked at.
const BACKS: &str = wrong_backs!(
    "back.tokens < 9223372036854775807 / max(bought.amount, 1)",
    "bought.amount * back.tokens / bought.tokens_delta"
);

const USAGE: &str = checked_usage!("unixepoch(substr(created_at, 1, 19)) / 900");

const SUMMARY: SummaryTexts = summary_texts!("unixepoch(substr(created_at, 1, 19)) / 900");

const TEXTS: Texts = Texts {
    balances: BALANCES,
    backs: BACKS,
    purchases: PURCHASES,
    references: REFERENCES,
    names: NAMES,
};

impl SqliteDatabase {
    /// Looks whether everything in the database is as it must be, at one moment, without writing to it.
    /// `progress` is told what is looked at next.
    ///
    /// The file is looked through on a connection of its own: it takes as long as all the rest, and
    /// it is sound at every moment or at none.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be read.
    pub(crate) async fn audit(
        &self,
        priority: Priority,
        mut progress: impl FnMut(Check),
    ) -> Result<Audit, OpenError> {
        let books = async {
            let looking = self.read(async |connection| {
                let _giving_way = priority.of(connection).await?;
                books(connection, &mut progress).await
            });
            let books = looking.await;
            progress(Check::File);
            books
        };
        let flaws = self.read(async |connection| {
            let _giving_way = priority.of(connection).await?;
            flaws(connection).await
        });
        let (books, flaws) = match priority {
            Priority::Usual => tokio::join!(books, flaws),
            // One after the other: a service has the rest of the machine.
            Priority::Low => (books.await, flaws.await),
        };
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
    for search in TEXTS.searches() {
        progress(search.check);
        run(connection, &search, &mut audit).await?;
    }
    match check_refunds(&mut *connection, &mut audit).await {
        Err(error) if is_corrupt(&error) => audit.add(Difference::damaged_file(describe(&error))),
        checked => checked?,
    }
    progress(Check::Grants);
    match check_names(connection, &mut audit).await {
        Err(error) if is_corrupt(&error) => audit.add(Difference::damaged_file(describe(&error))),
        checked => checked?,
    }
    progress(Check::Usage);
    match check_usage(&mut *connection, USAGE, &mut audit).await {
        Err(error) if is_corrupt(&error) => audit.add(Difference::damaged_file(describe(&error))),
        checked => checked?,
    }
    progress(Check::Summary);
    match check_summary(connection, &SUMMARY, &mut audit).await {
        Err(error) if is_corrupt(&error) => audit.add(Difference::damaged_file(describe(&error))),
        checked => checked?,
    }
    Ok(audit)
}

async fn flaws(connection: &mut SqliteConnection) -> Result<Audit, sqlx::Error> {
    sqlx::query(BEGIN).execute(&mut *connection).await?;
    let mut audit = Audit::default();
    let mut flaws = sqlx::query_scalar::<_, String>(FILE).fetch(connection);
    loop {
        match flaws.try_next().await {
            Ok(Some(sound)) if sound == "ok" => {}
            Ok(Some(flaw)) => audit.add(Difference::damaged_file(flaw)),
            Ok(None) => return Ok(audit),
            Err(error) if is_corrupt(&error) => {
                audit.add(Difference::damaged_file(describe(&error)));
                return Ok(audit);
            }
            Err(error) => return Err(error),
        }
    }
}

async fn count(connection: &mut SqliteConnection) -> Result<Counts, sqlx::Error> {
    sqlx::query_as(COUNTS).fetch_one(connection).await
}

async fn run(
    connection: &mut SqliteConnection,
    search: &Search<SqliteRow>,
    audit: &mut Audit,
) -> Result<(), sqlx::Error> {
    let mut rows = sqlx::query(search.sql).fetch(connection);
    loop {
        match rows.try_next().await {
            Ok(Some(row)) => audit.add((search.difference)(&row)?),
            Ok(None) => return Ok(()),
            Err(error) if is_corrupt(&error) => {
                audit.add(Difference::damaged_file(describe(&error)));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

impl Priority {
    /// Has what runs on a connection take its turn accordingly.
    async fn of(self, connection: &mut SqliteConnection) -> Result<Option<GivingWay>, sqlx::Error> {
        match self {
            Self::Usual => Ok(None),
            Self::Low => give_way(connection).await.map(Some),
        }
    }
}

/// Whether the file itself is damaged, and not just out of reach.
fn is_corrupt(error: &sqlx::Error) -> bool {
    result_code(error).is_some_and(|code| code & PRIMARY_CODE_MASK == SQLITE_CORRUPT)
}
