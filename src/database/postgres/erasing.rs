//! The erasure of accounts, in PostgreSQL's words, in the transaction of a lane. In which order it goes on is not known
//! here.

use sqlx::{FromRow, PgConnection};

use super::PostgresReader;
use crate::{
    database::{
        DatabaseError, Progress,
        erasing::{
            ALL_HOLDS, ARE_ANY, CHANGED_AT_ONCE, ChangeTexts, Emptied, Erasing, Erasure,
            LOOKED_THROUGH_AT_ONCE, Piece, RARE_ENTRIES, RareEntry, change_texts, next_erasing,
            next_piece,
        },
    },
    domain::PurchaseName,
};

/// One that another instance is just at work on is left to it.
const NEXT: &str = next_erasing!("", " FOR UPDATE OF erasures SKIP LOCKED");

/// `$1` rows of [`Emptied`], `$2` the new name.
const RENAME_ENTRIES: &str = "
    UPDATE transactions SET user_id = $2, transaction_id = emptied.value ->> 1,
        metadata = CAST(emptied.value ->> 2 AS json)
    FROM jsonb_array_elements(CAST($1 AS jsonb)) AS emptied (value)
    WHERE transactions.id = ANY(ARRAY[CAST(emptied.value ->> 0 AS bigint)])";
/// `$1` names of purchases, `$2` the old name of their owner, `$3` the new one.
const RENAME_NAMES: &str =
    "UPDATE purchase_names SET user_id = $3 WHERE user_id = $2 AND name = ANY($1)";

/// The last of the next `$2` holds after `$1`, if there are any.
const LAST_HOLD: &str = "
    SELECT max(hold_id) FROM (
        SELECT hold_id FROM holds WHERE hold_id > $1 ORDER BY hold_id LIMIT $2) AS next";
/// `$1` the old name, `$2` the new one; holds after `$3` and up to `$4`.
const RENAME_HOLDS: &str = "
    UPDATE holds SET user_id = $2 WHERE user_id = $1 AND hold_id > $3 AND hold_id <= $4";
const NOTE_HOLDS: &str = "UPDATE erasures SET swept_holds = $2 WHERE account = $1";

/// `$1` the old name, `$2` how many.
const FORGET_KEYS: &str = "
    DELETE FROM idempotency_keys WHERE id = ANY(ARRAY(
        SELECT id FROM idempotency_keys WHERE user_id >= $1 AND user_id <= $1
        ORDER BY user_id, key LIMIT $2))";

const END: &str = "DELETE FROM erasures WHERE account = $1";

/// An erasure that is under way.
struct Under<'c> {
    connection: &'c mut PgConnection,
    erasing: Erasing,
}

/// Does a piece of the erasure that is first, in the open transaction.
pub(super) async fn piece(connection: &mut PgConnection) -> Result<Progress, DatabaseError> {
    let next = sqlx::query(NEXT).fetch_optional(&mut *connection).await?;
    if let Some(row) = next {
        let erasing = Erasing::from_row(&row)?;
        next_piece(&mut Under { connection, erasing }).await?;
    }
    Ok(Progress::Done)
}

impl Erasure for Under<'_> {
    const CHANGES: ChangeTexts = change_texts!("= ANY(ARRAY(", "))");

    async fn change(&mut self, sql: &'static str) -> Result<Piece, DatabaseError> {
        let Erasing { old_name, new_name, .. } = &self.erasing;
        let query = sqlx::query(sql).bind(old_name).bind(new_name).bind(CHANGED_AT_ONCE);
        Ok(Piece::of(query.execute(&mut *self.connection).await?.rows_affected()))
    }

    async fn empty_entries(&mut self) -> Result<Piece, DatabaseError> {
        let Erasing { old_name, new_name, .. } = &self.erasing;
        let query = sqlx::query(RARE_ENTRIES).bind(old_name).bind(CHANGED_AT_ONCE);
        let rows = query.fetch_all(&mut *self.connection).await?;
        if rows.is_empty() {
            return Ok(Piece::Nothing);
        }
        let Emptied { rows, names } =
            Emptied::of(rows.iter().map(RareEntry::from_row).collect::<Result<_, _>>()?);
        let query = sqlx::query(RENAME_ENTRIES).bind(rows).bind(new_name);
        query.execute(&mut *self.connection).await?;
        let names: Vec<&str> = names.iter().map(PurchaseName::as_str).collect();
        let query = sqlx::query(RENAME_NAMES).bind(names).bind(old_name).bind(new_name);
        query.execute(&mut *self.connection).await?;
        Ok(Piece::Done)
    }

    async fn sweep_holds(&mut self) -> Result<Piece, DatabaseError> {
        let Erasing { account, old_name, new_name, swept_holds } = &self.erasing;
        if swept_holds == ALL_HOLDS {
            return Ok(Piece::Nothing);
        }
        let query = sqlx::query_scalar(LAST_HOLD).bind(swept_holds).bind(LOOKED_THROUGH_AT_ONCE);
        let last: Option<String> = query.fetch_one(&mut *self.connection).await?;
        if let Some(last) = &last {
            let query = sqlx::query(RENAME_HOLDS).bind(old_name).bind(new_name);
            query.bind(swept_holds).bind(last).execute(&mut *self.connection).await?;
        }
        let last = last.as_deref().unwrap_or(ALL_HOLDS);
        let query = sqlx::query(NOTE_HOLDS).bind(account).bind(last);
        query.execute(&mut *self.connection).await?;
        Ok(Piece::Done)
    }

    async fn forget_keys(&mut self) -> Result<Piece, DatabaseError> {
        let query = sqlx::query(FORGET_KEYS).bind(&self.erasing.old_name).bind(CHANGED_AT_ONCE);
        Ok(Piece::of(query.execute(&mut *self.connection).await?.rows_affected()))
    }

    async fn end(&mut self) -> Result<(), DatabaseError> {
        let query = sqlx::query(END).bind(self.erasing.account);
        query.execute(&mut *self.connection).await?;
        Ok(())
    }
}

impl PostgresReader {
    /// Whether an account is being erased.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn erases(&self) -> Result<bool, DatabaseError> {
        let query = sqlx::query_scalar(ARE_ANY);
        self.read_on(async |connection| Ok(query.fetch_one(connection).await?)).await
    }
}
