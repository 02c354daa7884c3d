//! The purchases that the stores confirm, and the queue of those that a person has to look at.

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, Path, State},
    http::{Request, Uri, request::Parts},
    response::Response,
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{Object, schema::Schema},
};

use super::{REASON, Reasoned, door::Operator, paged};
use crate::{
    api::{
        allocations::CREDITS,
        body::read_json,
        code::refusals,
        description::{Maybe, OneOf, body, one_of, query},
        error::ApiError,
        idempotency::{RequestKey, answer},
        schemas::ValidationError,
        state::Service,
        transactions::{DEFAULT_LIMIT, LIMIT, TRANSACTION_ID, transaction_id_schema},
    },
    domain::{Credits, EntryReason, PurchaseState, Refusal, TrackedPurchase},
    ledger::LedgerError,
    service::{PurchaseAct, ServiceError},
};

const STATE: OneOf<PurchaseState> = OneOf {
    all: &PurchaseState::ALL,
    name: PurchaseState::name,
    otherwise: "Input should be 'received', 'pending', 'granted', 'refused', 'review', 'unclaimed' or 'refunded'",
};

query! {
    /// Which purchases.
    PurchasesQuery {
        state: PurchaseState = STATE;
        limit: u16 = LIMIT, or DEFAULT_LIMIT;
        before: i64 = TRANSACTION_ID;
    }
}

body! {
    /// For how many credits, if not for what it is worth, and why.
    Amount {
        credits: Option<Credits> = Maybe(CREDITS),
        reason: EntryReason = REASON,
    }
}

/// A purchase without what is secret about it.
#[derive(Serialize, ToSchema)]
pub(super) struct PurchaseItem {
    #[schema(schema_with = transaction_id_schema)]
    id: i64,
    store: &'static str,
    #[schema(schema_with = state_schema)]
    state: &'static str,
    /// Why it is refused or in review.
    #[schema(value_type = Option<String>)]
    reason: Value,
    /// Whose it is; nobody's while it is unclaimed.
    user_id: Option<String>,
    #[schema(value_type = Option<String>)]
    environment: Value,
    /// The store's own id.
    store_id: Option<String>,
    /// Of several products all names, with commas between.
    product_id: Option<String>,
    quantity: Option<i64>,
    /// What was granted for it.
    credits: Option<i64>,
    /// What was paid, in thousandths of the currency.
    price_milliunits: Option<i64>,
    currency: Option<String>,
    received_at: String,
    purchased_at: Option<String>,
    granted_at: Option<String>,
    /// When its store was told that it was delivered, and that it may be bought again.
    acknowledged_at: Option<String>,
    consumed_at: Option<String>,
    /// When its store is asked or told next.
    due_at: Option<String>,
    attempts: u32,
    /// What is refunded by now, by the store's word and by an operator's.
    refunded_by_store: i64,
    refunded_by_operator: i64,
    /// What was taken for that, and what could not be.
    taken_credits: i64,
    shortfall_credits: i64,
    /// What the store said, without tokens.
    #[schema(schema_with = verified_schema)]
    verified: Option<Value>,
}

#[derive(Serialize, ToSchema)]
struct PurchaseItems {
    items: Vec<PurchaseItem>,
}

fn state_schema() -> Schema {
    one_of(PurchaseState::ALL.map(PurchaseState::name)).into()
}

fn verified_schema() -> Object {
    Object::new()
}

fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The same without members that may be tokens, at whatever depth.
fn without_tokens(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let is_token = |name: &str| {
                name.to_ascii_lowercase().ends_with("token") && name != "appAccountToken"
            };
            let members = members.into_iter().filter(|(name, _)| !is_token(name));
            members.map(|(name, value)| (name, without_tokens(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_tokens).collect(),
        other => other,
    }
}

impl From<TrackedPurchase> for PurchaseItem {
    fn from(purchase: TrackedPurchase) -> Self {
        let verified = purchase.verified.as_deref().and_then(|it| serde_json::from_str(it).ok());
        Self {
            id: purchase.id.expect("what is read is kept"),
            store: purchase.store.name(),
            state: purchase.state.name(),
            reason: serde_json::json!(purchase.reason),
            user_id: purchase.user.map(|user| user.as_str().to_owned()),
            environment: serde_json::json!(purchase.environment),
            store_id: purchase.store_id,
            product_id: purchase.product_id,
            quantity: purchase.quantity,
            credits: purchase.credits.map(Credits::get),
            price_milliunits: purchase.price_milliunits,
            currency: purchase.currency,
            received_at: shown(purchase.received_at),
            purchased_at: purchase.purchased_at.map(shown),
            granted_at: purchase.granted_at.map(shown),
            acknowledged_at: purchase.acknowledged_at.map(shown),
            consumed_at: purchase.consumed_at.map(shown),
            due_at: purchase.due_at.map(shown),
            attempts: purchase.attempts,
            refunded_by_store: purchase.refund_store.get(),
            refunded_by_operator: purchase.refund_operator.get(),
            taken_credits: purchase.taken_credits.get(),
            shortfall_credits: purchase.shortfall_credits.get(),
            verified: verified.map(without_tokens),
        }
    }
}

/// Purchases, the newest first
#[utoipa::path(
    get, path = "/api/billing/operator/purchases", tag = "operator", security(("bearer" = [])),
    params(PurchasesQuery),
    responses(
        (status = 200, description = "A page of them.", body = PurchaseItems,
            headers(("Link" = String, description = "`<…>; rel=\"next\"` when older ones remain"))),
        (status = 422, description = "Malformed. Every problem is listed.",
            body = ValidationError, example = json!({"detail": [{
                "type": "greater_than_equal", "loc": ["query", "limit"],
                "msg": "Input should be greater than or equal to 1",
            }]})),
    ),
)]
pub(in crate::api) async fn purchases(
    State(service): Service,
    _: Operator,
    uri: Uri,
) -> Result<Response, ApiError> {
    let query = PurchasesQuery::read(uri.query().unwrap_or_default())?;
    let PurchasesQuery { state, limit, before } = query;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    let (purchases, more) = service.purchases(state, limit, before).await?;
    let last = purchases.last().and_then(|purchase| purchase.id).filter(|_| more);
    let items = purchases.into_iter().map(PurchaseItem::from).collect();
    let filter = state.map(|state| ("state", state.name()));
    Ok(paged(&PurchaseItems { items }, &uri, limit, filter.as_slice(), last))
}

/// The purchase that the path names. What is no number is no purchase.
pub(in crate::api) struct NamedPurchase(i64);

impl<S: Send + Sync> FromRequestParts<S> for NamedPurchase {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id = Path::<i64>::from_request_parts(parts, state).await;
        let unknown = || ServiceError::from(LedgerError::Refused(Refusal::PurchaseNotFound)).into();
        id.map(|Path(id)| Self(id)).map_err(|_| unknown())
    }
}

refusals!(NoSuchPurchase, "There is no such purchase.", ["purchase_not_found"]);
refusals!(OtherState, "The purchase is in another state, which is told.", ["purchase_state"], with fields);
refusals!(
    NoCredits,
    "Its products are not known; set them, or tell how many credits.",
    ["unknown_product"]
);

/// One purchase
#[utoipa::path(
    get, path = "/api/billing/operator/purchases/{purchase_id}", tag = "operator",
    security(("bearer" = [])),
    params(("purchase_id" = i64, Path, description = "The purchase.")),
    responses((status = 200, description = "The purchase.", body = PurchaseItem), NoSuchPurchase),
)]
pub(in crate::api) async fn purchase(
    State(service): Service,
    _: Operator,
    NamedPurchase(id): NamedPurchase,
) -> Result<Json<PurchaseItem>, ApiError> {
    Ok(Json(service.purchase(id).await?.into()))
}

