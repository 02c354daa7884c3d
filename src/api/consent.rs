//! Whether a user lets Apple be told how much of a purchase was used.

use axum::{body::Body, extract::State, http::Request, response::Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    body::read_json,
    description::{Flag, body},
    error::ApiError,
    idempotency::{RequestKey, answer},
    state::Service,
};
use crate::service::Caller;

body! {
    /// Whether Apple may be told how much of a purchase was used, when it asks before giving the money back.
    Consent {
        apple_consumption: bool = Flag,
    }
}

#[derive(Serialize, ToSchema)]
struct Noted {
    success: bool,
}

/// Let Apple be told how much of a purchase was used, or not
#[utoipa::path(
    post, path = "/api/billing/consent", tag = "changes", security(("bearer" = [])),
    request_body(content = Consent, example = json!({"apple_consumption": true})),
    responses((
        status = 200, description = "It is noted.", body = Noted,
        example = json!({"success": true}),
    )),
)]
pub(super) async fn consent(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (body, keyed) = key.read::<Consent>(&json)?;
    let applied = service.consent(caller, keyed, body.apple_consumption).await?;
    Ok(answer(applied, |()| Noted { success: true }))
}
