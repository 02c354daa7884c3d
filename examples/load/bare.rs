//! The peer that shows what the HTTP stack alone can do.

use std::io::Read;

use anyhow::Result;
use axum::{
    body::Bytes,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};

use crate::client::CONSUME;

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

/// The peer: as little as a handler with this body and this answer can do.
pub(crate) async fn serve_bare() -> Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("address={}", listener.local_addr()?);
    // Our input closes when the program that started us ends, however it ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let routes = axum::Router::new().route(CONSUME, axum::routing::post(consume_bare));
    Ok(axum::serve(listener, routes).await?)
}

async fn consume_bare(body: Bytes) -> Result<impl IntoResponse, StatusCode> {
    let consumption: Consumption =
        serde_json::from_slice(&body).map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
    let amount = consumption.input_tokens.saturating_add(consumption.output_tokens);
    let remaining_tokens = 8_000_000_000_000_u64.saturating_sub(amount);
    let answer = Consumed { success: !consumption.model_id.is_empty(), remaining_tokens };
    let body = serde_json::to_vec(&answer).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body))
}
