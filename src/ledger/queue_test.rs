//! What lanes are given: each user's operations in order and by one lane at a time, and enough of them to be worth a
//! transaction.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::{
    BATCH_LIMIT, LedgerError, QUEUE_LIMIT,
    job::{Fault, Job},
    queue::{Queue, Turn, WORTH_A_TRANSACTION},
};
use crate::domain::{Facts, UserId, Wanted};

/// An operation that is known by its number.
struct Numbered {
    user: UserId,
    number: usize,
    queued_at: Instant,
    /// Where what is answered is written down.
    answered: Arc<Mutex<Vec<(UserId, usize)>>>,
}

impl Job for Numbered {
    fn user(&self) -> &UserId {
        &self.user
    }

    fn queued_at(&self) -> Instant {
        self.queued_at
    }

    fn is_abandoned(&self) -> bool {
        false
    }

    fn ask(&mut self, _: &mut Wanted) {}

    fn decide(&mut self, _: &mut Facts) -> bool {
        true
    }

    fn answer(self: Box<Self>, _: Option<Fault>) {
        self.answered.lock().expect("nothing panics").push((self.user, self.number));
    }
}

/// A queue, and lanes that stand still with what they took.
struct Lanes<'q> {
    queue: &'q Queue,
    /// Lanes wait by its clock.
    runtime: Runtime,
    taken: Vec<(Vec<Box<dyn Job>>, Turn<'q>)>,
    pushed: usize,
    /// Since when what is pushed waits.
    queued_at: Instant,
    answered: Arc<Mutex<Vec<(UserId, usize)>>>,
}

fn user(number: usize) -> UserId {
    UserId::new(format!("user {number}")).expect("a valid name")
}

impl<'q> Lanes<'q> {
    fn at(queue: &'q Queue) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("it can be made");
        Self {
            queue,
            runtime,
            taken: Vec::new(),
            pushed: 0,
            queued_at: Instant::now(),
            answered: Arc::default(),
        }
    }

    fn push(&mut self, of: usize) -> Result<(), LedgerError> {
        let answered = Arc::clone(&self.answered);
        let job =
            Numbered { user: user(of), number: self.pushed, queued_at: self.queued_at, answered };
        self.pushed += 1;
        self.queue.push(Box::new(job))
    }

    /// Has another lane look whether there is something to begin with. Returns how many operations it took.
    fn take(&mut self) -> Option<usize> {
        let _clock = self.runtime.enter();
        let (jobs, turn) = self.queue.next().now_or_never().flatten()?;
        let count = jobs.len();
        self.taken.push((jobs, turn));
        Some(count)
    }

    /// Has the lane that took first end, and returns what it answers.
    fn end(&mut self) -> Vec<(UserId, usize)> {
        let (jobs, turn) = self.taken.remove(0);
        for job in jobs {
            job.answer(None);
        }
        drop(turn);
        std::mem::take(&mut self.answered.lock().expect("nothing panics"))
    }

    fn users_at_work(&self) -> Vec<&UserId> {
        self.taken.iter().flat_map(|(jobs, _)| jobs.iter().map(|job| job.user())).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Take,
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..8_usize).prop_map(Step::Push),
        2 => Just(Step::Take),
        1 => Just(Step::End),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn nothing_is_lost_and_each_user_is_served_in_order_by_one_lane(steps in steps()) {
        let queue = Queue::of(3);
        let mut lanes = Lanes::at(&queue);
        let mut answered = Vec::new();
        for step in steps {
            match step {
                Step::Push(of) => prop_assert!(lanes.push(of).is_ok()),
                Step::Take if lanes.taken.len() < 3 => {
                    let before: Vec<UserId> = lanes.users_at_work().into_iter().cloned().collect();
                    if lanes.take().is_some() {
                        let (jobs, _) = lanes.taken.last().expect("it was taken");
                        prop_assert!(jobs.iter().all(|job| !before.contains(job.user())));
                    }
                }
                Step::End if !lanes.taken.is_empty() => answered.extend(lanes.end()),
                Step::Take | Step::End => {}
            }
        }
        queue.close();
        prop_assert!(matches!(lanes.push(0), Err(LedgerError::Stopping)));
        while lanes.take().is_some() || !lanes.taken.is_empty() {
            if !lanes.taken.is_empty() {
                answered.extend(lanes.end());
            }
        }
        prop_assert_eq!(answered.len() + 1, lanes.pushed);
        for of in 0..8 {
            let numbers: Vec<usize> =
                answered.iter().filter(|(by, _)| *by == user(of)).map(|(_, number)| *number).collect();
            prop_assert!(numbers.is_sorted(), "{:?}", numbers);
        }
    }
}

