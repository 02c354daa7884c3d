//! What the person who runs the service may ask: below `/api/billing/operator`, and only there. To everybody else none
//! of it is there, which `door` sees to. A file a resource, as elsewhere.

mod accounts;
mod balances;
mod door;
mod ledger;
mod log;
mod prices;
mod products;
mod purchases;
mod reports;
mod summary;
mod users;
mod verification;

use axum::{
    Json,
    http::{HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    description::{Text, body},
    state::Api,
};
use crate::domain::{ENTRY_REASON_MAX_CHARS, EntryReason};

pub(super) use door::door;
pub(crate) use reports::{unused_balance_csv, unused_balance_json};

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
        .routes(routes!(accounts::erase))
        .routes(routes!(balances::grant))
        .routes(routes!(balances::adjust))
        .routes(routes!(prices::prices))
        .routes(routes!(prices::set, prices::remove))
        .routes(routes!(prices::history))
        .routes(routes!(products::products))
        .routes(routes!(products::set))
        .routes(routes!(purchases::purchases))
        .routes(routes!(purchases::purchase))
        .routes(routes!(purchases::approve))
        .routes(routes!(purchases::reject))
        .routes(routes!(purchases::retry))
        .routes(routes!(purchases::refund))
        .routes(routes!(ledger::ledger))
        .routes(routes!(log::log))
        .routes(routes!(summary::summary))
        .routes(routes!(users::users))
        .routes(routes!(users::user))
        .routes(routes!(reports::unused_balance))
        .routes(routes!(verification::verification, verification::verify))
}

body! {
    /// Why it is done.
    Reasoned {
        reason: EntryReason = REASON,
    }
}

/// It is done.
#[derive(Serialize, ToSchema)]
struct Done {
    success: bool,
}

/// A page of a list, with the way to the next one if it ended with an item of this id and more remain.
fn paged<T: Serialize>(
    body: &T,
    uri: &Uri,
    limit: u16,
    filters: &[(&str, &str)],
    last_of_more: Option<i64>,
) -> Response {
    let mut response = Json(body).into_response();
    if let Some(last) = last_of_more {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &limit.to_string());
        query.extend_pairs(filters);
        query.append_pair("before", &last.to_string());
        let link = format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish());
        let link = HeaderValue::try_from(link).expect("a path and a percent-encoded query");
        response.headers_mut().insert(header::LINK, link);
    }
    response
}
