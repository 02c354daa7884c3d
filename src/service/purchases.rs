//! Credits that are bought.

use tracing::info;

use super::{BillingService, Brought, Caller, ServiceError, code};
use crate::domain::{Actor, Applied, Credits, Keyed, Purchase};

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
        let Caller { user, actor, request_id, .. } = caller;
        let credits = purchase.credits.get();
        let result = self.apply(actor, &user, keyed, purchase).await;
        self.count(&result, |operations| {
            operations.credits_purchased.inc_by(credits.unsigned_abs());
        });
        let balance = result.as_ref().ok().map(|applied| applied.outcome.get());
        info!(
            user = user.as_str(),
            actor = actor.map(Actor::name),
            credits,
            balance,
            result = code(&result),
            id = &*request_id,
            "purchase"
        );
        result
    }

    /// Whether the stores confirm purchases.
    pub(crate) const fn confirms_purchases(&self) -> bool {
        self.receipts.is_some()
    }

    /// Adds the credits of a purchase that its store confirms; returns the new balance.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`](crate::domain::Refusal) where it is not confirmed.
    ///
    /// # Panics
    /// Where the stores don't confirm purchases.
    pub(crate) async fn add_confirmed(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        brought: Brought,
    ) -> Result<Applied<Credits>, ServiceError> {
        let receipts = self.receipts.as_ref().expect("the caller asked whether they do");
        let brought = Brought { actor: caller.actor, ..brought };
        let result = receipts.add(&caller.user, keyed, brought).await;
        // Its credits are counted where they are granted.
        self.count(&result, |_| {});
        let balance = result.as_ref().ok().map(|applied| applied.outcome.get());
        info!(
            user = caller.user.as_str(),
            actor = caller.actor.map(Actor::name),
            balance,
            result = code(&result),
            id = &*caller.request_id,
            "purchase"
        );
        result
    }
}
