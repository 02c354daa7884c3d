//! What operators do and read. What an act means is `domain`'s.

use tracing::info;

use super::{BillingService, ServiceError, code};
use crate::{
    domain::{
        Actor, Applied, ByOperator, Keyed, LogFilter, LogPage, Logged, OperatorAct, Refusal, UserId,
    },
    ledger::LedgerError,
};

impl BillingService {
    /// Has an act carried out on a user's account, and written into the operators' log with it.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`] where a rule says no: nothing is written then.
    pub(crate) async fn operate<A: OperatorAct>(
        &self,
        by: ByOperator,
        user: &UserId,
        keyed: Option<Keyed>,
        act: A,
    ) -> Result<Applied<A::Outcome>, ServiceError> {
        let ByOperator { operator, reason, request_id } = by.clone();
        let result = self.apply(Some(Actor::Operator), user, keyed, Logged { act, by }).await;
        self.count(&result, |_| {});
        info!(
            action = A::ACTION,
            user = A::OF_ACCOUNT.then(|| user.as_str()),
            operator = &*operator,
            reason = reason.as_str(),
            result = code(&result),
            id = &*request_id,
            "operator"
        );
        result
    }

    /// A page of the operators' log, newest first.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`] with [`Refusal::UserNotFound`], and [`ServiceError::Database`] when the database
    /// can't be read.
    pub(crate) async fn operator_log(&self, filter: &LogFilter) -> Result<LogPage, ServiceError> {
        if let Some(user) = &filter.user {
            self.check_known(user).await?;
        }
        Ok(self.reader.operator_log(filter).await?)
    }

    /// Finds that somebody has seen this user.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`] with [`Refusal::UserNotFound`], and [`ServiceError::Database`] when the database
    /// can't be read.
    pub(crate) async fn check_known(&self, user: &UserId) -> Result<(), ServiceError> {
        if self.reader.knows(user).await? {
            Ok(())
        } else {
            Err(LedgerError::Refused(Refusal::UserNotFound).into())
        }
    }
}
