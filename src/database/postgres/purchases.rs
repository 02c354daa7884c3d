//! What is kept about the app stores, purchases above all: how PostgreSQL reads, locks and writes it.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder, postgres::PgArguments, query::Query};

use super::PostgresReader;
use crate::{
    database::{
        DatabaseError,
        changes::StoreChanges,
        inbox::{self, MessageCounts, PurchaseAskedFor},
        purchase_names::{BelievedPurchase, BelievedRow, believed},
        tracked::{
            COLUMNS, COUNTS, CountRow, DUE, DuePurchase, DueRow, INBOX_COLUMNS, PurchaseCounts,
            SWEEP_COLUMNS, StoreFactRow, StoreFacts, bonus_of_part, listed, may_come_back,
        },
    },
    domain::{
        MessageId, ProductList, PurchaseKey, PurchaseName, PurchaseState, TrackedPurchase, UserId,
        Wanted,
    },
};

/// `$1` names.
const BELIEVED: &str = believed!("= ANY($1)");

/// `$1` keys. Locked in one order, whoever locks them, and after the accounts. With a purchase go the entries that
/// took it back; they only change under the lock of its owner's account.
const LOCK: &str = concat!(
    "
    SELECT 'purchase' AS source, keys.key AS name, (to_jsonb(bought) || jsonb_build_object('parts', (
        SELECT coalesce(jsonb_agg(jsonb_build_object('entry', part.id, 'credits', part.amount,
            'bonus', ",
    bonus_of_part!("greatest"),
    ", 'given_back', (SELECT coalesce(sum(amount), 0)::bigint FROM transactions AS given
                WHERE given.reverses = part.id)) ORDER BY part.id), '[]')
        FROM transactions AS part
        WHERE part.reverses = bought.entry_id AND bought.taken_credits > 0
    )))::text AS value
    FROM purchase_keys AS keys JOIN purchases AS bought ON bought.id = ANY(ARRAY[keys.purchase_id])
    WHERE keys.key = ANY($1) ORDER BY bought.id + 0 FOR UPDATE OF bought"
);

/// What is found besides, part by part.
const PRODUCTS: &str = "
    SELECT 'product' AS source, product_id AS name, jsonb_build_array(credits, active)::text AS value
    FROM products";
