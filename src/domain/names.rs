//! Names given by others: users, models, and what an app store's purchases are known by.
//!
//! Each is checked once, when it is made, so that no code behind the door meets an empty name or a
//! control character (SQLite stores a NUL inside a text, and measures the text only up to it).

use std::{fmt, fmt::Write, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Most characters of a model's name.
pub(crate) const MODEL_ID_MAX_CHARS: usize = 128;
/// Most characters of an app store's transaction id.
pub(crate) const STORE_TRANSACTION_ID_MAX_CHARS: usize = 2_048;
/// Most characters of a purchase's token; Apple's is a signed payload of some 5,000.
pub(crate) const PURCHASE_TOKEN_MAX_CHARS: usize = 16_384;
/// Most bytes of a purchase's name that are kept as they are.
const PURCHASE_NAME_MAX_BYTES: usize = 64;
/// Most characters of a product's name in an app store.
pub(crate) const PRODUCT_ID_MAX_CHARS: usize = 255;
/// Most characters of a user's name.
pub(crate) const USER_ID_MAX_CHARS: usize = 128;

/// Most characters of the reason of an entry.
pub(crate) const ENTRY_REASON_MAX_CHARS: usize = 200;

/// Why a text is no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum IdentifierError {
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
        pub(crate) struct $name(Arc<str>);

        impl $name {
            /// Checks and keeps a text.
            ///
            /// # Errors
            /// [`IdentifierError`] when it is empty, too long or holds a control character.
            pub(crate) fn new(text: impl Into<Arc<str>>) -> Result<Self, IdentifierError> {
                let text = text.into();
                check(&text, $max_chars)?;
                Ok(Self(text))
            }

            /// The text as it was given.
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }
    };
}

/// Those whose texts are passed on.
macro_rules! shared {
    ($($name:ident)*) => {
        $(impl $name {
            /// The text, shared and not copied.
            pub(crate) fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        })*
    };
}
shared! { UserId ModelId StoreTransactionId PurchaseToken EntryReason }

identifier! {
    /// Why somebody made an entry, in their own words.
    EntryReason, ENTRY_REASON_MAX_CHARS
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
    /// What is sold, as the app stores call it.
    ProductId, PRODUCT_ID_MAX_CHARS
}

identifier! {
    /// The app store's own id of a purchase.
    StoreTransactionId, STORE_TRANSACTION_ID_MAX_CHARS
}

identifier! {
    /// What the app store gives the buyer to prove a purchase by.
    PurchaseToken, PURCHASE_TOKEN_MAX_CHARS
}

/// What a purchase is known by, for ever: its id or its token, which are names in one set. A long one is
/// known by its hash, because an index can't hold so much.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub(crate) struct PurchaseName(Arc<str>);

impl PurchaseName {
    pub(crate) fn of_id(id: &StoreTransactionId) -> Self {
        Self::of(id.shared())
    }

    pub(crate) fn of_token(token: &PurchaseToken) -> Self {
        Self::of(token.shared())
    }

    /// One that was kept.
    pub(crate) fn kept(name: &str) -> Self {
        Self(name.into())
    }

    /// How it is kept, so it may not change with the program. A hash that stands for a token, as in the
    /// record of a verified purchase, is the name of that token.
    pub(crate) fn of(text: impl Into<Arc<str>>) -> Self {
        let text = text.into();
        if text.len() <= PURCHASE_NAME_MAX_BYTES || is_hash(&text) {
            return Self(text);
        }
        Self(hash(&text).into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What begins a hash.
const HASH_PREFIX: &str = "sha256:";

/// The text that stands for another one that is long, or secret: `sha256:` and 64 hexadecimal digits.
pub(crate) fn hash(text: &str) -> String {
    let mut hash = HASH_PREFIX.to_owned();
    for byte in Sha256::digest(text.as_bytes()) {
        write!(hash, "{byte:02x}").expect("a text takes all");
    }
    hash
}

fn is_hash(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix(HASH_PREFIX).is_some_and(|hex| hex.len() == 64 && hex.bytes().all(digit))
}

/// What the names of those begin with who were erased.
const ERASED: &str = "erased:";

/// In whose name the keys of operators are kept, and their acts decided that are about no account: it has a control
/// character, so no user has it.
const OPERATORS: &str = "\u{2}operators";

impl UserId {
    /// Nobody's name, for what operators do.
    pub(crate) fn operators() -> Self {
        Self(Arc::from(OPERATORS))
    }

    /// The owner of an idempotency key as it is kept: a user, or the operators.
    ///
    /// # Errors
    /// [`IdentifierError`] when it is neither.
    pub(crate) fn kept_owner(text: &str) -> Result<Self, IdentifierError> {
        if text == OPERATORS { Ok(Self::operators()) } else { Self::new(text) }
    }

    /// What whoever is erased is called from then on; `random` tells them apart.
    pub(crate) fn erased(random: u128) -> Self {
        Self(format!("{ERASED}{random:032x}").into())
    }

    /// Whether it is the name of somebody who was erased. No client can have it.
    pub(crate) fn is_erased(&self) -> bool {
        self.as_str().starts_with(ERASED)
    }

    /// The user every call acts for while nobody has to log in.
    pub(crate) fn default_user() -> Self {
        Self(Arc::from("default_user"))
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
    fn a_purchase_is_named_by_a_short_text_itself_and_by_the_hash_of_a_long_one() {
        let name = |text: &str| {
            let token = PurchaseToken::new(text).expect("a valid token");
            let id = StoreTransactionId::new(text).expect("a valid id");
            assert_eq!(PurchaseName::of_id(&id), PurchaseName::of_token(&token));
            PurchaseName::of_id(&id).as_str().to_owned()
        };
        let short = "a".repeat(64);
        assert_eq!(name(&short), short);
        let long = "sha256:635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0";
        assert_eq!(name(&"a".repeat(65)), long);
        // Bytes count, not characters.
        assert!(name(&"購".repeat(22)).starts_with("sha256:"));
    }

    #[test]
    fn empty_and_control_characters_are_refused() {
        assert_eq!(ModelId::new(""), Err(IdentifierError::Empty));
        for text in ["a\0b", "line\n", "\u{7f}", "\u{85}"] {
            assert_eq!(UserId::new(text), Err(IdentifierError::ControlCharacter), "{text:?}");
        }
    }
}
