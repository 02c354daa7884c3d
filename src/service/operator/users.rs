//! Users as an operator sees them.

use chrono_tz::Tz;

use super::super::{BillingService, ServiceError, holds::seen};
use crate::domain::{
    FoundUser, OpenedHold, PurchaseLine, UsageReport, UserFilter, UserId, UserPage, Wallet,
    last_days,
};

/// How many of a user's newest purchases are told.
const PURCHASES: u16 = 20;
/// Of how many days usage is told.
const USAGE_DAYS: u16 = 30;

/// All that is told of a user at once, but for the newest lines of the ledger.
#[derive(Debug, Clone)]
pub(crate) struct UserSeen {
    pub user: FoundUser,
    pub wallet: Wallet,
    /// Those that count, the oldest first.
    pub holds: Vec<OpenedHold>,
    /// The newest first.
    pub purchases: Vec<PurchaseLine>,
    /// Of the last days, today's too.
    pub usage: UsageReport,
}

impl BillingService {
    /// Users who are looked for.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn users(&self, filter: &UserFilter) -> Result<UserPage, ServiceError> {
        Ok(self.reader.users(filter).await?)
    }

    /// A user, if there is one called so. Days of usage are those of a zone.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn user_seen(
        &self,
        user: &UserId,
        zone: Tz,
    ) -> Result<Option<UserSeen>, ServiceError> {
        let Some(found) = self.reader.user(user).await? else { return Ok(None) };
        // Of whom much is in no sums yet, an answer may come too late, and the next one in time.
        self.ledger.sum_usage(user, i64::MAX);
        let now = self.ledger.now();
        let periods = last_days(now, zone, USAGE_DAYS);
        let (account, purchases, parts) = tokio::join!(
            self.reader.account_prices_and_holds(user, now),
            self.reader.purchases_of(user, PURCHASES),
            self.reader.usage(user, periods.quarters()),
        );
        let (account, prices) = account?;
        let usage = UsageReport::of(parts?, &periods);
        let holds = account.holds().counting(now);
        let holds = holds.into_iter().map(|hold| seen(&account, hold, now)).collect();
        let purchases = purchases?;
        let wallet = Wallet::of(&account, &prices, self.ledger.limits(), now);
        Ok(Some(UserSeen { user: found, wallet, holds, purchases, usage }))
    }
}
