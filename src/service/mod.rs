//! [`BillingService`]: one method per operation. Each has the ledger or a reader do the work and says
//! in the log what became of the money; it knows neither SQL nor HTTP.

use std::sync::Arc;

use thiserror::Error;
use tracing::{error, info};

use crate::{
    database::{DatabaseError, Reader},
    domain::{
        Account, Allocate, Allocation, Applied, Category, Consume, Credits, HistoryFilter,
        HistoryPage, Keyed, ModelId, Operation, PriceList, Purchase, Reset, Tokens, Usage, UserId,
    },
    ledger::{Ledger, LedgerError},
    metrics::{Metrics, Operations},
};

/// Why a call has no result.
#[derive(Debug, Error)]
pub(crate) enum ServiceError {
    /// The ledger did not carry it out.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The database could not be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Resets are switched off.
    #[error("resets are switched off")]
    ResetDisabled,
}

/// Who is asking, and in which request, for the log.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Whose account it is about.
    pub user: UserId,
    /// The request's id.
    pub request_id: Arc<str>,
}

/// Everything the billing backend does.
#[derive(Debug)]
pub(crate) struct BillingService {
    ledger: Ledger,
    reader: Reader,
    allow_reset: bool,
    metrics: Option<Arc<Metrics>>,
}

impl BillingService {
    /// A service on an opened database. `allow_reset` lets users erase their own data.
    pub(crate) const fn new(ledger: Ledger, reader: Reader, allow_reset: bool) -> Self {
        Self { ledger, reader, allow_reset, metrics: None }
    }

    /// The same, counting what becomes of operations.
    pub(crate) fn counting(self, metrics: Option<Arc<Metrics>>) -> Self {
        Self { metrics, ..self }
    }

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

    /// Uses up a chat's tokens; returns how many of its model remain.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`Refusal`](crate::domain::Refusal) where a rule says no.
    pub(crate) async fn consume(
        &self,
        caller: Caller,
        keyed: Option<Keyed>,
        model: ModelId,
        usage: Usage,
    ) -> Result<Applied<Tokens>, ServiceError> {
        let Caller { user, request_id } = caller;
        let tokens = usage.total().get();
        let result = self.apply(&user, keyed, Consume { model: model.clone(), usage }).await;
        self.count(&result, |operations| {
            operations.consumed(model.as_str(), tokens.unsigned_abs());
        });
        let remaining = result.as_ref().ok().map(|applied| applied.outcome.get());
        info!(
            user = user.as_str(),
            model = model.as_str(),
            tokens,
            remaining,
            result = code(&result),
            id = &*request_id,
            "consumption"
        );
        result
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

    /// The current prices.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn pricing(&self) -> Result<PriceList, ServiceError> {
        Ok(self.reader.prices().await?)
    }

    /// Whether the database can be read, and nothing that can be seen without writing forbids to write.
    pub(crate) async fn is_healthy(&self) -> bool {
        match self.reader.ping().await {
            Ok(()) => true,
            Err(cause) => {
                error!(%cause, "the database does not answer");
                false
            }
        }
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

    async fn apply<O: Operation>(
        &self,
        user: &UserId,
        keyed: Option<Keyed>,
        operation: O,
    ) -> Result<Applied<O::Outcome>, ServiceError> {
        Ok(self.ledger.apply(user.clone(), keyed, operation).await?)
    }

    /// Counts a result; `done` counts what a success changed.
    fn count<T>(&self, result: &Result<Applied<T>, ServiceError>, done: impl FnOnce(&Operations)) {
        let Some(metrics) = &self.metrics else { return };
        let operations = &metrics.operations;
        let Err(ServiceError::Ledger(error)) = result else {
            if matches!(result, Ok(applied) if !applied.replayed) {
                done(operations);
            }
            return;
        };
        match error {
            LedgerError::Refused(_) | LedgerError::KeyReused => operations.refused(code(result)),
            LedgerError::Overloaded | LedgerError::Stopping | LedgerError::Unavailable => {
                operations.unavailable(code(result));
            }
            // The request's status 500 is counted.
            LedgerError::Failed(_) => {}
        }
    }
}

/// What the log and the metrics call a result; a refusal, and what may pass, as the API does.
const fn code<T>(result: &Result<Applied<T>, ServiceError>) -> &'static str {
    match result {
        Ok(Applied { replayed: false, .. }) => "ok",
        Ok(Applied { replayed: true, .. }) => "replayed",
        Err(ServiceError::Ledger(LedgerError::KeyReused)) => "idempotency_key_reused",
        Err(ServiceError::Ledger(LedgerError::Refused(refusal))) => refusal.code(),
        Err(ServiceError::Ledger(LedgerError::Overloaded)) => "overloaded",
        Err(ServiceError::Ledger(LedgerError::Stopping)) => "shutting_down",
        Err(ServiceError::Ledger(LedgerError::Unavailable) | ServiceError::Database(_)) => {
            "database_unavailable"
        }
        Err(ServiceError::Ledger(LedgerError::Failed(_))) => "failed",
        Err(ServiceError::ResetDisabled) => "reset_disabled",
    }
}
