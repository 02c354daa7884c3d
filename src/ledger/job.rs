//! An operation on its way through the ledger, with the caller who waits for it.

use std::time::Instant;

use tokio::sync::oneshot;

use super::LedgerError;
use crate::domain::{Account, Context, Needs, Operation, Refusal, UserId};

/// Why no job of a batch has an outcome, or why this one has none.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    Overloaded,
    Unavailable,
    Failed(String),
}

/// An operation of any kind. Decided once per attempt, then answered.
pub(super) trait Job: Send {
    fn user(&self) -> &UserId;
    fn needs(&self) -> Needs<'_>;
    fn queued_at(&self) -> Instant;
    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
    /// Decides, and keeps the verdict for `answer`.
    fn decide(&mut self, account: &mut Account, context: &mut Context);
    /// Tells the caller the last verdict, or the fault that voids it.
    fn answer(self: Box<Self>, fault: Option<Fault>);
}

impl std::fmt::Debug for dyn Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("user", self.user()).finish_non_exhaustive()
    }
}

pub(super) struct Submission<O: Operation> {
    user: UserId,
    operation: O,
    queued_at: Instant,
    verdict: Option<Result<O::Outcome, Refusal>>,
    caller: oneshot::Sender<Result<O::Outcome, LedgerError>>,
}

impl<O: Operation> Submission<O> {
    pub(super) fn new(
        user: UserId,
        operation: O,
    ) -> (Self, oneshot::Receiver<Result<O::Outcome, LedgerError>>) {
        let (caller, answer) = oneshot::channel();
        (Self { user, operation, queued_at: Instant::now(), verdict: None, caller }, answer)
    }
}

impl<O: Operation> Job for Submission<O> {
    fn user(&self) -> &UserId {
        &self.user
    }

    fn needs(&self) -> Needs<'_> {
        self.operation.needs()
    }

    fn queued_at(&self) -> Instant {
        self.queued_at
    }

    fn is_abandoned(&self) -> bool {
        self.caller.is_closed()
    }

    fn decide(&mut self, account: &mut Account, context: &mut Context) {
        self.verdict = Some(self.operation.decide(account, context));
    }

    fn answer(self: Box<Self>, fault: Option<Fault>) {
        let answer = match (fault, self.verdict) {
            (None, Some(verdict)) => verdict.map_err(LedgerError::Refused),
            (None, None) => Err(LedgerError::Failed("it was never decided".to_owned())),
            (Some(Fault::Overloaded), _) => Err(LedgerError::Overloaded),
            (Some(Fault::Unavailable), _) => Err(LedgerError::Unavailable),
            (Some(Fault::Failed(cause)), _) => Err(LedgerError::Failed(cause)),
        };
        // Whoever hung up does not need an answer.
        let _ = self.caller.send(answer);
    }
}
