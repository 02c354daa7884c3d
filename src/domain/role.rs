//! What a caller is, which says what it may do. How it proves that is `http`'s.

use super::Actor;

/// What a caller is; each may do all that those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Role {
    /// A user's phone, with the user's own account.
    App,
    /// The server that calls the LLM, with the account of any user.
    Backend,
    /// The person who runs the service.
    Operator,
}

impl Role {
    /// Who an account's book names for what such a caller does: nobody but the user where it is the app.
    pub(crate) const fn actor(self) -> Option<Actor> {
        match self {
            Self::App => None,
            Self::Backend => Some(Actor::Backend),
            Self::Operator => Some(Actor::Operator),
        }
    }
}
