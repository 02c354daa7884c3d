//! What an operator does to an account.

use axum::{
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    REASON, Reasoned,
    door::{NamedUser, Operator, unknown_user},
};
use crate::{
    api::{
        body::read_json,
        code::refusals,
        description::{Flag, Maybe, body},
        error::ApiError,
        idempotency::{RequestKey, answer},
        state::Service,
    },
    domain::{EntryReason, Freeze, Unfreeze, UserId},
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

body! {
    /// Why it is done, and whether what was paid for is given up.
    Erasing {
        reason: EntryReason = REASON,
        forfeit: Option<bool> = Maybe(Flag),
    }
}

#[derive(Serialize, ToSchema)]
struct BeingErased {
    success: bool,
    /// What the user is called from now on.
    #[schema(value_type = String)]
    user_id: UserId,
}

refusals!(
    PaidBalance,
    "Paid credits are left, or unused tokens that are worth some, and nobody said that they are given up.",
    ["paid_balance_remains"],
    with fields
);

/// Erase an account
///
/// The user gets another name, what the purchases tell of a person is emptied, idempotency keys are deleted, holds are
/// released, and what is left in the account is taken to zero. That takes a while for a large account; until it is done
/// all that would write to the account is 503 `account_erasing`, and reads show an empty one. Then the old name is free
/// for a new account, which begins empty. What was granted once is never granted again, to nobody.
#[utoipa::path(
    post, path = "/api/billing/operator/users/{user_id}/erase", tag = "operator",
    security(("bearer" = [])),
    params(("user_id" = String, Path, description = "The user, percent-encoded.")),
    request_body(content = Erasing, example = json!({"reason": "asked for it by mail", "forfeit": true})),
    responses(
        (status = 202, description = "It is being erased.", body = BeingErased,
            example = json!({"success": true, "user_id": "erased:5d0cbd1ee41a4c2e8e2f8d3c8e7a9b10"})),
        PaidBalance,
        UnknownUser,
    ),
)]
pub(super) async fn erase(
    State(service): Service,
    operator: Operator,
    NamedUser(user): NamedUser,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (Erasing { reason, forfeit }, keyed) = key.of_operators().read::<Erasing>(&json)?;
    if user.is_erased() {
        return Err(unknown_user());
    }
    let by = operator.because(reason);
    let applied = service.erase(by, &user, keyed, forfeit.unwrap_or(false)).await?;
    let mut response = answer(applied, |user_id| BeingErased { success: true, user_id });
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}
