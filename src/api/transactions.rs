//! What happened to an account: the history, in pages, newest first.

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{
        RefOr,
        schema::{OneOfBuilder, Schema},
    },
};

use super::{
    allocations::MODEL_ID,
    description::{Integer, OneOf, Parsed, integer, null, query},
    error::ApiError,
    problem::{Lowest, Range},
    schemas::{ValidationError, balance as balance_schema},
    state::Service,
};
use crate::{
    domain::{EntryKind, HistoryFilter, ModelId, Transaction},
    service::Caller,
};

pub(super) const DEFAULT_LIMIT: u16 = 100;
pub(super) const LIMIT: Integer<u16> = Integer {
    range: Range { lowest: Lowest::From(1), highest: 1_000 },
    make: |limit| u16::try_from(limit).ok(),
};
pub(super) const TRANSACTION_ID: Integer<i64> =
    Integer { range: Range { lowest: Lowest::From(1), highest: i64::MAX }, make: Some };
const KIND: OneOf<EntryKind> = OneOf {
    all: &EntryKind::ALL,
    name: EntryKind::name,
    otherwise: "Input should be 'purchase', 'allocation', 'consumption', 'refund', 'reversal', 'return', \
                'grant' or 'adjustment'",
};

query! {
    /// Filters of the history.
    HistoryQuery {
        limit: u16 = LIMIT, or DEFAULT_LIMIT;
        before: i64 = TRANSACTION_ID;
        kind("type"): EntryKind = KIND;
        model_id: ModelId = MODEL_ID;
    }
}

impl From<HistoryQuery> for HistoryFilter {
    fn from(query: HistoryQuery) -> Self {
        let HistoryQuery { limit, before, kind, model_id } = query;
        Self { limit: limit.unwrap_or(DEFAULT_LIMIT), before, kind, model: model_id }
    }
}

/// The query that leads to the page after one that ended with `last_id`.
pub(super) fn next_page(filter: &HistoryFilter, last_id: i64) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &filter.limit.to_string());
    if let Some(kind) = filter.kind {
        query.append_pair("type", kind.name());
    }
    if let Some(model) = &filter.model {
        query.append_pair("model_id", model.as_str());
    }
    query.append_pair("before", &last_id.to_string());
    query.finish()
}

pub(super) fn transaction_id_schema() -> RefOr<Schema> {
    integer(TRANSACTION_ID.range).into()
}

pub(super) fn kind_schema() -> RefOr<Schema> {
    KIND.parameter_schema()
}

/// A model, or none.
pub(super) fn optional_model_id_schema() -> Schema {
    OneOfBuilder::new().item(null()).item(MODEL_ID.parameter_schema()).into()
}

#[derive(Serialize, ToSchema)]
struct HistoryLine {
    #[schema(schema_with = transaction_id_schema)]
    id: i64,
    #[serde(rename = "type")]
    #[schema(schema_with = kind_schema)]
    kind: &'static str,
    /// Credits of a purchase or an allocation, tokens of a consumption.
    #[schema(schema_with = balance_schema)]
    amount: i64,
    #[schema(schema_with = optional_model_id_schema)]
    model_id: Option<String>,
    /// In UTC, with microseconds.
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<Transaction> for HistoryLine {
    fn from(transaction: Transaction) -> Self {
        Self {
            id: transaction.id,
            kind: transaction.kind.name(),
            amount: transaction.amount,
            model_id: transaction.model,
            created_at: transaction.created_at,
        }
    }
}

/// What happened, newest first
#[utoipa::path(
    get, path = "/api/billing/transactions", tag = "account", security(("bearer" = [])),
    params(HistoryQuery),
    responses(
        (status = 200, description = "A page of the history.", body = Vec<HistoryLine>,
            headers(("Link" = String, description = "`<…>; rel=\"next\"` when older ones remain")),
            example = json!([
                {"id": 3, "type": "consumption", "amount": 7000, "model_id": "gemini-2.0-flash", "created_at": "2026-11-24T10:34:59.299996Z"},
                {"id": 2, "type": "allocation", "amount": 150, "model_id": "gemini-2.0-flash", "created_at": "2026-11-24T10:34:59.285945Z"},
                {"id": 1, "type": "purchase", "amount": 300, "model_id": null, "created_at": "2026-11-24T10:34:59.234600Z"},
            ])),
        (status = 422, description = "Malformed. Every problem is listed.",
            body = ValidationError, example = json!({"detail": [{
                "type": "greater_than_equal", "loc": ["query", "limit"],
                "msg": "Input should be greater than or equal to 1",
            }]})),
    ),
)]
pub(super) async fn transactions(
    State(service): Service,
    caller: Caller,
    uri: Uri,
) -> Result<Response, ApiError> {
    let filter = HistoryFilter::from(HistoryQuery::read(uri.query().unwrap_or_default())?);
    let page = service.history(&caller.user, &filter).await?;
    let next = page
        .transactions
        .last()
        .filter(|_| page.more)
        .map(|last| format!("<{}?{}>; rel=\"next\"", uri.path(), next_page(&filter, last.id)));
    let lines: Vec<HistoryLine> = page.transactions.into_iter().map(HistoryLine::from).collect();
    let mut response = Json(lines).into_response();
    if let Some(next) = next {
        let next = HeaderValue::try_from(next).expect("a path and a percent-encoded query");
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}
