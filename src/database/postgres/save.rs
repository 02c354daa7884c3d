//! The statements that write a batch, and what is bound to them, column by column. When a transaction
//! begins, and what an error means, is `write`'s business.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::{
    lock::LockedAccounts,
    operators, purchases,
    statement::{Place, Remembered, Statement, Value},
    summary,
};
use crate::{
    database::{
        DatabaseError,
        changes::{Changes, EntryRow},
    },
    domain::{
        Actor, Credits, EntryReason, Hold, ModelId, PurchaseName, Replay, StoreTransactionId,
        Tokens, UserId, UserKey,
    },
};

/// The users to reset, and the time. It comes before what is written, in a statement of its own: no part
/// of a statement sees what another one deletes. As many rows are changed as there are accounts.
const RESET: &str = "
    WITH transactions AS (DELETE FROM transactions WHERE user_id = ANY($1)),
        purchase_names AS (DELETE FROM purchase_names WHERE user_id = ANY($1)),
        purchase_keys AS (DELETE FROM purchase_keys WHERE purchase_id = ANY(ARRAY(
            SELECT id FROM purchases WHERE user_id = ANY($1)))),
        purchases AS (DELETE FROM purchases WHERE user_id = ANY($1)),
        holds AS (DELETE FROM holds WHERE user_id = ANY($1)),
        consents AS (DELETE FROM consents WHERE user_id = ANY($1)),
        usage_sums AS (DELETE FROM usage_sums WHERE user_id = ANY($1)),
        usage_state AS (DELETE FROM usage_state WHERE user_id = ANY($1)),
        token_balances AS (DELETE FROM token_balances WHERE user_id = ANY($1)),
        idempotency_keys AS (DELETE FROM idempotency_keys WHERE user_id = ANY($1))
    UPDATE credits SET credits = 0, bonus = 0, updated_at = $2 WHERE user_id = ANY($1)";

macro_rules! plain_columns {
    () => {
        "user_id, type, amount, model_id, input_tokens, output_tokens, price_per_m_token, \
         credits_delta, tokens_delta, id, actor"
    };
}
macro_rules! rare_columns {
    () => {
        "reverses, allocation_id, hold_id, shortfall_tokens, reason, bonus_delta"
    };
}
/// Entries of which the rarer columns are empty, as those of most consumptions are. The time follows.
const ADD_PLAIN_ENTRIES: &str = concat!(
    "INSERT INTO transactions (",
    plain_columns!(),
    ", created_at) SELECT ",
    plain_columns!(),
    ", "
);
const PLAIN_ENTRIES: &str = concat!(") AS new (", plain_columns!(), "))");
const ADD_ENTRIES: &str = concat!(
    "INSERT INTO transactions (",
    plain_columns!(),
    ", transaction_id, metadata, ",
    rare_columns!(),
    ", created_at) SELECT ",
    plain_columns!(),
    ", transaction_id, metadata::json, ",
    rare_columns!(),
    ", "
);
const ENTRIES: &str =
    concat!(") AS new (", plain_columns!(), ", transaction_id, metadata, ", rare_columns!(), "))");

/// Holds, new or changed, as JSON.
const PUT_HOLDS: &str = "
    INSERT INTO holds
        (hold_id, user_id, model_id, held_tokens, status, created_at, expires_at, closed_at,
         input_tokens, output_tokens, consumed_tokens, released_tokens, remaining_tokens,
         transaction_id)
    SELECT hold_id, user_id, model_id, held_tokens, status, created_at, expires_at, closed_at,
        input_tokens, output_tokens, consumed_tokens, released_tokens, remaining_tokens,
        transaction_id
    FROM jsonb_populate_recordset(NULL::holds, ";
const PUT_HOLDS_END: &str = "::jsonb)
    ON CONFLICT (hold_id) DO UPDATE
    SET status = excluded.status, closed_at = excluded.closed_at,
        input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
        consumed_tokens = excluded.consumed_tokens, released_tokens = excluded.released_tokens,
        remaining_tokens = excluded.remaining_tokens, transaction_id = excluded.transaction_id
    RETURNING 1)";

