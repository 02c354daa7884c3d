//! The end of a user's data, for those who try the service out.

use axum::{extract::State, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    code::refusals,
    error::ApiError,
    idempotency::{RequestKey, answer},
    state::Service,
};
use crate::service::Caller;

/// A user's data is gone.
#[derive(Serialize, ToSchema)]
struct Erased {
    success: bool,
    #[schema(value_type = String)]
    message: &'static str,
}

refusals!(
    SwitchedOff,
    "It is switched off, or the account is frozen or another's.",
    ["forbidden", "account_frozen", "reset_disabled"]
);

/// Erase the user's data
///
/// Off unless `BILLING_ALLOW_RESET` is set. Needs no body. Prices stay.
#[utoipa::path(
    post, path = "/api/billing/reset", tag = "changes", security(("bearer" = [])),
    responses(
        (status = 200, description = "All is erased.", body = Erased,
            example = json!({"success": true, "message": "All data reset successfully"})),
        SwitchedOff,
    ),
)]
pub(super) async fn reset(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
) -> Result<Response, ApiError> {
    let applied = service.reset(caller, key.of_no_body()).await?;
    Ok(answer(applied, |()| Erased { success: true, message: "All data reset successfully" }))
}
