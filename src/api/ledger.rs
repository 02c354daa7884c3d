//! The whole book of an account: pages as JSON, or all of it as CSV.

use std::{io, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::schema::{OneOfBuilder, Schema},
};

use super::{
    accepted::wants_csv,
    csv,
    description::{integer, null, one_of},
    error::ApiError,
    problem::{Lowest, Range},
    schemas::{ValidationError, balance as balance_schema},
    state::Service,
    transactions::{
        HistoryQuery, TRANSACTION_ID, kind_schema, next_page, optional_model_id_schema,
        transaction_id_schema,
    },
};
use crate::{
    domain::{Actor, Credits, HistoryFilter, LedgerEnd, LedgerLine},
    service::{BillingService, Caller, ServiceError},
};

/// Lines of a download that are read at once: each time shortly, and so few that memory stays flat.
const LINES_AT_ONCE: u16 = 4_096;
/// Room for a line of CSV, in bytes; most take less.
const CSV_LINE_BYTES: usize = 160;

const CSV: &str = "text/csv; charset=utf-8";

/// A change of an amount.
const DELTA: Range =
    Range { lowest: Lowest::From(-Credits::MAX.get()), highest: Credits::MAX.get() };

fn delta_schema() -> Schema {
    integer(DELTA).into()
}

pub(super) fn optional_amount_schema() -> Schema {
    OneOfBuilder::new().item(null()).item(balance_schema()).into()
}

fn optional_id_schema() -> Schema {
    OneOfBuilder::new().item(null()).item(integer(TRANSACTION_ID.range)).into()
}

fn actor_schema() -> Schema {
    OneOfBuilder::new()
        .item(null())
        .item(one_of([Actor::Backend, Actor::Operator, Actor::Store].map(Actor::name)))
        .into()
}

#[derive(Serialize, ToSchema)]
pub(super) struct LedgerItem<'a> {
    #[schema(schema_with = transaction_id_schema)]
    id: i64,
    #[serde(rename = "type")]
    #[schema(schema_with = kind_schema)]
    kind: &'static str,
    /// Tokens of a consumption and its reversal, of an adjustment whichever it changes, else credits.
    #[schema(schema_with = balance_schema)]
    amount: i64,
    #[schema(schema_with = delta_schema)]
    credits_delta: i64,
    /// How much of the change of credits had been given, not bought.
    #[schema(schema_with = delta_schema)]
    bonus_delta: i64,
    #[schema(schema_with = delta_schema)]
    tokens_delta: i64,
    #[schema(schema_with = optional_model_id_schema)]
    model_id: Option<&'a str>,
    /// Credits per million tokens at that moment.
    #[schema(schema_with = optional_amount_schema)]
    price_per_m_token: Option<i64>,
    #[schema(schema_with = optional_amount_schema)]
    input_tokens: Option<i64>,
    #[schema(schema_with = optional_amount_schema)]
    output_tokens: Option<i64>,
    /// What was used beyond what could be taken.
    #[schema(schema_with = optional_amount_schema)]
    shortfall_tokens: Option<i64>,
    /// The app store's id of a purchase.
    store_transaction_id: Option<&'a str>,
    /// The transaction that is taken back.
    #[schema(schema_with = optional_id_schema)]
    reverses: Option<i64>,
    /// The allocation whose tokens go back.
    #[schema(schema_with = optional_id_schema)]
    allocation_id: Option<i64>,
    /// The hold that a consumption settles.
    hold_id: Option<&'a str>,
    reason: Option<&'a str>,
    /// Who made it; null is the user.
    #[schema(schema_with = actor_schema)]
    actor: Option<&'a str>,
    /// In UTC, with microseconds.
    #[schema(format = DateTime)]
    created_at: &'a str,
}

impl<'a> From<&LedgerLine<'a>> for LedgerItem<'a> {
    fn from(line: &LedgerLine<'a>) -> Self {
        Self {
            id: line.id,
            kind: line.kind.name(),
            amount: line.amount,
            credits_delta: line.credits_delta,
            bonus_delta: line.bonus_delta,
            tokens_delta: line.tokens_delta,
            model_id: line.model_id,
            price_per_m_token: line.price_per_m_token,
            input_tokens: line.input_tokens,
            output_tokens: line.output_tokens,
            shortfall_tokens: line.shortfall_tokens,
            store_transaction_id: line.store_transaction_id,
            reverses: line.reverses,
            allocation_id: line.allocation_id,
            hold_id: line.hold_id,
            reason: line.reason,
            actor: line.actor,
            created_at: line.created_at,
        }
    }
}

/// A page of the ledger.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is written line by line")]
struct Ledger<'a> {
    items: Vec<LedgerItem<'a>>,
}

