//! What is kept about the app stores, purchases above all: how SQLite reads and writes it.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::{FromRow, SqliteConnection};

use super::{DatabaseError, SqliteReader, save::SqliteQuery, snapshot::json};
use crate::{
    database::{
        changes::StoreChanges,
        inbox::{self, MessageCounts, PurchaseAskedFor},
        purchase_names::{BelievedPurchase, believed},
        timestamp,
        tracked::{
            COLUMNS, COUNTS, CountRow, DUE, DuePurchase, DueRow, INBOX_COLUMNS, PurchaseCounts,
            SWEEP_COLUMNS, StoreFactRow, StoreFacts, bonus_of_part, listed, may_come_back,
        },
    },
    domain::{
        MessageId, ProductList, PurchaseKey, PurchaseName, PurchaseState, TrackedPurchase, Wanted,
    },
};

/// The products as facts.
macro_rules! product_facts {
    () => {
        "SELECT 'product' AS source, product_id AS name,
             json_array(credits, json(iif(active, 'true', 'false'))) AS value
         FROM products"
    };
}
/// Alone, for whoever lists them: what asks for all else takes longer, also where nothing else is wanted.
const PRODUCTS: &str = product_facts!();

/// `$1` keys of purchases, `$2` whether products are wanted, `$3` names of users, `$4` users whose waiting purchases
/// are counted, without a look at all that they ever bought, `$5` ids of messages, `$6` names of lists; lists are
/// JSON arrays. With a purchase go the entries that took it back.
static READ: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT 'purchase' AS source, keys.key AS name,
             json_object('id', bought.id, 'parts', json((
                 SELECT json_group_array(json_object('entry', part.id, 'credits', part.amount,
                     'bonus', {}, 'given_back', (SELECT coalesce(sum(amount), 0) FROM transactions AS given
                         WHERE given.reverses = part.id)) ORDER BY part.id)
                 FROM transactions AS part
                 WHERE part.reverses = bought.entry_id AND bought.taken_credits > 0
             )), {}) AS value
         FROM json_each($1) AS wanted
         CROSS JOIN purchase_keys AS keys ON keys.key = wanted.value
         CROSS JOIN purchases AS bought ON bought.id = keys.purchase_id
         UNION ALL
         {} WHERE $2
         UNION ALL
         SELECT 'user', user_id, '' FROM users WHERE user_id IN (SELECT value FROM json_each($3))
         UNION ALL
         SELECT 'waiting', user_id, CAST(count(*) AS TEXT)
         FROM purchases INDEXED BY purchases_waiting
         WHERE user_id IN (SELECT value FROM json_each($4)) AND state IN ('received', 'pending')
         GROUP BY user_id
         UNION ALL
         SELECT 'message', message_id, json_object({}) FROM inbox AS kept
         WHERE message_id IN (SELECT value FROM json_each($5))
         UNION ALL
         SELECT 'sweep', name, json_object({}) FROM sweeps AS kept
         WHERE name IN (SELECT value FROM json_each($6))",
        bonus_of_part!("max"),
        members("bought", &COLUMNS),
        product_facts!(),
        members("kept", &INBOX_COLUMNS),
        members("kept", &SWEEP_COLUMNS),
    )
});

fn members(table: &str, columns: &[&str]) -> String {
    let members: Vec<_> =
        columns.iter().map(|column| format!("'{column}', {table}.{column}")).collect();
    members.join(", ")
}

