//! What was used: by day, month or model, in the time zone asked for.

use std::borrow::Cow;

use axum::{Json, extract::State, http::Uri};
use chrono::NaiveDate;
use chrono_tz::Tz;
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{
        KnownFormat, Object, ObjectBuilder, RefOr, SchemaFormat,
        schema::{Schema, Type},
    },
};

use super::{
    allocations::MODEL_ID,
    description::{OneOf, Parsed, query},
    error::ApiError,
    problem::{Location, Problem, Problems, Step},
    schemas::ValidationError,
    state::Service,
};
use crate::{
    domain::{DateRange, UsageBy, UsageLine, UsageSums},
    service::Caller,
};

/// Most days that are told of at once.
const DAYS_MAX: i64 = 400;
/// Characters of a date.
const DATE_CHARS: usize = "2026-11-01".len();

const BY: OneOf<UsageBy> = OneOf {
    all: &UsageBy::ALL,
    name: UsageBy::name,
    otherwise: "Input should be 'day', 'month' or 'model'",
};

/// A date as `YYYY-MM-DD`.
struct Date;

impl Parsed for Date {
    type Value = NaiveDate;

    fn parse(&self, text: Cow<'_, str>, loc: Location) -> Result<NaiveDate, Problem> {
        let shaped = text.len() == DATE_CHARS
            && text.bytes().enumerate().all(|(place, byte)| match place {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        // Year 0 is none of the calendar's.
        let date = shaped.then(|| text.parse().ok()).flatten();
        date.filter(|_| !text.starts_with("0000")).ok_or_else(|| {
            let msg = "Input should be a valid date in the format YYYY-MM-DD";
            Problem::new("date_from_datetime_parsing", loc, msg)
        })
    }

    fn parameter_schema(&self) -> RefOr<Schema> {
        Schema::from(date_schema()).into()
    }
}

fn date_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)))
        .build()
}

/// The name of a time zone, as the IANA's database has it.
struct Zone;

impl Parsed for Zone {
    type Value = Tz;

    fn parse(&self, text: Cow<'_, str>, loc: Location) -> Result<Tz, Problem> {
        text.parse().map_err(|_| {
            let msg = "Value error, must be the IANA name of a time zone, such as Asia/Tokyo";
            Problem::new("value_error", loc, msg)
        })
    }

    fn parameter_schema(&self) -> RefOr<Schema> {
        Schema::from(ObjectBuilder::new().schema_type(Type::String)).into()
    }
}

query! {
    /// The days that are to be told of, both of them counted, and how.
    UsageQuery {
        from: NaiveDate = Date, and required;
        to: NaiveDate = Date, and required;
        by: UsageBy = BY, or UsageBy::Day.name();
        timezone: Tz = Zone, or Tz::UTC.name();
    }
}

/// What is to be told.
struct Wanted {
    days: DateRange,
    by: UsageBy,
    zone: Tz,
}

fn read(query: &str) -> Result<Wanted, Problems> {
    let UsageQuery { from, to, by, timezone } = UsageQuery::read(query)?;
    let (from, to) = from.zip(to).expect("both are required");
    let wrong = |msg| {
        let loc = vec![Step::from("query"), Step::from("to")];
        Err(Problem::new("value_error", loc, msg).into())
    };
    let days_between = to.signed_duration_since(from).num_days();
    if days_between < 0 {
        return wrong("Value error, must not be before from");
    }
    if days_between >= DAYS_MAX {
        return wrong(
            "Value error, must be at most 400 days from the first one on, which is counted",
        );
    }
    let (by, zone) = (by.unwrap_or(UsageBy::Day), timezone.unwrap_or(Tz::UTC));
    Ok(Wanted { days: DateRange { from, to }, by, zone })
}

/// A whole number of any size, never negative.
fn sum_schema() -> Object {
    ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build()
}

fn model_id_schema() -> RefOr<Schema> {
    MODEL_ID.parameter_schema()
}

