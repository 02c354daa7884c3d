//! `token-billing migrate-to postgres://…`: a move to PostgreSQL.

use crate::database::{
    Database, MigrateError, migrate_to as copy_everything, postgres::PostgresDatabase,
};

use super::{
    progress::Progress,
    report::{Differs, Report, holdings, print},
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
            let line = "the copy is not as it must be; nothing of it was kept; see what token-billing \
                        verify says";
            Err(Differs(line.to_owned()).into())
        }
        Err(error) => Err(error.into()),
    }
}
