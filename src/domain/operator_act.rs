//! What an operator does: an operation that is written into the operator's log with who, what and why. Which acts
//! there are is told in the files of each.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::{Applied, EntryReason, Facts, Operation, Refusal, UserId, Wanted};

/// Who does it, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ByOperator {
    /// The operator's name: the `sub` of a token, or `operator`.
    pub operator: Arc<str>,
    pub reason: EntryReason,
    /// The id of the request.
    pub request_id: Arc<str>,
}

/// An operation that only an operator carries out.
pub(crate) trait OperatorAct: Operation {
    /// What the log calls it; never changes.
    const ACTION: &'static str;

    /// Whether it is about the user's account, who must then be known. Else it is about what is the same for all.
    const OF_ACCOUNT: bool = true;

    /// Whether it may be about a user nobody has seen.
    const OPENS_ACCOUNTS: bool = false;

    /// What the log tells of what is so, before and after. Nothing secret, and no name of a user: lines stay when a
    /// user is renamed.
    fn state(&self, user: &UserId, facts: &Facts) -> Value;
}

/// An act, with who does it. Its line is written in the same transaction, and none where it is refused.
#[derive(Debug)]
pub(crate) struct Logged<A> {
    pub act: A,
    pub by: ByOperator,
}

/// A line of the log that is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct OperatorLine {
    pub actor: Arc<str>,
    pub action: &'static str,
    /// Whose account it is about, if any; kept as that user's number.
    pub account: Option<UserId>,
    /// JSON.
    pub before: String,
    /// JSON.
    pub after: String,
    pub reason: EntryReason,
    pub request_id: Arc<str>,
}

impl<A: OperatorAct> Operation for Logged<A> {
    type Outcome = A::Outcome;

    fn asks(&self, wanted: &mut Wanted) {
        self.act.asks(wanted);
        wanted.by_operator = true;
    }

    fn asks_of(&self, user: &UserId, wanted: &mut Wanted) {
        self.act.asks_of(user, wanted);
    }

    fn entries(&self) -> usize {
        self.act.entries()
    }

    fn is_of_account(&self) -> bool {
        A::OF_ACCOUNT
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<A::Outcome>, Refusal> {
        if A::OF_ACCOUNT && !A::OPENS_ACCOUNTS && !facts.accounts.of(user).is_known() {
            return Err(Refusal::UserNotFound);
        }
        let before = self.act.state(user, facts).to_string();
        let applied = self.act.decide(user, facts)?;
        let after = self.act.state(user, facts).to_string();
        let ByOperator { operator, reason, request_id } = self.by.clone();
        facts.log(OperatorLine {
            actor: operator,
            action: A::ACTION,
            account: A::OF_ACCOUNT.then(|| user.clone()),
            before,
            after,
            reason,
            request_id,
        });
        Ok(applied)
    }
}
