//! When chores are carried out: idempotency keys are forgotten in rounds, each up to one time; what was
//! asked for is done between batches, and slice after slice while nobody waits.

use std::sync::{
    Mutex,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;

use super::{CHORE_LIMIT, Ledger, LedgerError, Retention, WriterTasks};
use crate::{
    database::{Chore, DatabaseError, HopedNew, Lane, Progress, Transaction},
    domain::{Account, CapacityLimits, Facts, FreshUsage, Reset, Tokens, UserId, Wanted},
};

/// A database that tells of all that it does, and does each slice only once it was told what comes of it.
struct Told {
    doings: mpsc::UnboundedSender<Doing>,
    answers: mpsc::UnboundedReceiver<Result<Progress, DatabaseError>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Doing {
    Batch,
    Slice(Chore),
}

impl Transaction for &mut Told {
    async fn save(self, _: Facts, _: HopedNew) -> Result<(), DatabaseError> {
        self.doings.send(Doing::Batch).expect("somebody listens");
        Ok(())
    }
}

impl Lane for Told {
    type Transaction<'lane> = &'lane mut Self;

    async fn begin(&mut self, wanted: &Wanted) -> Result<(Facts, &mut Self), DatabaseError> {
        let accounts = wanted.users.iter().cloned().map(Account::new).collect();
        Ok((Facts { accounts, ..Facts::default() }, self))
    }

    async fn sum_usage(&mut self, _: &UserId, _: &FreshUsage) -> Result<Progress, DatabaseError> {
        Ok(Progress::Done)
    }

    async fn slice(&mut self, chore: &Chore) -> Result<Progress, DatabaseError> {
        if matches!(chore, Chore::Upkeep | Chore::ForgetHolds { .. }) {
            return Ok(Progress::Done);
        }
        self.doings.send(Doing::Slice(*chore)).expect("somebody listens");
        self.answers.recv().await.expect("an answer comes")
    }

    async fn close(self) {}
}

const DAY: i64 = 24 * 60 * 60;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a time")
}

fn forget(before: i64) -> Doing {
    Doing::Slice(Chore::ForgetKeys { before: at(before) })
}

struct Bench {
    ledger: Ledger,
    tasks: WriterTasks,
    doings: mpsc::UnboundedReceiver<Doing>,
    answers: mpsc::UnboundedSender<Result<Progress, DatabaseError>>,
}

fn bench(clock: fn() -> DateTime<Utc>) -> Bench {
    let (doing, doings) = mpsc::unbounded_channel();
    let (answers, answer) = mpsc::unbounded_channel();
    let limits = CapacityLimits { quick: Tokens::MAX, think: Tokens::MAX };
    let retention = Retention { keys: TimeDelta::days(7) };
    let lane = Told { doings: doing, answers: answer };
    let (ledger, tasks) = Ledger::start(vec![lane], limits, retention, clock, None);
    Bench { ledger, tasks, doings, answers }
}

impl Bench {
    async fn batch(&mut self) {
        let user = UserId::new("ann").expect("a valid name");
        self.ledger.apply(user, None, Reset).await.expect("nothing fails");
        assert_eq!(self.doings.recv().await, Some(Doing::Batch));
    }

    fn answer(&self, answer: Result<Progress, DatabaseError>) {
        self.answers.send(answer).expect("it waits for an answer");
    }
}

#[tokio::test]
async fn a_round_has_one_time_unless_the_clock_was_ahead() {
    /// Seconds since the epoch.
    static NOW: AtomicI64 = AtomicI64::new(100 * DAY);
    let set = |now| NOW.store(now, Ordering::SeqCst);
    let mut bench = bench(|| at(NOW.load(Ordering::SeqCst)));

    bench.batch().await;
    for (now, before) in [
        (100 * DAY + 3_600, 93 * DAY),
        // The clock was ahead, and is set back.
        (90 * DAY, 93 * DAY),
        (90 * DAY + 30, 83 * DAY),
    ] {
        assert_eq!(bench.doings.recv().await, Some(forget(before)));
        // Nobody waits, so the round goes on at once.
        set(now);
        bench.answer(Ok(Progress::More));
    }
    assert_eq!(bench.doings.recv().await, Some(forget(83 * DAY)));
    bench.answer(Ok(Progress::Done));

    // All were forgotten, so it waits a minute; and so when they could not be.
    set(90 * DAY + 89);
    bench.batch().await;
    set(90 * DAY + 90);
    bench.batch().await;
    assert_eq!(bench.doings.recv().await, Some(forget(83 * DAY + 90)));
    bench.answer(Err(DatabaseError::Unavailable("locked".to_owned())));
    bench.batch().await;
    set(90 * DAY + 149);
    bench.batch().await;
    set(90 * DAY + 150);
    bench.batch().await;
    assert_eq!(bench.doings.recv().await, Some(forget(83 * DAY + 150)));
    bench.answer(Ok(Progress::Done));

    // A clock that was set back does not put it off.
    set(80 * DAY);
    bench.batch().await;
    assert_eq!(bench.doings.recv().await, Some(forget(73 * DAY)));
    bench.answer(Ok(Progress::Done));
    bench.tasks.stop().await;
}

#[tokio::test]
async fn a_batch_waits_for_one_slice_of_what_was_asked_for() {
    let mut bench = bench(|| DateTime::<Utc>::MIN_UTC);
    let chore = Chore::ForgetKeys { before: at(1) };
    let ledger = &bench.ledger;
    let (asked, ()) = tokio::join!(ledger.chore(chore), async {
        assert_eq!(bench.doings.recv().await, Some(forget(1)));
        let user = UserId::new("ann").expect("a valid name");
        let (applied, ()) = tokio::join!(ledger.apply(user, None, Reset), async {
            // The batch is queued by now.
            tokio::task::yield_now().await;
            bench.answers.send(Ok(Progress::More)).expect("it waits for an answer");
            assert_eq!(bench.doings.recv().await, Some(Doing::Batch));
        });
        applied.expect("nothing fails");
        assert_eq!(bench.doings.recv().await, Some(forget(1)));
        bench.answers.send(Ok(Progress::Done)).expect("it waits for an answer");
    });
    asked.expect("it was done");
    bench.tasks.stop().await;
}

#[tokio::test]
async fn who_asked_is_told_what_failed_and_that_too_much_was_asked() {
    let mut bench = bench(|| DateTime::<Utc>::MIN_UTC);
    let chore = Chore::ForgetKeys { before: at(1) };
    let ends: Mutex<Vec<&str>> = Mutex::default();
    let ask = async || {
        let end = match bench.ledger.chore(chore).await {
            Err(LedgerError::Overloaded) => "overloaded",
            Err(LedgerError::Unavailable) => "unavailable",
            Err(LedgerError::Stopping) => "stopping",
            other => unreachable!("{other:?}"),
        };
        ends.lock().expect("nothing panics").push(end);
    };
    let all = futures_util::future::join_all((0..CHORE_LIMIT + 2).map(|_| ask()));
    tokio::join!(all, async {
        assert_eq!(bench.doings.recv().await, Some(forget(1)));
        bench.answers.send(Err(DatabaseError::Unavailable("locked".to_owned()))).expect("waits");
        assert_eq!(bench.doings.recv().await, Some(forget(1)));
        for _ in 0..CHORE_LIMIT {
            let locked = Err(DatabaseError::Unavailable("locked".to_owned()));
            bench.answers.send(locked).expect("it waits for an answer");
        }
    });
    let mut ends = ends.into_inner().expect("nothing panics");
    ends.sort_unstable();
    ends.dedup();
    assert_eq!(ends, ["overloaded", "unavailable"]);
    bench.tasks.stop().await;
}
