//! What an operator does to an account.

use axum::{body::Body, extract::State, http::Request, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Reasoned,
    door::{NamedUser, Operator},
};
use crate::{
    api::{
        body::read_json,
        code::refusals,
        error::ApiError,
        idempotency::{RequestKey, answer},
        state::Service,
    },
    domain::{Freeze, Unfreeze},
};

#[derive(Serialize, ToSchema)]
struct Frozen {
    success: bool,
    /// Whether nothing of the account may be spent or used.
    frozen: bool,
}

refusals!(UnknownUser, "Nobody has seen this user.", ["user_not_found"]);

/// Freeze an account
///
/// Nothing of it may be consumed, allocated, held or reset until it is unfrozen. All else goes on: reads, returns,
/// settlements, releases, reversals, and purchases that are paid.
#[utoipa::path(
    post, path = "/api/billing/operator/users/{user_id}/freeze", tag = "operator",
    security(("bearer" = [])),
    params(("user_id" = String, Path, description = "The user, percent-encoded.")),
    request_body(content = Reasoned, example = json!({"reason": "charged back twice"})),
    responses(
        (status = 200, description = "It is frozen.", body = Frozen,
            example = json!({"success": true, "frozen": true})),
        UnknownUser,
    ),
)]
pub(super) async fn freeze(
    State(service): Service,
    operator: Operator,
    NamedUser(user): NamedUser,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (Reasoned { reason }, keyed) = key.of_operators().read::<Reasoned>(&json)?;
    let applied = service.operate(operator.because(reason), &user, keyed, Freeze).await?;
    Ok(answer(applied, |frozen| Frozen { success: true, frozen }))
}

/// Unfreeze an account
#[utoipa::path(
    post, path = "/api/billing/operator/users/{user_id}/unfreeze", tag = "operator",
    security(("bearer" = [])),
    params(("user_id" = String, Path, description = "The user, percent-encoded.")),
    request_body(content = Reasoned, example = json!({"reason": "it was a mistake"})),
    responses(
        (status = 200, description = "It is not frozen.", body = Frozen,
            example = json!({"success": true, "frozen": false})),
        UnknownUser,
    ),
)]
pub(super) async fn unfreeze(
    State(service): Service,
    operator: Operator,
    NamedUser(user): NamedUser,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (Reasoned { reason }, keyed) = key.of_operators().read::<Reasoned>(&json)?;
    let applied = service.operate(operator.because(reason), &user, keyed, Unfreeze).await?;
    Ok(answer(applied, |frozen| Frozen { success: true, frozen }))
}
