//! Holds: tokens that are put aside before a chat, and settled by what it used.

use axum::{
    Json,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    http::Request,
    response::Response,
};
use chrono::{SecondsFormat, TimeDelta};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::{
    allocations::{AMOUNT_MAX, MODEL_ID},
    body::read_json,
    caller::Consumer,
    code::refusals,
    consumptions::TOKENS,
    description::{Integer, Maybe, body},
    error::ApiError,
    idempotency::{RequestKey, answer},
    problem::{Lowest, Problem, Range, Step},
    schemas::{HoldStatusName, balance as balance_schema},
    state::Service,
};
use crate::{
    domain::{
        HoldId, HoldStatus, ModelId, OpenedHold, Refusal, Release, Settlement, Tokens, Usage,
    },
    ledger::LedgerError,
    service::{Caller, NewHold, ServiceError},
};

/// For how long a hold counts where nobody says, in seconds.
const TTL_DEFAULT_SECONDS: i64 = 900;
/// For how long it may count, in seconds.
const TTL_SECONDS: Range = Range { lowest: Lowest::From(10), highest: 86_400 };

const HELD: Integer<Tokens> = Integer {
    range: Range { lowest: Lowest::From(1), highest: AMOUNT_MAX },
    make: |tokens| Tokens::new(tokens).ok(),
};
const TTL: Integer<TimeDelta> = Integer { range: TTL_SECONDS, make: TimeDelta::try_seconds };

body! {
    /// Tokens to put aside. Where there are fewer, `min_tokens` will do; `ttl_seconds` is 900 unless told.
    CreateHold {
        model_id: ModelId = MODEL_ID,
        tokens: Tokens = HELD,
        min_tokens: Option<Tokens> = Maybe(HELD),
        ttl_seconds: Option<TimeDelta> = Maybe(TTL),
    }
}

body! {
    /// What a chat used.
    SettleHold {
        input_tokens: Tokens = TOKENS,
        output_tokens: Tokens = TOKENS,
    }
}

/// Tokens put aside.
#[derive(Serialize, ToSchema)]
pub(super) struct Hold {
    #[serde(rename = "hold_id")]
    #[schema(value_type = String)]
    id: HoldId,
    #[serde(serialize_with = "name")]
    #[schema(value_type = HoldStatusName)]
    status: HoldStatus,
    #[schema(value_type = String)]
    model_id: ModelId,
    #[schema(schema_with = balance_schema)]
    held_tokens: Tokens,
    /// Tokens of the model that can be used besides.
    #[schema(schema_with = balance_schema)]
    available_tokens: Tokens,
    #[schema(format = DateTime)]
    expires_at: String,
}

#[derive(Serialize, ToSchema)]
struct SettledHold {
    #[schema(value_type = String)]
    hold_id: HoldId,
    #[serde(serialize_with = "name")]
    #[schema(value_type = HoldStatusName)]
    status: HoldStatus,
    #[schema(schema_with = balance_schema)]
    consumed_tokens: Tokens,
    #[schema(schema_with = balance_schema)]
    released_tokens: Tokens,
    /// What was used and could not be taken.
    #[schema(schema_with = balance_schema)]
    shortfall_tokens: Tokens,
    #[schema(schema_with = balance_schema)]
    remaining_tokens: Tokens,
    transaction_id: i64,
}

