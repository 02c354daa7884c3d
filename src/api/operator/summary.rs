//! The whole at a glance.

use std::collections::BTreeMap;

use axum::{Json, extract::State, http::Uri};
use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde::{Serialize, Serializer};
use utoipa::{
    ToSchema,
    openapi::{
        Object, ObjectBuilder,
        schema::{AdditionalProperties, Schema, Type},
    },
};

use super::{
    super::{
        description::{Integer, query},
        error::ApiError,
        problem::{Lowest, Range},
        schemas::{ValidationError, balance as balance_schema},
        state::Service,
        usage::{Zone, date_schema},
    },
    verification::VerificationTold,
};
use crate::{
    domain::{PurchaseState, Summary, SummaryDay},
    service::SummaryTold,
};

/// Of how many days is told, where nobody says.
const DAYS_DEFAULT: u16 = 30;
const DAYS: Integer<u16> = Integer {
    range: Range { lowest: Lowest::From(1), highest: 400 },
    make: |days| u16::try_from(days).ok(),
};

query! {
    /// Of which days is told.
    SummaryQuery {
        days: u16 = DAYS, or DAYS_DEFAULT;
        timezone: Tz = Zone, or Tz::UTC.name();
    }
}

/// As all times: in UTC, with microseconds.
pub(super) fn time<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// The same, or null.
#[expect(clippy::ref_option, reason = "the signature is serde's")]
pub(super) fn time_if_any<S: Serializer>(
    at: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => time(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// Numbers by names.
fn counts_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(AdditionalProperties::RefOr(
            Schema::from(balance_schema()).into(),
        )))
        .build()
}

#[derive(Serialize, ToSchema)]
struct WholeCredits {
    /// Bought.
    #[schema(schema_with = balance_schema)]
    sold: i64,
    #[schema(schema_with = balance_schema)]
    given: i64,
    /// Turned into tokens, less those that were returned.
    #[schema(schema_with = balance_schema)]
    allocated: i64,
    /// Taken by refunds, less those that were given back.
    #[schema(schema_with = balance_schema)]
    refunded: i64,
    /// What refunds could not take.
    #[schema(schema_with = balance_schema)]
    shortfall: i64,
}

#[derive(Serialize, ToSchema)]
struct WholeTokens {
    /// Taken by consumptions, also those that came back.
    #[schema(schema_with = balance_schema)]
    consumed: i64,
    /// Used beyond what could be taken.
    #[schema(schema_with = balance_schema)]
    shortfall: i64,
}

#[derive(Serialize, ToSchema)]
struct WholeDay {
    #[schema(schema_with = date_schema)]
    day: String,
    #[schema(schema_with = balance_schema)]
    credits_sold: i64,
    /// Users who consumed something.
    #[schema(schema_with = balance_schema)]
    active_users: i64,
    /// Tokens that consumptions took, by model.
    #[schema(schema_with = counts_schema)]
    tokens: BTreeMap<String, i64>,
}

impl From<SummaryDay> for WholeDay {
    fn from(day: SummaryDay) -> Self {
        let SummaryDay { day, credits_sold, active_users, tokens } = day;
        Self { day, credits_sold, active_users, tokens }
    }
}

#[derive(Serialize, ToSchema)]
struct WholeDatabase {
    /// `sqlite` or `postgres`.
    engine: &'static str,
    #[schema(schema_with = balance_schema)]
    bytes: u64,
}

/// Granted purchases whose store is to be told that they were delivered.
#[derive(Serialize, ToSchema)]
struct Acknowledgements {
    #[schema(schema_with = balance_schema)]
    due: u64,
    /// When the oldest of those was granted.
    #[serde(serialize_with = "time_if_any")]
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_at: Option<DateTime<Utc>>,
}

/// What the whole comes to.
#[derive(Serialize, ToSchema)]
pub(super) struct Whole {
    /// What was answered before is in the sums.
    #[serde(serialize_with = "time")]
    #[schema(value_type = String, format = DateTime)]
    as_of: DateTime<Utc>,
    #[schema(schema_with = balance_schema)]
    users: u64,
    credits: WholeCredits,
    tokens: WholeTokens,
    /// The oldest first, today last.
    days: Vec<WholeDay>,
    /// How many the stores confirm, by state.
    #[schema(schema_with = counts_schema)]
    purchases: BTreeMap<&'static str, u64>,
    /// When the oldest purchase came that waits for its store's word, or for somebody to look.
    #[serde(serialize_with = "time_if_any")]
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_waiting_at: Option<DateTime<Utc>>,
    acknowledgements: Acknowledgements,
    /// How many their store did not confirm the last time it was asked, by store.
    #[schema(schema_with = counts_schema)]
    unconfirmed: BTreeMap<&'static str, u64>,
    database: WholeDatabase,
    version: &'static str,
    verify: VerificationTold,
}

impl From<SummaryTold> for Whole {
    fn from(told: SummaryTold) -> Self {
        let SummaryTold { summary, engine, bytes, verification } = told;
        let Summary { as_of, totals, counts, days } = summary;
        let purchases = PurchaseState::ALL.map(|state| {
            let found = counts.purchases.iter().find(|(other, _)| *other == state);
            (state.name(), found.map_or(0, |(_, purchases)| *purchases))
        });
        let unconfirmed = counts.unconfirmed.iter().map(|(store, count)| (store.name(), *count));
        Self {
            as_of,
            users: counts.users,
            credits: WholeCredits {
                sold: totals.credits_sold,
                given: totals.credits_given,
                allocated: totals.credits_allocated,
                refunded: totals.credits_refunded,
                shortfall: counts.credits_shortfall,
            },
            tokens: WholeTokens {
                consumed: totals.tokens_consumed,
                shortfall: totals.tokens_shortfall,
            },
            days: days.into_iter().map(WholeDay::from).collect(),
            purchases: purchases.into_iter().collect(),
            oldest_waiting_at: counts.oldest_waiting_at,
            acknowledgements: Acknowledgements {
                due: counts.acknowledgements_due,
                oldest_at: counts.oldest_acknowledgement_at,
            },
            unconfirmed: unconfirmed.collect(),
            database: WholeDatabase { engine, bytes },
            version: env!("CARGO_PKG_VERSION"),
            verify: verification.into(),
        }
    }
}

/// The whole at a glance
///
/// Figures may be a minute old. Days are those of the time zone asked for; of each it is told who consumed something
/// that day, once.
#[utoipa::path(
    get, path = "/api/billing/operator/summary", tag = "operator", security(("bearer" = [])),
    params(SummaryQuery),
    responses(
        (status = 200, description = "What the whole comes to.", body = Whole),
        (status = 422, description = "Malformed. Every problem is listed.", body = ValidationError),
    ),
)]
pub(super) async fn summary(State(service): Service, uri: Uri) -> Result<Json<Whole>, ApiError> {
    let SummaryQuery { days, timezone } = SummaryQuery::read(uri.query().unwrap_or_default())?;
    let told = service.summary(days.unwrap_or(DAYS_DEFAULT), timezone.unwrap_or(Tz::UTC));
    let told = Box::pin(told).await?;
    Ok(Json(told.into()))
}
