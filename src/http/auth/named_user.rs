//! Whom a request names in its header `Billing-User`: how that is read. Whether the caller may act for that
//! user is told in `login`.

use axum::http::HeaderMap;

use crate::domain::{IdentifierError, UserId};

/// The header, in lower case.
pub(crate) const BILLING_USER: &str = "billing-user";

/// Why a request's header names nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoName {
    /// It must be there, and is not.
    Missing,
    /// It is there twice.
    Repeated,
    /// It is neither visible ASCII nor percent-encoded UTF-8.
    Malformed,
    /// It is the name of somebody who was erased, for whom nobody acts.
    Erased,
    /// The name can't be a user's.
    Name(IdentifierError),
}

/// The user that these headers name, if they name one.
pub(super) fn named_user(headers: &HeaderMap) -> Result<Option<UserId>, NoName> {
    let mut values = headers.get_all(BILLING_USER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(NoName::Repeated);
    }
    let name = decoded(value.as_bytes()).ok_or(NoName::Malformed)?;
    UserId::new(name).map(Some).map_err(NoName::Name)
}

/// A text of visible ASCII characters, of which each `%` begins an escape.
fn decoded(value: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (digit(*rest.next()?)?, digit(*rest.next()?)?);
                high.checked_mul(16)?.checked_add(low)?
            }
            b'!'..=b'~' => *byte,
            _ => return None,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(values: &[&[u8]]) -> Result<Option<String>, NoName> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(BILLING_USER, HeaderValue::from_bytes(value).expect("a header"));
        }
        named_user(&headers).map(|user| user.map(|user| user.as_str().to_owned()))
    }

    #[test]
    fn a_name_is_read_as_it_is_meant() {
        assert_eq!(read(&[]), Ok(None));
        let long = "%E3%83%A2".repeat(128);
        for (value, name) in [
            ("alice", "alice"),
            ("%61lice", "alice"),
            ("a+b,c;\"d\"@e", "a+b,c;\"d\"@e"),
            ("100%25", "100%"),
            ("%2525", "%25"),
            ("%e3%83%A6%E3%83%BC", "ユー"),
            ("a%20b", "a b"),
            (long.as_str(), &"モ".repeat(128)),
        ] {
            assert_eq!(read(&[value.as_bytes()]), Ok(Some(name.to_owned())), "{value}");
        }
    }

    #[test]
    fn what_names_nobody_is_told_apart() {
        use NoName::{Malformed, Name, Repeated};
        let too_long = Name(IdentifierError::TooLong { max_chars: 128 });
        for value in [
            "%",
            "a%",
            "%6",
            "%zz",
            "%+1",
            "% 1",
            "%ff",
            "%C3",
            "%C3(",
            "%C0%80",
            "%ED%A0%80",
            "%F4%90%80%80",
            "a b",
            "a\tb",
        ] {
            assert_eq!(read(&[value.as_bytes()]), Err(Malformed), "{value}");
        }
        assert_eq!(read(&["ユーザー".as_bytes()]), Err(Malformed));
        for control in ["%00", "a%0A", "%7F", "%C2%85"] {
            let expected = Err(Name(IdentifierError::ControlCharacter));
            assert_eq!(read(&[control.as_bytes()]), expected, "{control}");
        }
        assert_eq!(read(&[b""]), Err(Name(IdentifierError::Empty)));
        assert_eq!(read(&["u".repeat(129).as_bytes()]), Err(too_long));
        assert_eq!(read(&["%E3%83%A2".repeat(129).as_bytes()]), Err(too_long));
        assert_eq!(read(&[b"alice", b"alice"]), Err(Repeated));
    }
}
