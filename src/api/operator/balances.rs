//! What an operator gives, and puts right.

use axum::{body::Body, extract::State, http::Request, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    REASON,
    door::{NamedUser, Operator, unknown_user},
};
use crate::{
    api::{
        allocations::{CREDITS, MODEL_ID},
        body::read_json,
        code::refusals,
        description::{Integer, Maybe, body},
        error::ApiError,
        idempotency::{RequestKey, answer},
        problem::{Lowest, Problem, Range, Step},
        schemas::balance as balance_schema,
        state::Service,
        wallet::Wallet,
    },
    domain::{self, Adjust, Adjustment, Credits, Delta, EntryReason, GiveCredits, Given, ModelId},
};

/// A change of an amount, up or down.
const DELTA: Integer<i64> = Integer {
    range: Range { lowest: Lowest::From(-Credits::MAX.get()), highest: Credits::MAX.get() },
    make: Some,
};

body! {
    /// Credits that are given.
    Gift {
        credits: Credits = CREDITS,
        reason: EntryReason = REASON,
    }
}

#[derive(Serialize, ToSchema)]
struct GiftGiven {
    success: bool,
    /// What the user can spend now.
    #[schema(schema_with = balance_schema)]
    credits: Credits,
    /// How much of it was given.
    #[schema(schema_with = balance_schema)]
    bonus: Credits,
}

/// Give credits
///
/// To a user who may be new. Given credits are spent before bought ones.
#[utoipa::path(
    post, path = "/api/billing/operator/users/{user_id}/grants", tag = "operator",
    security(("bearer" = [])),
    params(("user_id" = String, Path, description = "The user, percent-encoded.")),
    request_body(content = Gift, example = json!({"credits": 100, "reason": "sorry for yesterday"})),
    responses((status = 200, description = "They are given.", body = GiftGiven,
        example = json!({"success": true, "credits": 400, "bonus": 100}))),
)]
pub(in crate::api) async fn grant(
    State(service): Service,
    operator: Operator,
    NamedUser(user): NamedUser,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (Gift { credits, reason }, keyed) = key.of_operators().read::<Gift>(&json)?;
    if user.is_erased() {
        return Err(unknown_user());
    }
    let act = GiveCredits { credits, reason: reason.clone() };
    let applied = service.operate(operator.because(reason), &user, keyed, act).await?;
    Ok(answer(applied, |Given { credits, bonus }| GiftGiven { success: true, credits, bonus }))
}

body! {
    /// What is put right: credits, or tokens of a model.
    PutRight {
        credits_delta: Option<i64> = Maybe(DELTA),
        model_id: Option<ModelId> = Maybe(MODEL_ID),
        tokens_delta: Option<i64> = Maybe(DELTA),
        reason: EntryReason = REASON,
    }
}

impl PutRight {
    /// The one kind that it is about.
    fn adjustment(&self) -> Result<Adjustment, Problem> {
        let loc = |name: &'static str| vec![Step::from("body"), Step::from(name)];
        let delta = |value: i64, name| {
            let zero = || Problem::new("value_error", loc(name), "Value error, must not be 0");
            Delta::new(value).ok_or_else(zero)
        };
        let both = |name| {
            let text = "Value error, give credits_delta, or model_id and tokens_delta";
            Problem::new("value_error", loc(name), text)
        };
        match (self.credits_delta, &self.model_id, self.tokens_delta) {
            (Some(credits), None, None) => {
                Ok(Adjustment::Credits(delta(credits, "credits_delta")?))
            }
            (None, Some(model), Some(tokens)) => Ok(Adjustment::Tokens {
                model: model.clone(),
                delta: delta(tokens, "tokens_delta")?,
            }),
            (None, None, None) => Err(Problem::missing(loc("credits_delta"))),
            (None, None, Some(_)) => Err(Problem::missing(loc("model_id"))),
            (None, Some(_), None) => Err(Problem::missing(loc("tokens_delta"))),
            (Some(_), Some(_), _) => Err(both("model_id")),
            (Some(_), None, Some(_)) => Err(both("tokens_delta")),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct IsRight {
    success: bool,
    /// What the user has now.
    wallet: Wallet,
}

refusals!(UnknownUser, "Nobody has seen this user.", ["user_not_found"]);
refusals!(
    NotThere,
    "So much is not there, or it is held.",
    ["insufficient_credits", "model_not_priced", "no_token_balance", "insufficient_tokens"],
    with fields
);

/// Put a balance right
///
/// By so much, up or down; of credits, or of a model's tokens. Nothing goes below zero, nor below what is held. A
/// category may hold more than its limit then. Added credits count as bought; added tokens are worth no credits.
#[utoipa::path(
    post, path = "/api/billing/operator/users/{user_id}/adjustments", tag = "operator",
    security(("bearer" = [])),
    params(("user_id" = String, Path, description = "The user, percent-encoded.")),
    request_body(content = PutRight, example = json!({
        "model_id": "gemini-2.0-flash", "tokens_delta": -5000, "reason": "counted twice",
    })),
    responses(
        (status = 200, description = "It is right.", body = IsRight),
        UnknownUser,
        NotThere,
    ),
)]
pub(in crate::api) async fn adjust(
    State(service): Service,
    operator: Operator,
    NamedUser(user): NamedUser,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (body, keyed) = key.of_operators().read::<PutRight>(&json)?;
    let adjustment =
        body.adjustment().map_err(|problem| ApiError::Unprocessable(problem.into()))?;
    let act = Adjust { adjustment, reason: body.reason.clone() };
    let applied = service.operate(operator.because(body.reason), &user, keyed, act).await?;
    Ok(answer(applied, |wallet: domain::Wallet| IsRight { success: true, wallet: wallet.into() }))
}
