//! Credits that become tokens.

use tracing::info;

use super::{BillingService, Caller, ServiceError, code};
use crate::domain::{Allocate, Allocation, Applied, Keyed};

impl BillingService {
    /// Turns credits into tokens, all items or none.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`](crate::domain::Refusal) where a rule says no.
    pub(crate) async fn allocate(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        items: Vec<Allocation>,
    ) -> Result<Applied<()>, ServiceError> {
        let Caller { user, request_id } = caller;
        let credits: i128 = items.iter().map(|item| i128::from(item.credits.get())).sum();
        let models = items.iter().map(|item| item.model.as_str()).collect::<Vec<_>>().join(",");
        let result = self.apply(&user, keyed, Allocate { items }).await;
        self.count(&result, |operations| {
            let credits = u64::try_from(credits).unwrap_or(u64::MAX);
            operations.credits_allocated.inc_by(credits);
        });
        info!(
            user = user.as_str(),
            credits,
            models,
            result = code(&result),
            id = &*request_id,
            "allocation"
        );
        result
    }
}
