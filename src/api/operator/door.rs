//! The door to what operators may ask. Whoever is none gets the very answer of a path that is not there, before
//! anything of the request is looked at but its token; nothing is counted, kept or written down under the path.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Path, Request, State},
    http::request::Parts,
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{
    api::error::ApiError,
    domain::{ByOperator, EntryReason, Refusal, UserId},
    http::{Admission, AsIfUnknown, RequestId},
    ledger::LedgerError,
    service::ServiceError,
};

/// An operator who was let in: what every endpoint behind the door begins with.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    name: Arc<str>,
    request_id: Arc<str>,
}

impl Operator {
    /// The operator as somebody who has a reason.
    pub(super) fn because(self, reason: EntryReason) -> ByOperator {
        ByOperator { operator: self.name, reason, request_id: self.request_id }
    }
}

/// Lets operators through, and tells the others that there is nothing.
pub(in crate::api) async fn door(
    State(admission): State<Arc<Admission>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(name) = admission.operator(request.headers(), request.extensions()).await else {
        let mut response = ApiError::NotFound.into_response();
        response.extensions_mut().insert(AsIfUnknown);
        return response;
    };
    let request_id = request.extensions().get::<RequestId>().map(|RequestId(id)| Arc::clone(id));
    let request_id = request_id.unwrap_or_default();
    request.extensions_mut().insert(Operator { name, request_id });
    next.run(request).await
}

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.remove().ok_or(ApiError::NotFound)
    }
}

/// The user whom the path names. What no user can be called is an unknown user.
#[derive(Debug)]
pub(super) struct NamedUser(pub(super) UserId);

impl<S: Send + Sync> FromRequestParts<S> for NamedUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let name = Path::<String>::from_request_parts(parts, state).await;
        let user = name.ok().and_then(|Path(name)| UserId::new(name).ok());
        user.map(Self).ok_or_else(unknown_user)
    }
}

/// Nobody has seen that user.
pub(super) fn unknown_user() -> ApiError {
    ServiceError::from(LedgerError::Refused(Refusal::UserNotFound)).into()
}
