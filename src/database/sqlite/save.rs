//! What a batch writes: the rows that accounts and replays come to, and the statements that write them.
//! When a transaction begins, and what an error means, is the writer's business.

use std::{
    collections::BTreeSet,
    iter::successors,
    sync::{Arc, LazyLock},
};

use sqlx::{Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

use super::snapshot::json;
use crate::domain::{
    Account, Credits, Entry, EntryKind, ModelId, Replay, Replays, StoreTransactionId, Tokens,
    UserId, UserKey,
};

const NULL: Option<i64> = None;

/// Begins, and fails when the database is not of the version bound: SQL has no other way to stop here
/// than to compute what can't be, the absolute value of the lowest integer.
pub(super) const BEGIN_IF_CURRENT: &str = "BEGIN IMMEDIATE;
    SELECT abs(min(data_version, -9223372036854775807 - 1))
    FROM pragma_data_version WHERE data_version <> ?;";

/// The users to reset, a JSON array, and the time. All keys go into the index first: the highest id in
/// use, below which no new key may get one, is then known without them.
const RESET: &str = "
    INSERT OR IGNORE INTO idempotency_index (digest, id)
    SELECT digest, id FROM idempotency_keys WHERE id > (SELECT id FROM idempotency_indexed);
    UPDATE idempotency_indexed
    SET id = max(id, (SELECT coalesce(max(id), 0) FROM idempotency_keys));
    DELETE FROM transactions WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM token_balances WHERE user_id IN (SELECT value FROM json_each($1));
    UPDATE credits SET credits = 0, updated_at = $2
    WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM idempotency_index WHERE (digest, id) IN (
        SELECT digest, id FROM idempotency_keys WHERE user_id IN (SELECT value FROM json_each($1)));
    DELETE FROM idempotency_keys WHERE user_id IN (SELECT value FROM json_each($1))";

/// The lists are JSON arrays: `json_each` makes one statement serve any number of rows. Balances are
/// written as the rules left them; the transaction holds the lock under which they were read, or their
/// version compared.
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

/// Fails when a digest is in the index, as `BEGIN_IF_CURRENT` does.
const FAIL_IF_INDEXED: &str = "
    SELECT abs(min(i.id, -9223372036854775807 - 1))
    FROM (VALUES ";
const DIGEST_PLACE: &str = "(?)";

/// The time, then replays as `bind_replays` binds them.
const SAVE_REPLAYS: &str = "
    INSERT INTO idempotency_keys (id, digest, user_id, key, fingerprint, outcome, created_at)
    SELECT *, ? FROM (VALUES ";
const REPLAY_PLACES: &str = "(?,?,?,?,?,?)";

/// Most rows in one statement.
const PLACES_MAX: usize = 512;

/// Statements with places for a number of rows; places left over are bound to nothing, and not saved.
struct SaveStatements {
    places: usize,
    entries: String,
    replays: String,
    /// Everything up to the commit: without replays, and with.
    whole: [String; 2],
    /// The same for a transaction that has to begin yet; and one that has to prove, too, that replays are
    /// new.
    begin_whole: [String; 3],
}

/// For 1, 2, 4, 8 … rows: so few that each stays prepared.
static SAVE_STATEMENTS: LazyLock<Vec<SaveStatements>> = LazyLock::new(|| {
    let sizes = successors(Some(1_usize), |places| places.checked_mul(2));
    let statements = |places| {
        let rows = |row| vec![row; places].join(",");
        let only_bound = "WHERE column1 IS NOT NULL;";
        let entries = format!("{SAVE_ENTRIES}{}) {only_bound}", rows(ENTRY_PLACES));
        let replays = format!("{SAVE_REPLAYS}{}) {only_bound}", rows(REPLAY_PLACES));
        let indexed = format!(
            "{FAIL_IF_INDEXED}{}) AS new CROSS JOIN idempotency_index AS i ON i.digest = new.column1;",
            rows(DIGEST_PLACE)
        );
        let rest = format!("{SAVE_ACCOUNTS}{entries}COMMIT");
        let whole = [rest.clone(), format!("{replays}{rest}")];
        let begin_whole = [
            format!("{BEGIN_IF_CURRENT}{rest}"),
            format!("{BEGIN_IF_CURRENT}{replays}{rest}"),
            format!("{BEGIN_IF_CURRENT}{indexed}{replays}{rest}"),
        ];
        SaveStatements { places, entries, replays, whole, begin_whole }
    };
    sizes.take_while(|places| *places <= PLACES_MAX).map(statements).collect()
});

impl SaveStatements {
    /// The smallest with places for so many rows, if there are any so large.
    fn for_rows(rows: usize) -> Option<&'static Self> {
        SAVE_STATEMENTS.iter().find(|statements| statements.places >= rows)
    }

    /// All of a batch in one text, where the transaction is open.
    fn whole(&'static self, replays: bool) -> &'static str {
        let [without, with] = &self.whole;
        if replays { with } else { without }
    }

    /// The same where it is not.
    fn begin_whole(&'static self, replays: bool, to_prove: bool) -> &'static str {
        let [without, with, with_proof] = &self.begin_whole;
        match (replays, to_prove) {
            (false, _) => without,
            (true, false) => with,
            (true, true) => with_proof,
        }
    }
}

/// What has to be found for a transaction to begin.
#[derive(Debug)]
pub(super) struct Expected {
    /// The database's version.
    pub(super) version: i64,
    /// Digests that are not in the index.
    pub(super) not_indexed: Vec<i64>,
}

/// Writes all of a batch and commits: in the open transaction, or, where something is expected, in one
/// that begins only if it is so.
pub(super) async fn save(
    connection: &mut SqliteConnection,
    changes: &Changes<'_>,
    expected: Option<Expected>,
    now: &str,
) -> Result<(), sqlx::Error> {
    let now: Arc<str> = now.into();
    if let Some(statements) = changes.usual_statements() {
        return save_whole(connection, statements, changes, expected, &now).await;
    }
    if let Some(Expected { version, .. }) = expected {
        sqlx::query(BEGIN_IF_CURRENT).bind(version).execute(&mut *connection).await?;
    }
    save_in_pieces(connection, changes, &now).await
}

/// With one message.
async fn save_whole(
    connection: &mut SqliteConnection,
    statements: &'static SaveStatements,
    changes: &Changes<'_>,
    expected: Option<Expected>,
    now: &Arc<str>,
) -> Result<(), sqlx::Error> {
    let replays = !changes.replays.is_empty();
    let mut query = match expected {
        None => sqlx::query(statements.whole(replays)),
        Some(Expected { version, not_indexed }) => {
            let to_prove = !not_indexed.is_empty();
            let query = sqlx::query(statements.begin_whole(replays, to_prove)).bind(version);
            if to_prove { bind_digests(query, statements.places, &not_indexed) } else { query }
        }
    };
    if replays {
        query = bind_replays(query, statements.places, &changes.replays, now);
    }
    query = bind_accounts(query, changes, now);
    bind_entries(query, &changes.entries, now).execute(connection).await?;
    Ok(())
}

/// What is too much for one statement, or seldom.
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
    for replays in changes.replays.chunks(PLACES_MAX) {
        let Some(statements) = SaveStatements::for_rows(replays.len()) else { continue };
        let query = sqlx::query(statements.replays.as_str());
        let query = bind_replays(query, statements.places, replays, now);
        query.execute(&mut *connection).await?;
    }
    for entries in changes.entries.chunks(PLACES_MAX) {
        let Some(statements) = SaveStatements::for_rows(entries.len()) else { continue };
        let query = sqlx::query(statements.entries.as_str());
        bind_entries(query, entries, now).execute(&mut *connection).await?;
    }
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(())
}

/// What the accounts' entries come to.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    pub(super) reset: Vec<&'a UserId>,
    /// Users who may be new.
    users: Vec<&'a UserId>,
    credits: Vec<(&'a UserId, Credits)>,
    tokens: Vec<(&'a UserId, &'a ModelId, Tokens)>,
    pub(super) entries: Vec<(&'a UserId, &'a Entry)>,
    pub(super) replays: Vec<NewReplay<'a>>,
}

/// A row of `idempotency_keys`.
#[derive(Debug)]
pub(super) struct NewReplay<'a> {
    id: i64,
    pub(super) key: &'a UserKey,
    replay: &'a Replay,
}

impl<'a> Changes<'a> {
    /// The replays get ids from `first_id` on.
    pub(super) fn of(accounts: &'a [Account], replays: &'a Replays, first_id: i64) -> Self {
        let replays = replays.new_ones().zip(first_id..).map(|((key, replay), id)| NewReplay {
            id,
            key,
            replay,
        });
        let mut changes = Self { replays: replays.collect(), ..Self::default() };
        for account in accounts {
            changes.add(account);
        }
        changes
    }

    /// Whether one message saves them: they are what nearly every batch comes to.
    pub(super) fn are_usual(&self) -> bool {
        self.usual_statements().is_some()
    }

    /// The statements for what nearly every batch comes to, if this one does.
    fn usual_statements(&self) -> Option<&'static SaveStatements> {
        let usual = self.reset.is_empty() && !self.entries.is_empty();
        usual.then_some(())?;
        SaveStatements::for_rows(self.entries.len().max(self.replays.len()))
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

pub(super) type SqliteQuery = Query<'static, Sqlite, SqliteArguments>;

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

/// Fills all places: what is bound after these would move into those left over.
fn bind_digests(query: SqliteQuery, places: usize, digests: &[i64]) -> SqliteQuery {
    let query = digests.iter().fold(query, |query, digest| query.bind(*digest));
    (digests.len()..places).fold(query, |query, _| query.bind(NULL))
}

/// Fills all places, too.
fn bind_replays(
    query: SqliteQuery,
    places: usize,
    replays: &[NewReplay<'_>],
    now: &Arc<str>,
) -> SqliteQuery {
    let mut query = query.bind(Arc::clone(now));
    for new in replays {
        query = query
            .bind(new.id)
            .bind(new.key.digest())
            .bind(new.key.user().shared())
            .bind(new.key.key().shared())
            .bind(new.replay.fingerprint.get())
            .bind(new.replay.outcome.clone());
    }
    for _ in replays.len()..places {
        query = query.bind(NULL).bind(NULL).bind(NULL).bind(NULL).bind(NULL).bind(NULL);
    }
    query
}

/// Leaves the places left over alone; they are the last of their text.
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
        Entry::Purchase { record, .. } => {
            let id = entry.store_transaction_id().map(StoreTransactionId::shared);
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
