//! The statements that write a batch, and what is bound to them, column by column. When a transaction
//! begins, and what an error means, is `write`'s business.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Postgres, postgres::PgArguments, query::QueryScalar};

use super::{operators, purchases};
use crate::{
    database::{DatabaseError, changes::Changes},
    domain::{Actor, Credits, EntryReason, ModelId, StoreTransactionId, Tokens, UserId},
};

/// The users to reset, and the time. It comes before what is written, in a statement of its own: no part
/// of a statement sees what another one deletes. As many rows are changed as there are accounts.
const RESET: &str = "
    WITH transactions AS (DELETE FROM transactions WHERE user_id = ANY($1)),
        purchase_names AS (DELETE FROM purchase_names WHERE user_id = ANY($1)),
        purchase_keys AS (DELETE FROM purchase_keys WHERE purchase_id IN (
            SELECT id FROM purchases WHERE user_id = ANY($1))),
        purchases AS (DELETE FROM purchases WHERE user_id = ANY($1)),
        holds AS (DELETE FROM holds WHERE user_id = ANY($1)),
        consents AS (DELETE FROM consents WHERE user_id = ANY($1)),
        usage_sums AS (DELETE FROM usage_sums WHERE user_id = ANY($1)),
        usage_state AS (DELETE FROM usage_state WHERE user_id = ANY($1)),
        token_balances AS (DELETE FROM token_balances WHERE user_id = ANY($1)),
        idempotency_keys AS (DELETE FROM idempotency_keys WHERE user_id = ANY($1))
    UPDATE credits SET credits = 0, bonus = 0, updated_at = $2 WHERE user_id = ANY($1)";

/// All of a batch in one trip; the foreign keys are looked at when everything is there. Each part comes
/// to a number of rows, and the sum is returned: it is less than there was to write when another instance
/// was the first to see a user, to grant a purchase or to carry out a request. Such rows are left out and
/// no error, for an error would end the transaction.
///
/// Balances are written as the rules left them, on rows that are locked.
macro_rules! save {
    ($holds:literal, $count:literal) => {
        concat!(
            "
    WITH new_users AS (
        INSERT INTO users (user_id, created_at)
        SELECT user_id, $1 FROM unnest($2::text[]) AS new (user_id) ON CONFLICT DO NOTHING
    ), new_credits AS (
        INSERT INTO credits (user_id, credits, bonus, updated_at)
        SELECT user_id, credits, bonus, $1
        FROM unnest($2::text[], $3::bigint[], $34::bigint[]) AS new (user_id, credits, bonus)
        ON CONFLICT DO NOTHING RETURNING 1
    ), changed_credits AS (
        UPDATE credits SET credits = new.credits, bonus = new.bonus, updated_at = $1
        FROM unnest($4::text[], $5::bigint[], $35::bigint[]) AS new (user_id, credits, bonus)
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
             output_tokens, price_per_m_token, credits_delta, tokens_delta, id, actor, reverses,
             allocation_id, hold_id, shortfall_tokens, reason, bonus_delta, created_at)
        SELECT user_id, type, amount, model_id, transaction_id, metadata::json, input_tokens,
            output_tokens, price_per_m_token, credits_delta, tokens_delta, id, actor, reverses,
            allocation_id, hold_id, shortfall_tokens, reason, bonus_delta, $1
        FROM unnest(
            $9::text[], $10::text[], $11::bigint[], $12::text[], $13::text[], $14::text[],
            $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[],
            $26::bigint[], $27::text[], $28::bigint[], $29::bigint[], $30::text[], $31::bigint[],
            $32::text[], $33::bigint[]
        ) AS new (
            user_id, type, amount, model_id, transaction_id, metadata, input_tokens,
            output_tokens, price_per_m_token, credits_delta, tokens_delta, id, actor, reverses,
            allocation_id, hold_id, shortfall_tokens, reason, bonus_delta
        )
    )",
            $holds,
            ", names AS (
        INSERT INTO purchase_names (name, user_id)
        SELECT name, user_id FROM unnest($24::text[], $25::text[]) AS new (name, user_id)
        ORDER BY name
        ON CONFLICT (name) DO NOTHING RETURNING 1
    ), replays AS (
        INSERT INTO idempotency_keys (user_id, key, fingerprint, outcome, created_at)
        SELECT user_id, key, fingerprint, outcome::jsonb, $1
        FROM unnest($20::text[], $21::text[], $22::bigint[], $23::text[])
            AS new (user_id, key, fingerprint, outcome)
        ORDER BY user_id, key
        ON CONFLICT (user_id, key) DO NOTHING RETURNING 1
    )
    SELECT (SELECT count(*) FROM new_credits) + (SELECT count(*) FROM changed_credits)
        + (SELECT count(*) FROM tokens) + (SELECT count(*) FROM names)
        + (SELECT count(*) FROM replays)",
            $count
        )
    };
}
const SAVE: &str = save!("", "");
/// The same with holds, new or changed.
const SAVE_WITH_HOLDS: &str = save!(
    ", new_holds AS (
        INSERT INTO holds
            (hold_id, user_id, model_id, held_tokens, status, created_at, expires_at, closed_at,
             input_tokens, output_tokens, consumed_tokens, released_tokens, remaining_tokens,
             transaction_id)
        SELECT hold_id, user_id, model_id, held_tokens, status, created_at, expires_at, closed_at,
            input_tokens, output_tokens, consumed_tokens, released_tokens, remaining_tokens,
            transaction_id
        FROM jsonb_populate_recordset(NULL::holds, $36::jsonb)
        ON CONFLICT (hold_id) DO UPDATE
        SET status = excluded.status, closed_at = excluded.closed_at,
            input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
            consumed_tokens = excluded.consumed_tokens, released_tokens = excluded.released_tokens,
            remaining_tokens = excluded.remaining_tokens, transaction_id = excluded.transaction_id
        RETURNING 1
    )",
    " + (SELECT count(*) FROM new_holds)"
);

