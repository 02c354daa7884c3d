//! What a batch writes: the columns that accounts and replays come to, and the statements that write
//! them. When a transaction begins, and what an error means, is the writer's business.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, Row, postgres::PgArguments, query::Query};

use crate::{
    database::DatabaseError,
    domain::{Account, Entry, EntryKind, ModelId, PurchaseRecord, Replays, StoreTransactionId},
};

/// The users to reset, and the time. It comes before what is written, in a statement of its own: no part
/// of a statement sees what another one deletes. As many rows are changed as there are accounts.
const RESET: &str = "
    WITH transactions AS (DELETE FROM transactions WHERE user_id = ANY($1)),
        token_balances AS (DELETE FROM token_balances WHERE user_id = ANY($1)),
        idempotency_keys AS (DELETE FROM idempotency_keys WHERE user_id = ANY($1))
    UPDATE credits SET credits = 0, updated_at = $2 WHERE user_id = ANY($1)";

/// All of a batch in one trip; the foreign keys are looked at when everything is there. Each part comes
/// to a number of rows, and the sum is returned: it is less than there was to write when another instance
/// was the first to see a user, to grant a purchase or to carry out a request. Such rows are left out and
/// no error, for an error would end the transaction.
///
/// Balances are written as the rules left them, on rows that are locked.
const SAVE: &str = "
    WITH new_users AS (
        INSERT INTO users (user_id, created_at)
        SELECT user_id, $1 FROM unnest($2::text[]) AS new (user_id) ON CONFLICT DO NOTHING
    ), new_credits AS (
        INSERT INTO credits (user_id, credits, updated_at)
        SELECT user_id, credits, $1 FROM unnest($2::text[], $3::bigint[]) AS new (user_id, credits)
        ON CONFLICT DO NOTHING RETURNING 1
    ), changed_credits AS (
        UPDATE credits SET credits = new.credits, updated_at = $1
        FROM unnest($4::text[], $5::bigint[]) AS new (user_id, credits)
        WHERE credits.user_id = new.user_id RETURNING 1
    ), tokens AS (
        INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
        SELECT user_id, model_id, tokens, $1
        FROM unnest($6::text[], $7::text[], $8::bigint[]) AS new (user_id, model_id, tokens)
        ON CONFLICT (user_id, model_id) DO UPDATE
        SET allocated_tokens = excluded.allocated_tokens, updated_at = excluded.updated_at
        RETURNING 1
    ), entries AS (
        INSERT INTO transactions
            (user_id, type, amount, model_id, transaction_id, metadata, input_tokens,
             output_tokens, price_per_m_token, credits_delta, tokens_delta, created_at)
        SELECT user_id, type, amount, model_id, transaction_id, metadata::json, input_tokens,
            output_tokens, price_per_m_token, credits_delta, tokens_delta, $1
        FROM unnest(
            $9::text[], $10::text[], $11::bigint[], $12::text[], $13::text[], $14::text[],
            $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[]
        ) WITH ORDINALITY AS new (
            user_id, type, amount, model_id, transaction_id, metadata, input_tokens,
            output_tokens, price_per_m_token, credits_delta, tokens_delta, place
        )
        ORDER BY place
        ON CONFLICT (transaction_id) WHERE transaction_id IS NOT NULL DO NOTHING RETURNING 1
    ), replays AS (
        INSERT INTO idempotency_keys (user_id, key, fingerprint, outcome, created_at)
        SELECT user_id, key, fingerprint, outcome::jsonb, $1
        FROM unnest($20::text[], $21::text[], $22::bigint[], $23::text[])
            AS new (user_id, key, fingerprint, outcome)
        ORDER BY user_id, key
        ON CONFLICT (user_id, key) DO NOTHING RETURNING 1
    )
    SELECT (SELECT count(*) FROM new_credits) + (SELECT count(*) FROM changed_credits)
        + (SELECT count(*) FROM tokens) + (SELECT count(*) FROM entries)
        + (SELECT count(*) FROM replays)";

/// Writes the changes in the open transaction.
///
/// # Errors
/// [`DatabaseError::Retry`] when another instance was faster; else what the server says.
pub(super) async fn save(
    connection: &mut PgConnection,
    changes: &Changes<'_>,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    if !changes.reset.is_empty() {
        let query = sqlx::query(RESET).bind(&changes.reset).bind(now);
        let accounts = query.execute(&mut *connection).await?.rows_affected();
        if usize::try_from(accounts) != Ok(changes.locked_resets) {
            // What is not locked may be in somebody's hands.
            return Err(another_was_first());
        }
    }
    let expected = changes.rows();
    if expected == 0 {
        return Ok(());
    }
    let written: i64 = changes.bind(now).fetch_one(connection).await?.try_get(0)?;
    if usize::try_from(written) == Ok(expected) { Ok(()) } else { Err(another_was_first()) }
}

fn another_was_first() -> DatabaseError {
    DatabaseError::Retry("another instance was the first".to_owned())
}

/// What accounts and replays come to, column by column.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    reset: Vec<&'a str>,
    /// How many of those to reset have an account.
    locked_resets: usize,
    new_credits: CreditRows<'a>,
    changed_credits: CreditRows<'a>,
    tokens: TokenRows<'a>,
    entries: EntryRows<'a>,
    replays: ReplayRows<'a>,
}

