//! Users: who is looked for, and all of one at a glance.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use super::{
    super::{
        description::{Integer, Text, query},
        error::ApiError,
        holds::Hold,
        ledger::LedgerItem,
        problem::{Lowest, Range},
        schemas::{ValidationError, balance as balance_schema},
        state::Service,
        usage::{UsageItem, Zone},
        wallet::Wallet,
    },
    summary::{time, time_if_any},
};
use crate::{
    domain::{
        FoundUser, HistoryFilter, IdentifierError, LedgerLine, PurchaseLine, Refusal,
        STORE_TRANSACTION_ID_MAX_CHARS, StoreTransactionId, UsageBy, UserFilter, UserId, UserPage,
    },
    ledger::LedgerError,
    service::{ServiceError, UserSeen},
};

const LIMIT_DEFAULT: u16 = 50;
const LIMIT: Integer<u16> = Integer {
    range: Range { lowest: Lowest::From(1), highest: 200 },
    make: |limit| u16::try_from(limit).ok(),
};
const NUMBER: Integer<i64> =
    Integer { range: Range { lowest: Lowest::From(1), highest: i64::MAX }, make: Some };
/// How many of a user's newest lines of the ledger are told.
const LEDGER_LINES: u16 = 20;

/// A user's name, or its beginning, or a purchase's id at its store, which is the longer one.
const QUERY: Text<String> = Text {
    max_chars: STORE_TRANSACTION_ID_MAX_CHARS,
    make: |text| StoreTransactionId::new(text.clone()).map(|_| text),
};

query! {
    /// Who is looked for.
    UsersQuery {
        query: String = QUERY;
        limit: u16 = LIMIT, or LIMIT_DEFAULT;
        before: i64 = NUMBER;
    }
}

query! {
    /// By which days usage is told.
    UserQuery {
        timezone: Tz = Zone, or Tz::UTC.name();
    }
}

#[derive(Serialize, ToSchema)]
struct UserItem {
    #[schema(value_type = String)]
    user_id: UserId,
    #[schema(schema_with = balance_schema)]
    credits: i64,
    /// Whether nothing may be spent or used.
    frozen: bool,
    #[serde(serialize_with = "time")]
    #[schema(value_type = String, format = DateTime)]
    created_at: DateTime<Utc>,
}

impl From<FoundUser> for UserItem {
    fn from(found: FoundUser) -> Self {
        let FoundUser { user, credits, frozen, created_at, .. } = found;
        Self { user_id: user, credits, frozen, created_at }
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct Users {
    items: Vec<UserItem>,
}

/// Users who are looked for
///
/// By a user's name, its beginning, or the id of a purchase at its store. Who is called just so, or made that
/// purchase, comes first, then the newest users.
#[utoipa::path(
    get, path = "/api/billing/operator/users", tag = "operator", security(("bearer" = [])),
    params(UsersQuery),
    responses(
        (status = 200, description = "A page of users.", body = Users,
            headers(("Link" = String, description = "`<…>; rel=\"next\"` when older ones remain"))),
        (status = 422, description = "Malformed. Every problem is listed.", body = ValidationError),
    ),
)]
pub(super) async fn users(State(service): Service, uri: Uri) -> Result<Response, ApiError> {
    let UsersQuery { query, limit, before } = UsersQuery::read(uri.query().unwrap_or_default())?;
    let filter = UserFilter { query, before, limit: limit.unwrap_or(LIMIT_DEFAULT) };
    let UserPage { users, next_before } = service.users(&filter).await?;
    let items = users.into_iter().map(UserItem::from).collect();
    let mut response = Json(Users { items }).into_response();
    if let Some(before) = next_before {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(text) = &filter.query {
            query.append_pair("query", text);
        }
        query.append_pair("limit", &filter.limit.to_string());
        query.append_pair("before", &before.to_string());
        let link = format!("<{}?{}>; rel=\"next\"", uri.path(), query.finish());
        let link = HeaderValue::try_from(link).expect("a path and a percent-encoded query");
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

#[derive(Serialize, ToSchema)]
struct PurchaseItem {
    #[schema(schema_with = balance_schema)]
    id: i64,
    store: &'static str,
    state: &'static str,
    reason: Option<String>,
    environment: Option<String>,
    /// The store's own id.
    store_id: Option<String>,
    product_id: Option<String>,
    quantity: Option<i64>,
    credits: Option<i64>,
    price_milliunits: Option<i64>,
    currency: Option<String>,
    #[serde(serialize_with = "time")]
    #[schema(value_type = String, format = DateTime)]
    received_at: DateTime<Utc>,
    #[serde(serialize_with = "time_if_any")]
    #[schema(value_type = Option<String>, format = DateTime)]
    purchased_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "time_if_any")]
    #[schema(value_type = Option<String>, format = DateTime)]
    granted_at: Option<DateTime<Utc>>,
    #[serde(serialize_with = "time_if_any")]
    #[schema(value_type = Option<String>, format = DateTime)]
    acknowledged_at: Option<DateTime<Utc>>,
    /// What refunds took, in credits.
    #[schema(schema_with = balance_schema)]
    taken_credits: i64,
    /// What refunds could not take.
    #[schema(schema_with = balance_schema)]
    shortfall_credits: i64,
}

