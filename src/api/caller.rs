//! Who is asking: the extractor that every endpoint with an account of its own begins with, before
//! anything is read or written.

use std::sync::Arc;

use axum::{
    extract::{FromRef, FromRequestParts},
    http::request::Parts,
    response::{IntoResponse, Response},
};

use super::error::ApiError;
use crate::{
    http::{Admission, Refusal, RequestId},
    service::Caller,
};

impl<S> FromRequestParts<S> for Caller
where
    Arc<Admission>: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let admission = Arc::<Admission>::from_ref(state);
        let user = admission
            .user(&parts.headers, &mut parts.extensions)
            .await
            .map_err(|reason| ApiError::from(Refusal::from(reason)).into_response())?;
        let request_id = parts.extensions.get::<RequestId>().map(|RequestId(id)| Arc::clone(id));
        Ok(Self { user, request_id: request_id.unwrap_or_default() })
    }
}