const USERS: &str = "
    SELECT 'user' AS source, user_id AS name, '' AS value FROM users WHERE user_id = ANY(";
const WAITING: &str = "
    SELECT 'waiting' AS source, user_id AS name, count(*)::text AS value FROM purchases
    WHERE state IN ('received', 'pending') AND user_id = ANY(";

/// `$1` ids below this one, `$2` how many, newest first; `$3` a state.
const LIST: &str = "
    SELECT to_jsonb(bought)::text FROM purchases AS bought
    WHERE id < $1 ORDER BY id DESC LIMIT $2";
const LIST_OF_STATE: &str = "
    SELECT to_jsonb(bought)::text FROM purchases AS bought
    WHERE id < $1 AND state = $3 ORDER BY id DESC LIMIT $2";
/// `$1` an id.
const ONE: &str = "SELECT to_jsonb(bought)::text FROM purchases AS bought WHERE id = $1";

/// `$1` ids. Locked like purchases.
const LOCK_MESSAGES: &str = "
    SELECT 'message' AS source, message_id AS name, to_jsonb(inbox)::text AS value
    FROM inbox WHERE message_id = ANY($1) ORDER BY message_id FOR UPDATE";
/// `$1` names.
const LOCK_SWEEPS: &str = "
    SELECT 'sweep' AS source, name, to_jsonb(sweeps)::text AS value
    FROM sweeps WHERE name = ANY($1) ORDER BY name FOR UPDATE";

/// `$1` users. Of each model the newest lots, up to those that hold as many tokens as the balance and `$2` more, which
/// may come back meanwhile: the rest is used.
const LOTS: &str = "
    SELECT 'lot' AS source, user_id AS name,
        jsonb_build_array(lots.id, model_id, credits, bonus, tokens, tokens_back)::text AS value
    FROM (
        SELECT *, sum(tokens - tokens_back) OVER (
            PARTITION BY user_id, model_id ORDER BY id DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newer
        FROM (
            SELECT bought.user_id, bought.model_id, bought.id, bought.amount AS credits,
                -bought.bonus_delta AS bonus, bought.tokens_delta AS tokens, (
                    SELECT coalesce(sum(-tokens_delta), 0)::bigint FROM transactions AS back
                    WHERE back.allocation_id = bought.id
                ) AS tokens_back
            FROM transactions AS bought
            WHERE bought.user_id = ANY($1) AND bought.type = 'allocation'
        ) AS allocations
    ) AS lots
    JOIN token_balances USING (user_id, model_id)
    WHERE token_balances.user_id = ANY($1)
        AND coalesce(newer, 0) < allocated_tokens + $2 AND tokens_back < tokens";

/// `$1` ids. Each is told with how much of it was reversed, which only changes under the lock of its account.
const ENTRIES: &str = "
    SELECT 'entry' AS source, entry.id::text AS name,
        jsonb_build_array(entry.user_id, entry.type, entry.model_id, entry.amount, (
            SELECT coalesce(sum(amount), 0)::bigint FROM transactions AS back
            WHERE back.reverses = entry.id
        ))::text AS value
    FROM transactions AS entry WHERE entry.id = ANY($1)";

/// `$1` purchases as JSON, `$2` the time, `$3` keys and `$4` the first keys of their purchases, in pairs. Comes to the
/// number of rows written, which is less than there was to write when another instance was the first.
static SAVE: LazyLock<String> = LazyLock::new(|| {
    let columns = COLUMNS.join(", ");
    let given: Vec<_> = COLUMNS.iter().map(|column| format!("given.{column}")).collect();
    let given = given.join(", ");
    format!(
        "WITH given AS (
             SELECT * FROM jsonb_populate_recordset(NULL::purchases, $1::jsonb)
         ), new AS (
             INSERT INTO purchases ({columns}, updated_at)
             SELECT {given}, $2 FROM given WHERE given.id IS NULL ORDER BY given.key
             ON CONFLICT (key) DO NOTHING RETURNING id, key
         ), changed AS (
             UPDATE purchases SET ({columns}, updated_at) = ({given}, $2)
             FROM given WHERE purchases.id = ANY(ARRAY[given.id]) RETURNING 1
         ), keys AS (
             INSERT INTO purchase_keys (key, purchase_id)
             SELECT wanted.key, coalesce(new.id, kept.id)
             FROM unnest($3::text[], $4::text[]) AS wanted (key, first)
             LEFT JOIN new ON new.key = wanted.first
             LEFT JOIN purchases AS kept ON kept.key = ANY(ARRAY[wanted.first])
             WHERE coalesce(new.id, kept.id) IS NOT NULL
             ORDER BY wanted.key
             ON CONFLICT (key) DO NOTHING RETURNING 1
         )
         SELECT (SELECT count(*) FROM new) + (SELECT count(*) FROM changed)
             + (SELECT count(*) FROM keys)"
    )
});

/// `$1` messages and `$2` lists as JSON, `$3` users and `$4` their word, `$5` the time. A message that another
/// instance has kept meanwhile is not written over: the number of rows tells.
static SAVE_REST: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH messages AS (
             INSERT INTO inbox ({inbox})
             SELECT {inbox} FROM jsonb_populate_recordset(NULL::inbox, $1::jsonb)
             ON CONFLICT (message_id) DO UPDATE SET {} WHERE inbox.message_id = ANY($6) RETURNING 1
         ), lists AS (
             INSERT INTO sweeps ({sweeps})
             SELECT {sweeps} FROM jsonb_populate_recordset(NULL::sweeps, $2::jsonb)
             ON CONFLICT (name) DO UPDATE SET {} WHERE sweeps.name = ANY($7) RETURNING 1
         ), words AS (
             INSERT INTO consents (user_id, apple_consumption, updated_at)
             SELECT user_id, word, $5 FROM unnest($3::text[], $4::bool[]) AS new (user_id, word)
             ON CONFLICT (user_id) DO UPDATE
             SET apple_consumption = excluded.apple_consumption, updated_at = excluded.updated_at
         )
         SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM lists)",
        excluded(&INBOX_COLUMNS),
        excluded(&SWEEP_COLUMNS),
        inbox = INBOX_COLUMNS.join(", "),
        sweeps = SWEEP_COLUMNS.join(", "),
    )
});

