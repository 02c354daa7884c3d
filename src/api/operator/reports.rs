//! What was bought and not used by the end of a day.

use std::fmt::Write as _;

use axum::{Json, extract::State, http::Uri};
use chrono::NaiveDate;
use chrono_tz::Tz;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::{
    description::query,
    error::ApiError,
    problem::{Problem, Step},
    schemas::ValidationError,
    state::Service,
    usage::{Date, Zone, date_schema, sum_schema},
};
use crate::domain::{PaidAndBonus, ReportDay, UnusedBalance};

query! {
    /// Which day's end, in which time zone.
    UnusedQuery {
        at: NaiveDate = Date, and required;
        timezone: Tz = Zone, or Tz::UTC.name();
    }
}

#[derive(Serialize, ToSchema)]
struct UnusedItem {
    /// `credits` or `tokens`.
    kind: &'static str,
    /// Of tokens.
    model_id: Option<String>,
    /// Of tokens: those that were bought, also held ones.
    #[schema(schema_with = sum_schema)]
    tokens: Option<i128>,
    /// Bought credits; what returning the tokens would have given back of them.
    #[schema(schema_with = sum_schema)]
    paid_credits: i128,
    /// Given ones.
    #[schema(schema_with = sum_schema)]
    bonus_credits: i128,
}

#[derive(Serialize, ToSchema)]
struct UnusedTotals {
    #[schema(schema_with = sum_schema)]
    paid_credits: i128,
    #[schema(schema_with = sum_schema)]
    bonus_credits: i128,
}

/// What was not used.
#[derive(Serialize, ToSchema)]
pub(super) struct Unused {
    #[schema(schema_with = date_schema)]
    at: String,
    timezone: &'static str,
    /// Credits, then tokens by model.
    items: Vec<UnusedItem>,
    totals: UnusedTotals,
}

impl Unused {
    fn of(balance: &UnusedBalance, day: ReportDay) -> Self {
        let item = |kind, model_id, tokens, PaidAndBonus { paid, bonus }| UnusedItem {
            kind,
            model_id,
            tokens,
            paid_credits: paid,
            bonus_credits: bonus,
        };
        let tokens = balance.tokens.iter().map(|(model, of_model)| {
            let model = model.as_str().to_owned();
            item("tokens", Some(model), Some(of_model.tokens), of_model.worth)
        });
        let PaidAndBonus { paid, bonus } = balance.total();
        Self {
            at: day.at.to_string(),
            timezone: day.zone.name(),
            items: std::iter::once(item("credits", None, None, balance.credits))
                .chain(tokens)
                .collect(),
            totals: UnusedTotals { paid_credits: paid, bonus_credits: bonus },
        }
    }
}

/// The report as JSON.
pub(crate) fn unused_balance_json(balance: &UnusedBalance, day: ReportDay) -> String {
    serde_json::to_string_pretty(&Unused::of(balance, day)).expect("it has a JSON form")
}

/// The report as CSV by RFC 4180, with a last line of the totals.
pub(crate) fn unused_balance_csv(balance: &UnusedBalance, day: ReportDay) -> String {
    let mut csv = "kind,model_id,tokens,paid_credits,bonus_credits\r\n".to_owned();
    let Unused { items, totals, .. } = Unused::of(balance, day);
    for UnusedItem { kind, model_id, tokens, paid_credits, bonus_credits } in items {
        let model = super::super::csv::field(model_id.as_deref().unwrap_or_default());
        let tokens = tokens.map(|tokens| tokens.to_string()).unwrap_or_default();
        write!(csv, "{kind},{model},{tokens},{paid_credits},{bonus_credits}\r\n")
            .expect("a text takes all");
    }
    let UnusedTotals { paid_credits, bonus_credits } = totals;
    write!(csv, "total,,,{paid_credits},{bonus_credits}").expect("a text takes all");
    csv
}

/// What was bought and not used
///
/// By the end of a day: credits as they were, tokens at what returning all of them would have given back then, held
/// ones too. Given credits are told apart. The whole ledger is read for it, beside the service; of a large one the
/// command `report unused-balance` tells without a deadline.
#[utoipa::path(
    get, path = "/api/billing/operator/reports/unused-balance", tag = "operator",
    security(("bearer" = [])), params(UnusedQuery),
    responses(
        (status = 200, description = "What was not used.", body = Unused, example = json!({
            "at": "2026-09-30", "timezone": "Asia/Tokyo",
            "items": [
                {"kind": "credits", "model_id": null, "tokens": null, "paid_credits": 150, "bonus_credits": 20},
                {"kind": "tokens", "model_id": "gemini-2.0-flash", "tokens": 1_993_000, "paid_credits": 149,
                    "bonus_credits": 0},
            ],
            "totals": {"paid_credits": 299, "bonus_credits": 20},
        })),
        (status = 422, description = "Malformed, or the day is not over. Every problem is listed.",
            body = ValidationError),
    ),
)]
pub(super) async fn unused_balance(
    State(service): Service,
    uri: Uri,
) -> Result<Json<Unused>, ApiError> {
    let UnusedQuery { at, timezone } = UnusedQuery::read(uri.query().unwrap_or_default())?;
    let at = at.expect("it is required");
    let day = ReportDay { at, zone: timezone.unwrap_or(Tz::UTC) };
    let Some(balance) = service.unused_balance(day).await? else {
        let loc = vec![Step::from("query"), Step::from("at")];
        let msg = "Value error, must be a day that is over in the time zone";
        return Err(ApiError::Unprocessable(Problem::new("value_error", loc, msg).into()));
    };
    Ok(Json(Unused::of(&balance, day)))
}
