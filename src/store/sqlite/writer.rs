//! One batch of writes in one SQLite transaction, in one trip to SQLite's thread where what it rests on
//! is remembered, else in two: begin and read, then write and commit.
//!
//! The statements are sent as they stand, `BEGIN` and `COMMIT` included, so sqlx's own count of
//! transactions is never involved. Whenever anything but a conflict is wrong, the connection is thrown
//! away with its transaction: SQLite may or may not have rolled back by itself, and on a connection in
//! doubt later statements would commit one by one.

use std::{
    collections::BTreeSet,
    iter::successors,
    sync::{Arc, LazyLock},
};

use chrono::{DateTime, Utc};
use sqlx::{
    ConnectOptions, Connection, Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteConnectOptions},
};

use super::{
    DatabaseFile, PRIMARY_CODE_MASK, SQLITE_CONSTRAINT, SQLITE_ERROR, StoreError,
    recent::Recent,
    result_code, snapshot,
    snapshot::{Snapshot, json, snapshot_sql},
};
use crate::{
    domain::{Account, Credits, Entry, EntryKind, ModelId, StoreTransactionId, Tokens, UserId},
    store::{Loaded, Wanted, Writer, timestamp},
};

const NULL: Option<i64> = None;

/// Not deferred: a transaction that first reads and then writes would fail at once, whatever the
/// busy timeout, when another process wrote in between.
const BEGIN_AND_LOAD: &str = concat!(
    "BEGIN IMMEDIATE;\n",
    snapshot_sql!(),
    " UNION ALL SELECT 'version', '', '', data_version FROM pragma_data_version"
);

/// Begins, and fails when the database is not of the version bound: SQL has no other way to stop here
/// than to compute what can't be, the absolute value of the lowest integer.
const BEGIN_IF_CURRENT: &str = "BEGIN IMMEDIATE;
    SELECT abs(min(data_version, -9223372036854775807 - 1))
    FROM pragma_data_version WHERE data_version <> ?;";

/// The users to reset, a JSON array, and the time.
const RESET: &str = "
    DELETE FROM transactions WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM token_balances WHERE user_id IN (SELECT value FROM json_each($1));
    UPDATE credits SET credits = 0, updated_at = $2
    WHERE user_id IN (SELECT value FROM json_each($1))";

/// The lists are JSON arrays: `json_each` makes one statement serve any number of rows. Balances are
/// written as the rules left them; the transaction holds the lock under which they were read.
///
/// Every `?` is bound in its order: sqlx looks numbered ones up one by one.
const SAVE_ACCOUNTS: &str = "
    INSERT INTO users (user_id, created_at)
    SELECT value, ? FROM json_each(?) WHERE true
    ON CONFLICT DO NOTHING;

    INSERT INTO credits (user_id, credits, updated_at)
    SELECT value ->> 0, value ->> 1, ? FROM jsonb_each(?) WHERE true
    ON CONFLICT (user_id) DO UPDATE
    SET credits = excluded.credits, updated_at = excluded.updated_at;

    INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, ? FROM jsonb_each(?) WHERE true
    ON CONFLICT (user_id, model_id) DO UPDATE
    SET allocated_tokens = excluded.allocated_tokens, updated_at = excluded.updated_at;
";

/// The time, then entries as `bind_entry` binds them. They are the many, and JSON would be taken
/// apart once for every column of each.
const SAVE_ENTRIES: &str = "
    INSERT INTO transactions
        (user_id, type, amount, model_id, transaction_id, metadata, input_tokens, output_tokens,
         price_per_m_token, credits_delta, tokens_delta, created_at)
    SELECT *, ? FROM (VALUES ";
const ENTRY_PLACES: &str = "(?,?,?,?,?,?,?,?,?,?,?)";

/// Most entries in one statement.
const ENTRIES_MAX: usize = 512;

/// Statements with places for a number of entries; places left over are not bound, and not saved.
struct SaveStatements {
    places: usize,
    entries: String,
    all_and_commit: String,
    begin_all_and_commit: String,
}

/// For 1, 2, 4, 8 … entries: so few that each stays prepared.
static SAVE_STATEMENTS: LazyLock<Vec<SaveStatements>> = LazyLock::new(|| {
    let sizes = successors(Some(1_usize), |places| places.checked_mul(2));
    let statements = |places| {
        let rows = vec![ENTRY_PLACES; places].join(",");
        let entries = format!("{SAVE_ENTRIES}{rows}) WHERE column1 IS NOT NULL;");
        let all_and_commit = format!("{SAVE_ACCOUNTS}{entries}COMMIT");
        let begin_all_and_commit = format!("{BEGIN_IF_CURRENT}{all_and_commit}");
        SaveStatements { places, entries, all_and_commit, begin_all_and_commit }
    };
    sizes.take_while(|places| *places <= ENTRIES_MAX).map(statements).collect()
});

impl SaveStatements {
    /// The smallest with places for `entries`, if there are any so large.
    fn for_entries(entries: usize) -> Option<&'static Self> {
        SAVE_STATEMENTS.iter().find(|statements| statements.places >= entries)
    }
}

