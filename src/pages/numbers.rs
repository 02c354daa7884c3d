//! How numbers and times read on a page.

use chrono::{DateTime, Utc};

/// A number where templates have it: by itself, or lent once or twice.
pub(super) trait Number {
    fn get(self) -> i64;
}

impl Number for i64 {
    fn get(self) -> i64 {
        self
    }
}

impl<N: Number + Copy> Number for &N {
    fn get(self) -> i64 {
        (*self).get()
    }
}

/// With a comma between each three digits, which people in both languages read.
pub(super) fn grouped(number: impl Number) -> String {
    let number = number.get();
    let digits = number.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len().saturating_mul(2));
    if number < 0 {
        text.push('−');
    }
    for (place, digit) in digits.chars().enumerate() {
        let left = digits.len().saturating_sub(place);
        if place > 0 && left.is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A change, with its sign.
pub(super) fn signed(number: impl Number) -> String {
    let number = number.get();
    if number > 0 { format!("+{}", grouped(number)) } else { grouped(number) }
}

/// Units of bytes, the largest first.
const UNITS: [(i64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];

/// Bytes in the largest unit of which there is at least one.
pub(super) fn bytes(count: impl Number) -> String {
    let count = count.get();
    let unit = UNITS.into_iter().find(|(size, _)| count >= *size);
    let Some((size, name)) = unit else { return format!("{} B", grouped(count)) };
    let tenths = count.saturating_mul(10).checked_div(size).unwrap_or_default();
    let (whole, tenth) =
        (tenths.checked_div(10).unwrap_or_default(), tenths.checked_rem(10).unwrap_or_default());
    format!("{}.{tenth} {name}", grouped(whole))
}

/// A time as the API tells it, for people: to the second. What is no time stays as it is.
pub(super) fn time(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    DateTime::parse_from_rfc3339(text).map_or_else(
        |_| text.to_owned(),
        |time| time.with_timezone(&Utc).format("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

/// The same, of the day only the hour and the minute.
pub(super) fn clock(text: &str) -> String {
    DateTime::parse_from_rfc3339(text).map_or_else(
        |_| text.to_owned(),
        |time| time.with_timezone(&Utc).format("%H:%M").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (-1_234_567, "−1,234,567"),
            (i64::MAX, "9,223,372,036,854,775,807"),
            (i64::MIN, "−9,223,372,036,854,775,808"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!([signed(5), signed(0), signed(-5)], ["+5", "0", "−5"]);
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(94_208), "94.2 kB");
        assert_eq!(bytes(1_234_567_890_123), "1,234.5 GB");
        assert_eq!(time("2026-11-24T10:35:02.105316Z"), "2026-11-24 10:35:02");
        assert_eq!(time("never"), "never");
        assert_eq!(clock("2026-11-24T10:35:02.105316Z"), "10:35");
    }
}
