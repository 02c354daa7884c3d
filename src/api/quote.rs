//! What an allocation would come to.

use axum::{Json, extract::State, http::Uri};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{
        RefOr,
        schema::{OneOfBuilder, Schema},
    },
};

use super::{
    allocations::{AMOUNT_MAX, CREDITS, MODEL_ID},
    code::refusals,
    description::{Integer, Parsed, null, one_of, query},
    error::ApiError,
    problem::{Lowest, Problem, Problems, Range, Step},
    schemas::{CategoryName, ValidationError, balance as balance_schema},
    state::Service,
};
use crate::{
    domain::{Asked, Category, Credits, Limit, ModelId, Quote, Tokens},
    service::Caller,
};

const TOKENS: Integer<Tokens> = Integer {
    range: Range { lowest: Lowest::Above(0), highest: Tokens::MAX.get() },
    make: |tokens| Tokens::new(tokens).ok(),
};

query! {
    /// What is to be told: either what so many credits buy, or the fewest credits that buy so many tokens.
    QuoteQuery {
        model_id: ModelId = MODEL_ID, and required;
        credits: Credits = CREDITS;
        tokens: Tokens = TOKENS;
    }
}

/// Reads a query that names a model, and one of the two amounts.
fn read(query: &str) -> Result<(ModelId, Asked), Problems> {
    let mut problems = None;
    let read = Problems::note(&mut problems, QuoteQuery::read(query));
    let names = |name| form_urlencoded::parse(query.as_bytes()).any(|(key, _)| key == name);
    let loc = |name: &'static str| vec![Step::from("query"), Step::from(name)];
    let amounts = match (names("credits"), names("tokens")) {
        (false, false) => Err(Problem::missing(loc("credits")).into()),
        (true, true) => {
            let text = "Value error, give credits or tokens, not both";
            Err(Problem::new("value_error", loc("tokens"), text).into())
        }
        _ => Ok(()),
    };
    Problems::note(&mut problems, amounts);
    match (read, problems) {
        (Some(QuoteQuery { model_id: Some(model), credits, tokens }), None) => {
            let tokens = || tokens.expect("one of the two is there");
            Ok((model, credits.map_or_else(|| Asked::Tokens(tokens()), Asked::Credits)))
        }
        (_, problems) => Err(problems.expect("what has no value has a problem")),
    }
}

fn model_id_schema() -> RefOr<Schema> {
    MODEL_ID.parameter_schema()
}

/// Why it would be refused, or nothing.
fn limit_schema() -> Schema {
    OneOfBuilder::new().item(null()).item(one_of(Limit::ALL.map(Limit::name))).into()
}

#[derive(Serialize, ToSchema)]
pub(super) struct Quoted {
    #[schema(schema_with = model_id_schema)]
    model_id: ModelId,
    #[schema(value_type = CategoryName)]
    category: Category,
    /// Credits per million tokens.
    #[schema(schema_with = balance_schema)]
    price_per_m_token: i64,
    #[schema(schema_with = balance_schema)]
    credits: Credits,
    /// What they buy, whether or not it fits.
    #[schema(schema_with = balance_schema)]
    tokens: Tokens,
    #[schema(schema_with = balance_schema)]
    available_credits: Credits,
    /// What the category holds.
    #[schema(schema_with = balance_schema)]
    category_tokens: Tokens,
    /// What it may hold.
    #[schema(schema_with = balance_schema)]
    limit_tokens: Tokens,
    #[schema(schema_with = balance_schema)]
    free_tokens: Tokens,
    /// The most that could be allocated now.
    #[schema(schema_with = balance_schema)]
    max_credits: Credits,
    #[schema(schema_with = balance_schema)]
    max_tokens: Tokens,
    /// Why the allocation would be refused.
    #[schema(schema_with = limit_schema)]
    limited_by: Option<&'static str>,
}

refusals!(NotPriced, "The model can't be bought.", ["model_not_priced"], with fields);

/// What an allocation would buy
///
/// Worked out as if it were made: allocating `max_credits` succeeds now, and one more does not.
#[utoipa::path(
    get, path = "/api/billing/quote", tag = "account", security(("bearer" = [])),
    params(QuoteQuery),
    responses(
        (status = 200, description = "What it would come to.", body = Quoted, example = json!({
            "model_id": "gemini-2.0-flash", "category": "quick", "price_per_m_token": 75,
            "credits": 150, "tokens": 2_000_000, "available_credits": 300,
            "category_tokens": 0, "limit_tokens": 5_000_000, "free_tokens": 5_000_000,
            "max_credits": 300, "max_tokens": 4_000_000, "limited_by": null,
        })),
        NotPriced,
        (status = 422, description = "Malformed. Every problem is listed.",
            body = ValidationError, example = json!({"detail": [{
                "type": "missing", "loc": ["query", "credits"], "msg": "Field required",
            }]})),
    ),
)]
pub(super) async fn quote(
    State(service): Service,
    caller: Caller,
    uri: Uri,
) -> Result<Json<Quoted>, ApiError> {
    let (model_id, asked) = read(uri.query().unwrap_or_default())?;
    let most = Credits::new(AMOUNT_MAX).expect("an amount");
    let quote = service.quote(&caller.user, &model_id, asked, most).await?;
    let Quote { price, credits, tokens, available_credits, max_credits, max_tokens, .. } = quote;
    let Quote { category_tokens, limit_tokens, free_tokens, limited_by, .. } = quote;
    Ok(Json(Quoted {
        model_id,
        category: price.category(),
        price_per_m_token: price.price_per_m_token(),
        credits,
        tokens,
        available_credits,
        category_tokens,
        limit_tokens,
        free_tokens,
        max_credits,
        max_tokens,
        limited_by: limited_by.map(Limit::name),
    }))
}
