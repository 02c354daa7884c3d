//! Credits that become tokens.

use tracing::info;

use super::{BillingService, Caller, ServiceError, code};
use crate::{
    domain::{
        Actor, Allocate, Allocation, Applied, Asked, Credits, Keyed, ModelId, Quote, Quotes, UserId,
    },
    ledger::LedgerError,
};

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
        let Caller { user, actor, request_id, .. } = caller;
        let credits: i128 = items.iter().map(|item| i128::from(item.credits.get())).sum();
        let models = items.iter().map(|item| item.model.as_str()).collect::<Vec<_>>().join(",");
        let result = self.apply(actor, &user, keyed, Allocate { items }).await;
        self.count(&result, |operations| {
            let credits = u64::try_from(credits).unwrap_or(u64::MAX);
            operations.credits_allocated.inc_by(credits);
        });
        info!(
            user = user.as_str(),
            actor = actor.map(Actor::name),
            credits,
            models,
            result = code(&result),
            id = &*request_id,
            "allocation"
        );
        result
    }

    /// What an allocation to `model` of at most so many credits would come to.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read, and [`ServiceError::Ledger`] with a
    /// [`Refusal`](crate::domain::Refusal) where the model has no price.
    pub(crate) async fn quote(
        &self,
        user: &UserId,
        model: &ModelId,
        asked: Asked,
        most: Credits,
    ) -> Result<Quote, ServiceError> {
        let (account, prices) = self.reader.account_and_prices(user).await?;
        let limits = self.ledger.limits();
        let quotes = Quotes { account: &account, prices: &prices, limits, most };
        Ok(quotes.quote(model, asked).map_err(LedgerError::Refused)?)
    }
}
