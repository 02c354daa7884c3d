//! The erasure of accounts, in SQLite's words, on the one connection that writes. In which order it goes on is not known
//! here.

use sqlx::{FromRow, SqliteConnection};

use super::{DatabaseError, SqliteReader, keys::DigestAndId, snapshot::json};
use crate::{
    database::{
        erasing::{
            ALL_HOLDS, ARE_ANY, CHANGED_AT_ONCE, ChangeTexts, Emptied, Erasing, Erasure,
            LOOKED_THROUGH_AT_ONCE, Piece, RARE_ENTRIES, RareEntry, change_texts, next_erasing,
            next_piece,
        },
        rows::row,
    },
    domain::UserId,
};

const BEGIN: &str = "BEGIN IMMEDIATE";
const NEXT: &str = next_erasing!(", swept_keys", "");

/// `$1` rows of [`Emptied`], `$2` the new name.
const RENAME_ENTRIES: &str = "
    UPDATE transactions SET user_id = $2, transaction_id = emptied.value ->> 1,
        metadata = emptied.value ->> 2
    FROM json_each($1) AS emptied WHERE transactions.id = emptied.value ->> 0";
/// `$1` names of purchases, `$2` the old name of their owner, `$3` the new one.
const RENAME_NAMES: &str = "
    UPDATE purchase_names SET user_id = $3
    WHERE user_id = $2 AND name IN (SELECT value FROM json_each($1))";

/// The last of the next `$2` holds after `$1`, if there are any.
const LAST_HOLD: &str = "
    SELECT max(hold_id) FROM (
        SELECT hold_id FROM holds WHERE hold_id > $1 ORDER BY hold_id LIMIT $2)";
/// `$1` the old name, `$2` the new one; holds after `$3` and up to `$4`.
const RENAME_HOLDS: &str = "
    UPDATE holds SET user_id = $2 WHERE user_id = $1 AND hold_id > $3 AND hold_id <= $4";
const NOTE_HOLDS: &str = "UPDATE erasures SET swept_holds = $2 WHERE account = $1";

/// The last of the next `$2` keys after `$1`, if there are any.
const LAST_KEY: &str =
    "SELECT max(id) FROM (SELECT id FROM idempotency_keys WHERE id > $1 ORDER BY id LIMIT $2)";
/// `$1` the old name; keys after `$2` and up to `$3`. The one with the highest id stays, so that nobody gives that id
/// again.
const FORGET_INDEXED: &str = "
    DELETE FROM idempotency_index WHERE (digest, id) IN (
        SELECT digest, id FROM idempotency_keys WHERE user_id = $1 AND id > $2 AND id <= $3
            AND id < (SELECT max(id) FROM idempotency_keys))";
const FORGET_KEYS: &str = "
    DELETE FROM idempotency_keys WHERE user_id = $1 AND id > $2 AND id <= $3
        AND id < (SELECT max(id) FROM idempotency_keys)
    RETURNING digest, id";
/// `$1` the old name, `$2` the new one. Nothing is left of the one that stays.
const EMPTY_KEYS: &str = "
    UPDATE idempotency_keys SET user_id = $2, key = 'erased', outcome = 'null'
    WHERE user_id = $1 AND id = (SELECT max(id) FROM idempotency_keys)";
const NOTE_KEYS: &str = "UPDATE erasures SET swept_keys = $2 WHERE account = $1";

const END: &str = "DELETE FROM erasures WHERE account = $1";

row! {
    /// What only SQLite has to know of an erasure.
    struct SweptRow {
        swept_keys: i64,
    }
}

/// What a piece changed of what is remembered.
#[derive(Debug, Default)]
pub(super) struct Erased {
    /// Idempotency keys that are gone.
    pub(super) keys: Vec<DigestAndId>,
    /// Whose name is free again.
    pub(super) ended: Option<UserId>,
}

/// An erasure that is under way, and what came of its piece.
struct Under<'c> {
    connection: &'c mut SqliteConnection,
    erasing: Erasing,
    swept_keys: i64,
    erased: Erased,
}

/// Does a piece of the erasure that is first, in a transaction of its own. After an error the connection is in doubt.
pub(super) async fn piece(connection: &mut SqliteConnection) -> Result<Erased, DatabaseError> {
    sqlx::query(BEGIN).execute(&mut *connection).await?;
    let next = sqlx::query(NEXT).fetch_optional(&mut *connection).await?;
    let mut erased = Erased::default();
    if let Some(row) = next {
        let SweptRow { swept_keys } = SweptRow::from_row(&row)?;
        let erasing = Erasing::from_row(&row)?;
        let mut under = Under { connection: &mut *connection, erasing, swept_keys, erased };
        next_piece(&mut under).await?;
        erased = under.erased;
    }
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(erased)
}

