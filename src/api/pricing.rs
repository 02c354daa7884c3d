//! What models cost.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, Ref, RefOr,
        schema::{Schema, Type},
    },
};

use super::{
    description::integer,
    error::ApiError,
    problem::{Lowest, Range},
    schemas::{CategoryName, map_of},
    state::Service,
};
use crate::domain::PriceList;

/// What a price may be: the lowest is the domain's, the highest its integers'.
const PRICE: Range = Range { lowest: Lowest::From(1), highest: i64::MAX };

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Prices(PriceList);

impl PartialSchema for Prices {
    fn schema() -> RefOr<Schema> {
        map_of("ModelPrice", "Prices by model.").into()
    }
}

impl ToSchema for Prices {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        let price = ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("What a model costs."))
            .property("price_per_m_token", integer(PRICE))
            .required("price_per_m_token")
            .property("category", Ref::from_schema_name(CategoryName::name()))
            .required("category");
        schemas.push(("ModelPrice".to_owned(), price.into()));
        schemas.push((CategoryName::name().into_owned(), CategoryName::schema()));
    }
}

/// What models cost
#[utoipa::path(
    get, path = "/api/billing/pricing", tag = "service",
    responses((status = 200, description = "Every model that can be bought.", body = Prices,
        example = json!({
            "gemini-2.0-flash": {"price_per_m_token": 75, "category": "quick"},
            "gemini-2.5-flash": {"price_per_m_token": 255, "category": "quick"},
            "gemini-2.5-pro": {"price_per_m_token": 750, "category": "think"},
        }))),
)]
pub(super) async fn pricing(State(service): Service) -> Result<Json<Prices>, ApiError> {
    Ok(Json(Prices(service.pricing().await?)))
}
