//! Breaks the ledger's database at every single step and looks at what callers are told and what is
//! on disk. The database is a fake in memory; what the real ones do is tested with them.
//!
//! Nothing here depends on time: a test holds the lane inside its first `begin` until all that it
//! wants in one batch is queued.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use chrono::{DateTime, TimeDelta};
use futures_util::FutureExt;
use tokio::{sync::oneshot, task::yield_now};

use super::{
    BATCH_LIMIT, Ledger, LedgerError, QUEUE_LIMIT, Retention, WriterTasks,
    queue::WORTH_A_TRANSACTION,
};
use crate::{
    database::{Chore, DatabaseError, HopedNew, Lane, Progress, Transaction},
    domain::{
        Account, Allocate, Allocation, Applied, CapacityLimits, Category, Credits, Entry, Facts,
        FreshUsage, Funds, ModelId, Operation, Price, Purchase, PurchaseName, PurchaseRecord,
        Refusal, StoreTransactionId, Tokens, UserId, Wanted,
    },
};

const MODEL: &str = "gemini-2.0-flash";
/// The user, and the store transaction, of the operation that is at fault.
const EVE: &str = "eve";
const BAD: &str = "bad";

/// How one call of the database fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Unavailable,
    /// `Corrupt` from `begin`, `Constraint` from `save`.
    Spoiled,
}

/// What is wrong with the operation [`BAD`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruin {
    Nothing,
    Panics,
    CannotBeSaved,
    CannotBeRead,
}

/// What is committed, and what happens to those who use it.
#[derive(Debug, Default)]
pub(super) struct Disk {
    entries: HashMap<UserId, Vec<Entry>>,
    granted: HashMap<PurchaseName, UserId>,
    /// The store transactions of the operations in each call of `begin` or `save`, in order.
    steps: Vec<Vec<String>>,
    /// The step that fails, once.
    fault: Option<(usize, Fault)>,
    /// How many more calls of `save` find that another writer came in between.
    conflicts: usize,
    unsavable: Option<UserId>,
    unreadable: Option<UserId>,
    /// Whether nothing gets there.
    unreachable: bool,
    closed: bool,
}

impl Disk {
    fn step(&mut self, ids: Vec<String>) -> Option<Fault> {
        let number = self.steps.len();
        self.steps.push(ids);
        self.fault.filter(|(step, _)| *step == number).map(|(_, fault)| fault)
    }

    fn reach(&self) -> Result<(), DatabaseError> {
        let unreachable = || DatabaseError::Unavailable("it can't be reached".to_owned());
        if self.unreachable { Err(unreachable()) } else { Ok(()) }
    }

    fn read(&mut self, wanted: &Wanted) -> Result<Facts, DatabaseError> {
        match self.step(ids(wanted)) {
            Some(Fault::Unavailable) => return Err(DatabaseError::Unavailable("read".to_owned())),
            Some(Fault::Spoiled) => return Err(DatabaseError::Corrupt("read".to_owned())),
            None => {}
        }
        if self.unreadable.as_ref().is_some_and(|user| wanted.users.contains(user)) {
            return Err(DatabaseError::Corrupt("a user".to_owned()));
        }
        let accounts = wanted.users.iter().map(|user| self.account(user)).collect();
        let mut facts = Facts { accounts, ..Facts::default() };
        if wanted.prices {
            let price = Price::new(1_000_000, Category::Quick).expect("a valid price");
            facts.prices = [(model(), price)].into_iter().collect();
        }
        for name in &wanted.purchase_names {
            if let Some(owner) = self.granted.get(name) {
                facts.granted.insert_kept(name.clone(), owner.clone());
            }
        }
        Ok(facts)
    }

    fn write(&mut self, ids: Vec<String>, facts: &Facts) -> Result<(), DatabaseError> {
        match self.step(ids) {
            Some(Fault::Unavailable) => return Err(DatabaseError::Unavailable("write".to_owned())),
            Some(Fault::Spoiled) => return Err(DatabaseError::Constraint("write".to_owned())),
            None => {}
        }
        if let Some(left) = self.conflicts.checked_sub(1) {
            self.conflicts = left;
            return Err(DatabaseError::Retry("write".to_owned()));
        }
        if facts.accounts.iter().any(|account| self.unsavable.as_ref() == Some(account.user())) {
            return Err(DatabaseError::Constraint("write".to_owned()));
        }
        for account in facts.accounts.iter() {
            let entries = self.entries.entry(account.user().clone()).or_default();
            if account.is_reset() {
                entries.clear();
                self.granted.retain(|_, owner| owner != account.user());
            }
            entries.extend(account.entries().iter().map(|it| it.entry.clone()));
        }
        for (name, owner) in facts.granted.new_ones() {
            let before = self.granted.insert(name.clone(), owner.clone());
            assert_eq!(before, None, "{name:?} was granted twice");
        }
        Ok(())
    }

