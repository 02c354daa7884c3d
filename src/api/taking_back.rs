//! Tokens that come back: those of a failed chat, and unused ones that become credits again.

use axum::{body::Body, extract::State, http::Request, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    allocations::MODEL_ID,
    body::read_json,
    caller::at_least,
    code::refusals,
    description::{Integer, Maybe, Text, body},
    error::ApiError,
    idempotency::{RequestKey, answer},
    problem::{Lowest, Range},
    schemas::balance as balance_schema,
    state::Service,
    transactions::TRANSACTION_ID,
};
use crate::{
    domain::{
        Credits, ENTRY_REASON_MAX_CHARS, EntryReason, ModelId, ReturnTokens, Returned, Reverse,
        Reversed, Role, Tokens,
    },
    service::Caller,
};

const TOKENS: Integer<Tokens> = Integer {
    range: Range { lowest: Lowest::From(1), highest: Tokens::MAX.get() },
    make: |tokens| Tokens::new(tokens).ok(),
};
const REASON: Text<EntryReason> =
    Text { max_chars: ENTRY_REASON_MAX_CHARS, make: |text| EntryReason::new(text) };

body! {
    /// Which consumption comes back, and how much of it: all that is left, unless told.
    ReverseConsumption {
        transaction_id: i64 = TRANSACTION_ID,
        tokens: Option<Tokens> = Maybe(TOKENS),
        reason: EntryReason = REASON,
    }
}

#[derive(Serialize, ToSchema)]
struct ConsumptionReversed {
    success: bool,
    #[schema(schema_with = balance_schema)]
    reversed_tokens: Tokens,
    /// What may still come back of the same consumption.
    #[schema(schema_with = balance_schema)]
    reversible_tokens: Tokens,
    #[schema(schema_with = balance_schema)]
    remaining_tokens: Tokens,
}

refusals!(NoSuchTransaction, "The account has no such transaction.", ["transaction_not_found"]);
refusals!(NotReversible, "It is no consumption.", ["not_reversible"]);
refusals!(AlreadyReversed, "So much is not left of it.", ["already_reversed"], with fields);

/// Give tokens of a consumption back
///
/// For a chat that failed or was counted wrong. All that comes back of a consumption is never more than it took.
/// Only for backends and operators.
#[utoipa::path(
    post, path = "/api/billing/tokens/reverse", tag = "changes", security(("bearer" = [])),
    request_body(content = ReverseConsumption, example = json!({
        "transaction_id": 3, "tokens": 2000, "reason": "the answer broke off",
    })),
    responses(
        (status = 200, description = "They are back.", body = ConsumptionReversed, example = json!({
            "success": true, "reversed_tokens": 2000, "reversible_tokens": 5000,
            "remaining_tokens": 1_995_000,
        })),
        NotReversible,
        NoSuchTransaction,
        AlreadyReversed,
    ),
)]
pub(super) async fn reverse(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let caller = at_least(Role::Backend, caller)?;
    let json = read_json(request).await?;
    let (body, keyed) = key.read::<ReverseConsumption>(&json)?;
    let ReverseConsumption { transaction_id: consumption, tokens, reason } = body;
    let applied = service.reverse(caller, keyed, Reverse { consumption, tokens, reason }).await?;
    Ok(answer(applied, |Reversed { tokens, reversible, remaining, .. }| ConsumptionReversed {
        success: true,
        reversed_tokens: tokens,
        reversible_tokens: reversible,
        remaining_tokens: remaining,
    }))
}

body! {
    /// Whose unused tokens become credits.
    ReturnUnused {
        model_id: ModelId = MODEL_ID,
    }
}

#[derive(Serialize, ToSchema)]
struct UnusedReturned {
    success: bool,
    #[schema(schema_with = balance_schema)]
    returned_tokens: Tokens,
    #[schema(schema_with = balance_schema)]
    returned_credits: Credits,
    /// What can be spent now.
    #[schema(schema_with = balance_schema)]
    credits: Credits,
    #[schema(schema_with = balance_schema)]
    remaining_tokens: Tokens,
}

refusals!(
    NotReturned,
    "Nothing is unused, or it is worth no credit.",
    ["insufficient_tokens", "return_too_small"],
    with fields
);

/// Turn unused tokens back into credits
///
/// All of a model's unused tokens, at what was paid for them.
#[utoipa::path(
    post, path = "/api/billing/credits/return", tag = "changes", security(("bearer" = [])),
    request_body(content = ReturnUnused, example = json!({"model_id": "gemini-2.0-flash"})),
    responses(
        (status = 200, description = "They are credits again.", body = UnusedReturned, example = json!({
            "success": true, "returned_tokens": 1_993_000, "returned_credits": 149, "credits": 299,
            "remaining_tokens": 0,
        })),
        NotReturned,
    ),
)]
pub(super) async fn return_tokens(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (ReturnUnused { model_id: model }, keyed) = key.read::<ReturnUnused>(&json)?;
    let applied = service.return_tokens(caller, keyed, ReturnTokens { model }).await?;
    Ok(answer(applied, |Returned { tokens, credits, balance, remaining }| UnusedReturned {
        success: true,
        returned_tokens: tokens,
        returned_credits: credits,
        credits: balance,
        remaining_tokens: remaining,
    }))
}
