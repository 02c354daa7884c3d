//! Reports: what was bought and not used at the end of a day, as Japan's Payment Services Act asks for it.

use askama::Template;
use axum::{
    extract::RawQuery,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use chrono::{Datelike, NaiveDate};
use serde::Deserialize;

use super::{
    answer::{Page, sent_back},
    calls::{Call, Refused},
    failure::Failure,
    forms::{Field, Fields},
    frame::{Frame, Section},
    links, numbers,
    visitor::Visitor,
};

/// The zone of the law.
const ZONE: &str = "Asia/Tokyo";

/// The report, as the API tells it.
#[derive(Debug, Deserialize)]
struct Unused {
    at: String,
    timezone: String,
    items: Vec<Item>,
    totals: Totals,
}

#[derive(Debug, Deserialize)]
struct Item {
    kind: String,
    model_id: Option<String>,
    tokens: Option<i64>,
    paid_credits: i64,
    bonus_credits: i64,
}

#[derive(Debug, Deserialize)]
struct Totals {
    paid_credits: i64,
    bonus_credits: i64,
}

#[derive(Template)]
#[template(path = "reports.html")]
struct Reports {
    frame: Frame,
    at: Field,
    timezone: Field,
    unused: Option<Unused>,
    failure: Option<String>,
}

/// The page, with the report if a day is asked for.
pub(super) async fn page(visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Failure> {
    let words = visitor.words;
    let query = Fields::of_query(query.as_deref());
    let (at, zone) = (query.get("at"), query.get("timezone"));
    let last = last_day(visitor.room.now().date_naive()).to_string();
    let mut page = Reports {
        frame: Frame::new(&visitor, Section::Reports, words.reports),
        at: Field::of(if at.is_empty() { &last } else { at }),
        timezone: Field::of(if zone.is_empty() { ZONE } else { zone }),
        unused: None,
        failure: None,
    };
    if at.is_empty() {
        return Ok(Page(page).into_response());
    }
    let asked = [("at", page.at.value.as_str()), ("timezone", page.timezone.value.as_str())];
    let call = Call::get(links::with("/api/billing/operator/reports/unused-balance", &asked));
    match visitor.told(call).await? {
        Ok(unused) => page.unused = Some(unused),
        Err(Refused { status: StatusCode::UNPROCESSABLE_ENTITY, problems, text, .. }) => {
            let mut elsewhere = problems.is_empty();
            for (name, _) in problems {
                match name.as_str() {
                    "at" => page.at.wrong(words.not_a_day),
                    "timezone" => page.timezone.wrong(words.not_a_zone),
                    _ => elsewhere = true,
                }
            }
            page.failure = elsewhere.then_some(text);
            return Ok(sent_back(page));
        }
        Err(refused) => return Err(refused.into()),
    }
    Ok(Page(page).into_response())
}

/// The last 31 March or 30 September that is over.
fn last_day(today: NaiveDate) -> NaiveDate {
    let year = today.year();
    let day = |year: i32, month, day| NaiveDate::from_ymd_opt(year, month, day);
    let days = [day(year, 9, 30), day(year, 3, 31), day(year.saturating_sub(1), 9, 30)];
    days.into_iter().flatten().find(|day| *day < today).unwrap_or(today)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_begins_with_the_last_day_of_the_law() {
        let day = |text: &str| text.parse::<NaiveDate>().expect("a day");
        for (today, last) in [
            ("2026-11-28", "2026-09-30"),
            ("2026-10-01", "2026-09-30"),
            ("2026-09-30", "2026-03-31"),
            ("2026-03-31", "2025-09-30"),
        ] {
            assert_eq!(last_day(day(today)), day(last));
        }
    }
}
