//! `token-billing report unused-balance`: what was bought and not used by the end of a day.

use chrono::{DateTime, Utc};
use clap::ValueEnum;

use super::report::print;
use crate::{
    api::{unused_balance_csv, unused_balance_json},
    database::Database,
    domain::ReportDay,
};

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    Json,
    Csv,
}

/// Prints it.
pub(crate) async fn unused_balance(
    database: &Database,
    day: ReportDay,
    format: ReportFormat,
) -> anyhow::Result<()> {
    let balance = database.unused_balance(day.ended()).await?;
    print(&match format {
        ReportFormat::Json => unused_balance_json(&balance, day),
        ReportFormat::Csv => unused_balance_csv(&balance, day),
    })
}

/// What is wrong with the day, if it is not over.
pub(crate) fn not_over(day: ReportDay, now: DateTime<Utc>) -> Option<String> {
    (day.ended() > now)
        .then(|| format!("--at: {} is not over in {}; give a day that is", day.at, day.zone))
}