impl From<PurchaseLine> for PurchaseItem {
    fn from(line: PurchaseLine) -> Self {
        Self {
            id: line.id,
            store: line.store.name(),
            state: line.state.name(),
            reason: line.reason,
            environment: line.environment,
            store_id: line.store_id,
            product_id: line.product_id,
            quantity: line.quantity,
            credits: line.credits,
            price_milliunits: line.price_milliunits,
            currency: line.currency,
            received_at: line.received_at,
            purchased_at: line.purchased_at,
            granted_at: line.granted_at,
            acknowledged_at: line.acknowledged_at,
            taken_credits: line.taken_credits,
            shortfall_credits: line.shortfall_credits,
        }
    }
}

/// All of a user.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "they are called so on the wire")]
pub(super) struct User {
    #[schema(value_type = String)]
    user_id: UserId,
    wallet: Wallet,
    /// Whether nothing may be spent or used.
    frozen: bool,
    /// Those that count, the oldest first.
    holds: Vec<Hold>,
    /// The newest twenty that the stores confirm.
    purchases: Vec<PurchaseItem>,
    /// The newest twenty lines.
    #[schema(value_type = Vec<LedgerItem>)]
    ledger: Vec<Box<RawValue>>,
    /// Of thirty days, by day.
    usage: Vec<UsageItem>,
}

/// All of a user at a glance
///
/// Days of usage are those of the time zone asked for.
#[utoipa::path(
    get, path = "/api/billing/operator/users/{user_id}", tag = "operator",
    security(("bearer" = [])), params(("user_id" = String, Path), UserQuery),
    responses(
        (status = 200, description = "The user.", body = User),
        (status = 422, description = "Malformed. Every problem is listed.", body = ValidationError),
    ),
)]
pub(super) async fn user(
    State(service): Service,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<User>, ApiError> {
    let UserQuery { timezone } = UserQuery::read(uri.query().unwrap_or_default())?;
    let unknown =
        || ApiError::Service(ServiceError::Ledger(LedgerError::Refused(Refusal::UserNotFound)));
    // What can be no name is nobody's.
    let Ok(Path(name)) = name else { return Err(unknown()) };
    let name: Result<UserId, IdentifierError> = UserId::new(name);
    let Ok(name) = name else { return Err(unknown()) };
    let seen = service.user_seen(&name, timezone.unwrap_or(Tz::UTC)).await?;
    let UserSeen { user, wallet, holds, purchases, usage } = seen.ok_or_else(unknown)?;
    let mut ledger = Vec::new();
    let filter = HistoryFilter { limit: LEDGER_LINES, before: None, kind: None, model: None };
    let mut written = Ok(());
    let mut take = |line: &LedgerLine<'_>| match to_raw_value(&LedgerItem::from(line)) {
        Ok(line) => ledger.push(line),
        Err(error) => written = Err(error),
    };
    service.ledger(&name, &filter, &mut take).await?;
    written.map_err(|error| ApiError::Internal(error.to_string()))?;
    let usage = usage.lines.into_iter().map(|line| UsageItem::new(line, UsageBy::Day));
    Ok(Json(User {
        user_id: user.user,
        frozen: wallet.frozen,
        wallet: wallet.into(),
        holds: holds.into_iter().map(Hold::from).collect(),
        purchases: purchases.into_iter().map(PurchaseItem::from).collect(),
        ledger,
        usage: usage.collect(),
    }))
}