/// Writes the changes in the open transaction, in which the accounts of `locked` were found and are locked.
///
/// # Errors
/// [`DatabaseError::Retry`] when another instance was faster; else what the server says.
pub(super) async fn save(
    connection: &mut PgConnection,
    changes: &Changes<'_>,
    locked: &HashSet<String>,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    let is_locked = |user: &UserId| locked.contains(user.as_str());
    if !changes.resets.is_empty() {
        let users = column(&changes.resets, |user| user.as_str());
        let query = sqlx::query(RESET).bind(users).bind(now);
        let accounts = query.execute(&mut *connection).await?.rows_affected();
        let locked = changes.resets.iter().filter(|user| is_locked(user)).count();
        if usize::try_from(accounts) != Ok(locked) {
            // What is not locked may be in somebody's hands.
            return Err(another_was_first());
        }
    }
    let expected = rows(changes);
    if expected > 0 {
        save_accounts(connection, changes, is_locked, expected, now).await?;
    }
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

async fn save_accounts(
    connection: &mut PgConnection,
    changes: &Changes<'_>,
    is_locked: impl Fn(&UserId) -> bool,
    expected: usize,
    now: DateTime<Utc>,
) -> Result<(), DatabaseError> {
    let (changed, new): (Vec<_>, Vec<_>) =
        changes.credits.iter().copied().partition(|(user, ..)| is_locked(user));
    let written = bind(changes, &new, &changed, now).fetch_one(connection).await?;
    if usize::try_from(written) == Ok(expected) { Ok(()) } else { Err(another_was_first()) }
}

fn another_was_first() -> DatabaseError {
    DatabaseError::Retry("another instance was the first".to_owned())
}

/// How many rows are written, those of new users aside.
fn rows(changes: &Changes<'_>) -> usize {
    let Changes { credits, tokens, names, replays, holds, .. } = changes;
    [credits.len(), tokens.len(), names.len(), replays.len(), holds.len()]
        .into_iter()
        .fold(0, usize::saturating_add)
}

/// What is changed of whose account is not found stands among the new ones.
fn bind<'q>(
    changes: &'q Changes<'q>,
    new_credits: &'q [(&'q UserId, Credits, Credits)],
    changed_credits: &'q [(&'q UserId, Credits, Credits)],
    now: DateTime<Utc>,
) -> QueryScalar<'q, Postgres, i64, PgArguments> {
    let Changes { tokens, entries, names, replays, holds, .. } = changes;
    let query = sqlx::query_scalar(if holds.is_empty() { SAVE } else { SAVE_WITH_HOLDS })
        .bind(now)
        .bind(column(new_credits, |(user, ..)| user.as_str()))
        .bind(column(new_credits, |(_, credits, _)| credits.get()))
        .bind(column(changed_credits, |(user, ..)| user.as_str()))
        .bind(column(changed_credits, |(_, credits, _)| credits.get()))
        .bind(column(tokens, |(user, ..)| user.as_str()))
        .bind(column(tokens, |(_, model, _)| model.as_str()))
        .bind(column(tokens, |(.., tokens)| tokens.get()))
        .bind(column(entries, |row| row.user.as_str()))
        .bind(column(entries, |row| row.kind.name()))
        .bind(column(entries, |row| row.amount))
        .bind(column(entries, |row| row.model.map(ModelId::as_str)))
        .bind(column(entries, |row| row.store_transaction_id.map(StoreTransactionId::as_str)))
        .bind(column(entries, |row| row.record))
        .bind(column(entries, |row| row.input_tokens))
        .bind(column(entries, |row| row.output_tokens))
        .bind(column(entries, |row| row.price_per_m_token))
        .bind(column(entries, |row| row.credits_delta))
        .bind(column(entries, |row| row.tokens_delta))
        .bind(column(replays, |(key, _)| key.user().as_str()))
        .bind(column(replays, |(key, _)| key.key().as_str()))
        .bind(column(replays, |(_, replay)| replay.fingerprint.get()))
        .bind(column(replays, |(_, replay)| replay.outcome.as_str()))
        .bind(column(names, |(name, _)| name.as_str()))
        .bind(column(names, |(_, user)| user.as_str()))
        .bind(column(entries, |row| row.id))
        .bind(column(entries, |row| row.actor.map(Actor::name)))
        .bind(column(entries, |row| row.rare.reverses))
        .bind(column(entries, |row| row.rare.allocation))
        .bind(column(entries, |row| row.rare.hold.map(|hold| hold.to_string())))
        .bind(column(entries, |row| row.rare.shortfall.map(Tokens::get)))
        .bind(column(entries, |row| row.rare.reason.map(EntryReason::as_str)))
        .bind(column(entries, |row| row.rare.bonus_delta))
        .bind(column(new_credits, |(.., bonus)| bonus.get()))
        .bind(column(changed_credits, |(.., bonus)| bonus.get()));
    if holds.is_empty() {
        return query;
    }
    query.bind(serde_json::to_string(holds).expect("texts and numbers have a JSON form"))
}

fn column<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
