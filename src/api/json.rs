//! A JSON text as its members, each with its text, checked as a whole: valid to the last nested
//! string, and no key given twice. What the members must be is read in `description`.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::{
    description::Names,
    error::ApiError,
    problem::{Location, Problem, Problems, Step},
};

/// Deepest nesting that is read. It bounds the work for a hostile body: each level is gone through
/// once for every level around it.
const DEPTH_LIMIT: usize = 127;
/// Most duplicate keys that are listed; it bounds the answer to a hostile body.
const DUPLICATES_LISTED: usize = 20;

/// A body's members, if it is an object, and the keys given twice anywhere in it.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub(super) members: Option<Members<'a>>,
    pub(super) duplicates: Option<Problems>,
}

impl<'a> Document<'a> {
    /// Reads a whole text. Problems lead to members with these names.
    pub(super) fn parse(text: &'a str, names: Names) -> Result<Self, ApiError> {
        let mut scan = Scan::default();
        let members = scan.document(text, names).map_err(|Invalid| ApiError::json_invalid())?;
        Ok(Self { members, duplicates: scan.duplicates })
    }
}

/// The location of a member of what stands at `loc`, as far as the API gave it a name, and the names inside of
/// it. Within a purchase's record most names are the client's own.
fn member(loc: &[Step], names: Names, key: &str) -> (Location, Names) {
    let mut loc = loc.to_vec();
    let Some((name, inside)) = names.0.iter().find(|(name, _)| *name == key) else {
        return (loc, Names::NONE);
    };
    loc.push(Step::from(*name));
    (loc, *inside)
}

/// An object's members in their order, with the text of their values.
#[derive(Debug)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads the text of an object.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The value of `name`, of which the last counts.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// The same JSON however the object was written: members by key, no white space, strings with as few
    /// escapes as can be. Numbers stay as they were sent. `None` when a nested value is no JSON.
    pub(super) fn canonical(&self) -> Option<String> {
        let mut canonical = String::with_capacity(CANONICAL_BYTES);
        self.write_canonical(1, &mut canonical).ok()?;
        Some(canonical)
    }

    /// The object with all members that are the text `secret` replaced by `stand_in`. Everything else stays as it
    /// was sent, but for the white space between the members.
    pub(super) fn without(&self, secret: &str, stand_in: &str) -> String {
        let is_secret = |value: &RawValue| {
            serde_json::from_str::<Cow<'_, str>>(value.get()).is_ok_and(|text| text == secret)
        };
        let mut out = String::new();
        for (key, value) in &self.0 {
            out.push(if out.is_empty() { '{' } else { ',' });
            out.push_str(&Value::from(&**key).to_string());
            out.push(':');
            if is_secret(value) {
                out.push_str(&Value::from(stand_in).to_string());
            } else {
                out.push_str(value.get());
            }
        }
        if out.is_empty() {
            out.push('{');
        }
        out.push('}');
        out
    }

    fn write_canonical(&self, depth: usize, out: &mut String) -> Result<(), Invalid> {
        let mut members: Vec<_> = self.0.iter().collect();
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        out.push('{');
        for (index, (key, value)) in members.into_iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            write_text(key, out)?;
            out.push(':');
            write_canonical(value, depth, out)?;
        }
        out.push('}');
        Ok(())
    }
}

/// What most canonical bodies fit into.
const CANONICAL_BYTES: usize = 256;

fn write_canonical(value: &RawValue, depth: usize, out: &mut String) -> Result<(), Invalid> {
    let text = value.get();
    let inside = depth.saturating_add(1);
    match text.as_bytes().first() {
        Some(b'{') => read::<Members<'_>>(text, inside)?.write_canonical(inside, out)?,
        Some(b'[') => {
            out.push('[');
            for (index, item) in read::<Vec<&RawValue>>(text, inside)?.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, inside, out)?;
            }
            out.push(']');
        }
        Some(b'"') if text.contains('\\') => {
            write_text(&read::<String>(text, depth)?, out)?;
        }
        _ => out.push_str(text),
    }
    Ok(())
}

