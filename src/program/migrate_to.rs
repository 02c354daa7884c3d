//! `token-billing migrate-to postgres://…`: a move to PostgreSQL.

use crate::database::{
    Database, MigrateError, migrate_to as copy_everything, postgres::PostgresDatabase,
};
use anyhow::Context as _;

use super::{
    progress::Progress,
    report::{Report, holdings, print},
};

/// Copies everything to `target` and says what arrived; whatever goes wrong, nothing of it stays.
pub(crate) async fn migrate_to(
    database: &Database,
    target: &PostgresDatabase,
) -> anyhow::Result<()> {
    let Database::Sqlite(source) = database else {
        anyhow::bail!("'{}' is on a server already; use pg_dump and pg_restore", database.name());
    };
    let progress = Progress::new();
    let copying = copy_everything(source, target, |copied| {
        progress.tell_rows(copied.table, copied.rows, copied.of_rows);
    });
    match progress.during(copying).await {
        Ok(audit) => {
            let (name, holdings) = (target.name(), holdings(audit.counts));
            print(&format!("done: {name}, {holdings}, checked"))?;
            Ok(())
        }
        Err(MigrateError::Unsound(audit)) => {
            print(&Report { database: target.name(), audit: &audit })?;
            Err(MigrateError::Unsound(audit)).context("see what token-billing verify says")
        }
        Err(error) => Err(error.into()),
    }
}
