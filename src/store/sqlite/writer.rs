//! One batch of writes in one SQLite transaction, in two trips to SQLite's thread: begin and read,
//! then write and commit.
//!
//! The statements are sent as they stand, `BEGIN` and `COMMIT` included, so sqlx's own count of
//! transactions is never involved. Whenever anything fails, the connection is thrown away with its
//! transaction: SQLite may or may not have rolled back by itself, and on a connection in doubt later
//! statements would commit one by one.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{
    DatabaseFile, StoreError, snapshot,
    snapshot::{json, snapshot_sql},
};
use crate::{
    domain::{Account, Entry, ModelId, StoreTransactionId},
    store::{Loaded, Wanted, Writer, timestamp},
};

/// Not deferred: a transaction that first reads and then writes would fail at once, whatever the
/// busy timeout, when another process wrote in between.
const BEGIN_AND_LOAD: &str = concat!("BEGIN IMMEDIATE;\n", snapshot_sql!());

/// `$1` users to reset, `$2` users, `$3` balances to make, `$4` credits, `$5` tokens, `$6` entries:
/// all JSON arrays; `$7` the time. `jsonb_each` hands over the inner arrays parsed, `json_each` would as
/// text, to be parsed again for every column.
const SAVE_AND_COMMIT: &str = "
    DELETE FROM transactions WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM token_balances WHERE user_id IN (SELECT value FROM json_each($1));
    UPDATE credits SET credits = 0, updated_at = $7
    WHERE user_id IN (SELECT value FROM json_each($1));

    INSERT INTO users (user_id, created_at)
    SELECT value, $7 FROM json_each($2) WHERE true
    ON CONFLICT DO NOTHING;

    INSERT INTO credits (user_id, credits, updated_at)
    SELECT value, 0, $7 FROM json_each($2) WHERE true
    ON CONFLICT DO NOTHING;

    INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
    SELECT value ->> 0, value ->> 1, 0, $7 FROM jsonb_each($3) WHERE true
    ON CONFLICT DO NOTHING;

    UPDATE credits SET credits = credits + change.delta, updated_at = $7
    FROM (SELECT value ->> 0 AS user_id, value ->> 1 AS delta FROM jsonb_each($4)) AS change
    WHERE credits.user_id = change.user_id;

    UPDATE token_balances
    SET allocated_tokens = allocated_tokens + change.delta, updated_at = $7
    FROM (
        SELECT value ->> 0 AS user_id, value ->> 1 AS model_id, value ->> 2 AS delta
        FROM jsonb_each($5)
    ) AS change
    WHERE token_balances.user_id = change.user_id AND token_balances.model_id = change.model_id;

    INSERT INTO transactions
        (user_id, type, amount, model_id, transaction_id, metadata, input_tokens, output_tokens,
         price_per_m_token, credits_delta, tokens_delta, created_at)
    SELECT
        value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
        value ->> 7, value ->> 8, value ->> 9, value ->> 10, $7
    FROM jsonb_each($6);

    COMMIT";

/// The one connection that writes.
#[derive(Debug)]
pub struct SqliteWriter {
    /// `None` after a failure, until the next batch.
    connection: Option<SqliteConnection>,
    options: SqliteConnectOptions,
    file: DatabaseFile,
}

impl SqliteWriter {
    pub(super) fn new(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        file: DatabaseFile,
    ) -> Self {
        Self { connection: Some(connection), options, file }
    }

    async fn connect(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.file.check_writable()?;
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn try_load(&mut self, wanted: &Wanted) -> Result<Loaded, StoreError> {
        snapshot::load(self.connect().await?, BEGIN_AND_LOAD, wanted).await
    }

    async fn try_save(&mut self, changes: &Changes<'_>, now: &str) -> Result<(), StoreError> {
        let connection = self
            .connection
            .as_mut()
            .ok_or_else(|| StoreError::Unavailable("no transaction is open".to_owned()))?;
        if changes.is_empty() {
            sqlx::query("COMMIT").execute(connection).await?;
            return Ok(());
        }
        sqlx::query(SAVE_AND_COMMIT)
            .bind(json(&changes.reset))
            .bind(json(&changes.users))
            .bind(json(&changes.balances))
            .bind(json(&changes.credits))
            .bind(json(&changes.tokens))
            .bind(json(&changes.entries))
            .bind(now)
            .execute(connection)
            .await?;
        Ok(())
    }
}

impl Writer for SqliteWriter {
    async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, StoreError> {
        let loaded = self.try_load(wanted).await;
        if loaded.is_err() {
            self.abandon().await;
        }
        loaded
    }