/// The one connection that writes.
#[derive(Debug)]
pub struct SqliteWriter {
    /// `None` after a failure, until the next batch.
    connection: Option<SqliteConnection>,
    /// Whether its transaction is open, or what was loaded is only remembered.
    begun: bool,
    recent: Recent,
    options: SqliteConnectOptions,
    file: DatabaseFile,
}

impl SqliteWriter {
    pub(super) fn new(
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        file: DatabaseFile,
    ) -> Self {
        let recent = Recent::default();
        Self { connection: Some(connection), begun: false, recent, options, file }
    }

    async fn try_load(&mut self, wanted: &Wanted) -> Result<Loaded, StoreError> {
        self.file.check_writable()?;
        if let Some(loaded) = self.recent.take(wanted) {
            return Ok(loaded);
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        let connection = self.connection.insert(connection);
        let Snapshot { loaded, data_version } =
            snapshot::load(connection, BEGIN_AND_LOAD, wanted).await?;
        self.begun = true;
        self.recent.renew(data_version.unwrap_or_default(), wanted, &loaded);
        Ok(loaded)
    }

    async fn try_save(&mut self, changes: &Changes<'_>, now: &str) -> Result<(), sqlx::Error> {
        let connection = self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        let version = (!self.begun).then(|| self.recent.version());
        let now: Arc<str> = now.into();
        match SaveStatements::for_entries(changes.entries.len()) {
            Some(statements) if changes.are_entries_only() => {
                let query = match version {
                    None => sqlx::query(statements.all_and_commit.as_str()),
                    Some(version) => {
                        sqlx::query(statements.begin_all_and_commit.as_str()).bind(version)
                    }
                };
                let query = bind_accounts(query, changes, &now);
                bind_entries(query, &changes.entries, &now).execute(connection).await?;
            }
            _ => {
                if let Some(version) = version {
                    sqlx::query(BEGIN_IF_CURRENT).bind(version).execute(&mut *connection).await?;
                }
                save_in_pieces(connection, changes, &now).await?;
            }
        }
        Ok(())
    }

    /// What an error of `try_save` means, and the transaction's end.
    async fn saving_failed(&mut self, error: sqlx::Error) -> StoreError {
        let code = result_code(&error).map(|code| code & PRIMARY_CODE_MASK);
        // Of what was read under the lock nothing can have changed.
        let conflict = !self.begun && matches!(code, Some(SQLITE_ERROR | SQLITE_CONSTRAINT));
        if conflict && self.roll_back().await.is_ok() {
            return StoreError::Conflict;
        }
        self.abandon().await;
        if conflict { StoreError::Conflict } else { error.into() }
    }

    async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        self.recent.clear();
        let connection = self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)?;
        sqlx::query("ROLLBACK").execute(connection).await?;
        Ok(())
    }
}

/// Writes what is too much for one statement, or seldom, and commits.
async fn save_in_pieces(
    connection: &mut SqliteConnection,
    changes: &Changes<'_>,
    now: &Arc<str>,
) -> Result<(), sqlx::Error> {
    if !changes.reset.is_empty() {
        let query = sqlx::query(RESET).bind(json(&changes.reset)).bind(Arc::clone(now));
        query.execute(&mut *connection).await?;
    }
    if !changes.entries.is_empty() {
        let query = bind_accounts(sqlx::query(SAVE_ACCOUNTS), changes, now);
        query.execute(&mut *connection).await?;
    }
    for entries in changes.entries.chunks(ENTRIES_MAX) {
        let Some(statements) = SaveStatements::for_entries(entries.len()) else { continue };
        let query = sqlx::query(statements.entries.as_str());
        bind_entries(query, entries, now).execute(&mut *connection).await?;
    }
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(())
}