/// `$1` users. Of each model the newest lots, up to those that hold as many tokens as the balance and `$2` more, which
/// may come back meanwhile: the rest is used.
const LOTS: &str = "
    SELECT 'lot' AS source, user_id AS name,
        json_array(lots.id, model_id, credits, bonus, tokens, tokens_back) AS value
    FROM (
        SELECT *, sum(tokens - tokens_back) OVER (
            PARTITION BY user_id, model_id ORDER BY id DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newer
        FROM (
            SELECT bought.user_id, bought.model_id, bought.id, bought.amount AS credits,
                -bought.bonus_delta AS bonus, bought.tokens_delta AS tokens, (
                    SELECT coalesce(sum(-tokens_delta), 0) FROM transactions AS back
                    WHERE back.allocation_id = bought.id
                ) AS tokens_back
            FROM json_each($1) AS wanted
            CROSS JOIN transactions AS bought ON bought.user_id = wanted.value
            WHERE bought.type = 'allocation'
        )
    ) AS lots
    JOIN token_balances USING (user_id, model_id)
    WHERE coalesce(newer, 0) < allocated_tokens + $2 AND tokens_back < tokens";

/// `$1` ids, a JSON array. Each is told with how much of it was reversed.
const ENTRIES: &str = "
    SELECT 'entry' AS source, CAST(entry.id AS TEXT) AS name,
        json_array(entry.user_id, entry.type, entry.model_id, entry.amount, (
            SELECT coalesce(sum(amount), 0) FROM transactions AS back WHERE back.reverses = entry.id
        )) AS value
    FROM json_each($1) AS wanted CROSS JOIN transactions AS entry ON entry.id = wanted.value";

/// `$1` ids below this one, `$2` how many, newest first; `$3` a state, if one is asked for.
static LIST: LazyLock<[String; 2]> = LazyLock::new(|| {
    ["", "AND bought.state = $3"].map(|which| {
        format!(
            "SELECT json_object('id', bought.id, {}) FROM purchases AS bought
             WHERE bought.id < $1 {which} ORDER BY bought.id DESC LIMIT $2",
            members("bought", &COLUMNS)
        )
    })
});
/// `$1` an id.
static ONE: LazyLock<String> = LazyLock::new(|| {
    let members = members("bought", &COLUMNS);
    format!("SELECT json_object('id', bought.id, {members}) FROM purchases AS bought WHERE id = $1")
});
/// `$1` names, a JSON array.
const BELIEVED: &str = believed!("IN (SELECT value FROM json_each($1))");

/// `?` purchases and the time; keys. A new purchase has no id and gets one.
static SAVE: LazyLock<String> = LazyLock::new(|| {
    let columns = COLUMNS.join(", ");
    format!(
        "INSERT INTO purchases (id, {columns}, updated_at)
         SELECT value ->> 'id', {}, ? FROM json_each(?) WHERE true
         ON CONFLICT (id) DO UPDATE SET {}, updated_at = excluded.updated_at;

         INSERT INTO purchase_keys (key, purchase_id)
         SELECT value ->> 0, bought.id
         FROM json_each(?) CROSS JOIN purchases AS bought ON bought.key = value ->> 1",
        values(&COLUMNS),
        excluded(&COLUMNS),
    )
});

/// `?` messages; lists; users with their word, and the time.
static SAVE_REST: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO inbox ({}) SELECT {} FROM json_each(?) WHERE true
         ON CONFLICT (message_id) DO UPDATE SET {};

         INSERT INTO sweeps ({}) SELECT {} FROM json_each(?) WHERE true
         ON CONFLICT (name) DO UPDATE SET {};

         INSERT INTO consents (user_id, apple_consumption, updated_at)
         SELECT key, value, ? FROM json_each(?) WHERE true
         ON CONFLICT (user_id) DO UPDATE
         SET apple_consumption = excluded.apple_consumption, updated_at = excluded.updated_at",
        INBOX_COLUMNS.join(", "),
        values(&INBOX_COLUMNS),
        excluded(&INBOX_COLUMNS),
        SWEEP_COLUMNS.join(", "),
        values(&SWEEP_COLUMNS),
        excluded(&SWEEP_COLUMNS),
    )
});

fn values(columns: &[&str]) -> String {
    let values: Vec<_> = columns.iter().map(|column| format!("value ->> '{column}'")).collect();
    values.join(", ")
}

fn excluded(columns: &[&str]) -> String {
    let changes: Vec<_> =
        columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    changes.join(", ")
}

/// What operations about the stores must know.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    wanted: &Wanted,
) -> Result<StoreFacts, DatabaseError> {
    let waiting = if wanted.waiting { &wanted.users[..] } else { &[] };
    let query = sqlx::query(READ.as_str())
        .bind(json(&wanted.purchase_keys))
        .bind(wanted.products)
        .bind(json(&wanted.user_ids))
        .bind(json(waiting))
        .bind(json(&wanted.messages))
        .bind(json(&wanted.sweeps));
    let mut found = StoreFacts::default();
    take_all(query, connection, &mut found).await?;
    if !wanted.lots_of.is_empty() {
        let query = sqlx::query(LOTS).bind(json(&wanted.lots_of)).bind(may_come_back(wanted));
        take_all(query, connection, &mut found).await?;
    }
    if !wanted.reversing.is_empty() {
        let query = sqlx::query(ENTRIES).bind(json(&wanted.reversing));
        take_all(query, connection, &mut found).await?;
    }
    Ok(found)
}

async fn take_all(
    query: SqliteQuery,
    connection: &mut SqliteConnection,
    found: &mut StoreFacts,
) -> Result<(), DatabaseError> {
    let mut rows = query.fetch(connection);
    while let Some(row) = rows.try_next().await? {
        found.take(&StoreFactRow::from_row(&row)?)?;
    }
    Ok(())
}

