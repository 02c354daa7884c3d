//! What both stores do alike: count the calls, keep what was wrong with them, answer what a test scripted,
//! and hold a call until the test lets it go on.

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};

use super::{
    super::{PATIENCE, token::now},
    Answer,
    asked::Asked,
};

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Google's access token.
    AccessToken,
    /// What was bought with a token of Google's.
    Purchase,
    /// That it was delivered.
    Acknowledge,
    /// That it may be bought again.
    Consume,
    /// Google's list of voided purchases.
    Voided,
    /// How much of an order of Google's was used.
    Review,
    /// What was bought in a transaction of Apple's.
    Transaction,
    /// The same in the sandbox.
    SandboxTransaction,
    /// A test notification of Apple's.
    TestNotification,
    /// The same in the sandbox.
    SandboxTestNotification,
    /// Apple's list of notifications: of a type, or `missed`.
    History,
    /// The same in the sandbox.
    SandboxHistory,
    /// How much of a transaction of Apple's was used.
    Consumption,
    /// The same in the sandbox.
    SandboxConsumption,
}

impl Call {
    /// Whether there may be something behind the path.
    pub(super) const fn takes_query(self) -> bool {
        matches!(self, Self::Voided | Self::History | Self::SandboxHistory)
    }
}

/// What came with a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) query: BTreeMap<String, String>,
    /// Null if it was no JSON.
    pub(crate) body: Value,
}

/// What the stores share.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// Is told the number of calls.
    arrivals: watch::Sender<usize>,
    shift_seconds: AtomicI64,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<(Call, String)>,
    /// What came with each of them.
    sent: Vec<Sent>,
    faults: Vec<String>,
    rules: Vec<Rule>,
    gates: Vec<Gate>,
}

/// An answer, for so many calls or for all.
#[derive(Debug)]
struct Rule {
    call: Call,
    subject: Option<String>,
    left: Option<usize>,
    answer: Answer,
}

/// Where the next call waits.
#[derive(Debug)]
struct Gate {
    call: Call,
    subject: Option<String>,
    place: Place,
    reached: oneshot::Sender<()>,
    opened: oneshot::Receiver<()>,
}

/// At which point of a call a gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It has had no effect yet.
    Before,
    /// It has had its effect, and nobody knows.
    After,
}

impl Default for Desk {
    fn default() -> Self {
        let (arrivals, _) = watch::channel(0);
        Self { state: Mutex::default(), arrivals, shift_seconds: AtomicI64::new(0) }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn on(&self, call: Call) -> On<'_> {
        On { desk: self, call, subject: None }
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        let about_one = |call: &Call| {
            let others = [
                Call::AccessToken,
                Call::Voided,
                Call::TestNotification,
                Call::SandboxTestNotification,
                Call::History,
                Call::SandboxHistory,
            ];
            !others.contains(call)
        };
        self.lock().calls.iter().map(|(call, _)| *call).filter(about_one).collect()
    }

    /// Keeps what is wrong with a request.
    pub(super) fn fault(&self, text: impl Into<String>) {
        self.lock().faults.push(text.into());
    }

    /// What was wrong with requests since this was last asked.
    pub(super) fn take_faults(&self) -> Vec<String> {
        mem::take(&mut self.lock().faults)
    }

    pub(super) fn shift(&self, seconds: i64) {
        self.shift_seconds.store(seconds, Ordering::SeqCst);
    }

    /// The time as the stores see it, in seconds.
    pub(super) fn now(&self) -> u64 {
        now().saturating_add_signed(self.shift_seconds.load(Ordering::SeqCst))
    }

    /// Counts a call that has come.
    pub(super) fn arrived(&self, call: Call, subject: &str, asked: &Asked) {
        let sent = Sent { query: asked.fields(), body: asked.json() };
        let count = {
            let mut state = self.lock();
            state.calls.push((call, subject.to_owned()));
            state.sent.push(sent);
            state.calls.len()
        };
        // Not under the lock, which whoever is told takes.
        self.arrivals.send_replace(count);
    }

    /// What a test wants answered.
    pub(super) fn scripted(&self, call: Call, subject: &str) -> Option<Answer> {
        let mut state = self.lock();
        let fits = |rule: &&Rule| rule.call == call && is(rule.subject.as_deref(), subject);
        let first = state.rules.iter().position(|rule| rule.left.is_some() && fits(&rule));
        let Some(index) = first else {
            return state.rules.iter().rev().find(fits).map(|rule| rule.answer.clone());
        };
        let rule = &mut state.rules[index];
        let answer = rule.answer.clone();
        rule.left = rule.left.map(|left| left - 1);
        if rule.left == Some(0) {
            state.rules.remove(index);
        }
        Some(answer)
    }