/// Grant a purchase that is in review
///
/// To whoever brought it: what its products are worth, or as many credits as are told.
#[utoipa::path(
    post, path = "/api/billing/operator/purchases/{purchase_id}/approve", tag = "operator",
    security(("bearer" = [])),
    params(("purchase_id" = i64, Path, description = "The purchase.")),
    request_body(content = Amount, example = json!({"reason": "the buyer showed the receipt"})),
    responses(
        (status = 200, description = "The purchase as it is now.", body = PurchaseItem),
        NoSuchPurchase, OtherState, NoCredits,
    ),
)]
pub(in crate::api) async fn approve(
    State(service): Service,
    operator: Operator,
    NamedPurchase(id): NamedPurchase,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (Amount { credits, reason }, keyed) = key.of_operators().read::<Amount>(&json)?;
    let act = PurchaseAct::Approve(credits);
    let applied = service.decide_purchase(operator.because(reason), keyed, id, act).await?;
    Ok(answer(applied, PurchaseItem::from))
}

/// Refuse a purchase that is in review
#[utoipa::path(
    post, path = "/api/billing/operator/purchases/{purchase_id}/reject", tag = "operator",
    security(("bearer" = [])),
    params(("purchase_id" = i64, Path, description = "The purchase.")),
    request_body(content = Reasoned, example = json!({"reason": "it is somebody else's"})),
    responses(
        (status = 200, description = "The purchase as it is now.", body = PurchaseItem),
        NoSuchPurchase, OtherState,
    ),
)]
pub(in crate::api) async fn reject(
    State(service): Service,
    operator: Operator,
    NamedPurchase(id): NamedPurchase,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (Reasoned { reason }, keyed) = key.of_operators().read::<Reasoned>(&json)?;
    let by = operator.because(reason);
    let applied = service.decide_purchase(by, keyed, id, PurchaseAct::Reject).await?;
    Ok(answer(applied, PurchaseItem::from))
}

/// Ask the store of a purchase again, at once
///
/// Of one that is received, pending or in review.
#[utoipa::path(
    post, path = "/api/billing/operator/purchases/{purchase_id}/retry", tag = "operator",
    security(("bearer" = [])),
    params(("purchase_id" = i64, Path, description = "The purchase.")),
    request_body(content = Reasoned, example = json!({"reason": "the store is back"})),
    responses(
        (status = 200, description = "The purchase as it is now.", body = PurchaseItem),
        NoSuchPurchase, OtherState,
    ),
)]
pub(in crate::api) async fn retry(
    State(service): Service,
    operator: Operator,
    NamedPurchase(id): NamedPurchase,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (Reasoned { reason }, keyed) = key.of_operators().read::<Reasoned>(&json)?;
    let by = operator.because(reason);
    let applied = service.decide_purchase(by, keyed, id, PurchaseAct::Retry).await?;
    Ok(answer(applied, PurchaseItem::from))
}

/// Take back what was granted for a purchase
///
/// For one whose money the operator gave back, or a part of it. Unspent credits go first, then unused tokens.
#[utoipa::path(
    post, path = "/api/billing/operator/purchases/{purchase_id}/refund", tag = "operator",
    security(("bearer" = [])),
    params(("purchase_id" = i64, Path, description = "The purchase.")),
    request_body(content = Amount, example = json!({"credits": 100, "reason": "paid back by bank"})),
    responses(
        (status = 200, description = "The purchase as it is now.", body = PurchaseItem),
        NoSuchPurchase, OtherState,
    ),
)]
pub(in crate::api) async fn refund(
    State(service): Service,
    operator: Operator,
    NamedPurchase(id): NamedPurchase,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (Amount { credits, reason }, keyed) = key.of_operators().read::<Amount>(&json)?;
    let act = PurchaseAct::Refund(credits);
    let applied = service.decide_purchase(operator.because(reason), keyed, id, act).await?;
    Ok(answer(applied, PurchaseItem::from))
}
