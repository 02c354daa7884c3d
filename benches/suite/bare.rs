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
    peer,
    requests::{ADD_CREDITS, ALLOCATE, BALANCE, CONSUME, MODEL, TRANSACTIONS},
};

#[derive(Deserialize)]
struct Consumption {
    model_id: String,
    input_tokens: u64,
    output_tokens: u64,
}

#[derive(Serialize)]
struct Consumed {
    success: bool,
    remaining_tokens: u64,
}

#[derive(Deserialize)]
struct Allocations {
    allocations: Vec<Allocation>,
}

#[derive(Deserialize)]
struct Allocation {
    model_id: String,
    credits: u64,
}

#[derive(Serialize)]
struct Allocated {
    success: bool,
}

#[derive(Deserialize)]
struct Purchase {
    credits: u64,
    purchase_record: Box<RawValue>,
}

#[derive(Serialize)]
struct Purchased {
    success: bool,
    new_balance: u64,
}

#[derive(Serialize)]
struct Balance {
    credits: u64,
    allocated_tokens: BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Listed {
    id: u64,
    r#type: &'static str,
    amount: u64,
    model_id: &'static str,
    created_at: &'static str,
}

const TOKENS: u64 = 8_000_000_000_000;
const CREDITS: u64 = 8_000_000_000_000;
const PAGE_LENGTH: u64 = 100;

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
    let newest: u64 = before.unwrap_or(TOKENS).saturating_sub(1);
    let listed = |id| Listed {
        id,
        r#type: "consumption",
        amount: 7000,
        model_id: MODEL,
        created_at: "2026-11-23T13:14:14.900672Z",
    };
    Json((newest.saturating_sub(PAGE_LENGTH)..newest).rev().map(listed).collect())
}
