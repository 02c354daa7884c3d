//! Tokens that are set once and sent as they are, by which our own servers are known. Which of them makes what
//! of its bearer is told in `login`.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use sha2::{Digest, Sha256};

/// Least characters of a token.
const TOKEN_MIN_CHARS: usize = 32;
/// How many may be set: two while one replaces the other.
const TOKENS: RangeInclusive<usize> = 1..=2;

/// The tokens of one role, known by their hashes only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StaticTokens(Vec<Hash>);

type Hash = [u8; 32];

impl StaticTokens {
    /// Whether it is one of them. How long that takes tells nothing about them: hashes are compared, all of
    /// them, in constant time.
    pub(super) fn contain(&self, token: &str) -> bool {
        self.hold(&hash(token))
    }

    /// Whether one of them is also one of the others.
    pub(crate) fn overlap(&self, others: &Self) -> bool {
        self.0.iter().any(|hash| others.hold(hash))
    }

    fn hold(&self, hash: &Hash) -> bool {
        let equal = |known: &Hash| verify_slices_are_equal(known, hash).is_ok();
        self.0.iter().fold(false, |found, known| found | equal(known))
    }
}

fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

/// Separated by commas. What is wrong is told without the text.
impl FromStr for StaticTokens {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tokens: Vec<&str> = text.split(',').collect();
        if !TOKENS.contains(&tokens.len()) {
            return Err("give one token, or two with a comma between".to_owned());
        }
        for token in &tokens {
            let quoted = ['"', '\''].iter().any(|quote| token.starts_with(*quote));
            if quoted || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(
                    "a token must be visible ASCII characters, without quotes or white space \
                            around it"
                        .to_owned(),
                );
            }
            if token.len() < TOKEN_MIN_CHARS {
                return Err(format!("each token must have at least {TOKEN_MIN_CHARS} characters"));
            }
        }
        Ok(Self(tokens.into_iter().map(hash).collect()))
    }
}

impl fmt::Debug for StaticTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticTokens(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "an-old-token-of-32-characters-..";
    const NEW: &str = "a-new-token-of-thirty-two-chars-";

    fn tokens(text: &str) -> StaticTokens {
        text.parse().expect("tokens")
    }

    #[test]
    fn each_of_two_counts_and_nothing_else() {
        let both = tokens(&format!("{OLD},{NEW}"));
        assert!(both.contain(OLD) && both.contain(NEW));
        for other in ["", ",", &OLD[1..], &format!("{OLD},{NEW}"), &OLD.to_uppercase()] {
            assert!(!both.contain(other), "{other}");
        }
        assert!(!tokens(OLD).contain(NEW));
        assert!(both.overlap(&tokens(NEW)) && !tokens(OLD).overlap(&tokens(NEW)));
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        for text in [
            "",
            "short",
            &OLD[1..],
            &format!("{OLD},"),
            &format!("{OLD}, {NEW}"),
            &format!("{OLD},{NEW},{OLD}"),
            &format!("\"{OLD}\""),
            &format!("{OLD}é"),
            &format!("{OLD} {NEW}"),
        ] {
            let Err(reason) = text.parse::<StaticTokens>() else { panic!("{text} was taken") };
            assert!(!reason.contains("thirty") && !reason.contains("-of-"), "{reason}");
        }
    }

    #[test]
    fn nothing_of_them_is_shown() {
        assert_eq!(format!("{:?}", tokens(OLD)), "StaticTokens(…)");
    }
}
