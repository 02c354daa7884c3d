//! What every act is to the ledger: a value that says what it must know, and decides, and can decide
//! again. Each act has a file of its own.

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

use super::{Facts, Refusal, UserId, Wanted};

/// A change one user asks for.
///
/// Deciding must be repeatable: a batch that fails is decided again on facts read anew.
pub(crate) trait Operation: fmt::Debug + Send + 'static {
    /// What success tells the caller, and tells again when the request is repeated.
    type Outcome: Serialize + DeserializeOwned + Send + 'static;

    /// Adds what it must know, besides the user's account.
    fn asks(&self, _wanted: &mut Wanted) {}

    /// Adds what it must know of the user's account besides the balances.
    fn asks_of(&self, _user: &UserId, _wanted: &mut Wanted) {}

    /// The most entries that it may add, those aside that take back parts of what was read for it.
    fn entries(&self) -> usize {
        1
    }

    /// Whether it is about the account of the user in whose name it is decided; then it is refused while that is
    /// being erased.
    fn is_of_account(&self) -> bool {
        true
    }

    /// Changes what is so, or refuses and leaves it as it was.
    ///
    /// # Errors
    /// The [`Refusal`] of the first rule that says no.
    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Self::Outcome>, Refusal>;
}

/// What became of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied<T> {
    /// What it came to.
    pub outcome: T,
    /// Whether that was so before: the request is a repetition, and nothing was changed.
    pub replayed: bool,
}

impl<T> Applied<T> {
    /// Something was done.
    pub(crate) const fn now(outcome: T) -> Self {
        Self { outcome, replayed: false }
    }

    /// It was done before.
    pub(crate) const fn before(outcome: T) -> Self {
        Self { outcome, replayed: true }
    }
}
