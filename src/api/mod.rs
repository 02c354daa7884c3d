//! The API: the table of its routes. Each resource has a file, in which its requests are described and read,
//! the service is called, and the answer gets its shape.

mod accepted;
mod allocations;
mod balance;
mod body;
mod caller;
mod code;
mod consent;
mod consumptions;
mod csv;
mod description;
mod docs;
mod document;
mod error;
mod fields;
mod health;
mod holds;
mod idempotency;
mod json;
mod language;
mod ledger;
mod notifications;
mod operator;
mod pricing;
mod problem;
mod products;
mod purchases;
mod quote;
mod reset;
mod schemas;
mod state;
mod taking_back;
mod transactions;
mod usage;
mod wallet;

use std::sync::Arc;

use axum::{Router, middleware::from_fn_with_state};
use tower_http::compression::{CompressionLayer, predicate::SizeAbove};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use caller::ConsumeBy;
use consumptions::TRANSACTION;
use docs::Document;
use document::Outline;
use error::{ApiError, finishing, worded};
use idempotency::{IDEMPOTENCY_KEY, REPLAYED};
pub(crate) use language::Language;
use state::Api;

use crate::{
    http::{
        self, Admission, ApiHeaders, Authentication, BILLING_USER, RateLimit, Stopping, admit,
        admit_to_account,
    },
    service::{BillingService, Notifications},
};

/// History pages at least this long are compressed for clients that take gzip.
const COMPRESS_FROM_BYTES: u64 = 1_024;

/// The whole API, which speaks `language` to those who ask for none and lets `consume_by` use up tokens. What
/// `routes!` is not given is neither served nor documented, but for what the stores push, if they do.
pub(crate) fn api(
    service: BillingService,
    notifications: Option<Arc<Notifications>>,
    authentication: Arc<Authentication>,
    rate_limit: Option<RateLimit>,
    stopping: Stopping,
    language: Language,
    consume_by: ConsumeBy,
) -> http::Api {
    let admission = Arc::new(Admission::new(authentication, rate_limit, worded));
    http::Api {
        long_bodies: notifications::long_bodies(notifications.as_deref()),
        router: router(service, notifications, admission, stopping, consume_by),
        wording: worded,
        finish: finishing(language),
        headers: ApiHeaders {
            sent: &[IDEMPOTENCY_KEY, BILLING_USER, wallet::KNOWN_TAG],
            exposed: &[REPLAYED, TRANSACTION, wallet::TAG],
        },
    }
}

/// The paths it answers, as the router has them.
pub(crate) fn paths() -> Vec<String> {
    let documents = [
        account_routes().split_for_parts().1,
        price_routes().split_for_parts().1,
        unlimited_routes().split_for_parts().1,
        docs::routes().split_for_parts().1,
        operator::routes().split_for_parts().1,
    ];
    let documented = documents.into_iter().flat_map(|document| document.paths.paths.into_keys());
    documented.chain(notifications::paths()).collect()
}

fn router(
    service: BillingService,
    notifications: Option<Arc<Notifications>>,
    admission: Arc<Admission>,
    stopping: Stopping,
    consume_by: ConsumeBy,
) -> Router {
    let (mut accounts, mut document) = account_routes().split_for_parts();
    let (mut prices, about_prices) = price_routes().split_for_parts();
    document.merge(about_prices);
    document::add_rate_limit(&mut document);
    if admission.is_limited() {
        let admission = || Arc::clone(&admission);
        accounts = accounts.route_layer(from_fn_with_state(admission(), admit_to_account));
        prices = prices.route_layer(from_fn_with_state(admission(), admit));
    }
    let (probes, about_probes) = unlimited_routes().split_for_parts();
    let (docs, about_docs) = docs::routes().split_for_parts();
    document.merge(about_probes);
    document.merge(about_docs);
    let (operator, about_operator) = operator::routes().split_for_parts();
    let operator = operator
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(from_fn_with_state(Arc::clone(&admission), operator::door));
    let document = Document::new(document, about_operator, Arc::clone(&admission));
    let state = Api { service: Arc::new(service), admission, stopping, consume_by };
    accounts
        .merge(prices)
        .merge(probes)
        .merge(operator)
        .with_state(state)
        .merge(docs.with_state(document))
        .merge(notifications::routes(notifications))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
}

/// What reads or writes an account, and counts under the rate limit of its user.
fn account_routes() -> OpenApiRouter<Api> {
    let long_answers = CompressionLayer::new().compress_when(SizeAbove::new(COMPRESS_FROM_BYTES));
    OpenApiRouter::with_openapi(Outline::openapi())
        .routes(routes!(transactions::transactions))
        .routes(routes!(ledger::ledger))
        .routes(routes!(usage::usage))
        .layer(long_answers)
        .routes(routes!(balance::balance))
        .routes(routes!(balance::category_total))
        .routes(routes!(quote::quote))
        .routes(routes!(wallet::wallet))
        .routes(routes!(purchases::add_credits))
        .routes(routes!(allocations::allocate))
        .routes(routes!(consumptions::consume))
        .routes(routes!(taking_back::reverse))
        .routes(routes!(taking_back::return_tokens))
        .routes(routes!(holds::holds, holds::create))
        .routes(routes!(holds::hold))
        .routes(routes!(holds::settle))
        .routes(routes!(holds::release))
        .routes(routes!(consent::consent))
        .routes(routes!(reset::reset))
}

/// What is the same for everyone, and counts under the rate limit of whoever asks.
fn price_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(pricing::pricing)).routes(routes!(products::products))
}

/// What an orchestrator asks, which must not take a busy service for a dead one.
fn unlimited_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
}
