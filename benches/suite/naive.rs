//! The thing to beat: the service as one would write it in an afternoon. A pool of connections, a
//! transaction per operation, no log, no limits, no repeated requests.

use std::{path::Path, time::Duration};

use anyhow::Result;
use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use sqlx::{
    Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use sqlx_macros::FromRow;

use crate::{
    bodies::{Allocated, Allocation, Allocations, Balance, Consumed, Consumption, Purchased},
    peer,
    requests::{ADD_CREDITS, ALLOCATE, BALANCE, CONSUME, TRANSACTIONS},
};

const POOL: u32 = 8;
/// So long that no request fails for it: a peer that gives up is not slower, but wrong.
const PATIENCE: Duration = Duration::from_mins(1);
const USER: &str = "default_user";
const NOW: &str = "2026-11-23T13:14:14.900672Z";
/// Of a category; as much as the service is told for the suite.
const CAPACITY_TOKENS: i64 = 9_000_000_000_000_000;

type Failed = (StatusCode, String);

pub(crate) async fn serve(database: &Path) -> Result<()> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .foreign_keys(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE);
    let pool = SqlitePoolOptions::new()
        .max_connections(POOL)
        .acquire_timeout(PATIENCE)
        .connect_with(options)
        .await?;
    let routes = axum::Router::new()
        .route(CONSUME, post(consume))
        .route(ALLOCATE, post(allocate))
        .route(ADD_CREDITS, post(add_credits))
        .route(BALANCE, get(balance))
        .route(TRANSACTIONS, get(transactions))
        .with_state(pool);
    peer::serve(routes).await
}

async fn consume(
    State(pool): State<SqlitePool>,
    Json(consumption): Json<Consumption>,
) -> Result<Json<Consumed>, Failed> {
    let Consumption { model_id, input_tokens, output_tokens } = consumption;
    let amount = input_tokens.saturating_add(output_tokens);
    let mut transaction = begin(&pool).await?;
    let held = tokens(&mut transaction, &model_id).await?;
    let remaining_tokens = held
        .and_then(|held| held.checked_sub(amount))
        .filter(|remaining| *remaining >= 0)
        .ok_or_else(|| refused("too few tokens"))?;
    set_tokens(&mut transaction, &model_id, remaining_tokens).await?;
    let entry = Entry {
        kind: "consumption",
        amount,
        model_id: Some(&model_id),
        input_tokens: Some(input_tokens),
        output_tokens: Some(output_tokens),
        tokens_delta: amount.saturating_neg(),
        ..Entry::default()
    };
    record(&mut transaction, entry).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(Json(Consumed { success: true, remaining_tokens }))
}

async fn allocate(
    State(pool): State<SqlitePool>,
    Json(Allocations { allocations }): Json<Allocations>,
) -> Result<Json<Allocated>, Failed> {
    let mut transaction = begin(&pool).await?;
    for Allocation { model_id, credits } in allocations {
        allocate_one(&mut transaction, &model_id, credits).await?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(Json(Allocated { success: true }))
}

async fn allocate_one(
    transaction: &mut SqliteConnection,
    model_id: &str,
    spent: i64,
) -> Result<(), Failed> {
    let left = credits(transaction).await?.saturating_sub(spent);
    if left < 0 {
        return Err(refused("too few credits"));
    }
    let (price, category): (i64, String) =
        sqlx::query_as("SELECT price_per_m_token, category FROM token_pricing WHERE model_id = ?")
            .bind(model_id)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?
            .ok_or_else(|| refused("no price"))?;
    let bought = spent.saturating_mul(1_000_000).checked_div(price).unwrap_or_default();
    let of_category: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(allocated_tokens), 0) FROM token_balances JOIN token_pricing USING (model_id)
         WHERE user_id = ? AND category = ?",
    )
    .bind(USER)
    .bind(category)
    .fetch_one(&mut *transaction)
    .await
    .map_err(failed)?;
    if of_category.saturating_add(bought) > CAPACITY_TOKENS {
        return Err(refused("too many tokens"));
    }
    set_credits(transaction, left).await?;
    let held = tokens(transaction, model_id).await?.unwrap_or_default();
    set_tokens(transaction, model_id, held.saturating_add(bought)).await?;
    let entry = Entry {
        kind: "allocation",
        amount: spent,
        model_id: Some(model_id),
        price_per_m_token: Some(price),
        credits_delta: spent.saturating_neg(),
        tokens_delta: bought,
        ..Entry::default()
    };
    record(transaction, entry).await
}

#[derive(Deserialize)]
struct Purchase {
    credits: i64,
    purchase_record: serde_json::Value,
}

