//! Which idempotency keys are forgotten, and when: up to one time until none are left, then after a while.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::mpsc;

use super::{Ledger, Retention};
use crate::{
    database::{DatabaseError, Loaded, Wanted, Writer},
    domain::{Account, CapacityLimits, Replays, Reset, Tokens, UserId},
};

/// A database that tells of every call to `tidy`, and answers as it is told.
struct Told {
    befores: mpsc::UnboundedSender<Option<DateTime<Utc>>>,
    answers: VecDeque<Result<bool, DatabaseError>>,
}

impl Writer for Told {
    async fn load(&mut self, _: &Wanted) -> Result<Loaded, DatabaseError> {
        Ok(Loaded::default())
    }

    async fn save(
        &mut self,
        _: Vec<Account>,
        _: &Replays,
        _: DateTime<Utc>,
    ) -> Result<(), DatabaseError> {
        Ok(())
    }

    async fn abandon(&mut self) {}

    async fn tidy(&mut self, before: Option<DateTime<Utc>>) -> Result<bool, DatabaseError> {
        let answer = self.answers.pop_front().expect("an answer is left");
        self.befores.send(before).expect("somebody listens");
        answer
    }

    async fn close(self) {}
}

/// Seconds since the epoch.
static NOW: AtomicI64 = AtomicI64::new(0);
const DAY: i64 = 24 * 60 * 60;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a time")
}

#[tokio::test]
async fn a_round_has_one_time_unless_the_clock_was_ahead() {
    let failed = || Err(DatabaseError::Unavailable("locked".to_owned()));
    let steps = [
        (100 * DAY, Ok(true), Some(93 * DAY)),
        (100 * DAY + 3_600, Ok(true), Some(93 * DAY)),
        (90 * DAY, Ok(true), Some(83 * DAY)),
        (90 * DAY + 30, Ok(false), Some(83 * DAY)),
        // All were forgotten, so it waits a minute; and so when they could not be.
        (90 * DAY + 89, Ok(false), None),
        (90 * DAY + 90, failed(), Some(83 * DAY + 90)),
        (90 * DAY + 149, Ok(false), None),
        (90 * DAY + 150, Ok(false), Some(83 * DAY + 150)),
        // A clock that was set back does not put it off.
        (80 * DAY, Ok(false), Some(73 * DAY)),
    ];
    let (befores, mut told) = mpsc::unbounded_channel();
    let answers = steps.iter().map(|(_, answer, _)| answer.clone()).collect();
    let limits = CapacityLimits { quick: Tokens::MAX, think: Tokens::MAX };
    let retention = Retention { keys: TimeDelta::days(7) };
    let clock = || at(NOW.load(Ordering::SeqCst));
    let (ledger, tasks) =
        Ledger::start(vec![Told { befores, answers }], limits, retention, clock, None);
    for (now, _, before) in steps {
        NOW.store(now, Ordering::SeqCst);
        let user = UserId::new("ann").expect("a valid name");
        ledger.apply(user, None, Reset).await.expect("nothing fails");
        assert_eq!(told.recv().await, Some(before.map(at)), "at {now}");
    }
    tasks.stop().await;
}
