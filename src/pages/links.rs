//! Addresses within the pages and within the API. What is a user's or a store's own goes into the query of a page, for
//! browsers shorten paths that hold dots.

use form_urlencoded::Serializer;

/// Longest address that a login leads to.
const LONGEST: usize = 2_048;

/// A path with a query; what is empty is left out.
pub(super) fn with<const N: usize>(path: &str, query: &[(&str, &str); N]) -> String {
    let mut pairs = Serializer::new(String::new());
    for (name, value) in query.iter().filter(|(_, value)| !value.is_empty()) {
        pairs.append_pair(name, value);
    }
    let query = pairs.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// A user's page.
pub(super) fn user(id: impl AsRef<str>) -> String {
    with("/user", &[("id", id.as_ref())])
}

/// A segment of a path.
pub(super) fn segment(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| char::from(HEX[usize::from(value & 15)]);
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            segment.extend(['%', digit(byte >> 4), digit(byte)]);
        }
    }
    segment
}

/// The page that somebody wants to see, if it is one of ours: else a link to the login could lead anywhere.
pub(super) fn local(page: &str) -> &str {
    let begins = page.starts_with('/') && !page.starts_with("//");
    let plain = page.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if begins && plain && page.len() <= LONGEST { page } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_ours_are_led_to() {
        for page in ["/", "/user?id=a%2Fb", "/prices#x", "/a//b"] {
            assert_eq!(local(page), page);
        }
        let long = format!("/{}", "a".repeat(LONGEST));
        for page in [
            "",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "\\\\evil",
            "/a\nb",
            "/ユ",
            "javascript:1",
            &long,
        ] {
            assert_eq!(local(page), "/", "{page}");
        }
    }

    #[test]
    fn names_stand_in_addresses_as_they_are_meant() {
        assert_eq!(with("/user", &[("id", "a b/ü&=")]), "/user?id=a+b%2F%C3%BC%26%3D");
        assert_eq!(with("/users", &[("query", "")]), "/users");
        assert_eq!(segment("a.b/c ü~"), "a%2Eb%2Fc%20%C3%BC~");
    }
}
