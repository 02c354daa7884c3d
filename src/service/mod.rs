//! [`BillingService`]: one method per operation, in a file an area. Each has the ledger or a reader do the
//! work and says in the log what became of the money; it knows neither SQL nor HTTP.

mod accounts;
mod allocations;
mod at_work;
mod consumptions;
mod holds;
mod notifications;
mod operator;
mod purchases;
mod receipts;
mod taking_back;
mod usage;

use std::sync::Arc;

use thiserror::Error;
use tracing::error;

use crate::{
    database::{Database, DatabaseError, Reader},
    domain::{Actor, Applied, Keyed, Operation, PriceList, ProductList, Role, UserId},
    ledger::{Ledger, LedgerError},
    metrics::{Metrics, Operations},
};

pub(crate) use holds::NewHold;
pub(crate) use notifications::{NotTaken, Notifications};
pub(crate) use operator::{
    Erasures, PurchaseAct, Reports, Summaries, SummaryTold, UserSeen, Verification, Verifications,
};
pub(crate) use receipts::{Brought, Errands, Label, Receipts};

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

/// Why operations are not carried out now.
const MAY_PASS: [ServiceError; 3] = [
    ServiceError::Ledger(LedgerError::Overloaded),
    ServiceError::Ledger(LedgerError::Stopping),
    ServiceError::Ledger(LedgerError::Unavailable),
];

/// Who is asking, and in which request, for the log.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Whose account it is about.
    pub user: UserId,
    /// What it may do.
    pub role: Role,
    /// Who does it, if it is not the user.
    pub actor: Option<Actor>,
    /// The request's id.
    pub request_id: Arc<str>,
}

/// Everything the billing backend does.
#[derive(Debug)]
pub(crate) struct BillingService {
    ledger: Ledger,
    reader: Reader,
    allow_reset: bool,
    /// Most holds of an account.
    max_holds: u16,
    metrics: Option<Arc<Metrics>>,
    /// Who has the stores confirm purchases, if they do.
    receipts: Option<Arc<Receipts>>,
    /// Who keeps the sums of the whole.
    summaries: Summaries,
    /// Who looks through the books.
    verifications: Verifications,
    /// Who has accounts erased.
    erasures: Erasures,
    /// Who reads the whole ledger.
    reports: Reports,
}

impl BillingService {
    /// A service on an opened database. `allow_reset` lets users erase their own data; `max_holds` is how many holds
    /// an account may have at a time.
    pub(crate) fn new(
        ledger: Ledger,
        reader: Reader,
        database: &Database,
        allow_reset: bool,
        max_holds: u16,
    ) -> Self {
        Self {
            summaries: Summaries::new(ledger.clone(), reader.clone()),
            verifications: Verifications::new(database.clone(), ledger.clock()),
            erasures: Erasures::new(ledger.clone(), reader.clone()),
            reports: Reports::new(database.clone()),
            ledger,
            reader,
            allow_reset,
            max_holds,
            metrics: None,
            receipts: None,
        }
    }

    /// What keeps the sums of the whole, in the background.
    pub(crate) fn summaries(&self) -> Summaries {
        self.summaries.clone()
    }

    /// What looks through the books, in the background.
    pub(crate) fn verifications(&self) -> Verifications {
        self.verifications.clone()
    }

    /// What has accounts erased, in the background.
    pub(crate) fn erasures(&self) -> Erasures {
        self.erasures.clone()
    }

    /// The same, counting what becomes of operations.
    pub(crate) fn counting(self, metrics: Option<Arc<Metrics>>) -> Self {
        if let Some(metrics) = &metrics {
            metrics.operations.expect_unavailable(MAY_PASS.map(|error| error.code()));
        }
        Self { metrics, ..self }
    }

    /// The same, with purchases that the stores confirm. Then nobody can reset an account: what was bought with
    /// money would be forgotten.
    pub(crate) fn confirming(self, receipts: Option<Arc<Receipts>>) -> Self {
        let allow_reset = self.allow_reset && receipts.is_none();
        Self { allow_reset, receipts, ..self }
    }

    /// The products.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn products(&self) -> Result<ProductList, ServiceError> {
        Ok(self.reader.products().await?)
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

    /// Whether it is healthy, and what is written arrives.
    pub(crate) async fn is_ready(&self) -> bool {
        self.is_healthy().await && self.ledger.takes_writes().await
    }

    /// Carries an operation out, as `actor` if that is not the user.
    async fn apply<O: Operation>(
        &self,
        actor: Option<Actor>,
        user: &UserId,
        keyed: Option<Keyed>,
        operation: O,
    ) -> Result<Applied<O::Outcome>, ServiceError> {
        Ok(self.ledger.apply_as(actor, user.clone(), keyed, operation).await?)
    }

    /// Counts a result; `done` counts what a success changed.
    fn count<T>(&self, result: &Result<Applied<T>, ServiceError>, done: impl FnOnce(&Operations)) {
        let Some(metrics) = &self.metrics else { return };
        let operations = &metrics.operations;
        match result {
            Ok(applied) if !applied.replayed => done(operations),
            Err(error @ ServiceError::Ledger(LedgerError::Refused(_) | LedgerError::KeyReused)) => {
                operations.refused(error.code());
            }
            Err(error) if MAY_PASS.iter().any(|known| known.code() == error.code()) => {
                operations.unavailable(error.code());
            }
            // The request's status is counted.
            _ => {}
        }
    }
}

impl ServiceError {
    /// Its name for programs, in answers, in the log and in the metrics; never changes. What is our bug is
    /// answered without one.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Ledger(LedgerError::Refused(refusal)) => refusal.code(),
            Self::Ledger(LedgerError::KeyReused) => "idempotency_key_reused",
            Self::Ledger(LedgerError::Overloaded) => "overloaded",
            Self::Ledger(LedgerError::Stopping) => "shutting_down",
            Self::Ledger(LedgerError::Unavailable) | Self::Database(_) => "database_unavailable",
            Self::Ledger(LedgerError::Failed(_)) => "failed",
            Self::ResetDisabled => "reset_disabled",
        }
    }
}

/// What the log calls a result.
const fn code<T>(result: &Result<Applied<T>, ServiceError>) -> &'static str {
    match result {
        Ok(Applied { replayed: false, .. }) => "ok",
        Ok(Applied { replayed: true, .. }) => "replayed",
        Err(error) => error.code(),
    }
}
