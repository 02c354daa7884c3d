//! A reset: everything about a user is forgotten but their name, so that a purchase may be repeated.

use super::{Applied, Facts, Operation, Refusal, UserId};

/// Forgets the user's credits, tokens, entries, purchases and idempotency keys.
#[derive(Debug, Clone)]
pub(crate) struct Reset;

impl Operation for Reset {
    type Outcome = ();

    fn entries(&self) -> usize {
        0
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<()>, Refusal> {
        let account = facts.accounts.of(user);
        account.check_not_frozen()?;
        account.forget();
        facts.granted.forget(user);
        facts.replays.forget(user);
        facts.entries.forget(user);
        Ok(Applied::now(()))
    }
}