#[derive(Debug, Default)]
struct CreditRows<'a> {
    users: Vec<&'a str>,
    amounts: Vec<i64>,
}

#[derive(Debug, Default)]
struct TokenRows<'a> {
    users: Vec<&'a str>,
    models: Vec<&'a str>,
    amounts: Vec<i64>,
}

#[derive(Debug, Default)]
struct EntryRows<'a> {
    users: Vec<&'a str>,
    kinds: Vec<&'static str>,
    amounts: Vec<i64>,
    models: Vec<Option<&'a str>>,
    store_transaction_ids: Vec<Option<&'a str>>,
    records: Vec<Option<&'a str>>,
    inputs: Vec<Option<i64>>,
    outputs: Vec<Option<i64>>,
    prices: Vec<Option<i64>>,
    credits_deltas: Vec<i64>,
    tokens_deltas: Vec<i64>,
}

#[derive(Debug, Default)]
struct ReplayRows<'a> {
    users: Vec<&'a str>,
    keys: Vec<&'a str>,
    fingerprints: Vec<i64>,
    outcomes: Vec<&'a str>,
}

impl<'a> Changes<'a> {
    /// `is_locked` says of whom an account was found, and is locked.
    pub(super) fn of(
        accounts: &'a [Account],
        replays: &'a Replays,
        is_locked: impl Fn(&str) -> bool,
    ) -> Self {
        let mut changes = Self::default();
        // In one order, as they are locked.
        let mut accounts: Vec<&Account> = accounts.iter().collect();
        accounts.sort_unstable_by_key(|account| account.user());
        for account in accounts {
            changes.add(account, is_locked(account.user().as_str()));
        }
        for (key, replay) in replays.new_ones() {
            changes.replays.users.push(key.user().as_str());
            changes.replays.keys.push(key.key().as_str());
            changes.replays.fingerprints.push(replay.fingerprint.get());
            changes.replays.outcomes.push(&replay.outcome);
        }
        changes
    }

    /// Whether nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.reset.is_empty() && self.rows() == 0
    }

    /// How many rows are written, those of new users aside.
    fn rows(&self) -> usize {
        [
            self.new_credits.users.len(),
            self.changed_credits.users.len(),
            self.tokens.users.len(),
            self.entries.users.len(),
            self.replays.users.len(),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    fn add(&mut self, account: &'a Account, locked: bool) {
        let user = account.user().as_str();
        if account.is_reset() {
            self.reset.push(user);
            self.locked_resets = self.locked_resets.saturating_add(usize::from(locked));
        }
        let kinds: BTreeSet<EntryKind> = account.entries().iter().map(Entry::kind).collect();
        if kinds.contains(&EntryKind::Purchase) || kinds.contains(&EntryKind::Allocation) {
            let credits = if locked { &mut self.changed_credits } else { &mut self.new_credits };
            credits.users.push(user);
            credits.amounts.push(account.credits().get());
        }
        let models: BTreeSet<&ModelId> =
            account.entries().iter().filter_map(Entry::model).collect();
        for model in models {
            let Some(tokens) = account.tokens().get(model) else { continue };
            self.tokens.users.push(user);
            self.tokens.models.push(model.as_str());
            self.tokens.amounts.push(tokens.get());
        }
        for entry in account.entries() {
            self.entries.add(user, entry);
        }
    }

    fn bind(&self, now: DateTime<Utc>) -> Query<'_, Postgres, PgArguments> {
        let Self { new_credits, changed_credits, tokens, entries, replays, .. } = self;
        sqlx::query(SAVE)
            .bind(now)
            .bind(&new_credits.users)
            .bind(&new_credits.amounts)
            .bind(&changed_credits.users)
            .bind(&changed_credits.amounts)
            .bind(&tokens.users)
            .bind(&tokens.models)
            .bind(&tokens.amounts)
            .bind(&entries.users)
            .bind(&entries.kinds)
            .bind(&entries.amounts)
            .bind(&entries.models)
            .bind(&entries.store_transaction_ids)
            .bind(&entries.records)
            .bind(&entries.inputs)
            .bind(&entries.outputs)
            .bind(&entries.prices)
            .bind(&entries.credits_deltas)
            .bind(&entries.tokens_deltas)
            .bind(&replays.users)
            .bind(&replays.keys)
            .bind(&replays.fingerprints)
            .bind(&replays.outcomes)
    }
}

impl<'a> EntryRows<'a> {
    fn add(&mut self, user: &'a str, entry: &'a Entry) {
        let (mut record, mut usage, mut price) = (None, None, None);
        match entry {
            Entry::Purchase { record: sent, .. } => record = Some(PurchaseRecord::as_json(sent)),
            Entry::Allocation { price_per_m_token, .. } => price = Some(*price_per_m_token),
            Entry::Consumption { usage: used, .. } => usage = Some(used),
        }
        self.users.push(user);
        self.kinds.push(entry.kind().name());
        self.amounts.push(entry.amount());
        self.models.push(entry.model().map(ModelId::as_str));
        self.store_transaction_ids
            .push(entry.store_transaction_id().map(StoreTransactionId::as_str));
        self.records.push(record);
        self.inputs.push(usage.map(|usage| usage.input().get()));
        self.outputs.push(usage.map(|usage| usage.output().get()));
        self.prices.push(price);
        self.credits_deltas.push(entry.credits_delta());
        self.tokens_deltas.push(entry.tokens_delta());
    }
}
