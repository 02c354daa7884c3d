//! What models cost, for whoever sets it: today, and before.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{Request, Uri},
    response::Response,
};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::schema::{OneOfBuilder, Schema},
};

use super::{
    Done, REASON, Reasoned,
    door::{InPath, Operator},
    paged,
};
use crate::{
    api::{
        body::read_json,
        code::refusals,
        description::{Flag, Integer, Maybe, OneOf, body, integer, null, query},
        error::ApiError,
        idempotency::{RequestKey, answer},
        problem::{Lowest, Range},
        schemas::{CategoryName, ValidationError},
        state::Service,
        transactions::{DEFAULT_LIMIT, LIMIT, TRANSACTION_ID, transaction_id_schema},
    },
    domain::{
        Category, Credits, EntryReason, ModelId, Price, PriceLine, PricePage, RemovePrice,
        SetPrice, UserId,
    },
};

/// Credits per million tokens, as the tables take them.
const PRICE: Integer<i64> =
    Integer { range: Range { lowest: Lowest::From(1), highest: Credits::MAX.get() }, make: Some };
const CATEGORY: OneOf<Category> = OneOf {
    all: &[Category::Quick, Category::Think],
    name: Category::name,
    otherwise: "Input should be 'quick' or 'think'",
};

body! {
    /// What a model costs from now on.
    NewPrice {
        price_per_m_token: i64 = PRICE,
        category: Category = CATEGORY,
        reason: EntryReason = REASON,
        confirm: Option<bool> = Maybe(Flag),
        if_price: Option<i64> = Maybe(PRICE),
    }
}

/// What a model costs.
#[derive(Serialize, ToSchema)]
pub(super) struct PriceOfModel {
    #[schema(value_type = String)]
    model_id: ModelId,
    /// Credits per million tokens.
    #[schema(schema_with = price_schema)]
    price_per_m_token: i64,
    #[schema(value_type = CategoryName)]
    category: Category,
}

#[derive(Serialize, ToSchema)]
pub(super) struct PricesOfModels {
    items: Vec<PriceOfModel>,
}

/// What a model has cost from a time on; of one that was taken off, nothing.
#[derive(Serialize, ToSchema)]
struct PriceChange {
    #[schema(schema_with = transaction_id_schema)]
    id: i64,
    /// In UTC, with microseconds.
    #[schema(format = DateTime)]
    at: String,
    #[schema(schema_with = optional_price_schema)]
    price_per_m_token: Option<i64>,
    #[schema(value_type = Option<CategoryName>)]
    category: Option<Category>,
}

#[derive(Serialize, ToSchema)]
struct PriceHistory {
    items: Vec<PriceChange>,
}

fn price_schema() -> Schema {
    integer(PRICE.range).into()
}

fn optional_price_schema() -> Schema {
    OneOfBuilder::new().item(null()).item(integer(PRICE.range)).into()
}

impl From<PriceLine> for PriceChange {
    fn from(PriceLine { id, at, price }: PriceLine) -> Self {
        let price_per_m_token = price.map(Price::price_per_m_token);
        Self { id, at, price_per_m_token, category: price.map(Price::category) }
    }
}

/// What models cost
#[utoipa::path(
    get, path = "/api/billing/operator/prices", tag = "operator", security(("bearer" = [])),
    responses((status = 200, description = "Every model that can be bought.", body = PricesOfModels,
        example = json!({"items": [
            {"model_id": "gemini-2.0-flash", "price_per_m_token": 75, "category": "quick"},
        ]}))),
)]
pub(in crate::api) async fn prices(
    State(service): Service,
    _: Operator,
) -> Result<Json<PricesOfModels>, ApiError> {
    let prices = service.pricing().await?;
    let items = prices.iter().map(|(model, price)| PriceOfModel {
        model_id: model.clone(),
        price_per_m_token: price.price_per_m_token(),
        category: price.category(),
    });
    Ok(Json(PricesOfModels { items: items.collect() }))
}

refusals!(
    PriceJump,
    "The price is more than five times as high or as low as today's, and nobody said that this is meant.",
    ["price_jump"],
    with fields
);
refusals!(PriceChanged, "The price is not `if_price` any more; today's is told.", ["price_changed"], with fields);

