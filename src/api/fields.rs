//! JSON objects and their members where they stand in a body. What a member must be is read in `description`.

use serde_json::value::RawValue;

use super::{
    description::{Body, Kind},
    error::ApiError,
    json::{Document, Members},
    problem::{Location, Problem, Problems, Step},
};

/// Reads a whole body as one object, and makes something of it as well.
pub(super) fn read_object<T: Body, M>(
    text: &str,
    make: impl FnOnce(&Object<'_>) -> M,
) -> Result<(T, M), ApiError> {
    let Document { members, duplicates } = Document::parse(text, T::NAMES)?;
    let loc = vec![Step::from("body")];
    let mut noted = duplicates;
    let read = match members {
        Some(members) => {
            let object = Object { members, loc };
            T::read(&object).map(|value| (value, object))
        }
        None => Err(Problem::not_an_object(loc).into()),
    };
    let read = Problems::note(&mut noted, read);
    if let Some(problems) = noted {
        return Err(problems.into());
    }
    let (value, object) = read.expect("what has no value has a problem");
    let made = make(&object);
    Ok((value, made))
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

    /// Reads a member.
    pub(super) fn read<K: Kind>(&self, name: &'static str, kind: &K) -> Result<K::Value, Problems> {
        match self.members.get(name) {
            Some(raw) => kind.read(Field { raw, parent: &self.loc, step: Step::from(name) }),
            None => kind.missing(extended(&self.loc, Step::from(name))),
        }
    }
}

impl<'a> Field<'a> {
    /// The value's text, as it was sent.
    pub(super) fn text(&self) -> &'a str {
        self.raw.get()
    }

    /// The value, if it is an object.
    pub(super) fn object(&self) -> Option<Object<'a>> {
        Members::parse(self.raw.get()).map(|members| Object { members, loc: self.loc() })
    }

    /// The items of a list that stands at `loc`, if it is one.
    pub(super) fn items<'b>(&self, loc: &'b [Step]) -> Option<Vec<Field<'b>>>
    where
        'a: 'b,
    {
        let items: Vec<&'a RawValue> = serde_json::from_str(self.raw.get()).ok()?;
        let field = |(index, raw)| Field { raw, parent: loc, step: Step::Index(index) };
        Some(items.into_iter().enumerate().map(field).collect())
    }

    pub(super) fn loc(&self) -> Location {
        extended(self.parent, self.step.clone())
    }
}

fn extended(loc: &[Step], step: Step) -> Location {
    let mut loc = loc.to_vec();
    loc.push(step);
    loc
}
