//! Names given by others: users, models, and the app store's transaction ids.
//!
//! Each is checked once, when it is made, so that no code behind the door meets an empty name or a
//! control character (SQLite stores a NUL inside a text, and measures the text only up to it).

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Most characters of a model's name.
pub(crate) const MODEL_ID_MAX_CHARS: usize = 128;
/// Most characters of an app store's transaction id.
pub(crate) const STORE_TRANSACTION_ID_MAX_CHARS: usize = 256;
/// Most characters of a user's name.
const USER_ID_MAX_CHARS: usize = 128;

/// Why a text is no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IdentifierError {
    /// It has no characters at all.
    #[error("must have at least 1 character")]
    Empty,
    /// It has more characters than its kind may have.
    #[error("must have at most {max_chars} characters")]
    TooLong {
        /// Most characters allowed.
        max_chars: usize,
    },
    /// It holds a control character.
    #[error("must not hold control characters")]
    ControlCharacter,
}

fn check(text: &str, max_chars: usize) -> Result<(), IdentifierError> {
    if text.is_empty() {
        return Err(IdentifierError::Empty);
    }
    // A text of few bytes can't have many characters, so the count is for the rare long one.
    if text.len() > max_chars && text.chars().count() > max_chars {
        return Err(IdentifierError::TooLong { max_chars });
    }
    if text.chars().any(char::is_control) {
        return Err(IdentifierError::ControlCharacter);
    }
    Ok(())
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $max_chars:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and keeps a text.
            ///
            /// # Errors
            /// [`IdentifierError`] when it is empty, too long or holds a control character.
            pub fn new(text: impl Into<Arc<str>>) -> Result<Self, IdentifierError> {
                let text = text.into();
                check(&text, $max_chars)?;
                Ok(Self(text))
            }

            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text, shared and not copied.
            #[must_use]
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

identifier! {
    /// Whose account it is.
    UserId, USER_ID_MAX_CHARS
}

identifier! {
    /// An LLM, as its provider names it.
    ModelId, MODEL_ID_MAX_CHARS
}

identifier! {
    /// The app store's own id of a purchase; it grants credits once, to one user.
    StoreTransactionId, STORE_TRANSACTION_ID_MAX_CHARS
}

impl UserId {
    /// The user every call acts for while nobody has to log in.
    #[must_use]
    pub fn default_user() -> Self {
        Self(Arc::from("default_user"))
    }
}

/// Most bytes of a text that names a purchase as it is.
const PLAIN_NAME_MAX_BYTES: usize = 64;

/// What a purchase is known by: its store's id, or its token. Long ones are kept as their digest, which no
/// short one looks like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PurchaseName(Arc<str>);

impl PurchaseName {
    pub(crate) fn of(text: &str) -> Self {
        if text.len() <= PLAIN_NAME_MAX_BYTES {
            return Self(text.into());
        }
        let mut name = String::from("sha256:");
        for byte in Sha256::digest(text) {
            write!(name, "{byte:02x}").expect("a text takes every text");
        }
        Self(name.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_characters_not_bytes() {
        assert!(ModelId::new("モ".repeat(128)).is_ok());
        assert_eq!(
            ModelId::new("モ".repeat(129)),
            Err(IdentifierError::TooLong { max_chars: 128 })
        );
    }

    #[test]
    fn a_long_name_of_a_purchase_is_its_digest() {
        let (short, long) = ("é".repeat(32), "a".repeat(65));
        assert_eq!(PurchaseName::of(&short).as_str(), short);
        // As sha256sum has it.
        let digest = "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0";
        assert_eq!(PurchaseName::of(&long).as_str(), format!("sha256:{digest}"));
    }

    #[test]
    fn empty_and_control_characters_are_refused() {
        assert_eq!(ModelId::new(""), Err(IdentifierError::Empty));
        for text in ["a\0b", "line\n", "\u{7f}", "\u{85}"] {
            assert_eq!(UserId::new(text), Err(IdentifierError::ControlCharacter), "{text:?}");
        }
    }
}