    fn account(&self, user: &UserId) -> Account {
        let entries = self.entries.get(user).map_or(&[][..], Vec::as_slice);
        let credits: i64 = entries.iter().map(Entry::credits_delta).sum();
        let mut tokens: BTreeMap<ModelId, i64> = BTreeMap::new();
        for entry in entries {
            if let Some(model) = entry.model() {
                *tokens.entry(model.clone()).or_default() += entry.tokens_delta();
            }
        }
        let tokens = tokens
            .into_iter()
            .map(|(model, held)| (model, Tokens::new(held).expect("never negative")))
            .collect();
        let credits = Credits::new(credits).expect("never negative");
        Account::loaded(user.clone(), Funds::new(credits, Credits::ZERO), tokens)
    }

    fn granted_ids(&self) -> Vec<String> {
        let mut ids: Vec<String> =
            self.granted.keys().map(|name| name.as_str().to_owned()).collect();
        ids.sort_unstable();
        ids
    }

    /// Every operation granted is on disk whole: a purchase of two and an allocation of one.
    fn assert_whole(&self) {
        let mut operations: HashMap<&UserId, usize> = HashMap::new();
        for owner in self.granted.values() {
            *operations.entry(owner).or_default() += 1;
        }
        for (user, entries) in &self.entries {
            let count = operations.get(user).copied().unwrap_or_default();
            assert_eq!(entries.len(), 2 * count, "{user} has half an operation");
            let count = i64::try_from(count).expect("small");
            let account = self.account(user);
            assert_eq!(account.credits().get(), count, "{user}");
            let held = account.tokens().get(&model()).map_or(0, |held| held.get());
            assert_eq!(held, count, "{user}");
        }
    }
}

/// The lane to the disk. Its first `begin` says that it has begun, and waits to go on.
pub(super) struct FakeLane {
    pub(super) disk: Arc<Mutex<Disk>>,
    pub(super) gate: Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>,
}

/// A transaction with the store transactions of its operations.
pub(super) struct FakeTransaction<'lane>(&'lane Mutex<Disk>, Vec<String>);

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().expect("nothing panics while it holds the disk")
}

fn ids(wanted: &Wanted) -> Vec<String> {
    wanted.purchase_names.iter().map(|name| name.as_str().to_owned()).collect()
}

impl Transaction for FakeTransaction<'_> {
    async fn save(self, facts: Facts, _: HopedNew) -> Result<(), DatabaseError> {
        let Self(disk, ids) = self;
        lock(disk).write(ids, &facts)
    }
}

impl Lane for FakeLane {
    type Transaction<'lane> = FakeTransaction<'lane>;

    async fn begin(
        &mut self,
        wanted: &Wanted,
    ) -> Result<(Facts, FakeTransaction<'_>), DatabaseError> {
        if let Some((begun, go_on)) = self.gate.take() {
            begun.send(()).expect("the test waits for it");
            go_on.await.expect("the test opens the gate");
        }
        let mut disk = lock(&self.disk);
        disk.reach()?;
        let facts = disk.read(wanted)?;
        Ok((facts, FakeTransaction(&self.disk, ids(wanted))))
    }

    async fn sum_usage(&mut self, _: &UserId, _: &FreshUsage) -> Result<Progress, DatabaseError> {
        Ok(Progress::Done)
    }

    async fn slice(&mut self, _: &Chore) -> Result<Progress, DatabaseError> {
        lock(&self.disk).reach().map(|()| Progress::Done)
    }

    async fn close(self) {
        lock(&self.disk).closed = true;
    }
}

/// Buys two credits, turns one of them into a token, and may then panic.
#[derive(Debug)]
struct Trial {
    purchase: Purchase,
    panics: bool,
}

impl Trial {
    fn new(id: &str) -> Self {
        let purchase = Purchase {
            credits: Credits::new(2).expect("a valid amount"),
            store_transaction_id: Some(StoreTransactionId::new(id).expect("a valid id")),
            token: None,
            record: PurchaseRecord::new("{}".to_owned()),
        };
        Self { purchase, panics: false }
    }

    fn panicking(id: &str) -> Self {
        Self { panics: true, ..Self::new(id) }
    }
}

impl Operation for Trial {
    type Outcome = ();