/// Writes the changes in the open transaction, in which the accounts of `locked` were found and are locked.
///
/// # Errors
/// [`DatabaseError::Retry`] when another instance was faster; else what the server says.
pub(super) async fn save(
    connection: &mut PgConnection,
    remembered: &Remembered,
    changes: &Changes<'_>,
    locked: &LockedAccounts,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    if !changes.resets.is_empty() {
        let users: Vec<&str> = changes.resets.iter().map(|user| user.as_str()).collect();
        summary::forget(&mut *connection, &users).await?;
        let query = sqlx::query(RESET).bind(users).bind(now);
        let accounts = query.execute(&mut *connection).await?.rows_affected();
        let locked = changes.resets.iter().filter(|user| locked.has(user)).count();
        if usize::try_from(accounts) != Ok(locked) {
            // What is not locked may be in somebody's hands.
            return Err(another_was_first());
        }
    }
    Rows::of(changes, locked, now).write(connection, remembered).await?;
    if !changes.stores.is_empty() && !purchases::save(connection, &changes.stores, now).await? {
        return Err(another_was_first());
    }
    if !changes.operators.is_empty()
        && !operators::save(connection, &changes.operators, now).await?
    {
        return Err(another_was_first());
    }
    Ok(())
}

fn another_was_first() -> DatabaseError {
    DatabaseError::Retry("another instance was the first".to_owned())
}

/// All of a batch's rows in one statement, which has a part for each kind of them that there is; the foreign keys are
/// looked at when everything is there.
///
/// Parts come to a number of rows, and the sum is returned: it is less than there was to write when another instance
/// was the first to see a user, to grant a purchase or to carry out a request. Such rows are left out and no error, for
/// an error would end the transaction.
///
/// Balances are written as the rules left them, on rows that are locked.
struct Rows<'a> {
    statement: Statement<'a>,
    now: Place,
    parts: usize,
    /// The parts that tell how many rows they wrote.
    counted: Vec<&'static str>,
    expected: usize,
}

impl<'a> Rows<'a> {
    fn of(changes: &'a Changes<'a>, locked: &LockedAccounts, now: DateTime<Utc>) -> Self {
        let Changes { credits, tokens, entries, names, replays, opened, closed, .. } = changes;
        let mut statement = Statement::default();
        let now = statement.keep(Value::Time(now));
        let mut rows = Self { statement, now, parts: 0, counted: Vec::new(), expected: 0 };
        let (changed, new): (Vec<_>, Vec<_>) =
            credits.iter().copied().partition(|(user, ..)| locked.has(user));
        rows.add_accounts(&new);
        rows.change_credits(&changed);
        // What a reset has removed is new again.
        let is_kept =
            |user, model| locked.has_balance(user, model) && !changes.resets.contains(&user);
        let (changed, new): (Vec<_>, Vec<_>) =
            tokens.iter().copied().partition(|(user, model, _)| is_kept(user, model));
        rows.change_balances(&changed);
        rows.add_balances(&new);
        rows.add_entries(entries);
        rows.put_holds(&opened.iter().chain(closed).copied().collect::<Vec<_>>());
        rows.add_names(names);
        rows.add_replays(replays);
        rows
    }

    /// # Errors
    /// As for [`save`].
    async fn write(
        mut self,
        connection: &mut PgConnection,
        remembered: &Remembered,
    ) -> Result<(), DatabaseError> {
        if self.parts == 0 {
            return Ok(());
        }
        self.statement.push(" SELECT 0::bigint");
        for part in self.counted {
            self.statement.push(" + (SELECT count(*) FROM ").push(part).push(")");
        }
        let told = remembered.fetch(&self.statement, connection).await?;
        let written: i64 = match &told[..] {
            [row] => row.try_get(0)?,
            other => {
                let reason = format!("a batch was answered with {} rows", other.len());
                return Err(DatabaseError::Corrupt(reason));
            }
        };
        if usize::try_from(written) == Ok(self.expected) {
            Ok(())
        } else {
            Err(another_was_first())
        }
    }

