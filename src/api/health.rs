//! Whether the service works: what clients ask, and what an orchestrator asks, which are whether the process
//! answers and whether it may be sent requests.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{code::refusals, error::ApiError, state::Service};
use crate::{
    http::{self, Admission, Stopping},
    ledger::LedgerError,
    service::ServiceError,
};

/// The service works.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(value_type = String)]
    status: &'static str,
    #[schema(value_type = String)]
    service: &'static str,
}

/// What a probe is answered.
#[derive(Serialize, ToSchema)]
pub(super) struct Probe {
    #[schema(value_type = String)]
    status: &'static str,
}

refusals!(Unhealthy, "The database does not answer.", ["database_unavailable"], with fields);
refusals!(
    NotReady,
    "The database takes no writes, tokens can't be judged, or the service is stopping.",
    ["database_unavailable", "login_unavailable", "shutting_down"]
);

const OK: Json<Probe> = Json(Probe { status: "ok" });

/// Whether the service works
#[utoipa::path(
    get, path = "/api/billing/health", tag = "service",
    responses(
        (status = 200, description = "It does.", body = Health,
            example = json!({"status": "ok", "service": "billing"})),
        Unhealthy,
    ),
)]
pub(super) async fn health(State(service): Service) -> Result<Json<Health>, ApiError> {
    if service.is_healthy().await {
        Ok(Json(Health { status: "ok", service: "billing" }))
    } else {
        Err(ApiError::Unhealthy)
    }
}

/// Whether the process answers
///
/// Nothing else is looked at: a restart heals no database.
#[utoipa::path(
    get, path = "/livez", tag = "service",
    responses((status = 200, description = "It does.", body = Probe,
        example = json!({"status": "ok"}))),
)]
pub(super) async fn livez() -> Json<Probe> {
    OK
}

/// Whether requests would be carried out
///
/// Where nobody wrote lately, it is tried.
#[utoipa::path(
    get, path = "/readyz", tag = "service",
    responses(
        (status = 200, description = "They would.", body = Probe,
            example = json!({"status": "ok"})),
        NotReady,
    ),
)]
pub(super) async fn readyz(
    State(service): Service,
    State(stopping): State<Stopping>,
    State(admission): State<Arc<Admission>>,
) -> Result<Json<Probe>, ApiError> {
    if stopping.has_begun() {
        return Err(ServiceError::from(LedgerError::Stopping).into());
    }
    if !service.is_ready().await {
        return Err(ApiError::DatabaseUnavailable);
    }
    if !admission.authentication().can_judge().await {
        return Err(http::Refusal::LoginUnavailable.into());
    }
    Ok(OK)
}