/// All that happened, newest first
///
/// Each transaction with all that there is to tell of it; together they come to what the account has. With
/// `Accept: text/csv` every line that matches, in one answer, without pages; a download that is cut off ends without
/// the end of its last chunk.
#[utoipa::path(
    get, path = "/api/billing/ledger", tag = "account", security(("bearer" = [])),
    params(HistoryQuery),
    responses(
        (status = 200, description = "A page of the ledger, or all of it as CSV.",
            headers(("Link" = String, description = "`<…>; rel=\"next\"` when older ones remain")),
            content(
                (Ledger = "application/json", example = json!({"items": [{
                    "id": 4, "type": "reversal", "amount": 2000, "credits_delta": 0, "bonus_delta": 0,
                    "tokens_delta": 2000, "model_id": "gemini-2.0-flash", "price_per_m_token": null,
                    "input_tokens": null, "output_tokens": null, "shortfall_tokens": null,
                    "store_transaction_id": null, "reverses": 3, "allocation_id": null,
                    "hold_id": null, "reason": "the answer broke off", "actor": "backend",
                    "created_at": "2026-11-24T10:35:02.105316Z",
                }]})),
                (String = "text/csv"),
            )),
        (status = 422, description = "Malformed. Every problem is listed.",
            body = ValidationError, example = json!({"detail": [{
                "type": "greater_than_equal", "loc": ["query", "limit"],
                "msg": "Input should be greater than or equal to 1",
            }]})),
    ),
)]
pub(super) async fn ledger(
    State(service): Service,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, ApiError> {
    let filter = HistoryFilter::from(HistoryQuery::read(uri.query().unwrap_or_default())?);
    let mut response = if wants_csv(&headers) {
        download(service, caller, filter).await?
    } else {
        page(&service, &caller, &filter, &uri).await?
    };
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

async fn page(
    service: &BillingService,
    caller: &Caller,
    filter: &HistoryFilter,
    uri: &Uri,
) -> Result<Response, ApiError> {
    let mut body = b"{\"items\":[".to_vec();
    let mut is_first = true;
    let mut written = Ok(());
    let mut take = |line: &LedgerLine<'_>| {
        if !std::mem::take(&mut is_first) {
            body.push(b',');
        }
        if written.is_ok() {
            written = serde_json::to_writer(&mut body, &LedgerItem::from(line));
        }
    };
    let LedgerEnd { last, more } = service.ledger(&caller.user, filter, &mut take).await?;
    written.map_err(|error| ApiError::Internal(error.to_string()))?;
    body.extend_from_slice(b"]}");
    let json = HeaderValue::from_static("application/json");
    let mut response = ([(header::CONTENT_TYPE, json)], body).into_response();
    if let Some(last) = last.filter(|_| more) {
        let link = format!("<{}?{}>; rel=\"next\"", uri.path(), next_page(filter, last));
        let link =
            HeaderValue::try_from(link).map_err(|error| ApiError::Internal(error.to_string()))?;
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// A download on its way.
struct Download {
    service: Arc<BillingService>,
    caller: Caller,
    filter: HistoryFilter,
    /// The id of the first line.
    first: Option<i64>,
    more: bool,
}

/// Why a download ends before its time.
#[derive(Debug, thiserror::Error)]
enum CutOff {
    #[error(transparent)]
    Unread(#[from] ServiceError),
    #[error("the account was reset meanwhile")]
    Reset,
}

impl Download {
    /// Appends the next lines.
    async fn read(&mut self, csv: &mut Vec<u8>) -> Result<(), ServiceError> {
        let first = &mut self.first;
        let mut take = |line: &LedgerLine<'_>| {
            first.get_or_insert(line.id);
            csv::append(line, csv);
        };
        let user = &self.caller.user;
        let LedgerEnd { last, more } = self.service.ledger(user, &self.filter, &mut take).await?;
        self.filter.before = last;
        self.more = more;
        Ok(())
    }

    /// The same of a read after which others were. Only a reset takes lines away, and then all of them: as long as the
    /// first is there, so are those that come after it.
    async fn go_on(&mut self, csv: &mut Vec<u8>) -> Result<(), CutOff> {
        self.read(csv).await?;
        if self.more {
            return Ok(());
        }
        let before = self.first.map(|first| first.saturating_add(1));
        let filter = HistoryFilter { before, limit: 1, ..self.filter.clone() };
        let mut found = None;
        let mut take = |line: &LedgerLine<'_>| found = Some(line.id);
        self.service.ledger(&self.caller.user, &filter, &mut take).await?;
        if found == self.first { Ok(()) } else { Err(CutOff::Reset) }
    }

    fn room() -> Vec<u8> {
        Vec::with_capacity(usize::from(LINES_AT_ONCE).saturating_mul(CSV_LINE_BYTES))
    }
}

/// All lines that match. The first ones are read before anything is sent, so that an error can still be told.
async fn download(
    service: Arc<BillingService>,
    caller: Caller,
    filter: HistoryFilter,
) -> Result<Response, ApiError> {
    let filter = HistoryFilter { limit: LINES_AT_ONCE, ..filter };
    let mut download = Download { service, caller, filter, first: None, more: true };
    let mut first = Download::room();
    first.extend_from_slice(csv::HEADER);
    download.read(&mut first).await?;
    let chunks = stream::try_unfold((Some(first), download), |(first, mut download)| async move {
        if let Some(first) = first {
            return Ok(Some((first, (None, download))));
        }
        if !download.more {
            return Ok(None);
        }
        let mut chunk = Download::room();
        match download.go_on(&mut chunk).await {
            Ok(()) => Ok(Some((chunk, (None, download)))),
            Err(error) => {
                let Caller { user, request_id, .. } = &download.caller;
                tracing::error!(user = user.as_str(), %error, id = &**request_id, "a ledger was cut off");
                Err(io::Error::other("the ledger could not be read to its end"))
            }
        }
    });
    let csv = HeaderValue::from_static(CSV);
    Ok(([(header::CONTENT_TYPE, csv)], Body::from_stream(chunks)).into_response())
}
