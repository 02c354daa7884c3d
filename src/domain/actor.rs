//! Who makes an entry, where it is not the user.

use serde::{Deserialize, Serialize};

/// Who acts on an account that is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Actor {
    /// The server that calls the LLM.
    Backend,
    /// The person who runs the service.
    Operator,
    /// An app store.
    Store,
}

impl Actor {
    /// Its name on the wire, in the database and in the log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Operator => "operator",
            Self::Store => "store",
        }
    }
}
