//! Credits that are bought.

use tracing::info;

use super::{BillingService, Caller, ServiceError, code};
use crate::domain::{Applied, Credits, Keyed, Purchase};

impl BillingService {
    /// Adds bought credits; returns the new balance. Like every operation that takes `keyed`, it is
    /// carried out at most once under a key.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`](crate::domain::Refusal) where a rule says no.
    pub(crate) async fn add_credits(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        purchase: Purchase,
    ) -> Result<Applied<Credits>, ServiceError> {
        let Caller { user, request_id } = caller;
        let credits = purchase.credits.get();
        let result = self.apply(&user, keyed, purchase).await;
        self.count(&result, |operations| {
            operations.credits_purchased.inc_by(credits.unsigned_abs());
        });
        let balance = result.as_ref().ok().map(|applied| applied.outcome.get());
        info!(
            user = user.as_str(),
            credits,
            balance,
            result = code(&result),
            id = &*request_id,
            "purchase"
        );
        result
    }
}
