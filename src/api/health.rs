//! Whether the service works: what clients ask, and what an orchestrator asks, which are whether the process
//! answers and whether it may be sent requests.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    error::{ApiError, database_unavailable, retry_later},
    schemas,
    state::Service,
};
use crate::{http::Stopping, ledger::LedgerError};

/// The service works.
#[derive(Serialize, ToSchema)]
struct Health {
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

const OK: Json<Probe> = Json(Probe { status: "ok" });

/// Whether the service works
#[utoipa::path(
    get, path = "/api/billing/health", tag = "service",
    responses(
        (status = 200, description = "It does.", body = Health,
            example = json!({"status": "ok", "service": "billing"})),
        (status = 503, description = "The database does not answer.", body = schemas::Unhealthy,
            example = json!({
                "status": "unavailable", "service": "billing", "code": "database_unavailable",
                "detail": "The database is not available, please try again",
            })),
    ),
)]
pub(super) async fn health(State(service): Service) -> Response {
    if service.is_healthy().await {
        Json(Health { status: "ok", service: "billing" }).into_response()
    } else {
        let body = json!({
            "status": "unavailable", "service": "billing", "code": "database_unavailable",
            "detail": "The database is not available, please try again",
        });
        retry_later((StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response())
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
#[utoipa::path(
    get, path = "/readyz", tag = "service",
    responses(
        (status = 200, description = "They would.", body = Probe,
            example = json!({"status": "ok"})),
        (status = 503, description = "The database does not answer, or the service is stopping.",
            body = schemas::CodedError, example = json!({
                "detail": "The database is not available, please try again",
                "code": "database_unavailable",
            })),
    ),
)]
pub(super) async fn readyz(State(service): Service, State(stopping): State<Stopping>) -> Response {
    if stopping.has_begun() {
        return ApiError::Service(LedgerError::Stopping.into()).into_response();
    }
    if !service.is_healthy().await {
        return database_unavailable();
    }
    OK.into_response()
}