#[test]
fn a_lane_that_is_alone_begins_at_once_and_takes_what_there_is() {
    let queue = Queue::of(2);
    let mut lanes = Lanes::at(&queue);
    assert_eq!(lanes.take(), None, "nothing waits");
    for of in [1, 1, 2] {
        lanes.push(of).expect("there is room");
    }
    assert_eq!(lanes.take(), Some(3));
}

#[test]
fn another_begins_when_it_is_worth_a_transaction() {
    let queue = Queue::of(2);
    let mut lanes = Lanes::at(&queue);
    lanes.push(0).expect("there is room");
    assert_eq!(lanes.take(), Some(1));
    // They have not waited for long.
    lanes.queued_at += Duration::from_hours(1);
    for of in 1..=WORTH_A_TRANSACTION {
        assert_eq!(lanes.take(), None, "{of}");
        lanes.push(of).expect("there is room");
        // Who is in the hands of a lane makes nobody begin.
        lanes.push(0).expect("there is room");
    }
    assert_eq!(lanes.take(), Some(WORTH_A_TRANSACTION));
    assert_eq!(queue.depth(), WORTH_A_TRANSACTION, "those of the user that a lane has");
    assert_eq!(lanes.end().len(), 1);
    assert_eq!(lanes.take(), Some(WORTH_A_TRANSACTION));
}

#[test]
fn another_begins_with_few_that_have_waited() {
    let queue = Queue::of(2);
    let mut lanes = Lanes::at(&queue);
    for of in [0, 1] {
        lanes.push(of).expect("there is room");
        assert_eq!(lanes.take(), Some(1));
    }
}

/// Whether somebody was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn waits<F: Future>(lane: &mut Pin<Box<F>>, woken: &Arc<Woken>) {
    let waker = Arc::clone(woken).into();
    assert!(lane.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
}

#[test]
fn another_lane_watches_where_one_turns_to_something_else() {
    let queue = Queue::of(3);
    let mut lanes = Lanes::at(&queue);
    lanes.push(0).expect("there is room");
    assert_eq!(lanes.take(), Some(1));
    let woken = [Arc::<Woken>::default(), Arc::default()];
    let [first, second] = &woken;
    let (mut one, mut other) = (Box::pin(queue.next()), Box::pin(queue.next()));
    waits(&mut one, first);
    waits(&mut other, second);
    lanes.queued_at += Duration::from_hours(1);
    lanes.push(1).expect("there is room");
    assert!(first.0.load(Ordering::Relaxed) && !second.0.load(Ordering::Relaxed));
    {
        let _clock = lanes.runtime.enter();
        waits(&mut one, first);
    }
    assert!(!second.0.load(Ordering::Relaxed), "one is enough");
    drop(one);
    assert!(second.0.load(Ordering::Relaxed));
}

#[test]
fn who_has_to_wait_uses_up_nobodys_room() {
    let queue = Queue::of(2);
    let mut lanes = Lanes::at(&queue);
    lanes.push(0).expect("there is room");
    assert_eq!(lanes.take(), Some(1));
    for _ in 0..QUEUE_LIMIT {
        lanes.push(0).expect("there is room");
    }
    assert!(matches!(lanes.push(0), Err(LedgerError::Overloaded)));
    for of in 1..=QUEUE_LIMIT {
        lanes.push(of).expect("there is room for others");
    }
    assert!(matches!(lanes.push(1), Err(LedgerError::Overloaded)));
    assert_eq!(lanes.take(), Some(BATCH_LIMIT));
}

