//! All that a user has, in one answer that a client need not fetch again while nothing has changed.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher},
};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{ToSchema, openapi::Object};

use super::{
    error::ApiError,
    schemas::{balance as balance_schema, map_of},
    state::Service,
};
use crate::{
    domain::{self, CategoryRoom, Credits, ModelId, Tokens},
    service::Caller,
};

/// The headers that save a wallet being sent again.
pub(super) const KNOWN_TAG: &str = "if-none-match";
pub(super) const TAG: &str = "etag";

#[derive(Serialize, ToSchema)]
pub(super) struct Wallet {
    credits: WalletCredits,
    #[schema(schema_with = tokens_schema)]
    tokens: BTreeMap<ModelId, WalletTokens>,
    categories: WalletCategories,
    /// Whether nothing may be spent or used.
    frozen: bool,
}

#[derive(Serialize, ToSchema)]
struct WalletCredits {
    /// What can be spent.
    #[schema(schema_with = balance_schema)]
    total: Credits,
    /// How much of it was given, not bought.
    #[schema(schema_with = balance_schema)]
    bonus: Credits,
}

/// A model's tokens: those allocated are held or available.
#[derive(Serialize, ToSchema)]
pub(super) struct WalletTokens {
    #[schema(schema_with = balance_schema)]
    allocated: Tokens,
    #[schema(schema_with = balance_schema)]
    held: Tokens,
    #[schema(schema_with = balance_schema)]
    available: Tokens,
}

#[derive(Serialize, ToSchema)]
struct WalletCategories {
    quick: WalletCategory,
    think: WalletCategory,
}

/// What a category holds, may hold, and has left.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "they are called so on the wire")]
struct WalletCategory {
    #[schema(schema_with = balance_schema)]
    total_tokens: Tokens,
    #[schema(schema_with = balance_schema)]
    limit_tokens: Tokens,
    #[schema(schema_with = balance_schema)]
    free_tokens: Tokens,
}

fn tokens_schema() -> Object {
    map_of(&WalletTokens::name(), "Every model that ever got tokens, at zero too.")
}

impl From<domain::Wallet> for Wallet {
    fn from(wallet: domain::Wallet) -> Self {
        let tokens = wallet.tokens.into_iter().map(|(model, tokens)| {
            let domain::WalletTokens { allocated, held, available } = tokens;
            (model, WalletTokens { allocated, held, available })
        });
        let category = |room: CategoryRoom| WalletCategory {
            total_tokens: room.total,
            limit_tokens: room.limit,
            free_tokens: room.free,
        };
        Self {
            credits: WalletCredits { total: wallet.credits, bonus: wallet.bonus },
            tokens: tokens.collect(),
            categories: WalletCategories {
                quick: category(wallet.quick),
                think: category(wallet.think),
            },
            frozen: wallet.frozen,
        }
    }
}

/// What a body is told apart by from what the same user saw before. Another release may tell the same body apart from
/// itself, which costs sending it once more.
fn tag_of(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether `If-None-Match` names the tag, or any. A weak one names the same body here.
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(KNOWN_TAG).iter();
    // No comma is in our tags, so it does not matter where those of others are cut.
    let mut tags = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    tags.any(|other| {
        let other = other.trim();
        other == "*" || other.strip_prefix("W/").unwrap_or(other) == tag
    })
}

/// Everything at a glance
///
/// With `If-None-Match` it is only sent when it has changed.
#[utoipa::path(
    get, path = "/api/billing/wallet", tag = "account", security(("bearer" = [])),
    params(("If-None-Match" = Option<String>, Header,
        description = "The `ETag` of the wallet that is known.")),
    responses(
        (status = 200, description = "What the user has, and what still fits.", body = Wallet,
            headers(("ETag" = String, description = "Changes when anything of it does.")),
            example = json!({
                "credits": {"total": 150, "bonus": 0},
                "tokens": {"gemini-2.0-flash": {
                    "allocated": 2_000_000, "held": 0, "available": 2_000_000,
                }},
                "categories": {
                    "quick": {"total_tokens": 2_000_000, "limit_tokens": 5_000_000, "free_tokens": 3_000_000},
                    "think": {"total_tokens": 0, "limit_tokens": 1_000_000, "free_tokens": 1_000_000},
                },
                "frozen": false,
            })),
        (status = 304, description = "It is as it was.",
            headers(("ETag" = String, description = "The one that was sent."))),
    ),
)]
pub(super) async fn wallet(
    State(service): Service,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let wallet = Wallet::from(service.wallet(&caller.user).await?);
    let body =
        serde_json::to_vec(&wallet).map_err(|error| ApiError::Internal(error.to_string()))?;
    let tag = tag_of(&body);
    let is_known = is_known(&headers, &tag);
    let tag = HeaderValue::try_from(tag).map_err(|error| ApiError::Internal(error.to_string()))?;
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json), (header::ETAG, tag)], body).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_by_any_list_that_names_it() {
        let tag = tag_of(b"{}");
        assert_eq!(tag.len(), 18);
        assert_ne!(tag, tag_of(b"{ }"));
        for (value, known) in [
            (tag.clone(), true),
            (format!("W/{tag}"), true),
            (format!("\"a,b\", W/\"c\" ,{tag}"), true),
            ("*".to_owned(), true),
            ("\"a\", \"b\"".to_owned(), false),
            (tag.trim_matches('"').to_owned(), false),
            (String::new(), false),
        ] {
            let value = HeaderValue::try_from(value).expect("a header's value");
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, value.clone())]);
            assert_eq!(is_known(&headers, &tag), known, "{value:?}");
        }
        assert!(!is_known(&HeaderMap::new(), &tag));
    }
}
