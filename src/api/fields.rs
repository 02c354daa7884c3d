//! The fields of a JSON object, read into the types of the domain. Every problem is noted, not only
//! the first.

use serde_json::value::RawValue;

use super::{
    error::ApiError,
    json::{Document, Members},
    problem::{Location, Problem, Range, Step},
};
use crate::domain::IdentifierError;

/// Reads a whole body as one object.
pub(super) fn read_object<T>(
    text: &str,
    read: impl FnOnce(&Object<'_>, &mut Vec<Problem>) -> Option<T>,
) -> Result<T, ApiError> {
    let Document { members, duplicates: mut problems } = Document::parse(text)?;
    let loc = vec![Step::from("body")];
    let value = if let Some(members) = members {
        read(&Object { members, loc }, &mut problems)
    } else {
        problems.push(Problem::not_an_object(loc));
        None
    };
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(ApiError::Unprocessable(problems)),
    }
}

/// A JSON value where it stands.
#[derive(Debug)]
pub(super) struct Field<'a> {
    raw: &'a RawValue,
    parent: &'a [Step],
    step: Step,
}

/// The fields of an object, each as its text. Unknown ones are ignored.
#[derive(Debug)]
pub(super) struct Object<'a> {
    members: Members<'a>,
    loc: Location,
}

impl Object<'_> {
    /// The same text for all objects that are equal as JSON.
    pub(super) fn canonical(&self) -> Option<String> {
        self.members.canonical()
    }

    /// A field that may be left out.
    pub(super) fn optional(&self, name: &'static str) -> Option<Field<'_>> {
        let raw = self.members.get(name)?;
        Some(Field { raw, parent: &self.loc, step: Step::from(name) })
    }

    /// A field that must be there.
    pub(super) fn required(
        &self,
        name: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Field<'_>> {
        let field = self.optional(name);
        if field.is_none() {
            problems.push(Problem::missing(extended(&self.loc, Step::from(name))));
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
        self.object_or(Problem::not_an_object, problems)
    }

    /// An object that is kept as it is.
    pub(super) fn dictionary(self, problems: &mut Vec<Problem>) -> Option<Object<'a>> {
        self.object_or(Problem::dict_type, problems)
    }

    fn object_or(
        self,
        problem: fn(Location) -> Problem,
        problems: &mut Vec<Problem>,
    ) -> Option<Object<'a>> {
        let loc = self.loc();
        if let Some(members) = Members::parse(self.raw.get()) {
            Some(Object { members, loc })
        } else {
            problems.push(problem(loc));
            None
        }
    }

    /// A list of one to `max_items` items. Each is read, so that every problem is listed.
    pub(super) fn list<T>(
        self,
        max_items: usize,
        problems: &mut Vec<Problem>,
        read: impl Fn(Field<'_>, &mut Vec<Problem>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let loc = self.loc();
        let problem = match serde_json::from_str::<Vec<&RawValue>>(self.raw.get()) {
            Err(_) => Problem::list_type(loc),
            Ok(items) if items.is_empty() => Problem::list_empty(loc),
            Ok(items) if items.len() > max_items => {
                Problem::list_too_long(loc, max_items, items.len())
            }
            Ok(items) => {
                let field = |(index, raw)| Field { raw, parent: &loc, step: Step::Index(index) };
                let read = |item| read(field(item), problems);
                let items: Vec<Option<T>> = items.into_iter().enumerate().map(read).collect();
                return items.into_iter().collect();
            }
        };
        problems.push(problem);
        None
    }

    /// A text, made into one of the domain's identifiers.
    pub(super) fn identifier<T>(
        self,
        make: impl FnOnce(String) -> Result<T, IdentifierError>,
    ) -> Result<T, Problem> {
        let text: String =
            serde_json::from_str(self.raw.get()).map_err(|_| Problem::string_type(self.loc()))?;
        make(text).map_err(|error| identifier_problem(error, self.loc()))
    }

    fn integer(self, range: Range) -> Result<i64, Problem> {
        let text = self.raw.get();
        if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Err(Problem::int_type(self.loc()));
        }
        if text.contains('.') || text.contains("e-") || text.contains("E-") {
            return Err(Problem::int_from_float(self.loc()));
        }
        if text.contains(['e', 'E']) {
            return Err(Problem::int_type(self.loc()));
        }
        range.check_digits(text, || self.loc())
    }

    fn loc(&self) -> Location {
        extended(self.parent, self.step.clone())
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

fn extended(loc: &[Step], step: Step) -> Location {
    let mut loc = loc.to_vec();
    loc.push(step);
    loc
}