/// Writes a text as JSON; most need no escapes.
fn write_text(text: &str, out: &mut String) -> Result<(), Invalid> {
    if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.push_str(&serde_json::to_string(text)?);
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
    Ok(())
}

/// The text is no JSON.
struct Invalid;

impl From<serde_json::Error> for Invalid {
    fn from(_: serde_json::Error) -> Self {
        Self
    }
}

/// Looks for keys given twice.
#[derive(Default)]
struct Scan {
    duplicates: Option<Problems>,
    listed: usize,
}

impl Scan {
    fn document<'a>(
        &mut self,
        text: &'a str,
        names: Names,
    ) -> Result<Option<Members<'a>>, Invalid> {
        let loc = [Step::from("body")];
        if text.trim_ascii_start().starts_with('{') {
            return self.object(text, &loc, names, 1).map(Some);
        }
        self.value(serde_json::from_str(text)?, &loc, Names::NONE, 0)?;
        Ok(None)
    }

    fn value(
        &mut self,
        value: &RawValue,
        loc: &[Step],
        names: Names,
        depth: usize,
    ) -> Result<(), Invalid> {
        let text = value.get();
        let inside = depth.saturating_add(1);
        match text.as_bytes().first() {
            Some(b'{') => self.object(text, loc, names, inside).map(drop),
            Some(b'[') => self.list(text, loc, names, inside),
            // The parser skips over what is escaped, without a look whether it makes a character.
            Some(b'"') if text.contains('\\') => read::<String>(text, depth).map(drop),
            _ => Ok(()),
        }
    }

    fn object<'a>(
        &mut self,
        text: &'a str,
        loc: &[Step],
        names: Names,
        depth: usize,
    ) -> Result<Members<'a>, Invalid> {
        let members: Members<'a> = read(text, depth)?;
        let mut keys: Vec<&str> = members.0.iter().map(|(key, _)| &**key).collect();
        keys.sort_unstable();
        for (key, next) in keys.iter().zip(keys.iter().skip(1)) {
            if key == next && self.listed < DUPLICATES_LISTED {
                self.listed = self.listed.saturating_add(1);
                let (loc, _) = member(loc, names, key);
                Problems::add(&mut self.duplicates, Problem::duplicate_key(loc).into());
            }
        }
        for (key, value) in &members.0 {
            if is_nested(value) {
                let (loc, inside) = member(loc, names, key);
                self.value(value, &loc, inside, depth)?;
            }
        }
        Ok(members)
    }

    fn list(
        &mut self,
        text: &str,
        loc: &[Step],
        names: Names,
        depth: usize,
    ) -> Result<(), Invalid> {
        let items: Vec<&RawValue> = read(text, depth)?;
        for (index, value) in items.into_iter().enumerate() {
            if is_nested(value) {
                let mut loc = loc.to_vec();
                // The items of a list that the client made up are not counted either.
                if !names.0.is_empty() {
                    loc.push(Step::Index(index));
                }
                self.value(value, &loc, names, depth)?;
            }
        }
        Ok(())
    }
}

/// Whether there is anything to look into.
fn is_nested(value: &RawValue) -> bool {
    let text = value.get();
    text.starts_with(['{', '[']) || text.contains('\\')
}

fn read<'a, T: Deserialize<'a>>(text: &'a str, depth: usize) -> Result<T, Invalid> {
    if depth > DEPTH_LIMIT { Err(Invalid) } else { Ok(serde_json::from_str(text)?) }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// A key, copied only where it holds escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_json_has_one_canonical_form() {
        let canonical = |text| Members::parse(text).and_then(|members| members.canonical());
        let form = r#"{"a":[1,{"b":2.50},"é"],"b\"":"\u0001\n\"\\/","c":{}}"#;
        assert_eq!(canonical(form).as_deref(), Some(form));
        let other = r#" { "c" : { }, "\u0061" : [ 1, {"\u0062": 2.50} ,"\u00e9" ],
            "b\u0022": "\u0001\u000a\"\\\/" } "#;
        assert_eq!(canonical(other).as_deref(), Some(form));
        assert_eq!(canonical(r#"{"a":["\ud800"]}"#), None);
    }
}