/// Writes what a batch changed in the open transaction, after its entries.
pub(super) async fn save(
    connection: &mut SqliteConnection,
    changes: &StoreChanges<'_>,
    now: &Arc<str>,
) -> Result<(), sqlx::Error> {
    let StoreChanges { purchases, purchase_keys, messages, sweeps, consents } = changes;
    if !purchases.is_empty() {
        let query = sqlx::query(SAVE.as_str())
            .bind(Arc::clone(now))
            .bind(json(purchases))
            .bind(json(purchase_keys));
        query.execute(&mut *connection).await?;
    }
    if !(messages.is_empty() && sweeps.is_empty() && consents.is_empty()) {
        let query = sqlx::query(SAVE_REST.as_str())
            .bind(json(messages))
            .bind(json(sweeps))
            .bind(Arc::clone(now))
            .bind(json(consents));
        query.execute(connection).await?;
    }
    Ok(())
}

impl SqliteReader {
    /// The products, those too that are not offered.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn products(&self) -> Result<ProductList, DatabaseError> {
        let mut connection = self.connection().await?;
        let mut found = StoreFacts::default();
        take_all(sqlx::query(PRODUCTS), &mut connection, &mut found).await?;
        Ok(found.into_products())
    }

    /// Purchases, the newest first.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn purchases(
        &self,
        state: Option<PurchaseState>,
        limit: u16,
        before: Option<i64>,
    ) -> Result<Vec<TrackedPurchase>, DatabaseError> {
        let mut connection = self.connection().await?;
        let [all, of_state] = &*LIST;
        let sql = if state.is_some() { of_state } else { all };
        let query = sqlx::query_scalar(sql.as_str()).bind(before.unwrap_or(i64::MAX)).bind(limit);
        let query = match state {
            Some(state) => query.bind(state.name()),
            None => query,
        };
        let rows: Vec<String> = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| listed(row)).collect()
    }

    /// A purchase, if there is one of this id.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn purchase(
        &self,
        id: i64,
    ) -> Result<Option<TrackedPurchase>, DatabaseError> {
        let mut connection = self.connection().await?;
        let query = sqlx::query_scalar(ONE.as_str()).bind(id);
        let row: Option<String> = query.fetch_optional(&mut *connection).await?;
        row.map(|row| listed(&row)).transpose()
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

    /// Messages that are to be worked on by now, at most `limit`.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn due_messages(
        &self,
        now: DateTime<Utc>,
        limit: u16,
    ) -> Result<Vec<MessageId>, DatabaseError> {
        let mut connection = self.connection().await?;
        let latest = timestamp(TrackedPurchase::latest_due(now));
        let query = sqlx::query(inbox::DUE).bind(timestamp(now)).bind(limit).bind(latest);
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| Ok(inbox::DueRow::from_row(row)?.into_id())).collect()
    }

    /// What waits of each store's messages.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn message_counts(
        &self,
    ) -> Result<Vec<MessageCounts>, DatabaseError> {
        let mut connection = self.connection().await?;
        let rows: Vec<inbox::CountRow> =
            sqlx::query_as(inbox::COUNTS).fetch_all(&mut *connection).await?;
        rows.into_iter().map(inbox::CountRow::into_counts).collect()
    }

    /// What was granted on a client's word for a purchase that has one of these names.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn believed_purchase(
        &self,
        names: &[PurchaseName],
    ) -> Result<Option<BelievedPurchase>, DatabaseError> {
        let mut connection = self.connection().await?;
        let rows = sqlx::query_as(BELIEVED).bind(json(names)).fetch_all(&mut *connection).await?;
        BelievedPurchase::known_by(names, rows)
    }

    /// What there is to tell of a purchase, if it is known.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn purchase_asked_for(
        &self,
        key: &PurchaseKey,
    ) -> Result<Option<PurchaseAskedFor>, DatabaseError> {
        let mut connection = self.connection().await?;
        let query = sqlx::query_as(inbox::PURCHASE_USE).bind(key.as_str().to_owned());
        let row: Option<inbox::UseRow> = query.fetch_optional(&mut *connection).await?;
        row.map(inbox::UseRow::into_asked_for).transpose()
    }
    /// The same of one that this entry granted on a client's word.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn believed_asked_for(
        &self,
        entry: i64,
    ) -> Result<Option<PurchaseAskedFor>, DatabaseError> {
        let mut connection = self.connection().await?;
        let query = sqlx::query_as(inbox::BELIEVED_USE).bind(entry);
        let row: Option<inbox::UseRow> = query.fetch_optional(&mut *connection).await?;
        row.map(inbox::UseRow::into_asked_for).transpose()
    }
}
