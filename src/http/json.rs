//! A JSON text as its members, each with its text, checked as a whole: valid to the last nested
//! string, and no key given twice. What the fields must be is read in `fields`.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    error::ApiError,
    problem::{Location, Problem, Step},
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
    pub(super) duplicates: Vec<Problem>,
}

impl<'a> Document<'a> {
    /// Reads a whole text.
    pub(super) fn parse(text: &'a str) -> Result<Self, ApiError> {
        let mut scan = Scan::default();
        let members = scan.document(text).map_err(|Invalid| ApiError::json_invalid())?;
        let duplicates = scan.duplicates.into_iter().map(|mut loc| {
            loc.push(Step::from("body"));
            loc.reverse();
            Problem::duplicate_key(loc)
        });
        Ok(Self { members, duplicates: duplicates.collect() })
    }
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
}

/// The text is no JSON.
struct Invalid;

impl From<serde_json::Error> for Invalid {
    fn from(_: serde_json::Error) -> Self {
        Self
    }
}

/// The ways to the keys given twice, each from the inside out.
#[derive(Default)]
struct Scan {
    duplicates: Vec<Location>,
}

impl Scan {
    fn document<'a>(&mut self, text: &'a str) -> Result<Option<Members<'a>>, Invalid> {
        if text.trim_ascii_start().starts_with('{') {
            return self.object(text, 1).map(Some);
        }
        self.value(serde_json::from_str(text)?, 0)?;
        Ok(None)
    }

    fn value(&mut self, value: &RawValue, depth: usize) -> Result<(), Invalid> {
        let text = value.get();
        let inside = depth.saturating_add(1);
        match text.as_bytes().first() {
            Some(b'{') => self.object(text, inside).map(drop),
            Some(b'[') => self.list(text, inside),
            // The parser skips over what is escaped, without a look whether it makes a character.
            Some(b'"') if text.contains('\\') => read::<String>(text, depth).map(drop),
            _ => Ok(()),
        }
    }

    fn object<'a>(&mut self, text: &'a str, depth: usize) -> Result<Members<'a>, Invalid> {
        let members: Members<'a> = read(text, depth)?;
        let mut keys: Vec<&str> = members.0.iter().map(|(key, _)| &**key).collect();
        keys.sort_unstable();
        for (key, next) in keys.iter().zip(keys.iter().skip(1)) {
            if key == next && self.duplicates.len() < DUPLICATES_LISTED {
                self.duplicates.push(vec![Step::Key(Cow::Owned((*key).to_owned()))]);
            }
        }
        for (key, value) in &members.0 {
            self.inside(value, depth, || Step::Key(Cow::Owned(key.clone().into_owned())))?;
        }
        Ok(members)
    }

    fn list(&mut self, text: &str, depth: usize) -> Result<(), Invalid> {
        let items: Vec<&RawValue> = read(text, depth)?;
        for (index, item) in items.into_iter().enumerate() {
            self.inside(item, depth, || Step::Index(index))?;
        }
        Ok(())
    }

    /// Looks into a value; what is found there gets one more step.
    fn inside(
        &mut self,
        value: &RawValue,
        depth: usize,
        step: impl Fn() -> Step,
    ) -> Result<(), Invalid> {
        let known = self.duplicates.len();
        self.value(value, depth)?;
        for duplicate in self.duplicates.iter_mut().skip(known) {
            duplicate.push(step());
        }
        Ok(())
    }
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
