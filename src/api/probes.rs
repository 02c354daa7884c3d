//! The questions an orchestrator asks: does the process answer, and may it be sent requests. What clients
//! of the API ask is `health`, in `routes`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    error::{ApiError, database_unavailable},
    schemas,
};
use crate::{http::Stopping, ledger::LedgerError, service::BillingService};

/// Whether the process answers
///
/// Nothing else is looked at: a restart heals no database.
#[utoipa::path(
    get, path = "/livez", tag = "service",
    responses((status = 200, description = "It does.", body = schemas::Probe,
        example = json!({"status": "ok"}))),
)]
pub(super) async fn livez() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Whether requests would be carried out
#[utoipa::path(
    get, path = "/readyz", tag = "service",
    responses(
        (status = 200, description = "They would.", body = schemas::Probe,
            example = json!({"status": "ok"})),
        (status = 503, description = "The database does not answer, or the service is stopping.",
            body = schemas::CodedError, example = json!({
                "detail": "The database is not available, please try again",
                "code": "database_unavailable",
            })),
    ),
)]
pub(super) async fn readyz(
    State(service): State<Arc<BillingService>>,
    State(stopping): State<Stopping>,
) -> Response {
    if stopping.has_begun() {
        return ApiError::Service(LedgerError::Stopping.into()).into_response();
    }
    if !service.is_healthy().await {
        return database_unavailable();
    }
    Json(json!({ "status": "ok" })).into_response()
}