fn excluded(columns: &[&str]) -> String {
    let changes: Vec<_> =
        columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    changes.join(", ")
}

/// What operations about the stores must know, with purchases, messages and lists locked.
pub(super) async fn lock(
    connection: &mut PgConnection,
    wanted: &Wanted,
) -> Result<StoreFacts, DatabaseError> {
    let mut found = StoreFacts::default();
    let texts = |users: &'_ [UserId]| -> Vec<String> {
        users.iter().map(|user| user.as_str().to_owned()).collect()
    };
    if !wanted.purchase_keys.is_empty() {
        let keys: Vec<&str> = wanted.purchase_keys.iter().map(PurchaseKey::as_str).collect();
        take_all(connection, &mut found, sqlx::query(LOCK).bind(keys)).await?;
    }
    if !wanted.messages.is_empty() {
        let ids: Vec<&str> = wanted.messages.iter().map(MessageId::as_str).collect();
        take_all(connection, &mut found, sqlx::query(LOCK_MESSAGES).bind(ids)).await?;
    }
    if !wanted.sweeps.is_empty() {
        let query = sqlx::query(LOCK_SWEEPS).bind(&wanted.sweeps[..]);
        take_all(connection, &mut found, query).await?;
    }
    take_besides(connection, &mut found, wanted).await?;
    if !wanted.lots_of.is_empty() {
        let query = sqlx::query(LOTS).bind(texts(&wanted.lots_of)).bind(may_come_back(wanted));
        take_all(connection, &mut found, query).await?;
    }
    if !wanted.reversing.is_empty() {
        let query = sqlx::query(ENTRIES).bind(&wanted.reversing[..]);
        take_all(connection, &mut found, query).await?;
    }
    Ok(found)
}

/// In one statement, which has a part only for what is asked for.
async fn take_besides(
    connection: &mut PgConnection,
    found: &mut StoreFacts,
    wanted: &Wanted,
) -> Result<(), DatabaseError> {
    let names = |users: &'_ [UserId]| -> Vec<String> {
        users.iter().map(|user| user.as_str().to_owned()).collect()
    };
    let mut query = QueryBuilder::new("");
    let mut parts = query.separated(" UNION ALL ");
    if wanted.products {
        parts.push(PRODUCTS);
    }
    if !wanted.user_ids.is_empty() {
        parts.push(USERS).push_bind_unseparated(names(&wanted.user_ids)).push_unseparated(")");
    }
    if wanted.waiting && !wanted.users.is_empty() {
        parts
            .push(WAITING)
            .push_bind_unseparated(names(&wanted.users))
            .push_unseparated(") GROUP BY user_id");
    }
    if query.sql().as_str().is_empty() {
        return Ok(());
    }
    take_all(connection, found, query.build()).await
}

async fn take_all(
    connection: &mut PgConnection,
    found: &mut StoreFacts,
    query: Query<'_, Postgres, PgArguments>,
) -> Result<(), DatabaseError> {
    for row in query.fetch_all(connection).await? {
        found.take(&StoreFactRow::from_row(&row)?)?;
    }
    Ok(())
}

