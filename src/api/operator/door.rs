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
    api::{
        description::{Parsed, Text},
        error::ApiError,
        problem::Step,
    },
    domain::{
        ByOperator, EntryReason, IdentifierError, MODEL_ID_MAX_CHARS, ModelId,
        PRODUCT_ID_MAX_CHARS, ProductId, Refusal, UserId,
    },
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
    let request_id = request_id.expect("every request gets an id before it is routed");
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

/// What the path names besides users: what can't be one is malformed.
#[derive(Debug)]
pub(super) struct InPath<T>(pub(super) T);

/// What a path may name.
pub(super) trait Named: Sized {
    /// How the document calls it.
    const NAME: &'static str;
    const MAX_CHARS: usize;

    fn named(text: String) -> Result<Self, IdentifierError>;
}

impl Named for ModelId {
    const NAME: &'static str = "model_id";
    const MAX_CHARS: usize = MODEL_ID_MAX_CHARS;

    fn named(text: String) -> Result<Self, IdentifierError> {
        Self::new(text)
    }
}

impl Named for ProductId {
    const NAME: &'static str = "product_id";
    const MAX_CHARS: usize = PRODUCT_ID_MAX_CHARS;

    fn named(text: String) -> Result<Self, IdentifierError> {
        Self::new(text)
    }
}

impl<S: Send + Sync, T: Named> FromRequestParts<S> for InPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = text.map_err(|_| ApiError::NotFound)?;
        let loc = || vec![Step::from("path"), Step::from(T::NAME)];
        let kind = Text { max_chars: T::MAX_CHARS, make: T::named };
        let named = kind.parse(text.into(), loc());
        named.map(Self).map_err(|problem| ApiError::Unprocessable(problem.into()))
    }
}

/// Nobody has seen that user.
pub(super) fn unknown_user() -> ApiError {
    ServiceError::from(LedgerError::Refused(Refusal::UserNotFound)).into()
}