async fn add_credits(
    State(pool): State<SqlitePool>,
    Json(purchase): Json<Purchase>,
) -> Result<Json<Purchased>, Failed> {
    let id = purchase.purchase_record.get("transactionId").and_then(serde_json::Value::as_str);
    let mut transaction = begin(&pool).await?;
    let granted: Option<i64> =
        sqlx::query_scalar("SELECT id FROM transactions WHERE transaction_id = ?")
            .bind(id)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed)?;
    if granted.is_some() {
        return Err((StatusCode::CONFLICT, "granted before".to_owned()));
    }
    let new_balance = credits(&mut transaction).await?.saturating_add(purchase.credits);
    set_credits(&mut transaction, new_balance).await?;
    let entry = Entry {
        kind: "purchase",
        amount: purchase.credits,
        transaction_id: id,
        metadata: Some(purchase.purchase_record.to_string()),
        credits_delta: purchase.credits,
        ..Entry::default()
    };
    record(&mut transaction, entry).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(Json(Purchased { success: true, new_balance }))
}

async fn begin(pool: &SqlitePool) -> Result<Transaction<'static, Sqlite>, Failed> {
    pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)
}

async fn credits(connection: &mut SqliteConnection) -> Result<i64, Failed> {
    sqlx::query_scalar("SELECT credits FROM credits WHERE user_id = ?")
        .bind(USER)
        .fetch_one(connection)
        .await
        .map_err(failed)
}

async fn set_credits(connection: &mut SqliteConnection, credits: i64) -> Result<(), Failed> {
    sqlx::query("UPDATE credits SET credits = ?, updated_at = ? WHERE user_id = ?")
        .bind(credits)
        .bind(NOW)
        .bind(USER)
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(())
}

async fn tokens(connection: &mut SqliteConnection, model_id: &str) -> Result<Option<i64>, Failed> {
    sqlx::query_scalar(
        "SELECT allocated_tokens FROM token_balances WHERE user_id = ? AND model_id = ?",
    )
    .bind(USER)
    .bind(model_id)
    .fetch_optional(connection)
    .await
    .map_err(failed)
}

async fn set_tokens(
    connection: &mut SqliteConnection,
    model_id: &str,
    tokens: i64,
) -> Result<(), Failed> {
    sqlx::query(
        "INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
         VALUES (?, ?, ?, ?)
         ON CONFLICT (user_id, model_id) DO UPDATE
         SET allocated_tokens = excluded.allocated_tokens, updated_at = excluded.updated_at",
    )
    .bind(USER)
    .bind(model_id)
    .bind(tokens)
    .bind(NOW)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

/// A row of `transactions`.
#[derive(Default)]
struct Entry<'a> {
    kind: &'static str,
    amount: i64,
    model_id: Option<&'a str>,
    transaction_id: Option<&'a str>,
    metadata: Option<String>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    price_per_m_token: Option<i64>,
    credits_delta: i64,
    tokens_delta: i64,
}

async fn record(connection: &mut SqliteConnection, entry: Entry<'_>) -> Result<(), Failed> {
    sqlx::query(
        "INSERT INTO transactions (user_id, type, amount, model_id, transaction_id, metadata,
             input_tokens, output_tokens, price_per_m_token, credits_delta, tokens_delta, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(USER)
    .bind(entry.kind)
    .bind(entry.amount)
    .bind(entry.model_id)
    .bind(entry.transaction_id)
    .bind(entry.metadata)
    .bind(entry.input_tokens)
    .bind(entry.output_tokens)
    .bind(entry.price_per_m_token)
    .bind(entry.credits_delta)
    .bind(entry.tokens_delta)
    .bind(NOW)
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}

async fn balance(State(pool): State<SqlitePool>) -> Result<Json<Balance>, Failed> {
    let mut connection = pool.acquire().await.map_err(failed)?;
    let credits = credits(&mut connection).await?;
    let tokens: Vec<(String, i64)> =
        sqlx::query_as("SELECT model_id, allocated_tokens FROM token_balances WHERE user_id = ?")
            .bind(USER)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
    Ok(Json(Balance { credits, allocated_tokens: tokens.into_iter().collect() }))
}

#[derive(Serialize, FromRow)]
struct Listed {
    id: i64,
    r#type: String,
    amount: i64,
    model_id: Option<String>,
    created_at: String,
}

async fn transactions(
    State(pool): State<SqlitePool>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<Listed>>, Failed> {
    let before = query.as_deref().and_then(|query| query.strip_prefix("before=")?.parse().ok());
    let rows = sqlx::query_as(
        "SELECT id, type, amount, model_id, created_at FROM transactions
         WHERE user_id = ? AND id < ? ORDER BY id DESC LIMIT 100",
    )
    .bind(USER)
    .bind(before.unwrap_or(i64::MAX))
    .fetch_all(&pool)
    .await
    .map_err(failed)?;
    Ok(Json(rows))
}

fn refused(reason: &str) -> Failed {
    (StatusCode::BAD_REQUEST, reason.to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn failed(error: sqlx::Error) -> Failed {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
