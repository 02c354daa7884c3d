//! What the app stores sell for us.

use axum::{Json, extract::State};
use serde::{Serialize, Serializer};
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
use crate::domain::{Credits, ProductList};

/// Those that are offered.
pub(super) struct Products(ProductList);

#[derive(Serialize)]
struct Offer {
    credits: Credits,
}

impl Serialize for Products {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let offered = self.0.offered();
        serializer.collect_map(offered.map(|(name, credits)| (name, Offer { credits })))
    }
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
    Ok(Json(Products(service.products().await?)))
}
