//! Credits that become tokens.

use axum::{body::Body, extract::State, http::Request, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    body::read_json,
    code::refusals,
    description::{Integer, List, Text, body},
    error::ApiError,
    idempotency::{RequestKey, answer},
    problem::{Lowest, Range},
    state::Service,
};
use crate::{
    domain::{Allocation, Credits, MODEL_ID_MAX_CHARS, ModelId},
    service::Caller,
};

/// Most credits of one purchase or one allocation, and most tokens of one chat's input or output.
pub(super) const AMOUNT_MAX: i64 = 1_000_000_000;
/// Most items of one request.
const ALLOCATIONS_MAX: usize = 50;

pub(super) const CREDITS: Integer<Credits> = Integer {
    range: Range { lowest: Lowest::Above(0), highest: AMOUNT_MAX },
    make: |credits| Credits::new(credits).ok(),
};
pub(super) const MODEL_ID: Text<ModelId> =
    Text { max_chars: MODEL_ID_MAX_CHARS, make: ModelId::new };

body! {
    /// Credits to be turned into tokens: all items in their order, or none.
    Allocate {
        allocations: Vec<AllocationItem> = List::<AllocationItem>::of_at_most(ALLOCATIONS_MAX),
    }
}

body! {
    /// Credits for one model.
    AllocationItem {
        model_id: ModelId = MODEL_ID,
        credits: Credits = CREDITS,
    }
}

impl From<AllocationItem> for Allocation {
    fn from(item: AllocationItem) -> Self {
        Self { model: item.model_id, credits: item.credits }
    }
}

#[derive(Serialize, ToSchema)]
struct Success {
    success: bool,
}

refusals!(
    MayNot,
    "The account is frozen or another's, or this kind of login is not enough.",
    ["forbidden", "account_frozen"]
);
refusals!(
    Refused,
    "A rule says no.",
    ["insufficient_credits", "model_not_priced", "capacity_exceeded", "allocation_too_small"],
    with fields
);

/// Turn credits into tokens
///
/// Tokens are ⌊credits × 1,000,000 / price⌋. All items are applied, in their order, or none is.
#[utoipa::path(
    post, path = "/api/billing/credits/allocate", tag = "changes", security(("bearer" = [])),
    request_body(content = Allocate,
        example = json!({"allocations": [{"model_id": "gemini-2.0-flash", "credits": 150}]})),
    responses(
        (status = 200, description = "The tokens are there.", body = Success,
            example = json!({"success": true})),
        Refused,
        MayNot,
    ),
)]
pub(super) async fn allocate(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (body, keyed) = key.read::<Allocate>(&json)?;
    let items = body.allocations.into_iter().map(Allocation::from).collect();
    let applied = service.allocate(caller, keyed, items).await?;
    Ok(answer(applied, |()| Success { success: true }))
}