#[test]
fn who_comes_all_at_once_gets_no_more_room_than_others() {
    let queue = Queue::of(4);
    let mut lanes = Lanes::at(&queue);
    for _ in 0..4 * QUEUE_LIMIT {
        lanes.push(0).expect("there is room");
    }
    assert!(matches!(lanes.push(1), Err(LedgerError::Overloaded)));
    assert_eq!(lanes.take(), Some(BATCH_LIMIT));
    assert_eq!(queue.depth(), QUEUE_LIMIT);
    let refused = lanes.answered.lock().expect("nothing panics").len();
    assert_eq!(refused, 3 * QUEUE_LIMIT - BATCH_LIMIT);
    lanes.push(1).expect("there is room");
}

#[test]
fn what_one_transaction_has_no_room_for_waits_behind_its_users() {
    let queue = Queue::of(2);
    let mut lanes = Lanes::at(&queue);
    for _ in 0..=BATCH_LIMIT {
        lanes.push(0).expect("there is room");
    }
    lanes.push(1).expect("there is room");
    assert_eq!(lanes.take(), Some(BATCH_LIMIT));
    queue.close();
    assert_eq!(lanes.take(), Some(1), "the other user's");
    assert_eq!(lanes.end().len(), BATCH_LIMIT);
    assert_eq!(lanes.take(), Some(1));
}

#[test]
fn users_who_always_have_more_keep_nobody_waiting_for_good() {
    let queue = Queue::of(2);
    let mut lanes = Lanes::at(&queue);
    for of in [0, 1] {
        for _ in 0..2 * BATCH_LIMIT {
            lanes.push(of).expect("there is room");
        }
        assert_eq!(lanes.take(), Some(BATCH_LIMIT));
    }
    lanes.push(2).expect("there is room");
    for of in [0, 1] {
        for _ in 0..BATCH_LIMIT {
            lanes.push(of).expect("there is room");
        }
        lanes.end();
        lanes.take().expect("there is enough to do");
    }
    assert!(lanes.users_at_work().contains(&&user(2)));
}

#[test]
fn another_lane_is_woken_for_what_one_leaves() {
    let queue = Queue::of(3);
    let mut lanes = Lanes::at(&queue);
    for round in 0..3 {
        for of in 0..BATCH_LIMIT {
            lanes.push(of).expect("there is room");
        }
        if round == 0 {
            assert_eq!(lanes.take(), Some(BATCH_LIMIT));
        }
    }
    let woken = [Arc::<Woken>::default(), Arc::default()];
    let [first, second] = &woken;
    let (mut one, mut other) = (Box::pin(queue.next()), Box::pin(queue.next()));
    waits(&mut one, first);
    waits(&mut other, second);
    lanes.end();
    assert!(first.0.load(Ordering::Relaxed) && !second.0.load(Ordering::Relaxed));
    let waker = Arc::clone(first).into();
    let taken = one.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(taken.is_ready() && queue.depth() == BATCH_LIMIT, "as much as it may");
    assert!(second.0.load(Ordering::Relaxed));
}

#[test]
fn all_lanes_but_one_may_stand_aside() {
    let queue = Queue::of(3);
    assert!(queue.stand_aside() && queue.stand_aside());
    assert!(!queue.stand_aside());
    queue.come_back();
    assert!(queue.stand_aside());
    assert!(!Queue::of(1).stand_aside());
}

#[test]
fn what_is_abandoned_is_forgotten() {
    let queue = Queue::of(2);
    let mut lanes = Lanes::at(&queue);
    lanes.push(0).expect("there is room");
    assert_eq!(lanes.take(), Some(1));
    for of in [0, 1] {
        lanes.push(of).expect("there is room");
    }
    queue.abandon();
    assert_eq!(queue.depth(), 0);
    assert_eq!(Arc::strong_count(&lanes.answered), 2, "that of the lane at work is left");
    assert_eq!(lanes.end().len(), 1);
    assert_eq!(lanes.take(), None);
    assert!(matches!(lanes.push(0), Err(LedgerError::Stopping)));
}
