//! The peer that shows what the HTTP stack alone can do: as little as handlers with these bodies and
//! answers can do.

use std::collections::BTreeMap;

use anyhow::Result;
use axum::{
    Json,
    body::Bytes,
    extract::RawQuery,
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    bodies::{Allocated, Allocations, Balance, Consumed, Consumption, Purchased},
    peer,
    requests::{ADD_CREDITS, ALLOCATE, BALANCE, CONSUME, MODEL, TRANSACTIONS},
};

#[derive(Deserialize)]
struct Purchase {
    credits: i64,
    purchase_record: Box<RawValue>,
}

#[derive(Serialize)]
struct Listed {
    id: i64,
    r#type: &'static str,
    amount: i64,
    model_id: &'static str,
    created_at: &'static str,
}

const TOKENS: i64 = 8_000_000_000_000;
const CREDITS: i64 = 8_000_000_000_000;
const PAGE_LENGTH: i64 = 100;

pub(crate) async fn serve() -> Result<()> {
    let routes = axum::Router::new()
        .route(CONSUME, post(consume))
        .route(ALLOCATE, post(allocate))
        .route(ADD_CREDITS, post(add_credits))
        .route(BALANCE, get(balance))
        .route(TRANSACTIONS, get(transactions));
    peer::serve(routes).await
}

async fn consume(body: Bytes) -> Result<impl IntoResponse, StatusCode> {
    let consumption: Consumption = parsed(&body)?;
    let amount = consumption.input_tokens.saturating_add(consumption.output_tokens);
    let remaining_tokens = TOKENS.saturating_sub(amount);
    Ok(Json(Consumed { success: !consumption.model_id.is_empty(), remaining_tokens }))
}

async fn allocate(body: Bytes) -> Result<impl IntoResponse, StatusCode> {
    let Allocations { allocations } = parsed(&body)?;
    let success =
        allocations.iter().all(|item| !item.model_id.is_empty() && item.credits <= CREDITS);
    Ok(Json(Allocated { success }))
}

async fn add_credits(body: Bytes) -> Result<impl IntoResponse, StatusCode> {
    let purchase: Purchase = parsed(&body)?;
    let new_balance = CREDITS.saturating_add(purchase.credits);
    let success = !purchase.purchase_record.get().is_empty();
    Ok(Json(Purchased { success, new_balance }))
}

/// Whatever its content type is.
fn parsed<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, StatusCode> {
    serde_json::from_slice(body).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)
}

async fn balance() -> Json<Balance> {
    Json(Balance { credits: 0, allocated_tokens: BTreeMap::from([(MODEL.to_owned(), TOKENS)]) })
}

async fn transactions(RawQuery(query): RawQuery) -> Json<Vec<Listed>> {
    let before = query.as_deref().and_then(|query| query.strip_prefix("before=")?.parse().ok());
    let newest: i64 = before.unwrap_or(TOKENS).saturating_sub(1);
    let listed = |id| Listed {
        id,
        r#type: "consumption",
        amount: 7000,
        model_id: MODEL,
        created_at: "2026-11-23T13:14:14.900672Z",
    };
    Json((newest.saturating_sub(PAGE_LENGTH)..newest).rev().map(listed).collect())
}
