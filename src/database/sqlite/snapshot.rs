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
    },
    domain::{Facts, Wanted},
};

/// Joined in this order (`CROSS`), so that each name is looked up in an index, and nothing is gathered
/// first. `$1` users, `$2` whether prices are wanted, `$3` names of purchases; lists are JSON arrays.
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
         SELECT 'granted', n.user_id, n.name, 0
         FROM json_each($3) AS wanted CROSS JOIN purchase_names AS n ON n.name = wanted.value"
    };
}
pub(super) use snapshot_sql;

/// What a statement found.
pub(super) struct Snapshot {
    pub(super) facts: Facts,
    /// The version of the database, if it was asked for.
    pub(super) data_version: Option<i64>,
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
        .bind(json(&wanted.purchase_names));
    let mut rows = query.fetch(connection);
    let mut found = Found::default();
    let mut data_version = None;
    while let Some(row) = rows.try_next().await? {
        let row = FactRow::from_row(&row)?;
        if row.source == "version" {
            data_version = Some(row.amount);
        } else {
            found.take(&row)?;
        }
    }
    Ok(Snapshot { facts: found.into_facts(&wanted.users), data_version })
}

pub(super) fn json<T: Serialize + ?Sized>(list: &T) -> String {
    serde_json::to_string(list).expect("texts and numbers always have a JSON form")
}