    fn asks(&self, wanted: &mut Wanted) {
        wanted.prices = true;
        self.purchase.asks(wanted);
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<()>, Refusal> {
        self.purchase.decide(user, facts)?;
        let credits = Credits::new(1).expect("a valid amount");
        let items = vec![Allocation { model: model(), credits }];
        let applied = Allocate { items }.decide(user, facts)?;
        assert!(!self.panics, "half way through");
        Ok(applied)
    }
}

pub(super) fn model() -> ModelId {
    ModelId::new(MODEL).expect("a valid name")
}

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).expect("a valid name")
}

type Answer = Result<(), LedgerError>;
type Call<'a> = Pin<Box<dyn Future<Output = Answer> + 'a>>;

async fn apply(ledger: &Ledger, user: UserId, trial: Trial) -> Answer {
    let Applied { outcome: (), replayed } = ledger.apply(user, None, trial).await?;
    assert!(!replayed, "there are no keys");
    Ok(())
}

/// Queues an operation without letting the writer run.
fn queue<'a>(ledger: &'a Ledger, name: &str, trial: Trial) -> Call<'a> {
    let mut call: Call<'a> = Box::pin(apply(ledger, user(name), trial));
    assert!(call.as_mut().now_or_never().is_none(), "{name}'s operation was not queued");
    call
}

struct Bench {
    disk: Arc<Mutex<Disk>>,
    ledger: Ledger,
    task: WriterTasks,
    begun: oneshot::Receiver<()>,
    go_on: oneshot::Sender<()>,
}

fn bench(disk: Disk) -> Bench {
    bench_beside(Vec::new(), disk)
}

/// One with more lanes, which take before that of the bench where they are free.
fn bench_beside(mut lanes: Vec<FakeLane>, disk: Disk) -> Bench {
    let (begin, begun) = oneshot::channel();
    let (go_on, may_go_on) = oneshot::channel();
    let disk = Arc::new(Mutex::new(disk));
    lanes.push(FakeLane { disk: Arc::clone(&disk), gate: Some((begin, may_go_on)) });
    let limits = CapacityLimits { quick: Tokens::MAX, think: Tokens::MAX };
    let retention = Retention { keys: TimeDelta::days(7) };
    let (ledger, task) = Ledger::start(lanes, limits, retention, || DateTime::UNIX_EPOCH, None);
    Bench { disk, ledger, task, begun, go_on }
}

fn word(answer: &Answer) -> &'static str {
    match answer {
        Ok(()) => "done",
        Err(LedgerError::Refused(refusal)) => refusal.code(),
        Err(LedgerError::KeyReused) => "idempotency_key_reused",
        Err(LedgerError::Overloaded) => "overloaded",
        Err(LedgerError::Stopping) => "stopping",
        Err(LedgerError::Unavailable) => "unavailable",
        Err(LedgerError::Failed(_)) => "failed",
    }
}

