//! Whether the books are as they must be, looked through beside the service when somebody asks, once at a time. What it
//! came to is known until the service stops; of several instances each knows its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use tracing::{error, info};

use super::super::{BillingService, ServiceError};
use crate::{
    database::{Audit, Database},
    domain::{Applied, ByOperator, Keyed, LookThrough, UserId},
    ledger::Clock,
};

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Verification {
    /// Nobody asked since the service started.
    #[default]
    Never,
    Running {
        started_at: DateTime<Utc>,
    },
    Done {
        started_at: DateTime<Utc>,
        ended_at: DateTime<Utc>,
        /// All differences; of many the first ones are told.
        total: u64,
        /// In words.
        differences: Vec<String>,
    },
}

impl BillingService {
    /// Has the books looked through, which is written into the operators' log; where that is under way, it goes on.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`]; nothing begins then.
    pub(crate) async fn start_verification(
        &self,
        by: ByOperator,
        keyed: Option<Keyed>,
    ) -> Result<Applied<()>, ServiceError> {
        // It is about nobody's account.
        let applied = self.operate(by, &UserId::default_user(), keyed, LookThrough).await?;
        if !applied.replayed {
            self.verifications.start();
        }
        Ok(applied)
    }

    /// How that stands.
    pub(crate) fn verification(&self) -> Verification {
        self.verifications.last()
    }
}

/// Who looks through the books. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Verifications {
    database: Database,
    clock: Clock,
    last: Arc<Mutex<Verification>>,
    wake: Arc<Notify>,
}

impl Verifications {
    /// Nothing runs yet.
    pub(crate) fn new(database: Database, clock: Clock) -> Self {
        Self { database, clock, last: Arc::default(), wake: Arc::default() }
    }

    /// Looks through the books whenever somebody asks, for good.
    pub(crate) async fn run(self) {
        loop {
            self.wake.notified().await;
            let Verification::Running { started_at } = self.last() else { continue };
            let audit = self.database.audit_beside().await;
            let (total, differences) = match audit {
                Ok(audit) => told(&audit),
                Err(error) => (1, vec![format!("the database can't be looked through: {error}")]),
            };
            if total == 0 {
                info!("the database is as it must be");
            } else {
                error!(
                    differences = total,
                    first = differences.first(),
                    "the database is not as it must be"
                );
            }
            let ended_at = (self.clock)();
            *self.known() = Verification::Done { started_at, ended_at, total, differences };
        }
    }

    fn start(&self) {
        let mut last = self.known();
        if !matches!(*last, Verification::Running { .. }) {
            *last = Verification::Running { started_at: (self.clock)() };
            drop(last);
            self.wake.notify_one();
        }
    }

    /// How it stands.
    pub(super) fn last(&self) -> Verification {
        self.known().clone()
    }

    fn known(&self) -> MutexGuard<'_, Verification> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn told(audit: &Audit) -> (u64, Vec<String>) {
    (audit.total(), audit.told.iter().map(ToString::to_string).collect())
}
