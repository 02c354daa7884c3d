//! Who is asking: the extractor that every endpoint with an account of its own begins with, before
//! anything is read or written, and those of the endpoints that not everybody may call.

use std::sync::Arc;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
    response::{IntoResponse, Response},
};

use super::{
    error::ApiError,
    problem::{Problem, Step},
};
use crate::{
    domain::{IdentifierError, Role, USER_ID_MAX_CHARS},
    http::{Admission, Admitted, BILLING_USER, NoName, Refusal, RequestId},
    service::Caller,
};

/// The least that a caller must be to use up tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConsumeBy(pub(crate) Role);

/// A caller who may use up tokens, or hold them: what such an endpoint begins with instead of [`Caller`].
pub(super) struct Consumer(pub(super) Caller);

impl<S> FromRequestParts<S> for Caller
where
    Arc<Admission>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let admission = Arc::<Admission>::from_ref(state);
        let Admitted { user, role, actor } = admission
            .admitted(&parts.headers, &mut parts.extensions)
            .await
            .map_err(|reason| ApiError::from(reason).into_response())?;
        if user.is_erased() && !parts.method.is_safe() {
            // Operators look at it, and that is all.
            return Err(ApiError::from(Refusal::UserUnnamed(NoName::Erased)).into_response());
        }
        let request_id = parts.extensions.get::<RequestId>().map(|RequestId(id)| Arc::clone(id));
        Ok(Self { user, role, actor, request_id: request_id.unwrap_or_default() })
    }
}

impl<S> FromRequestParts<S> for Consumer
where
    Arc<Admission>: FromRef<S>,
    ConsumeBy: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let ConsumeBy(least) = ConsumeBy::from_ref(state);
        let caller = Caller::from_request_parts(parts, state).await?;
        at_least(least, caller).map(Self).map_err(IntoResponse::into_response)
    }
}

/// The caller, if it is this or more.
pub(super) fn at_least(least: Role, caller: Caller) -> Result<Caller, ApiError> {
    if caller.role >= least { Ok(caller) } else { Err(Refusal::Forbidden.into()) }
}

/// What is wrong with the header that names a user.
impl From<NoName> for Problem {
    fn from(reason: NoName) -> Self {
        let loc = vec![Step::from("header"), Step::from(BILLING_USER)];
        match reason {
            NoName::Missing => Self::missing(loc),
            NoName::Repeated => Self::repeated_header(loc),
            NoName::Malformed => Self::not_percent_encoded(loc),
            NoName::Erased => {
                let text = "Value error, must not be the name of an account that was erased";
                Self::new("value_error", loc, text)
            }
            NoName::Name(IdentifierError::Empty) => Self::string_too_short(loc),
            NoName::Name(IdentifierError::TooLong { .. }) => {
                Self::string_too_long(loc, USER_ID_MAX_CHARS)
            }
            NoName::Name(IdentifierError::ControlCharacter) => Self::control_character(loc),
        }
    }
}
