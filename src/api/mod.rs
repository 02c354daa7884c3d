//! The API: its endpoints, each of which reads its request, calls the service, and shapes the answer.

mod body;
mod caller;
mod docs;
mod document;
mod error;
mod fields;
mod idempotency;
mod json;
mod probes;
mod problem;
mod query;
mod schemas;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{FromRef, Path, State, rejection::PathRejection},
    http::{HeaderValue, Request, StatusCode, Uri, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;
use tower_http::compression::{CompressionLayer, predicate::SizeAbove};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use body::read_json;
use docs::Document;
use document::Outline;
use error::{ApiError, retry_later, worded};
use fields::{Field, Object, noted};
use idempotency::{IDEMPOTENCY_KEY, REPLAYED, RequestKey, answer};
use probes::{__path_livez, __path_readyz, livez, readyz};
use problem::{Lowest, Problem, Range};
use query::{history_filter, next_page};
use schemas::{CategoryName, CodedError, Refused};

use crate::{
    domain::{
        Allocation, Category, Credits, ModelId, PriceList, Purchase, PurchaseRecord, PurchaseToken,
        StoreTransactionId, Tokens, Transaction, Usage,
    },
    http::{self, Admission, ApiHeaders, Authentication, RateLimit, Stopping, admit},
    service::{BillingService, Caller},
};

/// Most credits of one purchase or one allocation, and most tokens of one chat's input or output.
const AMOUNT_MAX: i64 = 1_000_000_000;
const CREDITS: Range = Range { lowest: Lowest::Above(0), highest: AMOUNT_MAX };
const TOKENS: Range = Range { lowest: Lowest::From(0), highest: AMOUNT_MAX };
/// Most items of one allocation request.
const ALLOCATIONS_MAX: usize = 50;

/// History pages at least this long are compressed for clients that take gzip.
const COMPRESS_FROM_BYTES: u64 = 1_024;

type Service = State<Arc<BillingService>>;

/// What the endpoints work with.
#[derive(Clone)]
struct Api {
    service: Arc<BillingService>,
    admission: Arc<Admission>,
    stopping: Stopping,
}

impl FromRef<Api> for Arc<BillingService> {
    fn from_ref(api: &Api) -> Self {
        Self::clone(&api.service)
    }
}

impl FromRef<Api> for Arc<Admission> {
    fn from_ref(api: &Api) -> Self {
        Self::clone(&api.admission)
    }
}

impl FromRef<Api> for Stopping {
    fn from_ref(api: &Api) -> Self {
        api.stopping.clone()
    }
}

/// The whole API. What `routes!` is not given is neither served nor documented.
pub(crate) fn api(
    service: BillingService,
    authentication: Authentication,
    rate_limit: Option<RateLimit>,
    stopping: Stopping,
) -> http::Api {
    let admission = Arc::new(Admission::new(authentication, rate_limit, worded));
    http::Api {
        router: router(service, admission, stopping),
        wording: worded,
        headers: ApiHeaders { sent: &[IDEMPOTENCY_KEY], exposed: &[REPLAYED] },
    }
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
        .routes(routes!(transactions))
        .layer(long_answers)
        .routes(routes!(balance))
        .routes(routes!(category_total))
        .routes(routes!(pricing))
        .routes(routes!(add_credits))
        .routes(routes!(allocate))
        .routes(routes!(consume))
        .routes(routes!(reset))
}

/// What an orchestrator asks, which must not take a busy service for a dead one.
fn unlimited_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(livez)).routes(routes!(readyz))
}

#[derive(Serialize, ToSchema)]
struct Balance {
    #[schema(schema_with = schemas::balance)]
    credits: Credits,
    /// Every model that ever got tokens, at zero too.
    #[schema(schema_with = schemas::balances)]
    allocated_tokens: BTreeMap<ModelId, Tokens>,
}

/// Credits and tokens
#[utoipa::path(
    get, path = "/api/billing/balance", tag = "account", security(("bearer" = [])),
    responses((status = 200, description = "What the user has.", body = Balance,
        example = json!({"credits": 150, "allocated_tokens": {"gemini-2.0-flash": 2_000_000}}))),
)]
async fn balance(State(service): Service, caller: Caller) -> Result<Json<Balance>, ApiError> {
    let account = service.balance(&caller.user).await?;
    let (credits, tokens) = (account.credits(), account.tokens().clone());
    Ok(Json(Balance { credits, allocated_tokens: tokens }))
}

#[derive(Serialize, ToSchema)]
struct CategoryTotal {
    #[schema(value_type = CategoryName)]
    category: Category,
    #[schema(schema_with = schemas::balance)]
    total_tokens: Tokens,
}

