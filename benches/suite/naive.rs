//! The thing to beat: the service as one would write it in an afternoon. A pool of connections, a
//! transaction per operation, no log, no limits, no repeated requests.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Result;
use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use sqlx::{
    FromRow, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    peer,
    requests::{BALANCE, CONSUME, TRANSACTIONS},
};

const POOL: u32 = 8;
/// So long that no request fails for it: a peer that gives up is not slower, but wrong.
const PATIENCE: Duration = Duration::from_mins(1);
const USER: &str = "default_user";

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
        .route(BALANCE, get(balance))
        .route(TRANSACTIONS, get(transactions))
        .with_state(pool);
    peer::serve(routes).await
}

#[derive(Deserialize)]
struct Consumption {
    model_id: String,
    input_tokens: i64,
    output_tokens: i64,
}

#[derive(Serialize)]
struct Consumed {
    success: bool,
    remaining_tokens: i64,
}

async fn consume(
    State(pool): State<SqlitePool>,
    Json(consumption): Json<Consumption>,
) -> Result<Json<Consumed>, Failed> {
    let Consumption { model_id, input_tokens, output_tokens } = consumption;
    let amount = input_tokens.saturating_add(output_tokens);
    let now = "2026-11-23T13:14:14.900672Z";
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    let held: Option<i64> = sqlx::query_scalar(
        "SELECT allocated_tokens FROM token_balances WHERE user_id = ? AND model_id = ?",
    )
    .bind(USER)
    .bind(&model_id)
    .fetch_optional(&mut *transaction)
    .await
    .map_err(failed)?;
    let remaining_tokens = held
        .and_then(|held| held.checked_sub(amount))
        .filter(|remaining| *remaining >= 0)
        .ok_or((StatusCode::BAD_REQUEST, "too few tokens".to_owned()))?;
    sqlx::query(
        "UPDATE token_balances SET allocated_tokens = ?, updated_at = ?
         WHERE user_id = ? AND model_id = ?",
    )
    .bind(remaining_tokens)
    .bind(now)
    .bind(USER)
    .bind(&model_id)
    .execute(&mut *transaction)
    .await
    .map_err(failed)?;
    sqlx::query(
        "INSERT INTO transactions (user_id, type, amount, model_id, input_tokens, output_tokens,
             credits_delta, tokens_delta, created_at)
         VALUES ($1, 'consumption', $2, $3, $4, $5, 0, -$2, $6)",
    )
    .bind(USER)
    .bind(amount)
    .bind(&model_id)
    .bind(input_tokens)
    .bind(output_tokens)
    .bind(now)
    .execute(&mut *transaction)
    .await
    .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(Json(Consumed { success: true, remaining_tokens }))
}

#[derive(Serialize)]
struct Balance {
    credits: i64,
    allocated_tokens: BTreeMap<String, i64>,
}

async fn balance(State(pool): State<SqlitePool>) -> Result<Json<Balance>, Failed> {
    let credits = sqlx::query_scalar("SELECT credits FROM credits WHERE user_id = ?")
        .bind(USER)
        .fetch_one(&pool)
        .await
        .map_err(failed)?;
    let tokens: Vec<(String, i64)> =
        sqlx::query_as("SELECT model_id, allocated_tokens FROM token_balances WHERE user_id = ?")
            .bind(USER)
            .fetch_all(&pool)
            .await
            .map_err(failed)?;
    Ok(Json(Balance { credits, allocated_tokens: tokens.into_iter().collect() }))
}

#[derive(Serialize, FromRow)]
struct Transaction {
    id: i64,
    r#type: String,
    amount: i64,
    model_id: Option<String>,
    created_at: String,
}

async fn transactions(
    State(pool): State<SqlitePool>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<Transaction>>, Failed> {
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

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn failed(error: sqlx::Error) -> Failed {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
