//! Which store a client's purchase token is from, which shows in its form alone. Whether it is any good is the
//! store's to say.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

/// Most digits of an Apple transaction's id.
const APPLE_ID_MAX_DIGITS: usize = 20;
/// What a legacy receipt of Apple's, which is DER in base64, begins with.
const APPLE_LEGACY_START: &str = "MII";
/// A legacy receipt has more characters behind that.
const APPLE_LEGACY_MIN_CHARS: usize = 500;
/// How many characters a token of Google's may have. It says of them only that they are opaque.
const GOOGLE_CHARS: std::ops::RangeInclusive<usize> = 10..=2_048;

/// The form of a purchase token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenForm {
    /// An Apple transaction's id, which proves nothing: Apple must be asked.
    AppleId,
    /// A transaction that Apple signed.
    AppleSigned,
    /// A receipt of the App Store as it was until 2023, which is no longer verified.
    AppleLegacy,
    /// A token of Google Play.
    Google,
}

impl TokenForm {
    /// The form of a token, of which nothing is trimmed; none if no store makes such.
    pub(crate) fn of(token: &str) -> Option<Self> {
        let is_id = (1..=APPLE_ID_MAX_DIGITS).contains(&token.len());
        if is_id && token.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Self::AppleId);
        }
        if is_signed_by_apple(token) {
            return Some(Self::AppleSigned);
        }
        if is_legacy(token) {
            return Some(Self::AppleLegacy);
        }
        let is_google = GOOGLE_CHARS.contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:~-".contains(&byte));
        is_google.then_some(Self::Google)
    }
}

/// A JWS whose header carries certificates.
fn is_signed_by_apple(token: &str) -> bool {
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let is_part = |part: &str| {
        let base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !part.is_empty() && part.bytes().all(base64url)
    };
    if ![header, payload, signature].into_iter().all(is_part) {
        return false;
    }
    let Ok(header) = BASE64_URL_SAFE_NO_PAD.decode(header) else { return false };
    serde_json::from_slice::<Map<String, Value>>(&header)
        .is_ok_and(|header| header.contains_key("x5c"))
}

fn is_legacy(token: &str) -> bool {
    token.strip_prefix(APPLE_LEGACY_START).is_some_and(|rest| {
        rest.len() > APPLE_LEGACY_MIN_CHARS
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn jws(header: &str) -> String {
        format!("{}.eyJhIjoxfQ.c2ln", BASE64_URL_SAFE_NO_PAD.encode(header))
    }

    #[test]
    fn each_form_is_told_apart() {
        let google = format!("{}.AO-J1O{}", "a".repeat(24), "x_-9".repeat(30));
        let signed = jws(r#"{"alg":"ES256","x5c":["MIIB"]}"#);
        let legacy = format!("MII{}", "Aa+/".repeat(200));
        for (token, form) in [
            ("", None),
            ("2", Some(TokenForm::AppleId)),
            ("2000000999000001", Some(TokenForm::AppleId)),
            (&"9".repeat(20), Some(TokenForm::AppleId)),
            (&"9".repeat(21), Some(TokenForm::Google)),
            ("２０００", None),
            (" 2000000999000001", None),
            ("2000000999000001\n", None),
            (&signed, Some(TokenForm::AppleSigned)),
            (&format!("{signed} "), None),
            (&format!("{signed}="), None),
            // Three parts without certificates are a token of anything else's.
            (&jws(r#"{"alg":"ES256"}"#), Some(TokenForm::Google)),
            (&jws(r#"["x5c"]"#), Some(TokenForm::Google)),
            (&jws(r#""x5c""#), Some(TokenForm::Google)),
            (&format!("{signed}.more"), Some(TokenForm::Google)),
            (&signed.replace(".c2ln", "."), Some(TokenForm::Google)),
            (&legacy, Some(TokenForm::AppleLegacy)),
            (&format!("MII{}", "A".repeat(501)), Some(TokenForm::AppleLegacy)),
            (&format!("MII{}", "A".repeat(500)), Some(TokenForm::Google)),
            (&format!("MII{}", "A/".repeat(250)), None),
            (&google, Some(TokenForm::Google)),
            ("a.b:c~d_e-f", Some(TokenForm::Google)),
            ("GPA.1-2345", Some(TokenForm::Google)),
            (&"a".repeat(10), Some(TokenForm::Google)),
            (&"a".repeat(9), None),
            (&"a".repeat(2_048), Some(TokenForm::Google)),
            (&"a".repeat(2_049), None),
            ("aaaaaaaaaa/bbbb", None),
            ("aaaaaaaaaa bbbb", None),
            ("aaaaaaaaaa\0bbb", None),
            ("購入購入購入購入", None),
        ] {
            assert_eq!(TokenForm::of(token), form, "{token:.80}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(token in ".*", header in ".*") {
            let _ = TokenForm::of(&token);
            let _ = TokenForm::of(&jws(&header));
        }

        #[test]
        fn whatever_has_a_form_is_plain_ascii(token in "[ -~]{0,40}|.*") {
            if TokenForm::of(&token).is_some() {
                let plain = |byte: u8| byte.is_ascii_graphic();
                prop_assert!(token.bytes().all(plain));
            }
        }
    }
}
