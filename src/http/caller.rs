//! Who is asking. Everyone is the same user while nobody has to log in.

use std::{convert::Infallible, sync::Arc};

use axum::{extract::FromRequestParts, http::request::Parts};

use crate::{domain::UserId, service::Caller};

/// The id of the request being answered; every request carries one in its extensions.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let request_id = parts.extensions.get::<RequestId>().map(|RequestId(id)| Arc::clone(id));
        Ok(Self { user: UserId::default_user(), request_id: request_id.unwrap_or_default() })
    }
}
