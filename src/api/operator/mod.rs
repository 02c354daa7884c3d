//! What the person who runs the service may ask: below `/api/billing/operator`, and only there. To everybody else none
//! of it is there, which `door` sees to. A file a resource, as elsewhere.

mod accounts;
mod door;
mod log;

use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{description::Text, state::Api};
use crate::domain::{ENTRY_REASON_MAX_CHARS, EntryReason};

pub(super) use door::door;

/// What all its paths begin with.
pub(super) const PREFIX: &str = "/api/billing/operator/";

/// Why something is done, in the operator's own words.
const REASON: Text<EntryReason> =
    Text { max_chars: ENTRY_REASON_MAX_CHARS, make: |text| EntryReason::new(text) };

#[derive(OpenApi)]
#[openapi(tags((name = "operator", description = "For whoever runs the service; to others it is not there")))]
struct Outline;

/// All that operators may ask, without the door.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Outline::openapi())
        .routes(routes!(accounts::freeze))
        .routes(routes!(accounts::unfreeze))
        .routes(routes!(log::log))
}
