//! Accounts that are erased: an operator begins it, and a task in the background has it done piece by piece, so that
//! nobody waits long for one. What is left to do is in the database: a start goes on with it, and so does another instance.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::{info, warn};
use uuid::Uuid;

use super::super::{BillingService, ServiceError};
use crate::{
    database::{Chore, Reader},
    domain::{Applied, ByOperator, Erase, Keyed, UserId},
    ledger::Ledger,
};

/// How long until it is looked again whether another instance has left something to do.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The least time that is left to others between two pieces.
const PAUSE_MIN: Duration = Duration::from_millis(1);

impl BillingService {
    /// Begins to erase an account; tells its new name. What was paid for has to be used up, or be given up by
    /// `forfeit`.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with a [`crate::domain::Refusal`] where a rule says no: nothing is written then.
    pub(crate) async fn erase(
        &self,
        by: ByOperator,
        user: &UserId,
        keyed: Option<Keyed>,
        forfeit: bool,
    ) -> Result<Applied<UserId>, ServiceError> {
        let name = UserId::erased(Uuid::new_v4().as_u128());
        let act = Erase { name, forfeit, reason: by.reason.clone() };
        let applied = self.operate(by, user, keyed, act).await?;
        self.erasures.wake.notify_one();
        Ok(applied)
    }
}

/// Who has accounts erased. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Erasures {
    ledger: Ledger,
    reader: Reader,
    wake: Arc<Notify>,
}

impl Erasures {
    /// Nothing runs yet.
    pub(crate) fn new(ledger: Ledger, reader: Reader) -> Self {
        Self { ledger, reader, wake: Arc::default() }
    }

    /// Has them erased, for good.
    pub(crate) async fn run(self) {
        loop {
            if let Err(error) = self.go_on().await {
                warn!(%error, "an account that is being erased has to wait");
            }
            let _ = timeout(LOOK_AGAIN, self.wake.notified()).await;
        }
    }

    /// Until nothing is left to do.
    async fn go_on(&self) -> Result<(), ServiceError> {
        let mut pieces = 0_u64;
        while self.reader.erases().await? {
            let began = Instant::now();
            self.ledger.chore(Chore::Erase).await?;
            pieces = pieces.saturating_add(1);
            // It is to slow nobody down.
            sleep(began.elapsed().max(PAUSE_MIN)).await;
        }
        if pieces > 0 {
            info!(pieces, "all accounts that were to be erased are");
        }
        Ok(())
    }
}
