//! What was bought and not used by the end of a day, read from the ledger beside the service.

use tokio::sync::Mutex;

use super::super::{BillingService, ServiceError};
use crate::{
    database::{Database, DatabaseError},
    domain::{ReportDay, UnusedBalance},
};

/// Who reads the whole ledger for a report, one report at a time.
#[derive(Debug)]
pub(crate) struct Reports {
    database: Database,
    at_work: Mutex<()>,
}

impl Reports {
    pub(crate) const fn new(database: Database) -> Self {
        Self { database, at_work: Mutex::const_new(()) }
    }

    /// What the database's engine is called.
    pub(super) const fn engine(&self) -> &'static str {
        self.database.engine()
    }
}

impl BillingService {
    /// What was bought and not used by the end of a day; nothing while that is not over.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn unused_balance(
        &self,
        day: ReportDay,
    ) -> Result<Option<UnusedBalance>, ServiceError> {
        let ended = day.ended();
        if ended > self.ledger.now() {
            return Ok(None);
        }
        let _one_at_a_time = self.reports.at_work.lock().await;
        let balance = self.reports.database.unused_balance_beside(ended).await;
        let balance = balance.map_err(|error| DatabaseError::Unavailable(error.to_string()))?;
        Ok(Some(balance))
    }
}
