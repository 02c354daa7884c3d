//! What an audit found, as text, and how a command tells of it.

use std::{
    fmt,
    io::{self, Write},
};

use anyhow::Context as _;
use thiserror::Error;

use crate::database::{Audit, Counts};

/// That books or settings were looked through, and are not as they must be: another failure than not to have
/// looked.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Differs(pub(crate) String);

/// Prints a line, or lines. A reader who has gone is an error, not a panic.
pub(crate) fn print(text: &impl fmt::Display) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).context("cannot print the result")
}

/// A line on standard error. Where that is gone too, nobody is left to be told.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "token-billing: {line}");
}

/// A number of things.
pub(crate) fn number(count: u64, one: &str, more: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {more}") }
}

/// How much a database holds, in a line.
pub(crate) fn holdings(counts: Option<Counts>) -> String {
    let Some(counts) = counts else { return "a file that can't be read through".to_owned() };
    [
        number(counts.users.unsigned_abs(), "user", "users"),
        number(counts.balances.unsigned_abs(), "balance", "balances"),
        number(counts.transactions.unsigned_abs(), "transaction", "transactions"),
        number(counts.idempotency_keys.unsigned_abs(), "idempotency key", "idempotency keys"),
    ]
    .join(", ")
}

/// All of it: what was looked at, each check, each difference, and the sum.
pub(crate) struct Report<'a> {
    /// The database, as people call it.
    pub(crate) database: &'a str,
    /// What was found in it.
    pub(crate) audit: &'a Audit,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, audit } = self;
        writeln!(formatter, "database: {database}")?;
        writeln!(formatter, "looked at: {}", holdings(audit.counts))?;
        for check in audit.checks {
            let result = match audit.total_of(*check) {
                0 => "yes".to_owned(),
                total => number(total, "difference", "differences"),
            };
            writeln!(formatter, "{}: {result}", check.rule())?;
        }
        for difference in &audit.told {
            writeln!(formatter, "difference: {difference}")?;
        }
        let told = u64::try_from(audit.told.len()).unwrap_or(u64::MAX);
        match audit.total().saturating_sub(told) {
            0 => {}
            more => writeln!(formatter, "and {more} more")?,
        }
        match audit.total() {
            0 => write!(formatter, "ok"),
            total => write!(formatter, "{}", number(total, "difference", "differences")),
        }
    }
}