#[derive(Debug, Serialize, ToSchema)]
struct UsageTotals {
    /// Consumptions.
    #[schema(schema_with = sum_schema)]
    requests: i128,
    #[schema(schema_with = sum_schema)]
    input_tokens: i128,
    #[schema(schema_with = sum_schema)]
    output_tokens: i128,
    /// Tokens that consumptions took.
    #[schema(schema_with = sum_schema)]
    total_tokens: i128,
    /// Tokens that came back of consumptions, whenever those were.
    #[schema(schema_with = sum_schema)]
    reversed_tokens: i128,
    /// What `total_tokens` cost, in millionths of a credit, at the prices of their time.
    #[schema(schema_with = sum_schema)]
    cost_credits_micro: i128,
}

impl From<UsageSums> for UsageTotals {
    fn from(sums: UsageSums) -> Self {
        Self {
            requests: sums.requests,
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens,
            total_tokens: sums.total_tokens,
            reversed_tokens: sums.reversed_tokens,
            cost_credits_micro: sums.cost_credits_micro,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct UsageItem {
    /// By day alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = date_schema, required = false)]
    day: Option<String>,
    /// By month alone, as `YYYY-MM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    month: Option<String>,
    #[schema(schema_with = model_id_schema)]
    model_id: String,
    /// Consumptions.
    #[schema(schema_with = sum_schema)]
    requests: i128,
    #[schema(schema_with = sum_schema)]
    input_tokens: i128,
    #[schema(schema_with = sum_schema)]
    output_tokens: i128,
    /// Tokens that consumptions took.
    #[schema(schema_with = sum_schema)]
    total_tokens: i128,
    /// Tokens that came back of consumptions, whenever those were.
    #[schema(schema_with = sum_schema)]
    reversed_tokens: i128,
    /// What `total_tokens` cost, in millionths of a credit, at the prices of their time.
    #[schema(schema_with = sum_schema)]
    cost_credits_micro: i128,
}

impl UsageItem {
    fn new(line: UsageLine, by: UsageBy) -> Self {
        let UsageLine { period, model, sums } = line;
        let (day, month) = if by == UsageBy::Day { (period, None) } else { (None, period) };
        Self {
            day,
            month,
            model_id: model,
            requests: sums.requests,
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens,
            total_tokens: sums.total_tokens,
            reversed_tokens: sums.reversed_tokens,
            cost_credits_micro: sums.cost_credits_micro,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageTold {
    timezone: &'static str,
    #[schema(schema_with = date_schema)]
    from: String,
    #[schema(schema_with = date_schema)]
    to: String,
    /// By time, then by model.
    items: Vec<UsageItem>,
    totals: UsageTotals,
}

/// What was used
///
/// By day, month or model. Days are those of the time zone asked for. A consumption costs what its model cost when it
/// was made; of old ones that is not known, and today's price counts.
#[utoipa::path(
    get, path = "/api/billing/usage", tag = "account", security(("bearer" = [])),
    params(UsageQuery),
    responses(
        (status = 200, description = "What was used.", body = UsageTold, example = json!({
            "timezone": "Asia/Tokyo", "from": "2026-11-01", "to": "2026-11-30",
            "items": [{
                "day": "2026-11-24", "model_id": "gemini-2.0-flash", "requests": 2,
                "input_tokens": 9000, "output_tokens": 3000, "total_tokens": 12_000,
                "reversed_tokens": 0, "cost_credits_micro": 900_000,
            }],
            "totals": {
                "requests": 2, "input_tokens": 9000, "output_tokens": 3000, "total_tokens": 12_000,
                "reversed_tokens": 0, "cost_credits_micro": 900_000,
            },
        })),
        (status = 422, description = "Malformed. Every problem is listed.",
            body = ValidationError, example = json!({"detail": [{
                "type": "missing", "loc": ["query", "from"], "msg": "Field required",
            }]})),
    ),
)]
pub(super) async fn usage(
    State(service): Service,
    caller: Caller,
    uri: Uri,
) -> Result<Json<UsageTold>, ApiError> {
    let Wanted { days, by, zone } = read(uri.query().unwrap_or_default())?;
    let report = service.usage(&caller.user, days, by, zone).await?;
    let items = report.lines.into_iter().map(|line| UsageItem::new(line, by));
    Ok(Json(UsageTold {
        timezone: zone.name(),
        from: days.from.to_string(),
        to: days.to.to_string(),
        items: items.collect(),
        totals: report.totals.into(),
    }))
}
