//! The languages in which people read answers, and which one a client asks for.

use std::{cmp::Reverse, str::FromStr};

use axum::http::HeaderValue;

/// A language that texts for people come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Japanese,
    English,
}

impl Language {
    pub(super) const ALL: [Self; 2] = [Self::Japanese, Self::English];

    /// Its tag in headers and settings.
    pub(super) const fn tag(self) -> &'static str {
        match self {
            Self::Japanese => "ja",
            Self::English => "en",
        }
    }

    /// The one that an `Accept-Language` likes better, of equals the first it names. Where it names neither, or
    /// can't be read, it is `default`.
    pub(crate) fn asked_for(accepted: Option<&HeaderValue>, default: Self) -> Self {
        let ranges = accepted.and_then(|value| value.to_str().ok()).and_then(ranges);
        let ranges = ranges.unwrap_or_default();
        let wish = |language: Self| Wish::of(language, &ranges);
        let other = if default == Self::Japanese { Self::English } else { Self::Japanese };
        if wish(other) > wish(default) { other } else { default }
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|language| language.tag() == text);
        known.ok_or_else(|| "must be ja or en".to_owned())
    }
}

/// A language range, with its quality in thousandths.
type Range<'a> = (&'a str, u16);

/// The ranges of an `Accept-Language`, if it is well formed.
fn ranges(text: &str) -> Option<Vec<Range<'_>>> {
    let elements = text.split(',').map(str::trim).filter(|element| !element.is_empty());
    elements
        .map(|element| {
            let (range, quality) = match element.split_once(';') {
                Some((range, weight)) => (range.trim_end(), quality(weight.trim())?),
                None => (element, 1_000),
            };
            let is_tag = |text: &str| {
                text.split('-').all(|part| {
                    (1..=8).contains(&part.len())
                        && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
                })
            };
            (range == "*" || is_tag(range)).then_some((range, quality))
        })
        .collect()
}

/// The thousandths of `q=0.5`.
fn quality(weight: &str) -> Option<u16> {
    let (name, value) = weight.split_once('=')?;
    let (whole, decimals) = value.split_once('.').unwrap_or((value, ""));
    let digits = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths: u16 = format!("{whole}{decimals:0<3}").parse().ok()?;
    let valid = name.eq_ignore_ascii_case("q")
        && ["0", "1"].contains(&whole)
        && digits
        && thousandths <= 1_000;
    valid.then_some(thousandths)
}

/// How much a client wants a language. What it excludes comes after what it does not name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Excluded,
    Unnamed,
    /// Where it is named, or nowhere when it is among all others.
    Wanted {
        quality: u16,
        first: Option<Reverse<usize>>,
    },
}

impl Wish {
    fn of(language: Language, ranges: &[Range<'_>]) -> Self {
        // The best of the ranges that are meant, of equals the first.
        let best = |is_meant: &dyn Fn(&str) -> bool| {
            let meant = ranges.iter().enumerate().filter(|(_, (range, _))| is_meant(range));
            meant
                .map(|(place, (_, quality))| (place, *quality))
                .reduce(|best, next| if next.1 > best.1 { next } else { best })
        };
        let named = best(&|range| {
            let primary = range.split('-').next();
            primary.is_some_and(|primary| primary.eq_ignore_ascii_case(language.tag()))
        });
        match (named, best(&|range| range == "*")) {
            (Some((_, 0)), _) | (None, Some((_, 0))) => Self::Excluded,
            (Some((place, quality)), _) => Self::Wanted { quality, first: Some(Reverse(place)) },
            (None, Some((_, quality))) => Self::Wanted { quality, first: None },
            (None, None) => Self::Unnamed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_language_is_taken_and_of_equals_the_first() {
        use Language::{English, Japanese};
        for (accepted, with_japanese, with_english) in [
            ("", Japanese, English),
            ("en", English, English),
            ("ja", Japanese, Japanese),
            ("EN-us", English, English),
            ("ja-JP,ja;q=0.9,en;q=0.8", Japanese, Japanese),
            ("en-US, ja", English, English),
            ("ja, en-US", Japanese, Japanese),
            ("ja;q=0.5, en;q=0.501", English, English),
            ("ja ; q=0.2 , en;Q=0.1", Japanese, Japanese),
            ("en;q=0.2, en-GB;q=0.9, ja;q=0.5", English, English),
            ("fr, de;q=0.5", Japanese, English),
            ("fr, en;q=0.1", English, English),
            ("*", Japanese, English),
            ("*, en;q=0.5", Japanese, Japanese),
            ("*;q=0.5, en", English, English),
            ("*, ja", Japanese, Japanese),
            ("ja;q=0, *", English, English),
            ("en;q=0, *;q=0.1", Japanese, Japanese),
            ("ja;q=0", English, English),
            ("ja;q=0, en;q=0", Japanese, English),
            ("english", Japanese, English),
            ("jav, eng", Japanese, English),
            ("en;q=2", Japanese, English),
            ("en;q=", Japanese, English),
            ("ja;q=0.1234, en", Japanese, English),
            ("en;level=1", Japanese, English),
            ("en us", Japanese, English),
            ("ja_JP", Japanese, English),
        ] {
            for (default, expected) in [(Japanese, with_japanese), (English, with_english)] {
                let value = HeaderValue::from_str(accepted).expect("a header's value");
                let asked_for = Language::asked_for(Some(&value), default);
                assert_eq!(asked_for, expected, "{accepted:?}, else {default:?}");
                assert_eq!(Language::asked_for(None, default), default);
            }
        }
    }
}