impl Under<'_> {
    fn names(&self) -> (String, String) {
        (self.erasing.old_name.clone(), self.erasing.new_name.clone())
    }
}

impl Erasure for Under<'_> {
    const CHANGES: ChangeTexts = change_texts!("IN (", ")");

    async fn change(&mut self, sql: &'static str) -> Result<Piece, DatabaseError> {
        let (old, new) = self.names();
        let query = sqlx::query(sql).bind(old).bind(new).bind(CHANGED_AT_ONCE);
        Ok(Piece::of(query.execute(&mut *self.connection).await?.rows_affected()))
    }

    async fn empty_entries(&mut self) -> Result<Piece, DatabaseError> {
        let (old, new) = self.names();
        let query = sqlx::query(RARE_ENTRIES).bind(old.clone()).bind(CHANGED_AT_ONCE);
        let rows = query.fetch_all(&mut *self.connection).await?;
        if rows.is_empty() {
            return Ok(Piece::Nothing);
        }
        let Emptied { rows, names } =
            Emptied::of(rows.iter().map(RareEntry::from_row).collect::<Result<_, _>>()?);
        let query = sqlx::query(RENAME_ENTRIES).bind(rows).bind(new.clone());
        query.execute(&mut *self.connection).await?;
        let query = sqlx::query(RENAME_NAMES).bind(json(&names)).bind(old).bind(new);
        query.execute(&mut *self.connection).await?;
        Ok(Piece::Done)
    }

    async fn sweep_holds(&mut self) -> Result<Piece, DatabaseError> {
        let after = self.erasing.swept_holds.clone();
        if after == ALL_HOLDS {
            return Ok(Piece::Nothing);
        }
        let query = sqlx::query_scalar(LAST_HOLD).bind(after.clone()).bind(LOOKED_THROUGH_AT_ONCE);
        let last: Option<String> = query.fetch_one(&mut *self.connection).await?;
        if let Some(last) = &last {
            let (old, new) = self.names();
            let query = sqlx::query(RENAME_HOLDS).bind(old).bind(new).bind(after);
            query.bind(last.clone()).execute(&mut *self.connection).await?;
        }
        let last = last.unwrap_or_else(|| ALL_HOLDS.to_owned());
        let query = sqlx::query(NOTE_HOLDS).bind(self.erasing.account).bind(last);
        query.execute(&mut *self.connection).await?;
        Ok(Piece::Done)
    }

    async fn forget_keys(&mut self) -> Result<Piece, DatabaseError> {
        let after = self.swept_keys;
        if after == i64::MAX {
            return Ok(Piece::Nothing);
        }
        let (old, new) = self.names();
        let query = sqlx::query_scalar(LAST_KEY).bind(after).bind(LOOKED_THROUGH_AT_ONCE);
        let last: Option<i64> = query.fetch_one(&mut *self.connection).await?;
        if let Some(last) = last {
            let query = sqlx::query(EMPTY_KEYS).bind(old.clone()).bind(new);
            query.execute(&mut *self.connection).await?;
            let query = sqlx::query(FORGET_INDEXED).bind(old.clone()).bind(after).bind(last);
            query.execute(&mut *self.connection).await?;
            let query = sqlx::query_as(FORGET_KEYS).bind(old).bind(after).bind(last);
            self.erased.keys = query.fetch_all(&mut *self.connection).await?;
        }
        let last = last.unwrap_or(i64::MAX);
        let query = sqlx::query(NOTE_KEYS).bind(self.erasing.account).bind(last);
        query.execute(&mut *self.connection).await?;
        Ok(Piece::Done)
    }

    async fn end(&mut self) -> Result<(), DatabaseError> {
        let query = sqlx::query(END).bind(self.erasing.account);
        query.execute(&mut *self.connection).await?;
        let old = UserId::new(self.erasing.old_name.as_str());
        let old = old.map_err(|error| DatabaseError::Corrupt(format!("erasures.user_id: {error}")));
        self.erased.ended = Some(old?);
        Ok(())
    }
}

impl SqliteReader {
    /// Whether an account is being erased.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn erases(&self) -> Result<bool, DatabaseError> {
        let mut connection = self.connection().await?;
        Ok(sqlx::query_scalar(ARE_ANY).fetch_one(&mut *connection).await?)
    }
}