/// Set a price
///
/// Of a new model too. It counts from the next call on.
#[utoipa::path(
    put, path = "/api/billing/operator/prices/{model_id}", tag = "operator", security(("bearer" = [])),
    params(("model_id" = String, Path, description = "The model, percent-encoded.")),
    request_body(content = NewPrice, example = json!({
        "price_per_m_token": 90, "category": "quick", "reason": "the yen fell", "if_price": 75,
    })),
    responses(
        (status = 200, description = "What it costs now.", body = PriceOfModel,
            example = json!({"model_id": "gemini-2.0-flash", "price_per_m_token": 90, "category": "quick"})),
        PriceJump,
        PriceChanged,
    ),
)]
pub(in crate::api) async fn set(
    State(service): Service,
    operator: Operator,
    InPath(model): InPath<ModelId>,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (body, keyed) = key.of_operators().read::<NewPrice>(&json)?;
    let NewPrice { price_per_m_token, category, reason, confirm, if_price } = body;
    let price = Price::new(price_per_m_token, category).expect("the range is within a price's");
    let confirm = confirm.unwrap_or(false);
    let act = SetPrice { model: model.clone(), price, confirm, if_price };
    let by = operator.because(reason);
    let applied = service.operate(by, &UserId::operators(), keyed, act).await?;
    Ok(answer(applied, |()| PriceOfModel { model_id: model, price_per_m_token, category }))
}

refusals!(NotPriced, "The model can't be bought anyway.", ["model_not_priced"], with fields);

/// Take a model off
///
/// Nobody can buy it any more. Balances stay, and what may be done with them; they count in no category.
#[utoipa::path(
    delete, path = "/api/billing/operator/prices/{model_id}", tag = "operator",
    security(("bearer" = [])),
    params(("model_id" = String, Path, description = "The model, percent-encoded.")),
    request_body(content = Reasoned, example = json!({"reason": "its maker ends it"})),
    responses(
        (status = 200, description = "It is off.", body = Done, example = json!({"success": true})),
        NotPriced,
    ),
)]
pub(in crate::api) async fn remove(
    State(service): Service,
    operator: Operator,
    InPath(model): InPath<ModelId>,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (Reasoned { reason }, keyed) = key.of_operators().read::<Reasoned>(&json)?;
    let by = operator.because(reason);
    let applied = service.operate(by, &UserId::operators(), keyed, RemovePrice { model }).await?;
    Ok(answer(applied, |()| Done { success: true }))
}

query! {
    /// Which changes of a price.
    PriceHistoryQuery {
        limit: u16 = LIMIT, or DEFAULT_LIMIT;
        before: i64 = TRANSACTION_ID;
    }
}

/// What a model has cost
///
/// Newest first, whoever changed it, from the first price on. Why is told in the log, of what operators changed.
#[utoipa::path(
    get, path = "/api/billing/operator/prices/{model_id}/history", tag = "operator",
    security(("bearer" = [])),
    params(("model_id" = String, Path, description = "The model, percent-encoded."), PriceHistoryQuery),
    responses(
        (status = 200, description = "A page of the changes.", body = PriceHistory,
            headers(("Link" = String, description = "`<…>; rel=\"next\"` when older ones remain")),
            example = json!({"items": [{
                "id": 3, "at": "2026-11-24T10:35:02.105316Z", "price_per_m_token": 75, "category": "quick",
            }]})),
        (status = 422, description = "Malformed. Every problem is listed.",
            body = ValidationError, example = json!({"detail": [{
                "type": "greater_than_equal", "loc": ["query", "limit"],
                "msg": "Input should be greater than or equal to 1",
            }]})),
    ),
)]
pub(in crate::api) async fn history(
    State(service): Service,
    _: Operator,
    InPath(model): InPath<ModelId>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let query = PriceHistoryQuery::read(uri.query().unwrap_or_default())?;
    let PriceHistoryQuery { limit, before } = query;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    let PricePage { lines, more } = service.price_history(&model, limit, before).await?;
    let last = lines.last().map(|line| line.id).filter(|_| more);
    let items: Vec<PriceChange> = lines.into_iter().map(PriceChange::from).collect();
    Ok(paged(&PriceHistory { items }, &uri, limit, &[], last))
}
