//! The statements that write a batch, and what is bound to them. When a transaction begins, and what an
//! error means, is `write`'s business.

use std::{
    iter::successors,
    sync::{Arc, LazyLock, OnceLock},
};

use sqlx::{Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

use super::{
    operators, purchases,
    save_holds::{
        CLOSED_PLACES, OPENED_PLACES, SAVE_CLOSED, SAVE_OPENED, bind_closed, bind_opened,
        change_closed,
    },
    snapshot::json,
};
use crate::{
    database::changes::{Changes, EntryRow, RareColumns},
    domain::{Actor, EntryReason, HoldId, ModelId, Replay, StoreTransactionId, Tokens, UserKey},
};

const NULL: Option<i64> = None;

/// Begins, and fails when the database is not of the version bound: SQL has no other way to stop here
/// than to compute what can't be, the absolute value of the lowest integer.
pub(super) const BEGIN_IF_CURRENT: &str = "BEGIN IMMEDIATE;
    SELECT abs(min(data_version, -9223372036854775807 - 1))
    FROM pragma_data_version WHERE data_version <> ?;";

/// The users to reset, a JSON array, and the time. What the sums of the whole hold of them has been taken out; the next
/// ids may begin below the last one that is in them. All keys go into the index first: the highest id in
/// use, below which no new key may get one, is then known without them.
const RESET: &str = "
    INSERT OR IGNORE INTO idempotency_index (digest, id)
    SELECT digest, id FROM idempotency_keys WHERE id > (SELECT id FROM idempotency_indexed);
    UPDATE idempotency_indexed
    SET id = max(id, (SELECT coalesce(max(id), 0) FROM idempotency_keys));
    DELETE FROM transactions WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM purchase_names WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM purchase_keys WHERE purchase_id IN (
        SELECT id FROM purchases WHERE user_id IN (SELECT value FROM json_each($1)));
    DELETE FROM purchases WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM consents WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM holds WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM usage_sums WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM usage_state WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM token_balances WHERE user_id IN (SELECT value FROM json_each($1));
    UPDATE credits SET credits = 0, bonus = 0, updated_at = $2
    WHERE user_id IN (SELECT value FROM json_each($1));
    DELETE FROM idempotency_index WHERE (digest, id) IN (
        SELECT digest, id FROM idempotency_keys WHERE user_id IN (SELECT value FROM json_each($1)));
    DELETE FROM idempotency_keys WHERE user_id IN (SELECT value FROM json_each($1));
    UPDATE summary_state SET summed_until =
        (SELECT coalesce(max(id), 0) FROM transactions WHERE id <= summed_until)";

/// The lists are JSON arrays: `json_each` makes one statement serve any number of rows. Balances are
/// written as the rules left them; the transaction holds the lock under which they were read, or their
/// version compared.
///
/// Every `?` is bound in its order: sqlx looks numbered ones up one by one.
const SAVE_CREDITS: &str = "
    INSERT INTO users (user_id, created_at)
    SELECT value, ? FROM json_each(?) WHERE true
    ON CONFLICT DO NOTHING;

    INSERT INTO credits (user_id, credits, bonus, updated_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, ? FROM jsonb_each(?) WHERE true
    ON CONFLICT (user_id) DO UPDATE
    SET credits = excluded.credits, bonus = excluded.bonus, updated_at = excluded.updated_at;
";
const SAVE_TOKENS: &str = "
    INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, ? FROM jsonb_each(?) WHERE true
    ON CONFLICT (user_id, model_id) DO UPDATE
    SET allocated_tokens = excluded.allocated_tokens, updated_at = excluded.updated_at;
";
const SAVE_NAMES: &str = "
    INSERT INTO purchase_names (name, user_id)
    SELECT value ->> 0, value ->> 1 FROM jsonb_each(?);
";

/// All of them, where a batch is written in pieces.
static SAVE_ACCOUNTS: LazyLock<String> =
    LazyLock::new(|| [SAVE_CREDITS, SAVE_TOKENS, SAVE_NAMES].concat());

/// The time, then entries as `bind_entry` binds them. They are the many, and JSON would be taken
/// apart once for every column of each.
macro_rules! save_entries {
    ($more:literal) => {
        concat!(
            "INSERT INTO transactions
                (created_at, id, user_id, type, amount, model_id, transaction_id, metadata,
                 input_tokens, output_tokens, price_per_m_token, credits_delta, tokens_delta, actor",
            $more,
            ") SELECT ?, * FROM (VALUES "
        )
    };
}

/// Which columns of entries are written. Each that is written costs time, empty or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryColumns {
    /// Those without the rare ones.
    Usual,
    /// With those of settled holds.
    Settled,
    All,
}

impl EntryColumns {
    const EACH: [Self; 3] = [Self::Usual, Self::Settled, Self::All];

    /// Those that none of the rows lacks.
    fn of(rows: &[EntryRow<'_>]) -> Self {
        if rows.iter().all(|row| row.rare.are_empty()) {
            Self::Usual
        } else if rows.iter().all(|row| row.rare.are_at_most_of_a_hold()) {
            Self::Settled
        } else {
            Self::All
        }
    }

    /// How the statement begins, and the places of a row.
    const fn texts(self) -> (&'static str, &'static str) {
        match self {
            Self::Usual => (save_entries!(""), "(?,?,?,?,?,?,?,?,?,?,?,?,?)"),
            Self::Settled => {
                (save_entries!(", hold_id, shortfall_tokens"), "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")
            }
            Self::All => (
                save_entries!(
                    ", hold_id, shortfall_tokens, reverses, allocation_id, reason, bonus_delta"
                ),
                "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            ),
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Usual => 0,
            Self::Settled => 1,
            Self::All => 2,
        }
    }
}

/// Fails when a digest is in the index, as `BEGIN_IF_CURRENT` does.
const FAIL_IF_INDEXED: &str = "
    SELECT abs(min(i.id, -9223372036854775807 - 1))
    FROM (VALUES ";
const DIGEST_PLACE: &str = "(?)";

/// The time, then replays as `bind_keys` binds them.
const SAVE_REPLAYS: &str = "
    INSERT INTO idempotency_keys (id, digest, user_id, key, fingerprint, outcome, created_at)
    SELECT *, ? FROM (VALUES ";
const REPLAY_PLACES: &str = "(?,?,?,?,?,?)";

/// Most rows in one statement.
const PLACES_MAX: usize = 512;

/// Statements with places for a number of rows; places left over are bound to nothing, and not saved.
struct SaveStatements {
    places: usize,
    /// By their columns.
    entries: [String; 3],
    replays: String,
    opened: String,
    closed: String,
    not_indexed: String,
    /// By shape, made when it is first needed.
    whole: [OnceLock<String>; Shape::COUNT],
}

/// What a batch's one text consists of. Each statement costs a message from SQLite's thread, so none is
/// sent for nothing.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a part of the text, there or not")]
struct Shape {
    /// The transaction has to begin yet.
    begins: bool,
    /// It has to be proved that replays are new.
    proves: bool,
    replays: bool,
    credits: bool,
    names: bool,
    /// Holds that are new.
    opened: bool,
    /// Holds that were closed.
    closed: bool,
    /// Entries, with the tokens that they change.
    entries: Option<EntryColumns>,
}

impl Shape {
    const COUNT: usize = 1 << 9;
    /// Of [`SAVE_ACCOUNTS`].
    const ACCOUNTS: Self = Self {
        begins: false,
        proves: false,
        replays: false,
        credits: true,
        names: true,
        opened: false,
        closed: false,
        entries: Some(EntryColumns::Usual),
    };

    fn place(self) -> usize {
        let Self { begins, proves, replays, credits, names, opened, closed, entries } = self;
        let entries = entries.map_or(0, |columns| columns.place().saturating_add(1));
        [begins, proves, replays, credits, names, opened, closed]
            .into_iter()
            .fold(entries, |place, flag| (place << 1) | usize::from(flag))
    }
}

/// For 1, 2, 4, 8 … rows: so few that each stays prepared.
static SAVE_STATEMENTS: LazyLock<Vec<SaveStatements>> = LazyLock::new(|| {
    let sizes = successors(Some(1_usize), |places| places.checked_mul(2));
    let statements = |places| {
        let rows = |row| vec![row; places].join(",");
        let only_bound = "WHERE column1 IS NOT NULL;";
        SaveStatements {
            places,
            entries: EntryColumns::EACH.map(|columns| {
                let (save, row) = columns.texts();
                format!("{save}{}) {only_bound}", rows(row))
            }),
            replays: format!("{SAVE_REPLAYS}{}) {only_bound}", rows(REPLAY_PLACES)),
            opened: format!("{SAVE_OPENED}{}) {only_bound}", rows(OPENED_PLACES)),
            closed: format!(
                "{}{}) WHERE column1 IS NOT NULL {};",
                SAVE_CLOSED.as_str(),
                rows(CLOSED_PLACES),
                change_closed()
            ),
            not_indexed: format!(
                "{FAIL_IF_INDEXED}{}) AS new
                CROSS JOIN idempotency_index AS i ON i.digest = new.column1;",
                rows(DIGEST_PLACE)
            ),
            whole: [const { OnceLock::new() }; _],
        }
    };
    sizes.take_while(|places| *places <= PLACES_MAX).map(statements).collect()
});

impl SaveStatements {
    /// The smallest with places for so many rows, if there are any so large.
    fn for_rows(rows: usize) -> Option<&'static Self> {
        SAVE_STATEMENTS.iter().find(|statements| statements.places >= rows)
    }

    /// The smallest for a chunk of rows.
    fn for_chunk<T>(rows: &[T]) -> &'static Self {
        Self::for_rows(rows.len())
            .expect("a chunk has at most as many rows as the largest has places")
    }

    /// The statement that writes these columns of entries.
    fn entries(&self, columns: EntryColumns) -> &str {
        &self.entries[columns.place()]
    }

    /// Those for what nearly every batch comes to, if this one does.
    fn usual(changes: &Changes<'_>) -> Option<&'static Self> {
        let usual = changes.resets.is_empty()
            && changes.stores.is_empty()
            && changes.operators.is_empty()
            && changes.change_accounts();
        usual.then_some(())?;
        let Changes { entries, replays, opened, closed, .. } = changes;
        let rows = [entries.len(), replays.len(), opened.len(), closed.len()];
        Self::for_rows(rows.into_iter().max().unwrap_or_default())
    }

    /// All of a batch in one text.
    fn whole(&'static self, shape: Shape) -> &'static str {
        self.whole[shape.place()].get_or_init(|| {
            let parts = [
                (shape.begins, BEGIN_IF_CURRENT),
                (shape.proves, &self.not_indexed),
                (shape.replays, &self.replays),
                (shape.credits, SAVE_CREDITS),
                (shape.entries.is_some(), SAVE_TOKENS),
                (shape.names, SAVE_NAMES),
                (shape.opened, &self.opened),
                (shape.closed, &self.closed),
                (
                    shape.entries.is_some(),
                    shape.entries.map_or("", |columns| self.entries(columns)),
                ),
                (true, "COMMIT"),
            ];
            parts.into_iter().filter(|(wanted, _)| *wanted).map(|(_, text)| text).collect()
        })
    }
}

/// Whether one message saves them all: they are what nearly every batch comes to.
pub(super) fn are_usual(changes: &Changes<'_>) -> bool {
    SaveStatements::usual(changes).is_some()
}

/// What has to be found for a transaction to begin.
#[derive(Debug)]
pub(super) struct Expected {
    /// The database's version.
    pub(super) version: i64,
    /// Digests that are not in the index.
    pub(super) not_indexed: Vec<i64>,
}

/// All of a batch, to be written and committed.
pub(super) struct Save<'a> {
    pub(super) changes: &'a Changes<'a>,
    /// The id of the first new row of `idempotency_keys`.
    pub(super) first_key_id: i64,
    /// Of something expected the transaction begins only if it is so; without, it is open.
    pub(super) expected: Option<Expected>,
    pub(super) now: Arc<str>,
}

/// A row of `idempotency_keys`, with its id.
type KeyRow<'a> = (i64, &'a UserKey, &'a Replay);

impl Save<'_> {
    pub(super) async fn run(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if let Some(statements) = SaveStatements::usual(self.changes) {
            return self.in_one_piece(connection, statements).await;
        }
        if let Some(Expected { version, .. }) = self.expected {
            sqlx::query(BEGIN_IF_CURRENT).bind(version).execute(&mut *connection).await?;
        }
        self.in_pieces(connection).await
    }

    /// With one message.
    async fn in_one_piece(
        &self,
        connection: &mut SqliteConnection,
        statements: &'static SaveStatements,
    ) -> Result<(), sqlx::Error> {
        let Self { changes, expected, now, .. } = self;
        let keys = self.key_rows();
        let not_indexed = expected.as_ref().map_or(&[][..], |expected| &expected.not_indexed);
        let shape = Shape {
            begins: expected.is_some(),
            proves: !not_indexed.is_empty(),
            replays: !keys.is_empty(),
            credits: !changes.credits.is_empty(),
            names: !changes.names.is_empty(),
            opened: !changes.opened.is_empty(),
            closed: !changes.closed.is_empty(),
            entries: (!changes.entries.is_empty()).then(|| EntryColumns::of(&changes.entries)),
        };
        let mut query = sqlx::query(statements.whole(shape));
        if let Some(Expected { version, .. }) = expected {
            query = query.bind(*version);
        }
        if shape.proves {
            query = bind_digests(query, statements.places, not_indexed);
        }
        if shape.replays {
            query = bind_keys(query, statements.places, &keys, now);
        }
        query = bind_accounts(query, changes, shape, now);
        if shape.opened {
            query = bind_opened(query, statements.places, &changes.opened);
        }
        if shape.closed {
            query = bind_closed(query, statements.places, &changes.closed);
        }
        if let Some(columns) = shape.entries {
            query = bind_entries(query, columns, &changes.entries, now);
        }
        query.execute(connection).await?;
        Ok(())
    }

    /// What is too much for one statement, or seldom.
    async fn in_pieces(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let Self { changes, now, .. } = self;
        if !changes.resets.is_empty() {
            let query = sqlx::query(RESET).bind(json(&changes.resets)).bind(Arc::clone(now));
            query.execute(&mut *connection).await?;
        }
        if !changes.entries.is_empty() {
            let query =
                bind_accounts(sqlx::query(SAVE_ACCOUNTS.as_str()), changes, Shape::ACCOUNTS, now);
            query.execute(&mut *connection).await?;
        }
        for keys in self.key_rows().chunks(PLACES_MAX) {
            let statements = SaveStatements::for_chunk(keys);
            let query = sqlx::query(statements.replays.as_str());
            bind_keys(query, statements.places, keys, now).execute(&mut *connection).await?;
        }
        for entries in changes.entries.chunks(PLACES_MAX) {
            let statements = SaveStatements::for_chunk(entries);
            let columns = EntryColumns::of(entries);
            let query = sqlx::query(statements.entries(columns));
            bind_entries(query, columns, entries, now).execute(&mut *connection).await?;
        }
        for holds in changes.opened.chunks(PLACES_MAX) {
            let statements = SaveStatements::for_chunk(holds);
            let query = sqlx::query(statements.opened.as_str());
            bind_opened(query, statements.places, holds).execute(&mut *connection).await?;
        }
        for holds in changes.closed.chunks(PLACES_MAX) {
            let statements = SaveStatements::for_chunk(holds);
            let query = sqlx::query(statements.closed.as_str());
            bind_closed(query, statements.places, holds).execute(&mut *connection).await?;
        }
        purchases::save(connection, &changes.stores, now).await?;
        operators::save(connection, &changes.operators, now).await?;
        sqlx::query("COMMIT").execute(connection).await?;
        Ok(())
    }

    fn key_rows(&self) -> Vec<KeyRow<'_>> {
        let ids = self.first_key_id..;
        ids.zip(&self.changes.replays).map(|(id, (key, replay))| (id, *key, *replay)).collect()
    }
}

pub(super) type SqliteQuery = Query<'static, Sqlite, SqliteArguments>;

/// What the shape says is written besides entries and replays.
fn bind_accounts(
    mut query: SqliteQuery,
    changes: &Changes<'_>,
    shape: Shape,
    now: &Arc<str>,
) -> SqliteQuery {
    let now = || Arc::clone(now);
    if shape.credits {
        query = query.bind(now()).bind(json(&changes.users));
        query = query.bind(now()).bind(json(&changes.credits));
    }
    if shape.entries.is_some() {
        query = query.bind(now()).bind(json(&changes.tokens));
    }
    if shape.names {
        query = query.bind(json(&changes.names));
    }
    query
}

/// Fills all places: what is bound after these would move into those left over.
fn bind_digests(query: SqliteQuery, places: usize, digests: &[i64]) -> SqliteQuery {
    let query = digests.iter().fold(query, |query, digest| query.bind(*digest));
    (digests.len()..places).fold(query, |query, _| query.bind(NULL))
}

/// Fills all places, too.
fn bind_keys(
    query: SqliteQuery,
    places: usize,
    keys: &[KeyRow<'_>],
    now: &Arc<str>,
) -> SqliteQuery {
    let mut query = query.bind(Arc::clone(now));
    for (id, key, replay) in keys {
        query = query
            .bind(*id)
            .bind(key.digest())
            .bind(key.user().shared())
            .bind(key.key().shared())
            .bind(replay.fingerprint.get())
            .bind(replay.outcome.clone());
    }
    for _ in keys.len()..places {
        query = query.bind(NULL).bind(NULL).bind(NULL).bind(NULL).bind(NULL).bind(NULL);
    }
    query
}

/// Leaves the places left over alone; they are the last of their text.
fn bind_entries(
    query: SqliteQuery,
    columns: EntryColumns,
    entries: &[EntryRow<'_>],
    now: &Arc<str>,
) -> SqliteQuery {
    entries.iter().fold(query.bind(Arc::clone(now)), |query, row| {
        let RareColumns { reverses, allocation, hold, shortfall, reason, bonus_delta } = row.rare;
        let mut query = bind_entry(query, row);
        if columns != EntryColumns::Usual {
            query = query.bind(hold.map(HoldId::text)).bind(shortfall.map(Tokens::get));
        }
        if columns == EntryColumns::All {
            let reason = reason.map(EntryReason::shared);
            query = query.bind(reverses).bind(allocation).bind(reason).bind(bonus_delta);
        }
        query
    })
}

fn bind_entry(query: SqliteQuery, row: &EntryRow<'_>) -> SqliteQuery {
    query
        .bind(row.id)
        .bind(row.user.shared())
        .bind(row.kind.name())
        .bind(row.amount)
        .bind(row.model.map(ModelId::shared))
        .bind(row.store_transaction_id.map(StoreTransactionId::shared))
        .bind(row.record.map(str::to_owned))
        .bind(row.input_tokens)
        .bind(row.output_tokens)
        .bind(row.price_per_m_token)
        .bind(row.credits_delta)
        .bind(row.tokens_delta)
        .bind(row.actor.map(Actor::name))
}