/// One operation alone, five that become a batch, and one more alone, with one step failing.
/// Returns what each was told, by its store transaction, and the disk afterwards.
async fn run(ruin: Ruin, fault: Option<(usize, Fault)>) -> (Vec<(&'static str, Answer)>, Disk) {
    let disk = Disk {
        fault,
        unsavable: (ruin == Ruin::CannotBeSaved).then(|| user(EVE)),
        unreadable: (ruin == Ruin::CannotBeRead).then(|| user(EVE)),
        ..Disk::default()
    };
    let Bench { disk, ledger, task, begun, go_on } = bench(disk);

    let mut calls = vec![("opener", queue(&ledger, "ann", Trial::new("opener")))];
    begun.await.expect("the writer begins");
    for (id, name) in [("t1", "ann"), ("t2", "bob"), (BAD, EVE), ("t3", "ann"), ("t4", "cid")] {
        let trial = Trial { panics: id == BAD && ruin == Ruin::Panics, ..Trial::new(id) };
        calls.push((id, queue(&ledger, name, trial)));
    }
    go_on.send(()).expect("the writer waits");

    let mut answers = Vec::new();
    for (id, call) in calls {
        answers.push((id, call.await));
    }
    answers.push(("next", apply(&ledger, user("bob"), Trial::new("next")).await));
    task.stop().await;
    let disk = std::mem::take(&mut *lock(&disk));
    (answers, disk)
}

/// Fails every step of [`run`] in turn and returns how many steps there are without a fault.
async fn fail_every_step(ruin: Ruin, fault: Fault) -> usize {
    for number in 0.. {
        let (answers, disk) = run(ruin, Some((number, fault))).await;
        // Whoever shares the failing step with others is decided again, alone, if one is at fault.
        let victims: &[String] = match (fault, disk.steps.get(number)) {
            (Fault::Unavailable, Some(ids)) => ids,
            (Fault::Spoiled, Some(ids)) if ids.len() == 1 => ids,
            _ => &[],
        };
        let mut done = Vec::new();
        for (id, answer) in &answers {
            let expected = match fault {
                Fault::Unavailable if victims.iter().any(|victim| victim == id) => "unavailable",
                Fault::Spoiled if victims.iter().any(|victim| victim == id) => "failed",
                _ if *id == BAD && ruin != Ruin::Nothing => "failed",
                _ => "done",
            };
            assert_eq!(word(answer), expected, "{id}, {ruin:?}, step {number} {fault:?}");
            if answer.is_ok() {
                done.push((*id).to_owned());
            }
        }
        done.sort_unstable();
        assert_eq!(disk.granted_ids(), done, "{ruin:?}, step {number} {fault:?}");
        disk.assert_whole();
        assert!(disk.closed);
        if number >= disk.steps.len() {
            return disk.steps.len();
        }
    }
    unreachable!("the numbers do not end")
}

#[tokio::test]
async fn every_step_of_a_sound_batch_may_fail() {
    // Three transactions of two steps each.
    assert_eq!(fail_every_step(Ruin::Nothing, Fault::Unavailable).await, 6);
    assert_eq!(fail_every_step(Ruin::Nothing, Fault::Spoiled).await, 6);
}

#[tokio::test]
async fn every_step_beside_a_panicking_operation_may_fail() {
    // The batch and the operation alone are read, and dropped; four are done alone.
    assert_eq!(fail_every_step(Ruin::Panics, Fault::Unavailable).await, 14);
    assert_eq!(fail_every_step(Ruin::Panics, Fault::Spoiled).await, 14);
}

#[tokio::test]
async fn every_step_beside_an_operation_the_schema_refuses_may_fail() {
    assert_eq!(fail_every_step(Ruin::CannotBeSaved, Fault::Unavailable).await, 16);
    assert_eq!(fail_every_step(Ruin::CannotBeSaved, Fault::Spoiled).await, 16);
}

#[tokio::test]
async fn every_step_beside_an_account_that_can_not_be_read_may_fail() {
    assert_eq!(fail_every_step(Ruin::CannotBeRead, Fault::Unavailable).await, 14);
    assert_eq!(fail_every_step(Ruin::CannotBeRead, Fault::Spoiled).await, 14);
}

#[tokio::test]
async fn operations_of_a_batch_see_each_other_and_nothing_of_a_panic() {
    let Bench { disk, ledger, task, begun, go_on } = bench(Disk::default());
    let opener = queue(&ledger, "ann", Trial::new("opener"));
    begun.await.expect("the writer begins");
    let panicking = queue(&ledger, "ann", Trial::panicking("t1"));
    let first = queue(&ledger, "bob", Trial::new("t1"));
    let second = queue(&ledger, "cid", Trial::new("t1"));
    let duplicate = queue(&ledger, "cid", Trial::new("opener"));
    go_on.send(()).expect("the writer waits");

    assert_eq!(word(&opener.await), "done");
    let answer = panicking.await;
    assert!(matches!(&answer, Err(LedgerError::Failed(cause)) if cause.contains("half way")));
    assert_eq!(word(&first.await), "done");
    assert_eq!(word(&second.await), "purchase_already_processed");
    assert_eq!(word(&duplicate.await), "purchase_already_processed");
    task.stop().await;
    lock(&disk).assert_whole();
    assert_eq!(lock(&disk).granted_ids(), ["opener", "t1"]);
}

#[tokio::test]
async fn a_full_queue_is_overloaded_and_all_that_is_in_it_is_done() {
    let Bench { disk, ledger, task, begun, go_on } = bench(Disk::default());
    let mut calls = vec![queue(&ledger, "ann", Trial::new("opener"))];
    begun.await.expect("the writer begins");
    for number in 0..QUEUE_LIMIT {
        calls.push(queue(&ledger, "bob", Trial::new(&format!("t{number}"))));
    }
    let one_more = apply(&ledger, user("cid"), Trial::new("one more")).await;
    assert_eq!(word(&one_more), "overloaded");
    go_on.send(()).expect("the writer waits");

    for call in calls {
        assert_eq!(word(&call.await), "done");
    }
    assert_eq!(word(&apply(&ledger, user("cid"), Trial::new("one more")).await), "done");
    task.stop().await;
    let disk = lock(&disk);
    disk.assert_whole();
    let begun: Vec<usize> = disk.steps.iter().step_by(2).map(Vec::len).collect();
    assert_eq!(begun, [1, BATCH_LIMIT, BATCH_LIMIT, 1]);
}

#[tokio::test]
async fn stopping_finishes_what_is_queued_and_takes_nothing_more() {
    let Bench { disk, ledger, task, begun, go_on } = bench(Disk::default());
    let mut calls = vec![queue(&ledger, "ann", Trial::new("opener"))];
    begun.await.expect("the writer begins");
    for id in ["t1", "t2", "t3"] {
        calls.push(queue(&ledger, "bob", Trial::new(id)));
    }
    let mut stop = Box::pin(task.stop());
    assert!(stop.as_mut().now_or_never().is_none(), "it waits for the writer");
    go_on.send(()).expect("the writer waits");
    stop.await;

    for call in calls {
        assert_eq!(word(&call.await), "done");
    }
    assert_eq!(word(&apply(&ledger, user("ann"), Trial::new("late")).await), "stopping");
    lock(&disk).assert_whole();
    assert_eq!(lock(&disk).granted_ids(), ["opener", "t1", "t2", "t3"]);
    assert!(lock(&disk).closed);
}

#[tokio::test]
async fn an_abandoned_operation_is_carried_through_only_once_begun() {
    let Bench { disk, ledger, task, begun, go_on } = bench(Disk::default());
    let opener = queue(&ledger, "ann", Trial::new("opener"));
    begun.await.expect("the writer begins");
    drop(opener);
    drop(queue(&ledger, "bob", Trial::new("given up")));
    let kept = queue(&ledger, "bob", Trial::new("kept"));
    go_on.send(()).expect("the writer waits");

    assert_eq!(word(&kept.await), "done");
    task.stop().await;
    lock(&disk).assert_whole();
    assert_eq!(lock(&disk).granted_ids(), ["kept", "opener"]);
}

#[tokio::test]
async fn a_lane_that_can_not_write_leaves_it_to_others_until_it_can() {
    let lost = Arc::new(Mutex::new(Disk { unreachable: true, ..Disk::default() }));
    let lane = FakeLane { disk: Arc::clone(&lost), gate: None };
    let Bench { ledger, task, begun, go_on, .. } = bench_beside(vec![lane], Disk::default());
    let failed = queue(&ledger, "ann", Trial::new("1")).await;
    assert!(matches!(failed, Err(LedgerError::Unavailable)), "{failed:?}");
    let held = queue(&ledger, "bob", Trial::new("2"));
    begun.await.expect("the other lane has it");
    // So many that any lane that takes begins at once.
    let left = (0..WORTH_A_TRANSACTION).map(|number| format!("user {number}"));
    let mut left: Vec<_> = left.map(|name| queue(&ledger, &name, Trial::new(&name))).collect();
    for _ in 0..100 {
        yield_now().await;
        let waits = left.iter_mut().all(|call| call.as_mut().now_or_never().is_none());
        assert!(waits, "for a lane that can write");
    }
    lock(&lost).unreachable = false;
    for call in left {
        call.await.expect("the lane has come back");
    }
    go_on.send(()).expect("the lane waits");
    held.await.expect("nothing is wrong with this lane");
    task.stop().await;
}

#[tokio::test]
async fn where_no_lane_can_write_nobody_waits_for_one() {
    let unreachable = || Disk { unreachable: true, ..Disk::default() };
    let lane = FakeLane { disk: Arc::new(Mutex::new(unreachable())), gate: None };
    let Bench { ledger, task, begun, go_on, .. } = bench_beside(vec![lane], unreachable());
    go_on.send(()).expect("the lane will look");
    for id in ["1", "2", "3"] {
        let failed = queue(&ledger, "ann", Trial::new(id)).await;
        assert!(matches!(failed, Err(LedgerError::Unavailable)), "{failed:?}");
    }
    begun.await.expect("both lanes were tried");
    task.stop().await;
}

#[tokio::test]
async fn a_batch_is_decided_again_while_others_come_in_between() {
    for (conflicts, word_expected) in [(1, "done"), (3, "done"), (4, "unavailable")] {
        let Bench { disk, ledger, task, begun, go_on } =
            bench(Disk { conflicts, ..Disk::default() });
        let opener = queue(&ledger, "ann", Trial::new("opener"));
        begun.await.expect("the writer begins");
        go_on.send(()).expect("the writer waits");
        assert_eq!(word(&opener.await), word_expected, "{conflicts} conflicts");
        assert_eq!(word(&apply(&ledger, user("bob"), Trial::new("next")).await), "done");
        task.stop().await;
        lock(&disk).assert_whole();
        let opener_granted = lock(&disk).granted_ids().contains(&"opener".to_owned());
        assert_eq!(opener_granted, word_expected == "done", "{conflicts} conflicts");
    }
}
