//! The endpoints: each reads its request, calls the service, and shapes the answer.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{FromRef, Path, State, rejection::PathRejection},
    http::{HeaderValue, Request, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use serde_json::json;
use tower_http::compression::{CompressionLayer, predicate::SizeAbove};

use super::{
    Authentication, COMPRESS_FROM_BYTES,
    body::read_json,
    error::{ApiError, retry_later},
    fields::{Field, Object, noted, read_object},
    probes::{Stopping, livez, readyz},
    problem::{Lowest, Problem, Range},
    query::{history_filter, next_page},
    retry::{RequestKey, answer},
};
use crate::{
    domain::{
        Allocation, Category, Credits, ModelId, PriceList, Purchase, PurchaseRecord,
        StoreTransactionId, Tokens, Transaction, Usage,
    },
    service::{BillingService, Caller},
};

/// Most credits of one purchase or one allocation, and most tokens of one chat's input or output.
const AMOUNT_MAX: i64 = 1_000_000_000;
const CREDITS: Range = Range { lowest: Lowest::Above(0), highest: AMOUNT_MAX };
const TOKENS: Range = Range { lowest: Lowest::From(0), highest: AMOUNT_MAX };
/// Most items of one allocation request.
const ALLOCATIONS_MAX: usize = 50;

type Service = State<Arc<BillingService>>;

/// What the endpoints work with.
#[derive(Clone)]
struct Api {
    service: Arc<BillingService>,
    authentication: Arc<Authentication>,
    stopping: Stopping,
}

impl FromRef<Api> for Arc<BillingService> {
    fn from_ref(api: &Api) -> Self {
        Self::clone(&api.service)
    }
}

impl FromRef<Api> for Arc<Authentication> {
    fn from_ref(api: &Api) -> Self {
        Self::clone(&api.authentication)
    }
}

impl FromRef<Api> for Stopping {
    fn from_ref(api: &Api) -> Self {
        api.stopping.clone()
    }
}

/// The whole API.
pub(super) fn router(
    service: BillingService,
    authentication: Authentication,
    stopping: Stopping,
) -> Router {
    let api =
        Api { service: Arc::new(service), authentication: Arc::new(authentication), stopping };
    let long_answers = CompressionLayer::new().compress_when(SizeAbove::new(COMPRESS_FROM_BYTES));
    Router::new()
        .route("/api/billing/transactions", get(transactions))
        .layer(long_answers)
        .route("/api/billing/balance", get(balance))
        .route("/api/billing/balance/category/{category}", get(category_total))
        .route("/api/billing/pricing", get(pricing))
        .route("/api/billing/health", get(health))
        .route("/api/billing/credits/add", post(add_credits))
        .route("/api/billing/credits/allocate", post(allocate))
        .route("/api/billing/tokens/consume", post(consume))
        .route("/api/billing/reset", post(reset))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .with_state(api)
}

#[derive(Serialize)]
struct Balance {
    credits: Credits,
    allocated_tokens: BTreeMap<ModelId, Tokens>,
}

async fn balance(State(service): Service, caller: Caller) -> Result<Json<Balance>, ApiError> {
    let account = service.balance(&caller.user).await?;
    let (credits, tokens) = (account.credits(), account.tokens().clone());
    Ok(Json(Balance { credits, allocated_tokens: tokens }))
}

#[derive(Serialize)]
struct CategoryTotal {
    category: Category,
    total_tokens: Tokens,
}

async fn category_total(
    State(service): Service,
    caller: Caller,
    category: Result<Path<String>, PathRejection>,
) -> Result<Json<CategoryTotal>, ApiError> {
    let category = category
        .ok()
        .and_then(|Path(name)| Category::from_name(&name))
        .ok_or(ApiError::InvalidCategory)?;
    let total_tokens = service.category_total(&caller.user, category).await?;
    Ok(Json(CategoryTotal { category, total_tokens }))
}

async fn pricing(State(service): Service) -> Result<Json<PriceList>, ApiError> {
    Ok(Json(service.pricing().await?))
}

async fn health(State(service): Service) -> Response {
    if service.is_healthy().await {
        Json(json!({ "status": "ok", "service": "billing" })).into_response()
    } else {
        let body = json!({
            "status": "unavailable", "service": "billing", "code": "database_unavailable",
            "detail": "The database is not available, please try again",
        });
        retry_later((StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response())
    }
}

#[derive(Serialize)]
struct HistoryLine {
    id: i64,
    #[serde(rename = "type")]
    kind: &'static str,
    amount: i64,
    model_id: Option<String>,
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

async fn transactions(
    State(service): Service,
    caller: Caller,
    uri: Uri,
) -> Result<Response, ApiError> {
    let filter = history_filter(uri.query().unwrap_or_default())?;
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

#[derive(Serialize)]
struct CreditsAdded {
    success: bool,
    new_balance: Credits,
}

async fn add_credits(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let purchase = read_object(&json, purchase)?;
    let applied = service.add_credits(caller, key.of(&json), purchase).await?;
    Ok(answer(applied, |new_balance| CreditsAdded { success: true, new_balance }))
}

fn purchase(body: &Object<'_>, problems: &mut Vec<Problem>) -> Option<Purchase> {
    let credits = body.integer("credits", CREDITS, problems);
    let record = body.required("purchase_record", problems)?;
    let text = record.text();
    let record = record.dictionary(problems)?;
    let store_transaction_id = match record.optional("transactionId") {
        Some(id) if !(id.is_null() || id.text() == "\"\"") => {
            Some(noted(id.identifier(StoreTransactionId::new), problems)?)
        }
        _ => None,
    };
    Some(Purchase {
        credits: Credits::new(credits?).ok()?,
        store_transaction_id,
        record: PurchaseRecord::new(text.to_owned()),
    })
}

#[derive(Serialize)]
struct Success {
    success: bool,
}

async fn allocate(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let items = read_object(&json, |body, problems| {
        body.required("allocations", problems)?.list(ALLOCATIONS_MAX, problems, allocation)
    })?;
    let applied = service.allocate(caller, key.of(&json), items).await?;
    Ok(answer(applied, |()| Success { success: true }))
}

fn allocation(item: Field<'_>, problems: &mut Vec<Problem>) -> Option<Allocation> {
    let item = item.object(problems)?;
    let model = item.identifier("model_id", ModelId::new, problems);
    let credits = item.integer("credits", CREDITS, problems);
    Some(Allocation { model: model?, credits: Credits::new(credits?).ok()? })
}

#[derive(Serialize)]
struct Consumed {
    success: bool,
    remaining_tokens: Tokens,
}

async fn consume(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (model, usage) = read_object(&json, |body, problems| {
        let model = body.identifier("model_id", ModelId::new, problems);
        let input = body.integer("input_tokens", TOKENS, problems);
        let output = body.integer("output_tokens", TOKENS, problems);
        let usage = Usage::new(Tokens::new(input?).ok()?, Tokens::new(output?).ok()?).ok()?;
        Some((model?, usage))
    })?;
    let applied = service.consume(caller, key.of(&json), model, usage).await?;
    Ok(answer(applied, |remaining_tokens| Consumed { success: true, remaining_tokens }))
}

async fn reset(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
) -> Result<Response, ApiError> {
    let applied = service.reset(caller, key.of_no_body()).await?;
    Ok(answer(applied, |()| json!({ "success": true, "message": "All data reset successfully" })))
}
