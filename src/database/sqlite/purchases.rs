//! Purchases that the stores confirm: how SQLite reads and writes them.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::{FromRow, SqliteConnection};

use super::{DatabaseError, SqliteReader, snapshot::json};
use crate::{
    database::{
        changes::Changes,
        timestamp,
        tracked::{
            COLUMNS, COUNTS, CountRow, DUE, DuePurchase, DueRow, PurchaseCounts, StoreFactRow,
            StoreFacts,
        },
    },
    domain::{ProductList, TrackedPurchase, Wanted},
};

/// `$1` keys of purchases, `$2` whether products are wanted, `$3` names of users, `$4` users whose waiting purchases
/// are counted, without a look at all that they ever bought; lists are JSON arrays.
static READ: LazyLock<String> = LazyLock::new(|| {
    let members: Vec<_> =
        COLUMNS.iter().map(|column| format!("'{column}', bought.{column}")).collect();
    format!(
        "SELECT 'purchase' AS source, keys.key AS name,
             json_object('id', bought.id, {}) AS value
         FROM json_each($1) AS wanted
         CROSS JOIN purchase_keys AS keys ON keys.key = wanted.value
         CROSS JOIN purchases AS bought ON bought.id = keys.purchase_id
         UNION ALL
         SELECT 'product', product_id, json_array(credits, json(iif(active, 'true', 'false')))
         FROM products WHERE $2
         UNION ALL
         SELECT 'user', user_id, '' FROM users WHERE user_id IN (SELECT value FROM json_each($3))
         UNION ALL
         SELECT 'waiting', user_id, CAST(count(*) AS TEXT)
         FROM purchases INDEXED BY purchases_waiting
         WHERE user_id IN (SELECT value FROM json_each($4)) AND state IN ('received', 'pending')
         GROUP BY user_id",
        members.join(", ")
    )
});

/// `?` purchases and the time; keys; those granted now. A new purchase has no id and gets one; the entry that
/// tells of it is the user's newest with its store id.
static SAVE: LazyLock<String> = LazyLock::new(|| {
    let columns = COLUMNS.join(", ");
    let values: Vec<_> = COLUMNS.iter().map(|column| format!("value ->> '{column}'")).collect();
    let changes: Vec<_> =
        COLUMNS.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    format!(
        "INSERT INTO purchases (id, {columns}, updated_at)
         SELECT value ->> 'id', {}, ? FROM json_each(?) WHERE true
         ON CONFLICT (id) DO UPDATE SET {}, updated_at = excluded.updated_at;

         INSERT INTO purchase_keys (key, purchase_id)
         SELECT value ->> 0, bought.id
         FROM json_each(?) CROSS JOIN purchases AS bought ON bought.key = value ->> 1;

         UPDATE purchases SET entry_id = (
             SELECT id FROM transactions
             WHERE user_id = granted.value ->> 1 AND type <> 'consumption' AND type <> 'allocation'
                 AND type = 'purchase' AND transaction_id = granted.value ->> 2
             ORDER BY id DESC LIMIT 1)
         FROM json_each(?) AS granted WHERE purchases.key = granted.value ->> 0",
        values.join(", "),
        changes.join(", ")
    )
});

/// What operations on purchases must know.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    wanted: &Wanted,
) -> Result<StoreFacts, DatabaseError> {
    let waiting = if wanted.waiting { &wanted.users[..] } else { &[] };
    let query = sqlx::query(READ.as_str())
        .bind(json(&wanted.purchase_keys))
        .bind(wanted.products)
        .bind(json(&wanted.user_ids))
        .bind(json(waiting));
    let mut rows = query.fetch(connection);
    let mut found = StoreFacts::default();
    while let Some(row) = rows.try_next().await? {
        found.take(&StoreFactRow::from_row(&row)?)?;
    }
    Ok(found)
}

/// Writes the purchases of a batch in the open transaction, after its entries.
pub(super) async fn save(
    connection: &mut SqliteConnection,
    changes: &Changes<'_>,
    now: &Arc<str>,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(SAVE.as_str())
        .bind(Arc::clone(now))
        .bind(json(&changes.purchases))
        .bind(json(&changes.purchase_keys))
        .bind(json(&changes.granted));
    query.execute(connection).await?;
    Ok(())
}

impl SqliteReader {
    /// The products, those too that are not offered.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn products(&self) -> Result<ProductList, DatabaseError> {
        let mut connection = self.connection().await?;
        let wanted = Wanted { products: true, ..Wanted::default() };
        Ok(read(&mut connection, &wanted).await?.into_products())
    }

    /// Purchases whose store is to be asked or told by now, at most `limit`.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn due_purchases(
        &self,
        now: DateTime<Utc>,
        limit: u16,
    ) -> Result<Vec<DuePurchase>, DatabaseError> {
        let mut connection = self.connection().await?;
        let latest = timestamp(TrackedPurchase::latest_due(now));
        let query = sqlx::query(DUE).bind(timestamp(now)).bind(limit).bind(latest);
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| DueRow::from_row(row)?.into_due()).collect()
    }

    /// How many purchases there are.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn purchase_counts(
        &self,
    ) -> Result<PurchaseCounts, DatabaseError> {
        let mut connection = self.connection().await?;
        let rows: Vec<CountRow> = sqlx::query_as(COUNTS).fetch_all(&mut *connection).await?;
        Ok(PurchaseCounts::of(rows))
    }
}
