//! The file `.env`: settings as lines of `NAME=value`, each taken as it stands or refused. What they mean is
//! `settings`'.
//!
//! ```text
//! # A comment, and blank lines, are passed over.
//! NAME=value with spaces, $signs and \backslashes, which mean nothing
//! export NAME=value
//! NAME='the same; white space at its ends and " count'
//! NAME="the same, with \" and \\ and \n"
//! ```
//!
//! A line that could be meant in two ways is refused: a `#` after white space or a quote within a value
//! without quotes, and a name given twice.

use std::{collections::BTreeMap, fs, io, path::Path};

/// What is wrong with the file: its line and name, never a value, which may be a password.
type Problem = String;

/// Puts what the file says into the environment, where that has no such name yet.
///
/// # Errors
/// A line that names the file.
pub(crate) fn load(path: &Path) -> Result<(), Problem> {
    let named = |problem: &str| format!("the file {} can't be read: {problem}", path.display());
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| named("it is not UTF-8"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(named(&error.to_string())),
    };
    let settings = parsed(&text).map_err(|problem| named(&problem))?;
    // Only unsafe code may change the environment. The crate has it, and is given what it can't mistake.
    let quoted: String = settings.iter().map(|(name, value)| quoted(name, value)).collect();
    dotenvy::from_read(quoted.as_bytes()).map_err(|_| named("it has a value that can't be set"))
}

fn quoted(name: &str, value: &str) -> String {
    let mut line = format!("{name}=\"");
    for character in value.chars() {
        match character {
            '\n' => line.push_str("\\n"),
            '"' | '\\' | '$' => line.extend(['\\', character]),
            _ => line.push(character),
        }
    }
    line.push_str("\"\n");
    line
}

fn parsed(text: &str) -> Result<BTreeMap<&str, String>, Problem> {
    let mut settings = BTreeMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in text.lines().zip(1_usize..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let assignment = line.strip_prefix("export ").unwrap_or(line);
        let (name, written) = assignment
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
            .filter(|(name, _)| is_name(name))
            .ok_or_else(|| format!("line {number} is not NAME=value"))?;
        let value = value(written).map_err(|reason| format!("line {number}, {name}: {reason}"))?;
        if settings.insert(name, value).is_some() {
            return Err(format!("line {number}, {name}: it was set before"));
        }
    }
    Ok(settings)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|other| other.is_ascii_alphanumeric() || other == '_')
}

fn value(written: &str) -> Result<String, &'static str> {
    const AFTER: &str = "something follows the quotes";
    if written.contains(char::is_control) {
        return Err("it holds a control character");
    }
    if let Some(quoted) = written.strip_prefix('\'') {
        let inner =
            quoted.strip_suffix('\'').ok_or("a quote is not closed, or something follows")?;
        return if inner.contains('\'') { Err(AFTER) } else { Ok(inner.to_owned()) };
    }
    if let Some(quoted) = written.strip_prefix('"') {
        return unescaped(quoted);
    }
    if written.contains(['"', '\'']) {
        return Err("it holds a quote; write the whole value in quotes of the other kind");
    }
    if written.starts_with('#') || written.contains(" #") || written.contains("\t#") {
        return Err(
            "a comment must have a line of its own; a value with # in it must be in quotes",
        );
    }
    Ok(written.to_owned())
}

/// What stands before the closing double quote.
fn unescaped(quoted: &str) -> Result<String, &'static str> {
    let mut value = String::new();
    let mut rest = quoted.chars();
    while let Some(character) = rest.next() {
        match character {
            '"' if rest.as_str().is_empty() => return Ok(value),
            '"' => return Err("something follows the quotes"),
            '\\' => match rest.next() {
                Some('n') => value.push('\n'),
                Some(escaped @ ('"' | '\\')) => value.push(escaped),
                _ => return Err("a backslash in double quotes must stand before \", \\ or n"),
            },
            _ => value.push(character),
        }
    }
    Err("a quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_they_stand() {
        for (text, value) in [
            ("A=b", "b"),
            ("  export A = b  \r\n", "b"),
            ("\u{feff}# comment\n\nA=b=c", "b=c"),
            ("A=", ""),
            ("A=''", ""),
            ("A=a$HOME${B}\\n#c d", "a$HOME${B}\\n#c d"),
            ("A=' a # $b \\n \" '", " a # $b \\n \" "),
            ("A=\" a # $b ' \\\" \\\\ \\n \"", " a # $b ' \" \\ \n "),
        ] {
            assert_eq!(parsed(text), Ok(BTreeMap::from([("A", value.to_owned())])), "{text:?}");
            // And the crate that sets them reads the same.
            let line = quoted("A", value);
            let read: Vec<_> = dotenvy::from_read_iter(line.as_bytes()).flatten().collect();
            assert_eq!(read, [("A".to_owned(), value.to_owned())], "{line}");
        }
    }

    #[test]
    fn what_could_mean_two_things_is_refused_without_its_value() {
        for (line, told) in [
            ("secret", "line 2 is not NAME=value"),
            ("1A=secret", "line 2 is not NAME=value"),
            ("A B=secret", "line 2 is not NAME=value"),
            ("B=secret # comment", "line 2, B: "),
            ("B=#secret", "line 2, B: "),
            ("B=sec\"ret", "line 2, B: "),
            ("B='secret", "line 2, B: "),
            ("B='sec'ret'", "line 2, B: "),
            ("B='secret' # comment", "line 2, B: "),
            ("B=\"secret", "line 2, B: "),
            ("B=\"secret\" more", "line 2, B: "),
            ("B=\"secret\\x\"", "line 2, B: "),
            ("B=secret\u{7}", "line 2, B: "),
            ("A=secret", "line 2, A: "),
        ] {
            let problem = parsed(&format!("A=b\n{line}")).expect_err(line);
            assert!(problem.starts_with(told) && !problem.contains("secret"), "{problem}");
        }
    }
}
