//! What happened last, whoever's account it was: the lines of all ledgers in one list.

use axum::{extract::State, http::Uri, response::Response};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use super::{super::ledger::LedgerItem, paged};
use crate::{
    api::{
        description::query,
        error::ApiError,
        schemas::ValidationError,
        state::Service,
        transactions::{DEFAULT_LIMIT, LIMIT, TRANSACTION_ID},
    },
    domain::{LedgerEnd, LedgerLine},
};

query! {
    /// Which lines.
    NewestQuery {
        limit: u16 = LIMIT, or DEFAULT_LIMIT;
        before: i64 = TRANSACTION_ID;
    }
}

/// A line of somebody's ledger.
#[derive(Serialize, ToSchema)]
struct NewestLine<'a> {
    user_id: &'a str,
    #[serde(flatten)]
    line: LedgerItem<'a>,
}

#[derive(Serialize, ToSchema)]
struct Newest {
    #[schema(value_type = Vec<NewestLine>)]
    items: Vec<Box<RawValue>>,
}

/// What happened last, newest first
///
/// The lines of all ledgers.
#[utoipa::path(
    get, path = "/api/billing/operator/ledger", tag = "operator", security(("bearer" = [])),
    params(NewestQuery),
    responses(
        (status = 200, description = "A page of the lines.", body = Newest,
            headers(("Link" = String, description = "`<…>; rel=\"next\"` when older ones remain"))),
        (status = 422, description = "Malformed. Every problem is listed.", body = ValidationError),
    ),
)]
pub(super) async fn ledger(State(service): Service, uri: Uri) -> Result<Response, ApiError> {
    let NewestQuery { limit, before } = NewestQuery::read(uri.query().unwrap_or_default())?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    let mut items = Vec::new();
    let mut written = Ok(());
    let mut take = |user_id: &str, line: &LedgerLine<'_>| match to_raw_value(&NewestLine {
        user_id,
        line: line.into(),
    }) {
        Ok(line) => items.push(line),
        Err(error) => written = Err(error),
    };
    let LedgerEnd { last, more } = service.newest_lines(limit, before, &mut take).await?;
    written.map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(paged(&Newest { items }, &uri, limit, &[], last.filter(|_| more)))
}
