//! What the person who runs the service sees, a file a resource. To all others these paths are not there.

mod door;
mod reports;
mod summary;
mod users;
mod verification;

use utoipa_axum::{router::OpenApiRouter, routes};

use super::state::Api;

pub(super) use door::only_operators;
pub(crate) use reports::{unused_balance_csv, unused_balance_json};

/// What an operator reads. Who may is decided before.
pub(super) fn reads() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(summary::summary))
        .routes(routes!(users::users))
        .routes(routes!(users::user))
        .routes(routes!(reports::unused_balance))
        .routes(routes!(verification::verification, verification::verify))
}
