//! Amounts of money and of work, as integers that can't go wrong silently.
//!
//! Every amount lies between zero and [`Credits::MAX`], and all arithmetic is checked. What an
//! amount may buy is in `pricing`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The largest integer JavaScript holds exactly, 2^53 - 1: what the mobile client can show.
const MAX_EXACT_IN_JAVASCRIPT: i64 = 9_007_199_254_740_991;

/// An amount was negative or above 9,007,199,254,740,991.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("amount is not between 0 and 9007199254740991")]
pub(crate) struct OutOfRange;

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(try_from = "i64", into = "i64")]
        pub(crate) struct $name(i64);

        impl $name {
            /// Nothing at all.
            pub(crate) const ZERO: Self = Self(0);
            /// The largest amount there can be.
            pub(crate) const MAX: Self = Self(MAX_EXACT_IN_JAVASCRIPT);

            /// Takes `value` as an amount.
            ///
            /// # Errors
            /// [`OutOfRange`] when it is negative or above [`Self::MAX`].
            pub(crate) const fn new(value: i64) -> Result<Self, OutOfRange> {
                if 0 <= value && value <= MAX_EXACT_IN_JAVASCRIPT {
                    Ok(Self(value))
                } else {
                    Err(OutOfRange)
                }
            }

            /// The amount as a plain integer.
            pub(crate) const fn get(self) -> i64 {
                self.0
            }

            /// The sum, or `None` above [`Self::MAX`].
            pub(crate) fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).and_then(|sum| Self::new(sum).ok())
            }

            /// The amount changed by `delta`, or `None` below zero or above [`Self::MAX`].
            pub(crate) fn changed_by(self, delta: i64) -> Option<Self> {
                self.0.checked_add(delta).and_then(|sum| Self::new(sum).ok())
            }
        }

        impl TryFrom<i64> for $name {
            type Error = OutOfRange;

            fn try_from(value: i64) -> Result<Self, OutOfRange> {
                Self::new(value)
            }
        }

        impl From<$name> for i64 {
            fn from(amount: $name) -> Self {
                amount.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

amount! {
    /// Whole yen-denominated points, bought in the app store.
    Credits
}

amount! {
    /// Whole LLM tokens, bought with credits and used up by chats.
    Tokens
}

impl Credits {
    /// By how much it is more than `other`; zero, if it is not.
    pub(crate) fn beyond(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }
}

impl Tokens {
    /// The difference, or `None` below zero.
    pub(crate) fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).and_then(|rest| Self::new(rest).ok())
    }
}

/// A change of an amount by hand: up or down by at most [`Credits::MAX`], and not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delta(i64);

impl Delta {
    /// Takes `value` as a change, if it can be one.
    pub(crate) const fn new(value: i64) -> Option<Self> {
        let is_one = value != 0 && value.unsigned_abs() <= MAX_EXACT_IN_JAVASCRIPT.unsigned_abs();
        if is_one { Some(Self(value)) } else { None }
    }

    /// By how much; negative where it goes down.
    pub(crate) const fn get(self) -> i64 {
        self.0
    }

    /// By how much, up or down.
    pub(crate) const fn size(self) -> i64 {
        self.0.saturating_abs()
    }
}

/// What one chat used: tokens read by the model and tokens written by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    input: Tokens,
    output: Tokens,
    total: Tokens,
}

impl Usage {
    /// Adds up a chat's tokens.
    ///
    /// # Errors
    /// [`OutOfRange`] when the sum is above [`Tokens::MAX`].
    pub(crate) fn new(input: Tokens, output: Tokens) -> Result<Self, OutOfRange> {
        let total = input.checked_add(output).ok_or(OutOfRange)?;
        Ok(Self { input, output, total })
    }

    /// Tokens the model read.
    pub(crate) const fn input(self) -> Tokens {
        self.input
    }

    /// Tokens the model wrote.
    pub(crate) const fn output(self) -> Tokens {
        self.output
    }

    /// The sum of both, which is what the chat costs.
    pub(crate) const fn total(self) -> Tokens {
        self.total
    }
}