    async fn save(&mut self, changed: &[&Account], now: DateTime<Utc>) -> Result<(), StoreError> {
        let saved = self.try_save(&Changes::of(changed), &timestamp(now)).await;
        if saved.is_err() {
            self.abandon().await;
        }
        saved
    }

    async fn abandon(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close_hard().await
        {
            tracing::warn!(%error, "a failed database connection did not close cleanly");
        }
    }

    async fn close(self) {
        let Some(mut connection) = self.connection else { return };
        if let Err(error) =
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await
        {
            tracing::warn!(%error, "the write-ahead log stays for the next start");
        }
        if let Err(error) = connection.close().await {
            tracing::warn!(%error, "the database connection did not close cleanly");
        }
    }
}

/// The rows that the accounts' entries come to.
#[derive(Debug, Default)]
struct Changes<'a> {
    reset: Vec<&'a str>,
    users: Vec<&'a str>,
    balances: Vec<(&'a str, &'a str)>,
    credits: Vec<(&'a str, i64)>,
    tokens: Vec<(&'a str, &'a str, i64)>,
    entries: Vec<EntryRow<'a>>,
}

/// In the order in which the insert takes them.
#[derive(Debug, Serialize)]
struct EntryRow<'a>(
    &'a str,
    &'static str,
    i64,
    Option<&'a str>,
    Option<&'a str>,
    Option<&'a str>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    i64,
    i64,
);

impl<'a> Changes<'a> {
    fn of(accounts: &[&'a Account]) -> Self {
        let mut changes = Self::default();
        for account in accounts {
            changes.add(account);
        }
        changes
    }

    fn is_empty(&self) -> bool {
        self.reset.is_empty() && self.entries.is_empty()
    }

    fn add(&mut self, account: &'a Account) {
        let user = account.user().as_str();
        if account.is_reset() {
            self.reset.push(user);
        }
        if account.entries().is_empty() {
            return;
        }
        let mut credits_delta = 0_i64;
        let mut tokens_deltas: Vec<(&str, &str, i64)> = Vec::new();
        for entry in account.entries() {
            credits_delta = credits_delta.saturating_add(entry.credits_delta());
            if let Some(model) = entry.model() {
                let model = model.as_str();
                match tokens_deltas.iter_mut().find(|(_, known, _)| *known == model) {
                    Some((_, _, delta)) => *delta = delta.saturating_add(entry.tokens_delta()),
                    None => tokens_deltas.push((user, model, entry.tokens_delta())),
                }
            }
            match entry {
                Entry::Purchase { .. } if !self.users.contains(&user) => self.users.push(user),
                Entry::Allocation { model, .. } => self.balances.push((user, model.as_str())),
                _ => {}
            }
            self.entries.push(EntryRow::of(user, entry));
        }
        if credits_delta != 0 {
            self.credits.push((user, credits_delta));
        }
        self.tokens.append(&mut tokens_deltas);
    }
}

impl<'a> EntryRow<'a> {
    fn of(user: &'a str, entry: &'a Entry) -> Self {
        let (store_id, metadata, input, output, price) = match entry {
            Entry::Purchase { store_transaction_id, record, .. } => {
                let store_id = store_transaction_id.as_ref().map(StoreTransactionId::as_str);
                (store_id, Some(record.as_json()), None, None, None)
            }
            Entry::Allocation { price_per_m_token, .. } => {
                (None, None, None, None, Some(*price_per_m_token))
            }
            Entry::Consumption { usage, .. } => {
                (None, None, Some(usage.input().get()), Some(usage.output().get()), None)
            }
        };
        Self(
            user,
            entry.kind().name(),
            entry.amount(),
            entry.model().map(ModelId::as_str),
            store_id,
            metadata,
            input,
            output,
            price,
            entry.credits_delta(),
            entry.tokens_delta(),
        )
    }
}
