//! Operations under an idempotency key: decided once, and then told from what was kept.

use crate::domain::{
    Account, Applied, Facts, Fingerprint, Operation, Refusal, Replay, UserId, UserKey,
};

/// What becomes of an operation, unless its batch fails.
pub(super) enum Verdict<T> {
    Decided(Result<Applied<T>, Refusal>),
    /// Its key belongs to another request.
    KeyReused,
    /// What its key's replay says can't be read.
    Unreadable(String),
}

impl<T> Verdict<T> {
    /// Whether the operation was carried out now.
    pub(super) const fn is_new(&self) -> bool {
        matches!(self, Self::Decided(Ok(Applied { replayed: false, .. })))
    }
}

/// Decides an operation, or tells what it came to the first time. Its success is kept under its key.
pub(super) fn decide<O: Operation>(
    operation: &O,
    user: &UserId,
    keyed: Option<&(UserKey, Fingerprint)>,
    facts: &mut Facts,
) -> Verdict<O::Outcome> {
    let Some((key, fingerprint)) = keyed else {
        return Verdict::Decided(decide_on(operation, user, facts));
    };
    if let Some(replay) = facts.replays.get(key) {
        return repeated(*fingerprint, replay);
    }
    let result = decide_on(operation, user, facts);
    if let Ok(applied) = &result {
        let outcome = serde_json::to_string(&applied.outcome)
            .expect("an outcome has a JSON form, or the batch is undone and the others run again");
        facts.replays.insert_new(key.clone(), Replay { fingerprint: *fingerprint, outcome });
    }
    Verdict::Decided(result)
}

/// Nothing is done with an account that is being erased.
fn decide_on<O: Operation>(
    operation: &O,
    user: &UserId,
    facts: &mut Facts,
) -> Result<Applied<O::Outcome>, Refusal> {
    let is_erasing = facts.accounts.get(user).is_some_and(Account::is_erasing);
    if is_erasing && operation.is_of_account() {
        return Err(Refusal::AccountErasing);
    }
    operation.decide(user, facts)
}

fn repeated<T: serde::de::DeserializeOwned>(
    fingerprint: Fingerprint,
    replay: &Replay,
) -> Verdict<T> {
    if replay.fingerprint != fingerprint {
        return Verdict::KeyReused;
    }
    match serde_json::from_str(&replay.outcome) {
        Ok(outcome) => Verdict::Decided(Ok(Applied::before(outcome))),
        Err(error) => Verdict::Unreadable(format!("a kept outcome: {error}")),
    }
}
