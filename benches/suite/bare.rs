//! The peer that shows what the HTTP stack alone can do: as little as handlers with these bodies and
//! answers can do.

use std::collections::BTreeMap;

use anyhow::Result;
use axum::{
    Json,
    body::Bytes,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use crate::{
    peer,
    requests::{BALANCE, CONSUME, MODEL},
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

#[derive(Serialize)]
struct Balance {
    credits: u64,
    allocated_tokens: BTreeMap<String, u64>,
}

const TOKENS: u64 = 8_000_000_000_000;

pub(crate) async fn serve() -> Result<()> {
    let routes = axum::Router::new().route(CONSUME, post(consume)).route(BALANCE, get(balance));
    peer::serve(routes).await
}

async fn consume(body: Bytes) -> Result<impl IntoResponse, StatusCode> {
    let consumption: Consumption =
        serde_json::from_slice(&body).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
    let amount = consumption.input_tokens.saturating_add(consumption.output_tokens);
    let remaining_tokens = TOKENS.saturating_sub(amount);
    let answer = Consumed { success: !consumption.model_id.is_empty(), remaining_tokens };
    let body = serde_json::to_vec(&answer).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body))
}

async fn balance() -> Json<Balance> {
    Json(Balance { credits: 0, allocated_tokens: BTreeMap::from([(MODEL.to_owned(), TOKENS)]) })
}