    /// Begins a part.
    fn part(&mut self, name: &'static str, sql: &'static str) -> &mut Statement<'a> {
        self.statement.push(if self.parts == 0 { "WITH " } else { ", " });
        self.parts = self.parts.saturating_add(1);
        self.statement.push(name).push(" AS (").push(sql)
    }

    /// The same for a part that returns each of so many rows, and takes the time as what `sql` ends with.
    fn counted(
        &mut self,
        rows: usize,
        name: &'static str,
        sql: &'static str,
    ) -> &mut Statement<'a> {
        self.counted.push(name);
        self.expected = self.expected.saturating_add(rows);
        let now = self.now;
        self.part(name, sql).use_kept(now)
    }

    fn add_accounts(&mut self, new: &[Funds<'a>]) {
        if new.is_empty() {
            return;
        }
        let users = self.statement.keep(texts(new, |(user, ..)| Some(user.as_str())));
        let now = self.now;
        self.part("new_users", "INSERT INTO users (user_id, created_at) SELECT user_id, ")
            .use_kept(now)
            .push(" FROM unnest(")
            .use_kept(users)
            .push(") AS new (user_id) ON CONFLICT DO NOTHING)");
        let insert = "INSERT INTO credits (user_id, credits, bonus, updated_at)
            SELECT user_id, credits, bonus, ";
        self.counted(new.len(), "new_credits", insert)
            .push(" FROM unnest(")
            .use_kept(users)
            .column(numbers(new, |(_, credits, _)| Some(credits.get())))
            .column(numbers(new, |(.., bonus)| Some(bonus.get())))
            .push(") AS new (user_id, credits, bonus) ON CONFLICT DO NOTHING RETURNING 1)");
    }

    fn change_credits(&mut self, changed: &[Funds<'a>]) {
        if changed.is_empty() {
            return;
        }
        let update = "UPDATE credits SET credits = new.credits, bonus = new.bonus, updated_at = ";
        self.counted(changed.len(), "changed_credits", update)
            .push(" FROM unnest(")
            .bind(texts(changed, |(user, ..)| Some(user.as_str())))
            .column(numbers(changed, |(_, credits, _)| Some(credits.get())))
            .column(numbers(changed, |(.., bonus)| Some(bonus.get())))
            .push(
                ") AS new (user_id, credits, bonus)
                WHERE credits.user_id = ANY(ARRAY[new.user_id])
                RETURNING 1)",
            );
    }

    fn change_balances(&mut self, changed: &[Balance<'a>]) {
        if changed.is_empty() {
            return;
        }
        let update = "UPDATE token_balances SET allocated_tokens = new.tokens, updated_at = ";
        self.counted(changed.len(), "changed_balances", update).balances(changed).push(
            ") AS new (user_id, model_id, tokens)
                WHERE token_balances.user_id = ANY(ARRAY[new.user_id])
                    AND token_balances.model_id = ANY(ARRAY[new.model_id])
                RETURNING 1)",
        );
    }

    fn add_balances(&mut self, new: &[Balance<'a>]) {
        if new.is_empty() {
            return;
        }
        let insert = "INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
            SELECT user_id, model_id, tokens, ";
        self.counted(new.len(), "new_balances", insert)
            .balances(new)
            .push(") AS new (user_id, model_id, tokens) ON CONFLICT DO NOTHING RETURNING 1)");
    }

    fn add_entries(&mut self, entries: &'a [EntryRow<'a>]) {
        if entries.is_empty() {
            return;
        }
        let only_plain = entries.iter().all(|row| {
            row.record.is_none() && row.store_transaction_id.is_none() && row.rare.are_empty()
        });
        let insert = if only_plain { ADD_PLAIN_ENTRIES } else { ADD_ENTRIES };
        let now = self.now;
        let part = self.part("entries", insert).use_kept(now).push(" FROM unnest(");
        part.bind(texts(entries, |row| Some(row.user.as_str())))
            .column(texts(entries, |row| Some(row.kind.name())))
            .column(numbers(entries, |row| Some(row.amount)))
            .column(texts(entries, |row| row.model.map(ModelId::as_str)))
            .column(numbers(entries, |row| row.input_tokens))
            .column(numbers(entries, |row| row.output_tokens))
            .column(numbers(entries, |row| row.price_per_m_token))
            .column(numbers(entries, |row| Some(row.credits_delta)))
            .column(numbers(entries, |row| Some(row.tokens_delta)))
            .column(numbers(entries, |row| Some(row.id)))
            .column(texts(entries, |row| row.actor.map(Actor::name)));
        if only_plain {
            part.push(PLAIN_ENTRIES);
            return;
        }
        let store_id = |row: &'a EntryRow<'a>| row.store_transaction_id;
        part.column(texts(entries, |row| store_id(row).map(StoreTransactionId::as_str)))
            .column(texts(entries, |row| row.record))
            .column(numbers(entries, |row| row.rare.reverses))
            .column(numbers(entries, |row| row.rare.allocation))
            .column(texts(entries, |row| row.rare.hold.map(|hold| hold.to_string())))
            .column(numbers(entries, |row| row.rare.shortfall.map(Tokens::get)))
            .column(texts(entries, |row| row.rare.reason.map(EntryReason::as_str)))
            .column(numbers(entries, |row| Some(row.rare.bonus_delta)))
            .push(ENTRIES);
    }

    fn put_holds(&mut self, holds: &[&Hold]) {
        if holds.is_empty() {
            return;
        }
        let rows = serde_json::to_string(holds).expect("texts and numbers have a JSON form");
        self.counted.push("put_holds");
        self.expected = self.expected.saturating_add(holds.len());
        self.part("put_holds", PUT_HOLDS).bind(Value::Text(rows.into())).push(PUT_HOLDS_END);
    }

    fn add_names(&mut self, names: &'a [(&'a PurchaseName, &'a UserId)]) {
        if names.is_empty() {
            return;
        }
        self.counted.push("names");
        self.expected = self.expected.saturating_add(names.len());
        let insert = "INSERT INTO purchase_names (name, user_id) SELECT name, user_id FROM unnest(";
        self.part("names", insert)
            .bind(texts(names, |(name, _)| Some(name.as_str())))
            .column(texts(names, |(_, user)| Some(user.as_str())))
            .push(
                ") AS new (name, user_id) ORDER BY name ON CONFLICT (name) DO NOTHING RETURNING 1)",
            );
    }

    fn add_replays(&mut self, replays: &'a [(&'a UserKey, &'a Replay)]) {
        if replays.is_empty() {
            return;
        }
        let insert = "INSERT INTO idempotency_keys
                (user_id, key, fingerprint, outcome, created_at)
            SELECT user_id, key, fingerprint, outcome::jsonb, ";
        self.counted(replays.len(), "replays", insert)
            .push(" FROM unnest(")
            .bind(texts(replays, |(key, _)| Some(key.user().as_str())))
            .column(texts(replays, |(key, _)| Some(key.key().as_str())))
            .column(numbers(replays, |(_, replay)| Some(replay.fingerprint.get())))
            .column(texts(replays, |(_, replay)| Some(replay.outcome.as_str())))
            .push(
                ") AS new (user_id, key, fingerprint, outcome) ORDER BY user_id, key
                ON CONFLICT (user_id, key) DO NOTHING RETURNING 1)",
            );
    }
}

/// Credits of a user, and those of them that were given.
type Funds<'a> = (&'a UserId, Credits, Credits);
type Balance<'a> = (&'a UserId, &'a ModelId, Tokens);

impl<'a> Statement<'a> {
    fn column(&mut self, values: Value<'a>) -> &mut Self {
        self.push(", ").bind(values)
    }

    fn balances(&mut self, balances: &[Balance<'a>]) -> &mut Self {
        self.push(" FROM unnest(")
            .bind(texts(balances, |(user, ..)| Some(user.as_str())))
            .column(texts(balances, |(_, model, _)| Some(model.as_str())))
            .column(numbers(balances, |(.., tokens)| Some(tokens.get())))
    }
}

fn texts<'a, 'r, R, T: Into<Cow<'a, str>>>(
    rows: &'r [R],
    text: impl Fn(&'r R) -> Option<T>,
) -> Value<'a> {
    Value::Texts(rows.iter().map(|row| text(row).map(Into::into)).collect())
}

fn numbers<'r, R>(rows: &'r [R], number: impl Fn(&'r R) -> Option<i64>) -> Value<'static> {
    Value::Numbers(rows.iter().map(number).collect())
}
