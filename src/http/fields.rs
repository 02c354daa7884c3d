//! The fields of a JSON object, read into the types of the domain. Every problem is noted, not only
//! the first.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    body::JsonText,
    error::ApiError,
    problem::{Location, Problem, Range, Step},
};
use crate::domain::IdentifierError;

/// Reads a whole body as one object.
pub(super) fn read_object<T>(
    json: &JsonText,
    read: impl FnOnce(&Object<'_>, &mut Vec<Problem>) -> Option<T>,
) -> Result<T, ApiError> {
    let mut problems = json.duplicates().to_vec();
    let raw: &RawValue = serde_json::from_str(json.as_str())
        .map_err(|_| ApiError::Unprocessable(vec![Problem::json_invalid()]))?;
    let value = Object::of(raw, vec![Step::from("body")], &mut problems)
        .and_then(|object| read(&object, &mut problems));
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(ApiError::Unprocessable(problems)),
    }
}

/// A JSON value where it stands.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    raw: &'a RawValue,
    loc: Location,
}

/// The fields of an object, each as its text. Unknown ones are ignored.
#[derive(Debug)]
pub(super) struct Object<'a> {
    fields: Fields<'a>,
    loc: Location,
}

impl<'a> Object<'a> {
    fn of(raw: &'a RawValue, loc: Location, problems: &mut Vec<Problem>) -> Option<Self> {
        if !raw.get().starts_with('{') {
            problems.push(Problem::not_an_object(loc));
            return None;
        }
        let fields = serde_json::from_str(raw.get()).ok()?;
        Some(Self { fields, loc })
    }

    /// A field that may be left out.
    pub(super) fn optional(&self, name: &'static str) -> Option<Field<'a>> {
        let (_, raw) = self.fields.0.iter().rev().find(|(key, _)| key == name)?;
        Some(Field { raw, loc: extend(&self.loc, Step::from(name)) })
    }

    /// A field that must be there.
    pub(super) fn required(
        &self,
        name: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Field<'a>> {
        let field = self.optional(name);
        if field.is_none() {
            problems.push(Problem::missing(extend(&self.loc, Step::from(name))));
        }
        field
    }

    /// A required integer within a range.
    pub(super) fn integer(
        &self,
        name: &'static str,
        range: Range,
        problems: &mut Vec<Problem>,
    ) -> Option<i64> {
        let field = self.required(name, problems)?;
        noted(field.integer(range), problems)
    }

    /// A required text, made into one of the domain's identifiers.
    pub(super) fn identifier<T>(
        &self,
        name: &'static str,
        make: impl FnOnce(String) -> Result<T, IdentifierError>,
        problems: &mut Vec<Problem>,
    ) -> Option<T> {
        let field = self.required(name, problems)?;
        noted(field.identifier(make), problems)
    }
}

impl<'a> Field<'a> {
    /// The value's text, as it was sent.
    pub(super) fn text(&self) -> &'a str {
        self.raw.get()
    }

    pub(super) fn is_null(&self) -> bool {
        self.raw.get() == "null"
    }

    /// An object whose fields matter.
    pub(super) fn object(self, problems: &mut Vec<Problem>) -> Option<Object<'a>> {
        Object::of(self.raw, self.loc, problems)
    }

    /// An object that is kept as it is.
    pub(super) fn dictionary(self, problems: &mut Vec<Problem>) -> Option<Object<'a>> {
        if !self.raw.get().starts_with('{') {
            problems.push(Problem::dict_type(self.loc));
            return None;
        }
        Object::of(self.raw, self.loc, problems)
    }

    /// A list of one to `max_items` items.
    pub(super) fn list(
        self,
        max_items: usize,
        problems: &mut Vec<Problem>,
    ) -> Option<Vec<Field<'a>>> {
        let Ok(items) = serde_json::from_str::<Vec<&'a RawValue>>(self.raw.get()) else {
            problems.push(Problem::list_type(self.loc));
            return None;
        };
        if items.is_empty() {
            problems.push(Problem::list_empty(self.loc));
            return None;
        }
        if items.len() > max_items {
            problems.push(Problem::list_too_long(self.loc, max_items, items.len()));
            return None;
        }
        let field = |(index, raw)| Field { raw, loc: extend(&self.loc, Step::Index(index)) };
        Some(items.into_iter().enumerate().map(field).collect())
    }

    /// A text, made into one of the domain's identifiers.
    pub(super) fn identifier<T>(
        self,
        make: impl FnOnce(String) -> Result<T, IdentifierError>,
    ) -> Result<T, Problem> {
        let text: String = serde_json::from_str(self.raw.get())
            .map_err(|_| Problem::string_type(self.loc.clone()))?;
        make(text).map_err(|error| identifier_problem(error, self.loc))
    }

    fn integer(self, range: Range) -> Result<i64, Problem> {
        let text = self.raw.get();
        if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Err(Problem::int_type(self.loc));
        }
        if text.contains('.') || text.contains("e-") || text.contains("E-") {
            return Err(Problem::int_from_float(self.loc));
        }
        if text.contains(['e', 'E']) {
            return Err(Problem::int_type(self.loc));
        }
        range.check_digits(text, &self.loc)
    }
}

/// What is wrong with a text that is no identifier.
pub(super) fn identifier_problem(error: IdentifierError, loc: Location) -> Problem {
    match error {
        IdentifierError::Empty => Problem::string_too_short(loc),
        IdentifierError::TooLong { max_chars } => Problem::string_too_long(loc, max_chars),
        IdentifierError::ControlCharacter => Problem::control_character(loc),
    }
}

/// The value, or `None` with its problem noted.
pub(super) fn noted<T>(result: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}

fn extend(loc: &[Step], step: Step) -> Location {
    let mut loc = loc.to_vec();
    loc.push(step);
    loc
}

/// An object's fields in their order, with the text of their values.
#[derive(Debug)]
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}
