//! An operation on its way through the ledger, with the caller who waits for it.

use std::time::Instant;

use tokio::sync::oneshot;

use super::{Applied, LedgerError};
use crate::domain::{
    Account, Context, Fingerprint, Keyed, Needs, Operation, Refusal, Replay, UserId, UserKey,
};

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
    /// What it is known by when it comes again.
    fn key(&self) -> Option<&UserKey>;
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
    keyed: Option<(UserKey, Fingerprint)>,
    operation: O,
    queued_at: Instant,
    verdict: Option<Verdict<O::Outcome>>,
    caller: oneshot::Sender<Answer<O::Outcome>>,
}

type Answer<T> = Result<Applied<T>, LedgerError>;

enum Verdict<T> {
    Decided(Result<T, Refusal>),
    Replayed(T),
    /// Its key belongs to another request.
    KeyReused,
    /// What its key's replay says can't be read.
    Unreadable(String),
}

impl<O: Operation> Submission<O> {
    pub(super) fn new(
        user: UserId,
        keyed: Option<Keyed>,
        operation: O,
    ) -> (Self, oneshot::Receiver<Answer<O::Outcome>>) {
        let (caller, answer) = oneshot::channel();
        let keyed =
            keyed.map(|Keyed { key, fingerprint }| (UserKey::new(user.clone(), key), fingerprint));
        let queued_at = Instant::now();
        (Self { user, keyed, operation, queued_at, verdict: None, caller }, answer)
    }

    fn verdict(&self, account: &mut Account, context: &mut Context) -> Verdict<O::Outcome> {
        let Some((key, fingerprint)) = &self.keyed else {
            return Verdict::Decided(self.operation.decide(account, context));
        };
        if let Some(replay) = context.replays.get(key) {
            return repeated(*fingerprint, replay);
        }
        let result = self.operation.decide(account, context);
        if let Ok(outcome) = &result {
            match serde_json::to_string(outcome) {
                Ok(outcome) => {
                    let replay = Replay { fingerprint: *fingerprint, outcome };
                    context.replays.insert_new(key.clone(), replay);
                }
                // The whole batch is undone by this, and the others run again without it.
                Err(error) => panic!("an outcome without a JSON form: {error}"),
            }
        }
        Verdict::Decided(result)
    }
}

fn repeated<T: serde::de::DeserializeOwned>(
    fingerprint: Fingerprint,
    replay: &Replay,
) -> Verdict<T> {
    if replay.fingerprint != fingerprint {
        return Verdict::KeyReused;
    }
    match serde_json::from_str(&replay.outcome) {
        Ok(outcome) => Verdict::Replayed(outcome),
        Err(error) => Verdict::Unreadable(format!("a kept outcome: {error}")),
    }
}

impl<O: Operation> Job for Submission<O> {
    fn user(&self) -> &UserId {
        &self.user
    }

    fn key(&self) -> Option<&UserKey> {
        self.keyed.as_ref().map(|(key, _)| key)
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
        self.verdict = Some(self.verdict(account, context));
    }

    fn answer(self: Box<Self>, fault: Option<Fault>) {
        let answer = match (fault, self.verdict) {
            (None, Some(verdict)) => verdict.into_answer(),
            (None, None) => Err(LedgerError::Failed("it was never decided".to_owned())),
            (Some(Fault::Overloaded), _) => Err(LedgerError::Overloaded),
            (Some(Fault::Unavailable), _) => Err(LedgerError::Unavailable),
            (Some(Fault::Failed(cause)), _) => Err(LedgerError::Failed(cause)),
        };
        // Whoever hung up does not need an answer.
        let _ = self.caller.send(answer);
    }
}

impl<T> Verdict<T> {
    fn into_answer(self) -> Answer<T> {
        match self {
            Self::Decided(Ok(outcome)) => Ok(Applied { outcome, replayed: false }),
            Self::Decided(Err(refusal)) => Err(LedgerError::Refused(refusal)),
            Self::Replayed(outcome) => Ok(Applied { outcome, replayed: true }),
            Self::KeyReused => Err(LedgerError::KeyReused),
            Self::Unreadable(cause) => Err(LedgerError::Failed(cause)),
        }
    }
}
