//! What a user used, by day, month or model.

use chrono_tz::Tz;

use super::{BillingService, ServiceError};
use crate::domain::{DateRange, Periods, UsageBy, UsageReport, UserId};

impl BillingService {
    /// What the user used on these days of a zone, never behind. Where much had to be read for it that is in no
    /// sums yet, it is added to them, for the next time.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn usage(
        &self,
        user: &UserId,
        days: DateRange,
        by: UsageBy,
        zone: Tz,
    ) -> Result<UsageReport, ServiceError> {
        let periods = Periods::new(days, by, zone);
        let parts = self.reader.usage(user, periods.quarters()).await?;
        let report = UsageReport::of(parts, &periods);
        self.ledger.sum_usage(user, report.fresh_entries);
        Ok(report)
    }
}