    /// Waits at a gate, if one stands there. False when whoever made it has dropped it: the call is to be
    /// broken off.
    pub(super) async fn pass(&self, place: Place, call: Call, subject: &str) -> bool {
        let gate = {
            let mut state = self.lock();
            let stands = state.gates.iter().position(|gate| {
                gate.place == place && gate.call == call && is(gate.subject.as_deref(), subject)
            });
            stands.map(|index| state.gates.remove(index))
        };
        let Some(gate) = gate else { return true };
        gate.reached.send(()).is_ok() && gate.opened.await.is_ok()
    }
}

fn is(wanted: Option<&str>, subject: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == subject)
}

/// One kind of call, or only those for one purchase.
#[derive(Debug)]
pub(crate) struct On<'a> {
    desk: &'a Desk,
    call: Call,
    subject: Option<String>,
}

impl On<'_> {
    /// Only those for this token or order of Google's, or this transaction or list of Apple's.
    pub(crate) fn of(self, subject: &str) -> Self {
        Self { subject: Some(subject.to_owned()), ..self }
    }

    /// What is answered from now on; of several the newest counts.
    pub(crate) fn always(self, answer: Answer) {
        self.add(None, answer);
    }

    /// What the next calls are answered, so many; of several the oldest comes first, and before
    /// [`Self::always`].
    pub(crate) fn next(self, times: usize, answer: Answer) {
        self.add(Some(times), answer);
    }

    fn add(self, left: Option<usize>, answer: Answer) {
        let Self { desk, call, subject } = self;
        desk.lock().rules.push(Rule { call, subject, left, answer });
    }

    /// Forgets what was scripted.
    pub(crate) fn forget(self) {
        let Self { desk, call, subject } = self;
        desk.lock().rules.retain(|rule| rule.call != call || rule.subject != subject);
    }

    /// Holds the next call before it has any effect.
    pub(crate) fn hold(self) -> Held {
        self.gate(Place::Before)
    }

    /// Holds the answer to the next call, which has had its effect.
    pub(crate) fn hold_answer(self) -> Held {
        self.gate(Place::After)
    }

    fn gate(self, place: Place) -> Held {
        let Self { desk, call, subject } = self;
        let (reached, arrival) = oneshot::channel();
        let (open, opened) = oneshot::channel();
        desk.lock().gates.push(Gate { call, subject, place, reached, opened });
        Held { call, arrival, open }
    }

    /// What came with each of them.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        let state = self.desk.lock();
        let calls = state.calls.iter().zip(&state.sent);
        calls.filter(|(call, _)| self.fits(call)).map(|(_, sent)| sent.clone()).collect()
    }

    /// How many there were.
    pub(crate) fn count(&self) -> usize {
        self.desk.lock().calls.iter().filter(|call| self.fits(call)).count()
    }

    fn fits(&self, (call, subject): &(Call, String)) -> bool {
        *call == self.call && is(self.subject.as_deref(), subject)
    }

    /// Waits until there were so many.
    pub(crate) async fn reach(self, count: usize) {
        let mut arrivals = self.desk.arrivals.subscribe();
        let enough = async {
            while self.count() < count {
                arrivals.changed().await.expect("the desk is there");
            }
        };
        let in_time = timeout(PATIENCE, enough).await;
        assert!(in_time.is_ok(), "{} of {count} calls for {:?}", self.count(), self.call);
    }
}

/// A call that waits. Dropped, it is broken off without an answer.
#[derive(Debug)]
pub(crate) struct Held {
    call: Call,
    arrival: oneshot::Receiver<()>,
    open: oneshot::Sender<()>,
}

impl Held {
    /// Waits until it is there.
    pub(crate) async fn arrived(&mut self) {
        let in_time = timeout(PATIENCE, &mut self.arrival).await;
        assert!(in_time.is_ok_and(|sent| sent.is_ok()), "no call for {:?} came", self.call);
    }

    /// Lets it go on; its caller may have gone.
    pub(crate) fn go_on(self) {
        let _ = self.open.send(());
    }
}
