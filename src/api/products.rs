//! What the app stores sell for us.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr,
        schema::{Schema, Type},
    },
};

use super::{
    allocations::CREDITS, description::Kind, error::ApiError, schemas::map_of, state::Service,
};
use crate::domain::{Credits, ProductId};

#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Products(BTreeMap<ProductId, Offer>);

#[derive(Serialize)]
struct Offer {
    credits: Credits,
}

impl PartialSchema for Products {
    fn schema() -> RefOr<Schema> {
        map_of("Product", "Products by the name that the app stores know them by.").into()
    }
}

impl ToSchema for Products {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        let offer = ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("What one of a product is worth."))
            .property("credits", CREDITS.schema())
            .required("credits");
        schemas.push(("Product".to_owned(), offer.into()));
    }
}

/// What is sold
#[utoipa::path(
    get, path = "/api/billing/products", tag = "service",
    responses((status = 200, description = "Every product that is offered.", body = Products,
        example = json!({
            "noteapp.credits.large": {"credits": 1000},
            "noteapp.credits.regular": {"credits": 500},
            "noteapp.credits.small": {"credits": 300},
        }))),
)]
pub(super) async fn products(State(service): Service) -> Result<Json<Products>, ApiError> {
    let products = service.products().await?;
    let offered = products.offered().map(|(name, credits)| (name.clone(), Offer { credits }));
    Ok(Json(Products(offered.collect())))
}
