//! Tokens that chats use up.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, Request},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    allocations::{AMOUNT_MAX, MODEL_ID},
    body::read_json,
    caller::Consumer,
    code::refusals,
    description::{Integer, body},
    error::ApiError,
    idempotency::{RequestKey, answer},
    problem::{Lowest, Range},
    schemas::balance as balance_schema,
    state::Service,
};
use crate::domain::{Consumed as Consumption, ModelId, Tokens, Usage};

/// The header that tells a consumption's id, also when it is told again.
pub(super) const TRANSACTION: &str = "billing-transaction";

pub(super) const TOKENS: Integer<Tokens> = Integer {
    range: Range { lowest: Lowest::From(0), highest: AMOUNT_MAX },
    make: |tokens| Tokens::new(tokens).ok(),
};

body! {
    /// What a chat used. Both together leave the model's balance.
    Consume {
        model_id: ModelId = MODEL_ID,
        input_tokens: Tokens = TOKENS,
        output_tokens: Tokens = TOKENS,
    }
}

#[derive(Serialize, ToSchema)]
struct Consumed {
    success: bool,
    #[schema(schema_with = balance_schema)]
    remaining_tokens: Tokens,
}

refusals!(
    MayNot,
    "The account is frozen or another's, or this kind of login is not enough.",
    ["forbidden", "account_frozen"]
);
refusals!(
    Refused,
    "A rule says no.",
    ["no_token_balance", "insufficient_tokens"],
    with fields
);

/// Use tokens up
///
/// Input and output together leave the model's balance, or nothing does. What is held can't be used. With
/// `BILLING_CONSUME_BY=backend` apps may not.
#[utoipa::path(
    post, path = "/api/billing/tokens/consume", tag = "changes", security(("bearer" = [])),
    request_body(content = Consume, example = json!({
        "model_id": "gemini-2.0-flash", "input_tokens": 5000, "output_tokens": 2000,
    })),
    responses(
        (status = 200, description = "They are used.", body = Consumed,
            example = json!({"success": true, "remaining_tokens": 1_993_000})),
        Refused,
        MayNot,
    ),
)]
pub(super) async fn consume(
    State(service): Service,
    Consumer(caller): Consumer,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (body, keyed) = key.read::<Consume>(&json)?;
    let usage = Usage::new(body.input_tokens, body.output_tokens)
        .expect("two amounts of a chat are within what an account holds");
    let applied = service.consume(caller, keyed, body.model_id, usage).await?;
    let Consumption { remaining: remaining_tokens, transaction } = applied.outcome;
    let mut response = answer(applied, |_| Consumed { success: true, remaining_tokens });
    if let Some(id) = transaction {
        response.headers_mut().insert(TRANSACTION, HeaderValue::from(id));
    }
    Ok(response)
}
