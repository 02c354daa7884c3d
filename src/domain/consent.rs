//! Whether a user lets Apple be told how much of a purchase was used. Unset is no.

use super::{Applied, Facts, Operation, Refusal, UserId};

/// Notes a user's word.
#[derive(Debug)]
pub(crate) struct Consent {
    /// Whether Apple may be told.
    pub apple_consumption: bool,
}

impl Operation for Consent {
    type Outcome = ();

    fn entries(&self) -> usize {
        0
    }

    /// Nothing has to be known for it, but who decides on it is locked out of what is remembered.
    fn asks_of(&self, user: &UserId, wanted: &mut super::Wanted) {
        wanted.user_ids.push(user.clone());
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<()>, Refusal> {
        facts.consents.push((user.clone(), self.apple_consumption));
        Ok(Applied::now(()))
    }
}
