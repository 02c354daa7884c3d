//! Whether the books are as they must be: has them looked through, and tells how that stands.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{Request, StatusCode},
    response::Response,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{REASON, door::Operator, summary::time_if_any};
use crate::{
    api::{
        body::read_json,
        description::body,
        error::ApiError,
        idempotency::{RequestKey, answer},
        state::Service,
    },
    domain::EntryReason,
    service::Verification,
};

body! {
    /// Why the books are looked through.
    VerifyReason {
        reason: EntryReason = REASON,
    }
}

/// How it stands.
#[derive(Serialize, ToSchema)]
pub(super) struct VerificationTold {
    /// `never` since the service started, `running` or `done`.
    state: &'static str,
    /// Whether all was as it must be; null until it is done.
    ok: Option<bool>,
    #[serde(serialize_with = "time_if_any")]
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "time_if_any")]
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<DateTime<Utc>>,
    /// In words; of many the first hundred.
    differences: Vec<String>,
}

impl From<Verification> for VerificationTold {
    fn from(verification: Verification) -> Self {
        let never = Self {
            state: "never",
            ok: None,
            started_at: None,
            ended_at: None,
            differences: Vec::new(),
        };
        match verification {
            Verification::Never => never,
            Verification::Running { started_at } => {
                Self { state: "running", started_at: Some(started_at), ..never }
            }
            Verification::Done { started_at, ended_at, total, differences } => Self {
                state: "done",
                ok: Some(total == 0),
                started_at: Some(started_at),
                ended_at: Some(ended_at),
                differences,
            },
        }
    }
}

/// How it stands with the books
#[utoipa::path(
    get, path = "/api/billing/operator/verify", tag = "operator", security(("bearer" = [])),
    responses((status = 200, description = "How it stands.", body = VerificationTold)),
)]
pub(super) async fn verification(State(service): Service) -> Json<VerificationTold> {
    Json(service.verification().into())
}

/// Have the books looked through
///
/// Beside the service, once at a time: where it is under way, that one goes on.
#[utoipa::path(
    post, path = "/api/billing/operator/verify", tag = "operator", security(("bearer" = [])),
    request_body(content = VerifyReason, example = json!({"reason": "the end of the month"})),
    responses((status = 202, description = "It runs.", body = VerificationTold)),
)]
pub(super) async fn verify(
    State(service): Service,
    operator: Operator,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (VerifyReason { reason }, keyed) = key.of_operators().read::<VerifyReason>(&json)?;
    let applied = service.start_verification(operator.because(reason), keyed).await?;
    let told = VerificationTold::from(service.verification());
    let mut response = answer(applied, |()| told);
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}
