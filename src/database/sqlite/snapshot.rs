//! Accounts, prices and grants as one statement reads them, for the writer and the readers alike.
//!
//! One statement, because each costs a hop to SQLite's thread, and because it sees one moment.

use futures_util::TryStreamExt;
use serde::Serialize;
use sqlx::{FromRow, SqlSafeStr, SqliteConnection};

use crate::{
    database::{
        DatabaseError,
        rows::{FactRow, Found},
        timestamp,
    },
    domain::{Facts, Wanted},
};

/// A row of `holds` as a fact.
macro_rules! hold_fact {
    () => {
        "SELECT 'hold', h.user_id, json_object(
             'hold_id', h.hold_id, 'user_id', h.user_id, 'model_id', h.model_id, 'held_tokens',
             h.held_tokens, 'status', h.status, 'created_at', h.created_at, 'expires_at', h.expires_at,
             'closed_at', h.closed_at, 'input_tokens', h.input_tokens, 'output_tokens',
             h.output_tokens, 'consumed_tokens', h.consumed_tokens, 'released_tokens',
             h.released_tokens, 'remaining_tokens', h.remaining_tokens, 'transaction_id',
             h.transaction_id
         ), h.held_tokens "
    };
}
pub(super) use hold_fact;

/// Joined in this order (`CROSS`), so that each name is looked up in an index, and nothing is gathered
/// first. `$1` users, `$2` whether prices are wanted, `$3` names of purchases, `$4` by when
/// holds count or NULL, `$5` ids of holds; lists are JSON arrays.
macro_rules! snapshot_sql {
    () => {
        concat!(
            "SELECT 'credits' AS source, c.user_id AS owner, iif(c.bonus <> 0 OR c.frozen,
                 c.bonus || iif(c.frozen, ' frozen', ''), NULL) AS name, c.credits AS amount
         FROM json_each($1) AS wanted CROSS JOIN credits AS c ON c.user_id = wanted.value
         UNION ALL
         SELECT 'tokens', b.user_id, b.model_id, b.allocated_tokens
         FROM json_each($1) AS wanted CROSS JOIN token_balances AS b ON b.user_id = wanted.value
         UNION ALL
         SELECT 'price', category, model_id, price_per_m_token FROM token_pricing WHERE $2
         UNION ALL
         SELECT 'granted', n.user_id, n.name, 0
         FROM json_each($3) AS wanted CROSS JOIN purchase_names AS n ON n.name = wanted.value
         UNION ALL ",
            hold_fact!(),
            "FROM json_each($1) AS wanted CROSS JOIN holds AS h
             ON h.user_id = wanted.value AND h.status = 'held' AND h.expires_at > $4
         UNION ALL ",
            hold_fact!(),
            "FROM json_each($5) AS wanted CROSS JOIN holds AS h ON h.hold_id = wanted.value
         UNION ALL
         SELECT 'erasing', e.user_id, NULL, 0
         FROM json_each($1) AS wanted CROSS JOIN erasures AS e ON e.user_id = wanted.value"
        )
    };
}
pub(super) use snapshot_sql;

/// What a statement found.
pub(super) struct Snapshot {
    pub(super) facts: Facts,
    /// The version of the database, if it was asked for.
    pub(super) data_version: Option<i64>,
    /// The id of the newest entry, if it was asked for.
    pub(super) newest_entry: i64,
}

/// Runs `sql`, which must hold [`snapshot_sql`], and gathers what it finds.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    sql: impl SqlSafeStr,
    wanted: &Wanted,
) -> Result<Snapshot, DatabaseError> {
    let query = sqlx::query(sql)
        .bind(json(&wanted.users))
        .bind(wanted.prices)
        .bind(json(&wanted.purchase_names))
        .bind(wanted.holds_at.map(timestamp))
        .bind(json(&wanted.holds.iter().map(|(_, hold)| hold).collect::<Vec<_>>()));
    let mut rows = query.fetch(connection);
    let mut found = Found::default();
    let (mut data_version, mut newest_entry) = (None, 0);
    while let Some(row) = rows.try_next().await? {
        let row = FactRow::from_row(&row)?;
        match row.source {
            "version" => data_version = Some(row.amount),
            "newest" => newest_entry = row.amount,
            _ => found.take(&row)?,
        }
    }
    Ok(Snapshot { facts: found.into_facts(&wanted.users), data_version, newest_entry })
}

pub(super) fn json<T: Serialize + ?Sized>(list: &T) -> String {
    serde_json::to_string(list).expect("texts and numbers always have a JSON form")
}