#[derive(Serialize, ToSchema)]
struct ReleasedHold {
    #[schema(value_type = String)]
    hold_id: HoldId,
    #[serde(serialize_with = "name")]
    #[schema(value_type = HoldStatusName)]
    status: HoldStatus,
    #[schema(schema_with = balance_schema)]
    released_tokens: Tokens,
    #[schema(schema_with = balance_schema)]
    remaining_tokens: Tokens,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn name<S: Serializer>(status: &HoldStatus, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(status.name())
}

impl From<OpenedHold> for Hold {
    fn from(OpenedHold { hold, available }: OpenedHold) -> Self {
        Self {
            id: hold.id,
            status: hold.status,
            model_id: hold.model,
            held_tokens: hold.held_tokens,
            available_tokens: available,
            expires_at: hold.expires_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        }
    }
}

impl From<Settlement> for SettledHold {
    fn from(settlement: Settlement) -> Self {
        Self {
            hold_id: settlement.hold,
            status: HoldStatus::Settled,
            consumed_tokens: settlement.consumed,
            released_tokens: settlement.released,
            shortfall_tokens: settlement.shortfall,
            remaining_tokens: settlement.remaining,
            transaction_id: settlement.transaction,
        }
    }
}

impl From<Release> for ReleasedHold {
    fn from(Release { hold, released, remaining }: Release) -> Self {
        let status = HoldStatus::Released;
        Self { hold_id: hold, status, released_tokens: released, remaining_tokens: remaining }
    }
}

impl CreateHold {
    /// Checks what depends on another member.
    fn checked(self) -> Result<NewHold, ApiError> {
        let Self { model_id: model, tokens, min_tokens, ttl_seconds } = self;
        if let Some(min_tokens) = min_tokens {
            let range = Range { highest: tokens.get(), ..HELD.range };
            let loc = || vec![Step::from("body"), Step::from("min_tokens")];
            let checked = range.check_digits(&min_tokens.to_string(), loc);
            checked.map_err(|problem: Problem| ApiError::Unprocessable(problem.into()))?;
        }
        let ttl = ttl_seconds.unwrap_or_else(|| TimeDelta::seconds(TTL_DEFAULT_SECONDS));
        Ok(NewHold { model, tokens, min_tokens, ttl })
    }
}

/// The hold that a path names.
fn named(hold_id: Result<Path<String>, PathRejection>) -> Result<HoldId, ApiError> {
    let id = hold_id.ok().and_then(|Path(name)| HoldId::from_name(&name));
    id.ok_or_else(|| ServiceError::from(LedgerError::Refused(Refusal::HoldNotFound)).into())
}

refusals!(
    MayNot,
    "The account is frozen or another's, or this kind of login is not enough.",
    ["forbidden", "account_frozen"]
);
refusals!(
    NotHeld,
    "A rule says no.",
    ["no_token_balance", "too_many_holds", "insufficient_tokens"],
    with fields
);
refusals!(NoSuchHold, "The user has no such hold.", ["hold_not_found"]);
refusals!(Closed, "It was closed in another way, which `status` tells.", ["hold_closed"], with fields);

/// Put tokens aside for a chat
///
/// They count as used until the hold is settled, released, or expires; `/balance` shows them until they are used.
/// With less than `tokens` but at least `min_tokens` available, the hold is as large as what is available. With
/// `BILLING_CONSUME_BY=backend` apps may not.
#[utoipa::path(
    post, path = "/api/billing/holds", tag = "changes", security(("bearer" = [])),
    request_body(content = CreateHold, example = json!({
        "model_id": "gemini-2.0-flash", "tokens": 8000, "min_tokens": 1000, "ttl_seconds": 600,
    })),
    responses(
        (status = 200, description = "They are put aside.", body = Hold, example = json!({
            "hold_id": "019ac5c5-5c1f-7d7a-9a5e-3f2b8f0c1d2e", "status": "held",
            "model_id": "gemini-2.0-flash", "held_tokens": 8000, "available_tokens": 1_992_000,
            "expires_at": "2026-11-28T04:10:00.000000Z",
        })),
        NotHeld,
        MayNot,
    ),
)]
pub(super) async fn create(
    State(service): Service,
    Consumer(caller): Consumer,
    key: RequestKey,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (body, keyed) = key.read::<CreateHold>(&json)?;
    let applied = service.hold(caller, keyed, body.checked()?).await?;
    Ok(answer(applied, Hold::from))
}

