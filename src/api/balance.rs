//! What a user has: credits, tokens by model, and the total of a category.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{
        Object, ObjectBuilder,
        schema::{AdditionalProperties, Schema, Type},
    },
};

use super::{
    code::refusals,
    error::ApiError,
    schemas::{CategoryName, balance as balance_schema},
    state::Service,
};
use crate::{
    domain::{Category, Credits, ModelId, Tokens},
    service::Caller,
};

/// Tokens by model.
fn balances_schema() -> Object {
    let balance = Schema::from(balance_schema()).into();
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::RefOr(balance)))
        .build()
}

#[derive(Serialize, ToSchema)]
pub(super) struct Balance {
    #[schema(schema_with = balance_schema)]
    credits: Credits,
    /// Every model that ever got tokens, at zero too.
    #[schema(schema_with = balances_schema)]
    allocated_tokens: BTreeMap<ModelId, Tokens>,
}

/// Credits and tokens
#[utoipa::path(
    get, path = "/api/billing/balance", tag = "account", security(("bearer" = [])),
    responses((status = 200, description = "What the user has.", body = Balance,
        example = json!({"credits": 150, "allocated_tokens": {"gemini-2.0-flash": 2_000_000}}))),
)]
pub(super) async fn balance(
    State(service): Service,
    caller: Caller,
) -> Result<Json<Balance>, ApiError> {
    let account = service.balance(&caller.user).await?;
    let (credits, tokens) = (account.credits(), account.tokens().clone());
    Ok(Json(Balance { credits, allocated_tokens: tokens }))
}

#[derive(Serialize, ToSchema)]
pub(super) struct CategoryTotal {
    #[schema(value_type = CategoryName)]
    category: Category,
    #[schema(schema_with = balance_schema)]
    total_tokens: Tokens,
}

refusals!(NoSuchCategory, "No such category.", ["invalid_category"]);

/// Tokens of a category
#[utoipa::path(
    get, path = "/api/billing/balance/category/{category}", tag = "account", security(("bearer" = [])),
    params(("category" = CategoryName, Path)),
    responses(
        (status = 200, description = "The tokens of all its models.", body = CategoryTotal,
            example = json!({"category": "quick", "total_tokens": 1_993_000})),
        NoSuchCategory,
    ),
)]
pub(super) async fn category_total(
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