impl Writer for SqliteWriter {
    async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, StoreError> {
        self.begun = false;
        let loaded = self.try_load(wanted).await;
        if loaded.is_err() {
            self.abandon().await;
        }
        loaded
    }

    async fn save(&mut self, accounts: Vec<Account>, now: DateTime<Utc>) -> Result<(), StoreError> {
        match self.try_save(&Changes::of(&accounts), &timestamp(now)).await {
            Ok(()) => {
                self.recent.keep(accounts);
                Ok(())
            }
            Err(error) => Err(self.saving_failed(error).await),
        }
    }

    async fn abandon(&mut self) {
        self.recent.clear();
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

/// What the accounts' entries come to.
#[derive(Debug, Default)]
struct Changes<'a> {
    reset: Vec<&'a UserId>,
    /// Users who may be new.
    users: Vec<&'a UserId>,
    credits: Vec<(&'a UserId, Credits)>,
    tokens: Vec<(&'a UserId, &'a ModelId, Tokens)>,
    entries: Vec<(&'a UserId, &'a Entry)>,
}

impl<'a> Changes<'a> {
    fn of(accounts: &'a [Account]) -> Self {
        let mut changes = Self::default();
        for account in accounts {
            changes.add(account);
        }
        changes
    }

    fn are_entries_only(&self) -> bool {
        self.reset.is_empty() && !self.entries.is_empty()
    }

    fn add(&mut self, account: &'a Account) {
        let user = account.user();
        if account.is_reset() {
            self.reset.push(user);
        }
        if account.entries().is_empty() {
            return;
        }
        let kinds: BTreeSet<EntryKind> = account.entries().iter().map(Entry::kind).collect();
        if kinds.contains(&EntryKind::Purchase) {
            self.users.push(user);
        }
        if kinds.contains(&EntryKind::Purchase) || kinds.contains(&EntryKind::Allocation) {
            self.credits.push((user, account.credits()));
        }
        let models: BTreeSet<&ModelId> =
            account.entries().iter().filter_map(Entry::model).collect();
        let held = models.into_iter().filter_map(|model| account.tokens().get_key_value(model));
        self.tokens.extend(held.map(|(model, tokens)| (user, model, *tokens)));
        self.entries.extend(account.entries().iter().map(|entry| (user, entry)));
    }
}

type SqliteQuery = Query<'static, Sqlite, SqliteArguments>;

fn bind_accounts(query: SqliteQuery, changes: &Changes<'_>, now: &Arc<str>) -> SqliteQuery {
    let now = || Arc::clone(now);
    query
        .bind(now())
        .bind(json(&changes.users))
        .bind(now())
        .bind(json(&changes.credits))
        .bind(now())
        .bind(json(&changes.tokens))
}

fn bind_entries(query: SqliteQuery, entries: &[(&UserId, &Entry)], now: &Arc<str>) -> SqliteQuery {
    let query = query.bind(Arc::clone(now));
    entries.iter().fold(query, |query, (user, entry)| bind_entry(query, user, entry))
}

fn bind_entry(query: SqliteQuery, user: &UserId, entry: &Entry) -> SqliteQuery {
    let query = query
        .bind(user.shared())
        .bind(entry.kind().name())
        .bind(entry.amount())
        .bind(entry.model().map(ModelId::shared));
    let query = match entry {
        Entry::Purchase { store_transaction_id, record, .. } => {
            let id = store_transaction_id.as_ref().map(StoreTransactionId::shared);
            query.bind(id).bind(record.as_json().to_owned()).bind(NULL).bind(NULL).bind(NULL)
        }
        Entry::Allocation { price_per_m_token, .. } => {
            query.bind(NULL).bind(NULL).bind(NULL).bind(NULL).bind(*price_per_m_token)
        }
        Entry::Consumption { usage, .. } => query
            .bind(NULL)
            .bind(NULL)
            .bind(usage.input().get())
            .bind(usage.output().get())
            .bind(NULL),
    };
    query.bind(entry.credits_delta()).bind(entry.tokens_delta())
}