/// Settle a hold by what the chat used
///
/// More than was held takes the rest from what is available; what is missing then is `shortfall_tokens`. Less gives the
/// rest back. After the hold has expired, all is taken from what is available. With the same figures it can be
/// repeated.
#[utoipa::path(
    post, path = "/api/billing/holds/{hold_id}/settle", tag = "changes", security(("bearer" = [])),
    params(("hold_id" = String, Path)),
    request_body(content = SettleHold,
        example = json!({"input_tokens": 5000, "output_tokens": 2000})),
    responses(
        (status = 200, description = "They are used.", body = SettledHold, example = json!({
            "hold_id": "019ac5c5-5c1f-7d7a-9a5e-3f2b8f0c1d2e", "status": "settled",
            "consumed_tokens": 7000, "released_tokens": 1000, "shortfall_tokens": 0,
            "remaining_tokens": 1_993_000, "transaction_id": 4,
        })),
        NoSuchHold, Closed,
    ),
)]
pub(super) async fn settle(
    State(service): Service,
    Consumer(caller): Consumer,
    key: RequestKey,
    hold_id: Result<Path<String>, PathRejection>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let json = read_json(request).await?;
    let (body, keyed) = key.read::<SettleHold>(&json)?;
    let usage = Usage::new(body.input_tokens, body.output_tokens)
        .expect("two amounts of a chat are within what an account holds");
    let applied = service.settle_hold(caller, keyed, named(hold_id)?, usage).await?;
    Ok(answer(applied, SettledHold::from))
}

/// Give a hold up
///
/// Nothing is used. Needs no body. It can be repeated.
#[utoipa::path(
    post, path = "/api/billing/holds/{hold_id}/release", tag = "changes", security(("bearer" = [])),
    params(("hold_id" = String, Path)),
    responses(
        (status = 200, description = "They are free again.", body = ReleasedHold, example = json!({
            "hold_id": "019ac5c5-5c1f-7d7a-9a5e-3f2b8f0c1d2e", "status": "released",
            "released_tokens": 8000, "remaining_tokens": 2_000_000,
        })),
        NoSuchHold, Closed,
    ),
)]
pub(super) async fn release(
    State(service): Service,
    Consumer(caller): Consumer,
    key: RequestKey,
    hold_id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let applied = service.release_hold(caller, key.of_no_body(), named(hold_id)?).await?;
    Ok(answer(applied, ReleasedHold::from))
}

/// Open holds
///
/// The oldest first.
#[utoipa::path(
    get, path = "/api/billing/holds", tag = "account", security(("bearer" = [])),
    responses((status = 200, description = "Those that count.", body = Vec<Hold>, example = json!([{
        "hold_id": "019ac5c5-5c1f-7d7a-9a5e-3f2b8f0c1d2e", "status": "held",
        "model_id": "gemini-2.0-flash", "held_tokens": 8000, "available_tokens": 1_992_000,
        "expires_at": "2026-11-28T04:10:00.000000Z",
    }]))),
)]
pub(super) async fn holds(
    State(service): Service,
    caller: Caller,
) -> Result<Json<Vec<Hold>>, ApiError> {
    let holds = service.holds(&caller.user).await?;
    Ok(Json(holds.into_iter().map(Hold::from).collect()))
}

/// A hold, open or closed
///
/// It is forgotten 7 days after it was closed, or expired.
#[utoipa::path(
    get, path = "/api/billing/holds/{hold_id}", tag = "account", security(("bearer" = [])),
    params(("hold_id" = String, Path)),
    responses(
        (status = 200, description = "What became of it.", body = Hold, example = json!({
            "hold_id": "019ac5c5-5c1f-7d7a-9a5e-3f2b8f0c1d2e", "status": "expired",
            "model_id": "gemini-2.0-flash", "held_tokens": 8000, "available_tokens": 2_000_000,
            "expires_at": "2026-11-28T04:10:00.000000Z",
        })),
        NoSuchHold,
    ),
)]
pub(super) async fn hold(
    State(service): Service,
    caller: Caller,
    hold_id: Result<Path<String>, PathRejection>,
) -> Result<Json<Hold>, ApiError> {
    let hold = service.find_hold(&caller.user, named(hold_id)?).await?;
    Ok(Json(hold.into()))
}
