//! A writer task that panics: everybody is answered, whoever looks after it is told, nothing hangs.

use chrono::{DateTime, TimeDelta};
use futures_util::{FutureExt, future::join_all};

use super::{BATCH_LIMIT, Ledger, LedgerError, Retention, WriterTasks};
use crate::{
    database::{Chore, DatabaseError, HopedNew, Lane, Progress, Transaction},
    domain::{
        Account, CapacityLimits, Credits, Facts, FreshUsage, Purchase, PurchaseRecord, Tokens,
        UserId, Wanted,
    },
};

/// Where it panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Begin,
    Save,
    Slice,
    Close,
}

/// A database that panics.
struct Mine(Step);

impl Mine {
    fn reach(&self, step: Step) {
        assert!(self.0 != step, "stepped on a mine");
    }
}

impl Transaction for &mut Mine {
    async fn save(self, _: Facts, _: HopedNew) -> Result<(), DatabaseError> {
        self.reach(Step::Save);
        Ok(())
    }
}

impl Lane for Mine {
    type Transaction<'lane> = &'lane mut Self;

    async fn begin(&mut self, wanted: &Wanted) -> Result<(Facts, &mut Self), DatabaseError> {
        self.reach(Step::Begin);
        let accounts = wanted.users.iter().cloned().map(Account::new).collect();
        Ok((Facts { accounts, ..Facts::default() }, self))
    }

    async fn sum_usage(&mut self, _: &UserId, _: &FreshUsage) -> Result<Progress, DatabaseError> {
        Ok(Progress::Done)
    }

    async fn slice(&mut self, _: &Chore) -> Result<Progress, DatabaseError> {
        self.reach(Step::Slice);
        Ok(Progress::Done)
    }

    async fn close(self) {
        self.reach(Step::Close);
    }
}

fn start(mine: Step) -> (Ledger, WriterTasks) {
    let limits = CapacityLimits { quick: Tokens::MAX, think: Tokens::MAX };
    let retention = Retention { keys: TimeDelta::days(7) };
    Ledger::start(vec![Mine(mine)], limits, retention, || DateTime::UNIX_EPOCH, None)
}

async fn buy(ledger: &Ledger) -> Result<(), LedgerError> {
    let credits = Credits::new(1).expect("a valid amount");
    let record = PurchaseRecord::new("{}".to_owned());
    let purchase = Purchase { credits, store_transaction_id: None, token: None, record };
    let user = UserId::new("ann").expect("a valid name");
    ledger.apply(user, None, purchase).await.map(|_| ())
}

#[tokio::test]
async fn callers_are_answered_and_the_death_is_noticed() {
    for step in [Step::Begin, Step::Save] {
        let (ledger, mut task) = start(step);
        // One more than the batch that panics takes.
        let answers = join_all((0..=BATCH_LIMIT).map(|_| buy(&ledger))).await;
        for answer in answers {
            assert!(matches!(answer, Err(LedgerError::Unavailable)), "{step:?}: {answer:?}");
        }
        task.died().await;
        let late = buy(&ledger).await;
        assert!(matches!(late, Err(LedgerError::Stopping)), "{step:?}: {late:?}");
    }
}

#[tokio::test]
async fn what_was_saved_before_the_death_is_answered_with_success() {
    let (ledger, mut task) = start(Step::Slice);
    assert!(buy(&ledger).await.is_ok());
    task.died().await;
    assert!(matches!(buy(&ledger).await, Err(LedgerError::Stopping)));
}

#[tokio::test]
async fn a_death_at_the_very_end_does_not_stop_the_stop() {
    let (ledger, mut task) = start(Step::Close);
    assert!(buy(&ledger).await.is_ok());
    assert!(task.died().now_or_never().is_none(), "it lives");
    task.stop().await;
    assert!(matches!(buy(&ledger).await, Err(LedgerError::Stopping)));
}
