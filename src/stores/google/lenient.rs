//! Numbers that Google writes as such or as texts, as its API has both. What they mean does not belong here.

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

/// A whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole(pub(super) i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = match Value::deserialize(deserializer)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.map(Self).ok_or_else(|| D::Error::custom("no whole number of 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_of_numbers_are_taken() {
        for (json, number) in [
            ("3", Some(3)),
            ("\"3\"", Some(3)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1.5", None),
            ("1e400", None),
            ("\"three\"", None),
            ("\"\"", None),
            ("true", None),
            ("[3]", None),
        ] {
            let read = serde_json::from_str::<Whole>(json).map(|whole| whole.0).ok();
            assert_eq!(read, number, "{json}");
        }
    }
}
