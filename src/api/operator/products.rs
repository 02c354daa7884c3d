//! What is sold, for whoever sets it.

use axum::{Json, body::Body, extract::State, http::Request, response::Response};
use serde::Serialize;
use utoipa::{ToSchema, openapi::schema::Schema};

use super::{
    REASON,
    door::{InPath, Operator},
};
use crate::{
    api::{
        allocations::CREDITS,
        body::read_json,
        description::{Flag, body, integer},
        error::ApiError,
        idempotency::{RequestKey, answer},
        state::Service,
    },
    domain::{Credits, EntryReason, Product, ProductId, SetProduct, UserId},
};

body! {
    /// What one of a product is worth from now on, and whether it is offered.
    NewProduct {
        credits: Credits = CREDITS,
        active: bool = Flag,
        reason: EntryReason = REASON,
    }
}

/// What is sold.
#[derive(Serialize, ToSchema)]
pub(super) struct ProductItem {
    #[schema(value_type = String)]
    product_id: ProductId,
    /// What one of it is worth.
    #[schema(schema_with = credits_schema)]
    credits: Credits,
    /// Whether it is offered; what is paid for is granted all the same.
    active: bool,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ProductItems {
    items: Vec<ProductItem>,
}

fn credits_schema() -> Schema {
    integer(CREDITS.range).into()
}

/// What is sold, and what no longer is
#[utoipa::path(
    get, path = "/api/billing/operator/products", tag = "operator", security(("bearer" = [])),
    responses((status = 200, description = "All products.", body = ProductItems, example = json!({
        "items": [{"product_id": "noteapp.credits.small", "credits": 300, "active": true}],
    }))),
)]
pub(in crate::api) async fn products(
    State(service): Service,
    _: Operator,
) -> Result<Json<ProductItems>, ApiError> {
    let products = service.products().await?;
    let items = products.iter().map(|(id, product)| ProductItem {
        product_id: id.clone(),
        credits: product.credits,
        active: product.active,
    });
    Ok(Json(ProductItems { items: items.collect() }))
}

/// Set a product
///
/// Or add one. It counts from the next grant on.
#[utoipa::path(
    put, path = "/api/billing/operator/products/{product_id}", tag = "operator",
    security(("bearer" = [])),
    params(("product_id" = String, Path, description = "The product, percent-encoded.")),
    request_body(content = NewProduct, example = json!({
        "credits": 350, "active": true, "reason": "more for the same",
    })),
    responses(
        (status = 200, description = "What it is now.", body = ProductItem, example = json!({
            "product_id": "noteapp.credits.small", "credits": 350, "active": true,
        })),
    ),
)]
pub(in crate::api) async fn set(
    State(service): Service,
    operator: Operator,
    InPath(product_id): InPath<ProductId>,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (body, keyed) = key.of_operators().read::<NewProduct>(&json)?;
    let NewProduct { credits, active, reason } = body;
    let act = SetProduct { id: product_id.clone(), product: Product { credits, active } };
    let by = operator.because(reason);
    let applied = service.operate(by, &UserId::operators(), keyed, act).await?;
    Ok(answer(applied, |()| ProductItem { product_id, credits, active }))
}
