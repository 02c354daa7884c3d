//! What an account holds, what happened to it, and its reset: reads, and the one change that is no trade.

use tracing::info;

use super::{BillingService, Caller, ServiceError, code};
use crate::domain::{
    Account, Applied, Category, HistoryFilter, HistoryPage, Keyed, Reset, Tokens, UserId,
};

impl BillingService {
    /// The user's credits and tokens.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn balance(&self, user: &UserId) -> Result<Account, ServiceError> {
        Ok(self.reader.account(user).await?)
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
        let Caller { user, request_id } = caller;
        let result = self.apply(&user, keyed, Reset).await;
        self.count(&result, |_| {});
        info!(user = user.as_str(), result = code(&result), id = &*request_id, "reset");
        result
    }
}
