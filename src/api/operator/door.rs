//! Who may see any of it.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::super::error::ApiError;
use crate::http::Admission;

/// Lets operators through. For all others it is as if nothing were there.
pub(in crate::api) async fn only_operators(
    State(admission): State<Arc<Admission>>,
    request: Request,
    next: Next,
) -> Response {
    if admission.is_operator(request.headers()).await {
        next.run(request).await
    } else {
        ApiError::NotFound.into_response()
    }
}