/// Tokens of a category
#[utoipa::path(
    get, path = "/api/billing/balance/category/{category}", tag = "account", security(("bearer" = [])),
    params(("category" = CategoryName, Path)),
    responses(
        (status = 200, description = "The tokens of all its models.", body = CategoryTotal,
            example = json!({"category": "quick", "total_tokens": 1_993_000})),
        (status = 400, description = "No such category.", body = CodedError, example = json!({
            "detail": "カテゴリーは 'quick' または 'think' である必要があります",
            "code": "invalid_category",
        })),
    ),
)]
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

/// What models cost
#[utoipa::path(
    get, path = "/api/billing/pricing", tag = "service",
    responses((status = 200, description = "Every model that can be bought.", body = schemas::Prices,
        example = json!({
            "gemini-2.0-flash": {"price_per_m_token": 75, "category": "quick"},
            "gemini-2.5-flash": {"price_per_m_token": 255, "category": "quick"},
            "gemini-2.5-pro": {"price_per_m_token": 750, "category": "think"},
        }))),
)]
async fn pricing(State(service): Service) -> Result<Json<PriceList>, ApiError> {
    Ok(Json(service.pricing().await?))
}

/// Whether the service works
#[utoipa::path(
    get, path = "/api/billing/health", tag = "service",
    responses(
        (status = 200, description = "It does.", body = schemas::Health,
            example = json!({"status": "ok", "service": "billing"})),
        (status = 503, description = "The database does not answer.", body = schemas::Unhealthy,
            example = json!({
                "status": "unavailable", "service": "billing", "code": "database_unavailable",
                "detail": "The database is not available, please try again",
            })),
    ),
)]
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

#[derive(Serialize, ToSchema)]
struct HistoryLine {
    #[schema(schema_with = schemas::transaction_id)]
    id: i64,
    #[serde(rename = "type")]
    #[schema(schema_with = schemas::kind)]
    kind: &'static str,
    /// Credits of a purchase or an allocation, tokens of a consumption.
    #[schema(schema_with = schemas::balance)]
    amount: i64,
    #[schema(schema_with = schemas::optional_model_id)]
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
    params(schemas::HistoryQuery),
    responses(
        (status = 200, description = "A page of the history.", body = Vec<HistoryLine>,
            headers(("Link" = String, description = "`<…>; rel=\"next\"` when older ones remain")),
            example = json!([
                {"id": 4, "type": "consumption", "amount": 7000, "model_id": "gemini-2.0-flash", "created_at": "2026-11-24T10:34:59.299996Z"},
                {"id": 3, "type": "allocation", "amount": 150, "model_id": "gemini-2.0-flash", "created_at": "2026-11-24T10:34:59.285945Z"},
                {"id": 2, "type": "purchase", "amount": 200, "model_id": null, "created_at": "2026-11-24T10:34:59.256428Z"},
                {"id": 1, "type": "purchase", "amount": 100, "model_id": null, "created_at": "2026-11-24T10:34:59.234600Z"},
            ])),
        (status = 422, description = "Malformed. Every problem is listed.",
            body = schemas::ValidationError, example = json!({"detail": [{
                "type": "greater_than_equal", "loc": ["query", "limit"],
                "msg": "Input should be greater than or equal to 1",
            }]})),
    ),
)]
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

#[derive(Serialize, ToSchema)]
struct CreditsAdded {
    success: bool,
    #[schema(schema_with = schemas::balance)]
    new_balance: Credits,
}

/// Buy credits
///
/// A store transaction grants credits once, to one user.
#[utoipa::path(
    post, path = "/api/billing/credits/add", tag = "changes", security(("bearer" = [])),
    request_body(content = schemas::AddCredits, example = json!({
        "credits": 100,
        "purchase_record": {"productId": "noteapp.credits.small", "transactionId": "GPA.1111"},
    })),
    responses(
        (status = 200, description = "The credits are there.", body = CreditsAdded,
            example = json!({"success": true, "new_balance": 100})),
        (status = 409, description = "This store transaction was granted before.", body = CodedError,
            example = json!({
                "detail": "Purchase already processed", "code": "purchase_already_processed",
            })),
    ),
)]
async fn add_credits(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (keyed, purchase) = key.read_object(&json, purchase)?;
    let applied = service.add_credits(caller, keyed, purchase).await?;
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
    let token = match record.optional("purchaseToken") {
        Some(token) if !(token.is_null() || token.text() == "\"\"") => {
            Some(noted(token.identifier(PurchaseToken::new), problems)?)
        }
        _ => None,
    };
    Some(Purchase {
        credits: Credits::new(credits?).ok()?,
        store_transaction_id,
        token,
        record: PurchaseRecord::new(text.to_owned()),
    })
}

#[derive(Serialize, ToSchema)]
struct Success {
    success: bool,
}