/// Writes what a batch changed in the open transaction, after its entries. Returns whether all of it could be: not
/// where another instance was the first.
pub(super) async fn save(
    connection: &mut PgConnection,
    changes: &StoreChanges<'_>,
    now: DateTime<Utc>,
) -> Result<bool, DatabaseError> {
    let StoreChanges { purchases, purchase_keys, .. } = changes;
    let mut as_expected = true;
    if !purchases.is_empty() {
        let (keys, firsts): (Vec<&str>, Vec<&str>) =
            purchase_keys.iter().map(|(key, first)| (key.as_str(), first.as_str())).unzip();
        let expected = purchases.len().saturating_add(keys.len());
        let query = sqlx::query_scalar(SAVE.as_str());
        let query = query.bind(json(purchases)).bind(now).bind(keys).bind(firsts);
        let written: i64 = query.fetch_one(&mut *connection).await?;
        as_expected = usize::try_from(written) == Ok(expected);
    }
    Ok(as_expected && save_rest(connection, changes, now).await?)
}

async fn save_rest(
    connection: &mut PgConnection,
    changes: &StoreChanges<'_>,
    now: DateTime<Utc>,
) -> Result<bool, DatabaseError> {
    let StoreChanges { messages, sweeps, consents, .. } = changes;
    let expected = messages.len().saturating_add(sweeps.len());
    if expected == 0 && consents.is_empty() {
        return Ok(true);
    }
    let (users, words): (Vec<&str>, Vec<bool>) =
        consents.iter().map(|(user, word)| (user.as_str(), *word)).unzip();
    let known_messages = messages.iter().filter(|message| message.is_kept);
    let known_messages: Vec<&str> = known_messages.map(|message| message.id.as_str()).collect();
    let known_sweeps = sweeps.iter().filter(|sweep| sweep.is_kept);
    let known_sweeps: Vec<&str> = known_sweeps.map(|sweep| sweep.name.as_str()).collect();
    let written: i64 = sqlx::query_scalar(SAVE_REST.as_str())
        .bind(json(messages))
        .bind(json(sweeps))
        .bind(users)
        .bind(words)
        .bind(now)
        .bind(known_messages)
        .bind(known_sweeps)
        .fetch_one(connection)
        .await?;
    Ok(usize::try_from(written) == Ok(expected))
}

fn json<T: Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("texts and numbers have a JSON form")
}

impl PostgresReader {
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
        let sql = if state.is_some() { LIST_OF_STATE } else { LIST };
        let query = sqlx::query_scalar(sql).bind(before.unwrap_or(i64::MAX)).bind(i64::from(limit));
        let query = match state {
            Some(state) => query.bind(state.name()),
            None => query,
        };
        let rows = self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
        let rows: Vec<String> = rows;
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
        let query = sqlx::query_scalar(ONE).bind(id);
        let row =
            self.read_on(async |connection| Ok(query.fetch_optional(connection).await?)).await?;
        let row: Option<String> = row;
        row.map(|row| listed(&row)).transpose()
    }

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

    /// Messages that are to be worked on by now, at most `limit`.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn due_messages(
        &self,
        now: DateTime<Utc>,
        limit: u16,
    ) -> Result<Vec<MessageId>, DatabaseError> {
        let latest = TrackedPurchase::latest_due(now);
        let query = sqlx::query(inbox::DUE).bind(now).bind(i64::from(limit)).bind(latest);
        let rows = self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
        rows.iter().map(|row| Ok(inbox::DueRow::from_row(row)?.into_id())).collect()
    }

    /// What waits of each store's messages.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn message_counts(
        &self,
    ) -> Result<Vec<MessageCounts>, DatabaseError> {
        let query = sqlx::query_as(inbox::COUNTS);
        let rows: Vec<inbox::CountRow> =
            self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
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
        let bound: Vec<&str> = names.iter().map(PurchaseName::as_str).collect();
        let query = sqlx::query_as(BELIEVED).bind(bound);
        let rows: Vec<BelievedRow> =
            self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
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
        let query = sqlx::query_as(inbox::PURCHASE_USE).bind(key.as_str());
        let row: Option<inbox::UseRow> =
            self.read_on(async |connection| Ok(query.fetch_optional(connection).await?)).await?;
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
        let query = sqlx::query_as(inbox::BELIEVED_USE).bind(entry);
        let row: Option<inbox::UseRow> =
            self.read_on(async |connection| Ok(query.fetch_optional(connection).await?)).await?;
        row.map(inbox::UseRow::into_asked_for).transpose()
    }
}
