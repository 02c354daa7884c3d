//! Purchases that the stores confirm: how PostgreSQL reads, locks and writes them.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};

use super::PostgresReader;
use crate::{
    database::{
        DatabaseError,
        changes::Changes,
        tracked::{
            COLUMNS, COUNTS, CountRow, DUE, DuePurchase, DueRow, PurchaseCounts, StoreFactRow,
            StoreFacts,
        },
    },
    domain::{ProductList, PurchaseKey, StoreTransactionId, TrackedPurchase, UserId, Wanted},
};

/// `$1` keys. Locked in one order, whoever locks them, and after the accounts.
const LOCK: &str = "
    SELECT 'purchase' AS source, keys.key AS name, to_jsonb(bought)::text AS value
    FROM purchase_keys AS keys JOIN purchases AS bought ON bought.id = keys.purchase_id
    WHERE keys.key = ANY($1) ORDER BY bought.id FOR UPDATE OF bought";

/// `$1` whether products are wanted, `$2` names of users, `$3` users whose waiting purchases are counted.
const BESIDES: &str = "
    SELECT 'product' AS source, product_id AS name, jsonb_build_array(credits, active)::text AS value
    FROM products WHERE $1
    UNION ALL
    SELECT 'user', user_id, '' FROM users WHERE user_id = ANY($2)
    UNION ALL
    SELECT 'waiting', user_id, count(*)::text FROM purchases
    WHERE user_id = ANY($3) AND state IN ('received', 'pending') GROUP BY user_id";

/// `$1` purchases as JSON, `$2` the time, `$3` keys and `$4` the first keys of their purchases, in pairs; `$5` first
/// keys, `$6` users and `$7` store ids of those granted now. Comes to the number of rows written, which is less than
/// there was to write when another instance was the first.
static SAVE: LazyLock<String> = LazyLock::new(|| {
    let columns = COLUMNS.join(", ");
    let given: Vec<_> = COLUMNS.iter().map(|column| format!("given.{column}")).collect();
    let given = given.join(", ");
    format!(
        "WITH granted AS (
             SELECT key, (
                 SELECT id FROM transactions
                 WHERE transactions.user_id = told.user_id AND type <> 'consumption'
                     AND type <> 'allocation' AND type = 'purchase' AND transaction_id = store_id
                 ORDER BY id DESC LIMIT 1) AS entry
             FROM unnest($5::text[], $6::text[], $7::text[]) AS told (key, user_id, store_id)
         ), given AS (
             SELECT given.*, granted.entry
             FROM jsonb_populate_recordset(NULL::purchases, $1::jsonb) AS given
             LEFT JOIN granted ON granted.key = given.key
         ), new AS (
             INSERT INTO purchases ({columns}, entry_id, updated_at)
             SELECT {given}, given.entry, $2 FROM given WHERE given.id IS NULL ORDER BY given.key
             ON CONFLICT (key) DO NOTHING RETURNING id, key
         ), changed AS (
             UPDATE purchases SET ({columns}, entry_id, updated_at)
                 = ({given}, coalesce(given.entry, purchases.entry_id), $2)
             FROM given WHERE purchases.id = given.id RETURNING 1
         ), keys AS (
             INSERT INTO purchase_keys (key, purchase_id)
             SELECT wanted.key, coalesce(new.id, kept.id)
             FROM unnest($3::text[], $4::text[]) AS wanted (key, first)
             LEFT JOIN new ON new.key = wanted.first
             LEFT JOIN purchases AS kept ON kept.key = wanted.first
             WHERE coalesce(new.id, kept.id) IS NOT NULL
             ORDER BY wanted.key
             ON CONFLICT (key) DO NOTHING RETURNING 1
         )
         SELECT (SELECT count(*) FROM new) + (SELECT count(*) FROM changed)
             + (SELECT count(*) FROM keys)"
    )
});

/// What operations on purchases must know, and the purchases locked.
pub(super) async fn lock(
    connection: &mut PgConnection,
    wanted: &Wanted,
) -> Result<StoreFacts, DatabaseError> {
    let mut found = StoreFacts::default();
    if !wanted.purchase_keys.is_empty() {
        let keys: Vec<&str> = wanted.purchase_keys.iter().map(PurchaseKey::as_str).collect();
        for row in sqlx::query(LOCK).bind(keys).fetch_all(&mut *connection).await? {
            found.take(&StoreFactRow::from_row(&row)?)?;
        }
    }
    if wanted.products || !wanted.user_ids.is_empty() || wanted.waiting {
        let texts = |users: &'_ [UserId]| -> Vec<String> {
            users.iter().map(|user| user.as_str().to_owned()).collect()
        };
        let waiting = if wanted.waiting { texts(&wanted.users) } else { Vec::new() };
        let query =
            sqlx::query(BESIDES).bind(wanted.products).bind(texts(&wanted.user_ids)).bind(waiting);
        for row in query.fetch_all(connection).await? {
            found.take(&StoreFactRow::from_row(&row)?)?;
        }
    }
    Ok(found)
}

/// Writes the purchases of a batch in the open transaction, after its entries. Returns whether all of them could
/// be: not where another instance was the first.
pub(super) async fn save(
    connection: &mut PgConnection,
    changes: &Changes<'_>,
    now: DateTime<Utc>,
) -> Result<bool, DatabaseError> {
    let Changes { purchases, purchase_keys, granted, .. } = changes;
    let json = serde_json::to_string(purchases).expect("texts and numbers have a JSON form");
    let (keys, firsts): (Vec<&str>, Vec<&str>) =
        purchase_keys.iter().map(|(key, first)| (key.as_str(), first.as_str())).unzip();
    let column = |value: fn(&(&PurchaseKey, &UserId, &StoreTransactionId)) -> String| {
        granted.iter().map(value).collect::<Vec<_>>()
    };
    let expected = purchases.len().saturating_add(keys.len());
    let written: i64 = sqlx::query_scalar(SAVE.as_str())
        .bind(json)
        .bind(now)
        .bind(keys)
        .bind(firsts)
        .bind(column(|(key, ..)| key.as_str().to_owned()))
        .bind(column(|(_, user, _)| user.as_str().to_owned()))
        .bind(column(|(.., id)| id.as_str().to_owned()))
        .fetch_one(connection)
        .await?;
    Ok(usize::try_from(written) == Ok(expected))
}

impl PostgresReader {
    /// The products, those too that are not offered.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn products(&self) -> Result<ProductList, DatabaseError> {
        let wanted = Wanted { products: true, ..Wanted::default() };
        let read = async |connection: &mut PgConnection| lock(connection, &wanted).await;
        Ok(self.read_on(read).await?.into_products())
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
        let latest = TrackedPurchase::latest_due(now);
        let query = sqlx::query(DUE).bind(now).bind(i64::from(limit)).bind(latest);
        let rows = self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
        rows.iter().map(|row| DueRow::from_row(row)?.into_due()).collect()
    }

    /// How many purchases there are.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn purchase_counts(
        &self,
    ) -> Result<PurchaseCounts, DatabaseError> {
        let query = sqlx::query_as(COUNTS);
        let rows: Vec<CountRow> =
            self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
        Ok(PurchaseCounts::of(rows))
    }
}
