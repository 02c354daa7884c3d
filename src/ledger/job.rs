//! An operation on its way through the ledger, with the caller who waits for it.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{
    LedgerError,
    replays::{self, Verdict},
};
use crate::domain::{
    Actor, Applied, Facts, Fingerprint, Keyed, Operation, UserId, UserKey, Wanted,
};

/// Why no job of a batch has an outcome, or why this one has none.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    Overloaded,
    Unavailable,
    Failed(String),
}

/// An operation of any kind. Asked and decided once per attempt, then answered.
pub(super) trait Job: Send {
    /// Whose operation it is.
    fn user(&self) -> &UserId;
    fn queued_at(&self) -> Instant;
    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
    /// Adds what it must know to be decided.
    fn ask(&mut self, wanted: &mut Wanted);
    /// Decides, and keeps the verdict for `answer`. Returns whether what it hoped to be new was taken for
    /// new; where it hoped for nothing, too.
    fn decide(&mut self, facts: &mut Facts) -> bool;
    /// Tells the caller the last verdict, or the fault that voids it.
    fn answer(self: Box<Self>, fault: Option<Fault>);
}

impl std::fmt::Debug for dyn Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("queued_at", &self.queued_at()).finish_non_exhaustive()
    }
}

pub(super) struct Submission<O: Operation> {
    user: UserId,
    actor: Option<Actor>,
    keyed: Option<(UserKey, Fingerprint)>,
    operation: O,
    queued_at: Instant,
    hopes_for_new: bool,
    verdict: Option<Verdict<O::Outcome>>,
    caller: oneshot::Sender<Answer<O::Outcome>>,
}

type Answer<T> = Result<Applied<T>, LedgerError>;

impl<O: Operation> Submission<O> {
    pub(super) fn new(
        user: UserId,
        actor: Option<Actor>,
        keyed: Option<Keyed>,
        operation: O,
    ) -> (Self, oneshot::Receiver<Answer<O::Outcome>>) {
        let (caller, answer) = oneshot::channel();
        let keyed = keyed.map(|Keyed { key, fingerprint, by_operator }| {
            let owner = if by_operator { UserId::operators() } else { user.clone() };
            (UserKey::new(owner, key), fingerprint)
        });
        let submission = Self {
            user,
            actor,
            keyed,
            operation,
            queued_at: Instant::now(),
            hopes_for_new: false,
            verdict: None,
            caller,
        };
        (submission, answer)
    }
}

impl<O: Operation> Job for Submission<O> {
    fn user(&self) -> &UserId {
        &self.user
    }

    fn queued_at(&self) -> Instant {
        self.queued_at
    }

    fn is_abandoned(&self) -> bool {
        self.caller.is_closed()
    }

    fn ask(&mut self, wanted: &mut Wanted) {
        let before = wanted.hoped_new();
        wanted.users.push(self.user.clone());
        wanted.keys.extend(self.keyed.as_ref().map(|(key, _)| key.clone()));
        self.operation.asks(wanted);
        self.operation.asks_of(&self.user, wanted);
        wanted.entries = wanted.entries.saturating_add(self.operation.entries());
        self.hopes_for_new = wanted.hoped_new() > before;
    }

    fn decide(&mut self, facts: &mut Facts) -> bool {
        facts.accounts.set_actor(self.actor);
        let verdict = replays::decide(&self.operation, &self.user, self.keyed.as_ref(), facts);
        let as_hoped = !self.hopes_for_new || verdict.is_new();
        self.verdict = Some(verdict);
        as_hoped
    }

    fn answer(self: Box<Self>, fault: Option<Fault>) {
        let answer = match (fault, self.verdict) {
            (None, Some(Verdict::Decided(result))) => result.map_err(LedgerError::Refused),
            (None, Some(Verdict::KeyReused)) => Err(LedgerError::KeyReused),
            (None, None) => Err(LedgerError::Failed("it was never decided".to_owned())),
            (Some(Fault::Overloaded), _) => Err(LedgerError::Overloaded),
            (Some(Fault::Unavailable), _) => Err(LedgerError::Unavailable),
            (Some(Fault::Failed(cause)), _) | (None, Some(Verdict::Unreadable(cause))) => {
                Err(LedgerError::Failed(cause))
            }
        };
        // Whoever hung up does not need an answer.
        let _ = self.caller.send(answer);
    }
}