/// Turn credits into tokens
///
/// Tokens are ⌊credits × 1,000,000 / price⌋. All items are applied, in their order, or none is.
#[utoipa::path(
    post, path = "/api/billing/credits/allocate", tag = "changes", security(("bearer" = [])),
    request_body(content = schemas::Allocate,
        example = json!({"allocations": [{"model_id": "gemini-2.0-flash", "credits": 150}]})),
    responses(
        (status = 200, description = "The tokens are there.", body = Success,
            example = json!({"success": true})),
        (status = 400, description = "A rule says no.", body = Refused, examples(
            ("insufficient_credits" = (value = json!({
                "detail": "クレジット不足: 必要=150, 残高=100", "code": "insufficient_credits",
                "required": 150, "available": 100,
            }))),
            ("model_not_priced" = (value = json!({
                "detail": "モデル no-such-model の価格情報が見つかりません",
                "code": "model_not_priced", "model_id": "no-such-model",
            }))),
            ("capacity_exceeded" = (value = json!({
                "detail": "容量制限超過: quickカテゴリーの上限は5000000トークンです",
                "code": "capacity_exceeded", "category": "quick", "limit": 5_000_000,
                "available": 3_000_000, "max_credits": 225,
            }))),
            ("allocation_too_small" = (value = json!({
                "detail": "モデル dear-model に割り当てるクレジットが少なすぎます。1トークンも購入できません",
                "code": "allocation_too_small", "model_id": "dear-model",
            }))),
        )),
    ),
)]
async fn allocate(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (keyed, items) = key.read_object(&json, |body, problems| {
        body.required("allocations", problems)?.list(ALLOCATIONS_MAX, problems, allocation)
    })?;
    let applied = service.allocate(caller, keyed, items).await?;
    Ok(answer(applied, |()| Success { success: true }))
}

fn allocation(item: Field<'_>, problems: &mut Vec<Problem>) -> Option<Allocation> {
    let item = item.object(problems)?;
    let model = item.identifier("model_id", ModelId::new, problems);
    let credits = item.integer("credits", CREDITS, problems);
    Some(Allocation { model: model?, credits: Credits::new(credits?).ok()? })
}

#[derive(Serialize, ToSchema)]
struct Consumed {
    success: bool,
    #[schema(schema_with = schemas::balance)]
    remaining_tokens: Tokens,
}

/// Use tokens up
///
/// Input and output together leave the model's balance, or nothing does.
#[utoipa::path(
    post, path = "/api/billing/tokens/consume", tag = "changes", security(("bearer" = [])),
    request_body(content = schemas::Consume, example = json!({
        "model_id": "gemini-2.0-flash", "input_tokens": 5000, "output_tokens": 2000,
    })),
    responses(
        (status = 200, description = "They are used.", body = Consumed,
            example = json!({"success": true, "remaining_tokens": 1_993_000})),
        (status = 400, description = "A rule says no.", body = Refused, examples(
            ("no_token_balance" = (value = json!({
                "detail": "モデル no-such-model のトークン残高がありません",
                "code": "no_token_balance", "model_id": "no-such-model",
            }))),
            ("insufficient_tokens" = (value = json!({
                "detail": "トークン不足: 必要=7000, 残高=500", "code": "insufficient_tokens",
                "required": 7000, "available": 500,
            }))),
        )),
    ),
)]
async fn consume(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (keyed, (model, usage)) = key.read_object(&json, |body, problems| {
        let model = body.identifier("model_id", ModelId::new, problems);
        let input = body.integer("input_tokens", TOKENS, problems);
        let output = body.integer("output_tokens", TOKENS, problems);
        let usage = Usage::new(Tokens::new(input?).ok()?, Tokens::new(output?).ok()?).ok()?;
        Some((model?, usage))
    })?;
    let applied = service.consume(caller, keyed, model, usage).await?;
    Ok(answer(applied, |remaining_tokens| Consumed { success: true, remaining_tokens }))
}

/// Erase the user's data
///
/// Off unless `BILLING_ALLOW_RESET` is set. Needs no body. Prices stay.
#[utoipa::path(
    post, path = "/api/billing/reset", tag = "changes", security(("bearer" = [])),
    responses(
        (status = 200, description = "All is erased.", body = schemas::Erased,
            example = json!({"success": true, "message": "All data reset successfully"})),
        (status = 403, description = "It is switched off.", body = CodedError, example = json!({
            "detail": "This endpoint is not available in production environment",
            "code": "reset_disabled",
        })),
    ),
)]
async fn reset(
    State(service): Service,
    caller: Caller,
    key: RequestKey,
) -> Result<Response, ApiError> {
    let applied = service.reset(caller, key.of_no_body()).await?;
    Ok(answer(applied, |()| json!({ "success": true, "message": "All data reset successfully" })))
}
