//! `token-billing verify`: whether the database is as it must be.

use crate::database::{Database, Priority};

use super::{
    progress::Progress,
    report::{Differs, Report, print},
};

/// Prints what was looked at and found; an error when that is not all well.
pub(crate) async fn verify(database: &Database) -> anyhow::Result<()> {
    let progress = Progress::new();
    let looking = database.audit(Priority::Usual, |check| progress.tell(check.rule()));
    let audit = progress.during(looking).await?;
    print(&Report { database: database.name(), audit: &audit })?;
    if audit.total() > 0 {
        let line = format!("the database '{}' is not as it must be", database.name());
        return Err(Differs(line).into());
    }
    Ok(())
}
