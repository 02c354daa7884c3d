//! What an account holds, what happened to it, and its reset: reads, and the one change that is no trade.

use std::sync::Arc;

use tracing::info;

use super::{BillingService, Caller, ServiceError, code};
use crate::domain::{
    Account, Actor, Applied, Category, Consent, HistoryFilter, HistoryPage, Keyed, LedgerEnd,
    LedgerLine, Reset, Tokens, UserId, Wallet,
};

impl BillingService {
    /// The user's credits and tokens.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn balance(&self, user: &UserId) -> Result<Arc<Account>, ServiceError> {
        Ok(self.reader.account(user).await?)
    }

    /// All that the user has, with the prices of the same moment.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn wallet(&self, user: &UserId) -> Result<Wallet, ServiceError> {
        let now = self.ledger.now();
        let (account, prices) = self.reader.account_prices_and_holds(user, now).await?;
        Ok(Wallet::of(&account, &prices, self.ledger.limits(), now))
    }

    /// The tokens of all the user's models of one category.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn category_total(
        &self,
        user: &UserId,
        category: Category,
    ) -> Result<Tokens, ServiceError> {
        let (account, prices) = self.reader.account_and_prices(user).await?;
        Ok(account.category_total(category, &prices))
    }

    /// A page of the user's history, newest first.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn history(
        &self,
        user: &UserId,
        filter: &HistoryFilter,
    ) -> Result<HistoryPage, ServiceError> {
        Ok(self.reader.history(user, filter).await?)
    }

    /// Gives lines of the user's ledger to `take`, newest first.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read; some lines may have been given by then.
    pub(crate) async fn ledger(
        &self,
        user: &UserId,
        filter: &HistoryFilter,
        take: &mut (dyn FnMut(&LedgerLine<'_>) + Send),
    ) -> Result<LedgerEnd, ServiceError> {
        Ok(self.reader.ledger(user, filter, take).await?)
    }

    /// Notes whether the user lets Apple be told how much of a purchase was used.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`].
    pub(crate) async fn consent(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        apple_consumption: bool,
    ) -> Result<Applied<()>, ServiceError> {
        let Caller { user, actor, request_id, .. } = caller;
        let result = self.apply(actor, &user, keyed, Consent { apple_consumption }).await;
        self.count(&result, |_| {});
        info!(
            user = user.as_str(),
            actor = actor.map(Actor::name),
            apple_consumption,
            result = code(&result),
            id = &*request_id,
            "consent"
        );
        result
    }

    /// Forgets the user's credits, tokens, transactions and idempotency keys.
    ///
    /// # Errors
    /// [`ServiceError::ResetDisabled`], or [`ServiceError::Ledger`].
    pub(crate) async fn reset(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
    ) -> Result<Applied<()>, ServiceError> {
        if !self.allow_reset {
            return Err(ServiceError::ResetDisabled);
        }
        let Caller { user, actor, request_id, .. } = caller;
        let result = self.apply(actor, &user, keyed, Reset).await;
        self.count(&result, |_| {});
        let actor = actor.map(Actor::name);
        info!(user = user.as_str(), actor, result = code(&result), id = &*request_id, "reset");
        result
    }
}
