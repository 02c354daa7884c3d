//! The API: the table of its routes. Each resource has a file, in which its requests are described and read,
//! the service is called, and the answer gets its shape.

mod allocations;
mod balance;
mod body;
mod caller;
mod code;
mod consumptions;
mod description;
mod docs;
mod document;
mod error;
mod fields;
mod health;
mod idempotency;
mod json;
mod language;
mod pricing;
mod problem;
mod products;
mod purchases;
mod quote;
mod reset;
mod schemas;
mod state;
mod transactions;

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state};
use tower_http::compression::{CompressionLayer, predicate::SizeAbove};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use docs::Document;
use document::Outline;
use error::{ApiError, finishing, worded};
use idempotency::{IDEMPOTENCY_KEY, REPLAYED};
pub(crate) use language::Language;
use state::Api;

use crate::{
    http::{self, Admission, ApiHeaders, Authentication, RateLimit, Stopping, admit},
    service::BillingService,
};

/// History pages at least this long are compressed for clients that take gzip.
const COMPRESS_FROM_BYTES: u64 = 1_024;

/// The whole API, which speaks `language` to those who ask for none. What `routes!` is not given is neither served nor documented.
pub(crate) fn api(
    service: BillingService,
    authentication: Authentication,
    rate_limit: Option<RateLimit>,
    stopping: Stopping,
    language: Language,
) -> http::Api {
    let admission = Arc::new(Admission::new(authentication, rate_limit, worded));
    http::Api {
        router: router(service, admission, stopping),
        wording: worded,
        finish: finishing(language),
        headers: ApiHeaders { sent: &[IDEMPOTENCY_KEY], exposed: &[REPLAYED] },
    }
}

/// The paths it answers, as the router has them.
pub(crate) fn paths() -> Vec<String> {
    let documents = [
        limited_routes().split_for_parts().1,
        unlimited_routes().split_for_parts().1,
        docs::routes().split_for_parts().1,
    ];
    documents.into_iter().flat_map(|document| document.paths.paths.into_keys()).collect()
}

fn router(service: BillingService, admission: Arc<Admission>, stopping: Stopping) -> Router {
    let (mut api, mut document) = limited_routes().split_for_parts();
    document::add_rate_limit(&mut document);
    if admission.is_limited() {
        api = api.route_layer(from_fn_with_state(Arc::clone(&admission), admit));
    }
    let (probes, about_probes) = unlimited_routes().split_for_parts();
    let (docs, about_docs) = docs::routes().split_for_parts();
    document.merge(about_probes);
    document.merge(about_docs);
    let document = Document(document::finished(document, admission.authentication()));
    let state = Api { service: Arc::new(service), admission, stopping };
    api.merge(probes)
        .with_state(state)
        .merge(docs.with_state(document))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
}

/// What counts under the rate limit: all that reads or writes an account, or the prices.
fn limited_routes() -> OpenApiRouter<Api> {
    let long_answers = CompressionLayer::new().compress_when(SizeAbove::new(COMPRESS_FROM_BYTES));
    OpenApiRouter::with_openapi(Outline::openapi())
        .routes(routes!(transactions::transactions))
        .layer(long_answers)
        .routes(routes!(balance::balance))
        .routes(routes!(balance::category_total))
        .routes(routes!(quote::quote))
        .routes(routes!(pricing::pricing))
        .routes(routes!(products::products))
        .routes(routes!(purchases::add_credits))
        .routes(routes!(allocations::allocate))
        .routes(routes!(consumptions::consume))
        .routes(routes!(reset::reset))
}

/// What an orchestrator asks, which must not take a busy service for a dead one.
fn unlimited_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
}
