//! What a request may say, described once: bodies and queries are read by their description, their schemas are
//! made from it, and only the names in it may stand in a problem's location. What each resource takes is
//! described in its own file.

use std::{borrow::Cow, marker::PhantomData};

use serde_json::Value;
use utoipa::{
    Number, ToSchema,
    openapi::{
        KnownFormat, ObjectBuilder, Ref, RefOr, Required, SchemaFormat,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{AdditionalProperties, ArrayBuilder, OneOfBuilder, Schema, Type},
    },
};

use super::{
    fields::{Field, Object},
    problem::{Location, Lowest, Problem, Problems, Range, Step},
};
use crate::domain::IdentifierError;

/// Anything but control characters.
const NO_CONTROL_CHARACTERS: &str = r"^[^\u0000-\u001F\u007F-\u009F]*$";

/// The names that the API gives to the members of an object, each with those inside of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names(pub(super) &'static [(&'static str, Names)]);

impl Names {
    pub(super) const NONE: Self = Self(&[]);
}

/// An object that a request may hold. [`body`] makes them.
pub(super) trait Body: ToSchema + Sized {
    const NAMES: Names;

    fn read(object: &Object<'_>) -> Result<Self, Problems>;
}

/// What a member of a body may be.
pub(super) trait Kind {
    type Value;
    const REQUIRED: bool = true;
    /// The names inside of it.
    const INSIDE: Names = Names::NONE;

    fn read(&self, field: Field<'_>) -> Result<Self::Value, Problems>;

    /// What it means that there is none.
    fn missing(&self, loc: Location) -> Result<Self::Value, Problems> {
        Err(Problem::missing(loc).into())
    }

    fn schema(&self) -> RefOr<Schema>;

    /// The named schemas that its own refers to.
    fn add_schemas(&self, _: &mut NamedSchemas) {}
}

pub(super) type NamedSchemas = Vec<(String, RefOr<Schema>)>;

pub(super) const fn names_inside<K: Kind>(_: &K) -> Names {
    K::INSIDE
}

/// What a parameter of a query may be.
pub(super) trait Parsed {
    type Value;

    fn parse(&self, text: Cow<'_, str>, loc: Location) -> Result<Self::Value, Problem>;

    fn parameter_schema(&self) -> RefOr<Schema>;
}

/// An integer. `make` takes every one of the range.
pub(super) struct Integer<T> {
    pub(super) range: Range,
    pub(super) make: fn(i64) -> Option<T>,
}

impl<T> Integer<T> {
    fn of_digits(&self, digits: &str, loc: impl FnOnce() -> Location) -> Result<T, Problem> {
        let number = self.range.check_digits(digits, loc)?;
        Ok((self.make)(number).expect("the range is within what the type holds"))
    }
}

impl<T> Kind for Integer<T> {
    type Value = T;

    fn read(&self, field: Field<'_>) -> Result<T, Problems> {
        let text = field.text();
        let problem = if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            Problem::int_type
        } else if text.contains('.') || text.contains("e-") || text.contains("E-") {
            Problem::int_from_float
        } else if text.contains(['e', 'E']) {
            Problem::int_type
        } else {
            return Ok(self.of_digits(text, || field.loc())?);
        };
        Err(problem(field.loc()).into())
    }

    fn schema(&self) -> RefOr<Schema> {
        integer(self.range).into()
    }
}

impl<T> Parsed for Integer<T> {
    type Value = T;

    fn parse(&self, text: Cow<'_, str>, loc: Location) -> Result<T, Problem> {
        let digits = text.strip_prefix('-').unwrap_or(&text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Problem::int_parsing(loc));
        }
        self.of_digits(&text, || loc)
    }

    fn parameter_schema(&self) -> RefOr<Schema> {
        self.schema()
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Kind for Flag {
    type Value = bool;

    fn read(&self, field: Field<'_>) -> Result<bool, Problems> {
        match field.text() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Problem::bool_type(field.loc()).into()),
        }
    }

    fn schema(&self) -> RefOr<Schema> {
        Schema::from(ObjectBuilder::new().schema_type(Type::Boolean)).into()
    }
}

/// A text that is one of the domain's names.
pub(super) struct Text<T> {
    pub(super) max_chars: usize,
    pub(super) make: fn(String) -> Result<T, IdentifierError>,
}

impl<T> Kind for Text<T> {
    type Value = T;

    fn read(&self, field: Field<'_>) -> Result<T, Problems> {
        let text =
            serde_json::from_str(field.text()).map_err(|_| Problem::string_type(field.loc()))?;
        Ok(self.parse(Cow::Owned(text), field.loc())?)
    }

    fn schema(&self) -> RefOr<Schema> {
        text(self.max_chars, NO_CONTROL_CHARACTERS).min_length(Some(1)).into()
    }
}

impl<T> Parsed for Text<T> {
    type Value = T;

    fn parse(&self, text: Cow<'_, str>, loc: Location) -> Result<T, Problem> {
        (self.make)(text.into_owned()).map_err(|error| match error {
            IdentifierError::Empty => Problem::string_too_short(loc),
            IdentifierError::TooLong { max_chars } => Problem::string_too_long(loc, max_chars),
            IdentifierError::ControlCharacter => Problem::control_character(loc),
        })
    }

    fn parameter_schema(&self) -> RefOr<Schema> {
        self.schema()
    }
}

/// A text that may also be missing, `null` or empty, and then is none.
pub(super) struct Optional<T>(pub(super) Text<T>);

impl<T> Kind for Optional<T> {
    type Value = Option<T>;
    const REQUIRED: bool = false;

    fn read(&self, field: Field<'_>) -> Result<Option<T>, Problems> {
        if ["null", "\"\""].contains(&field.text()) {
            return Ok(None);
        }
        self.0.read(field).map(Some)
    }

    fn missing(&self, _: Location) -> Result<Option<T>, Problems> {
        Ok(None)
    }

    fn schema(&self) -> RefOr<Schema> {
        let text = text(self.0.max_chars, NO_CONTROL_CHARACTERS);
        Schema::from(OneOfBuilder::new().item(null()).item(text)).into()
    }
}

/// What may also be missing or `null`, and then is none.
pub(super) struct Maybe<K>(pub(super) K);

impl<K: Kind> Kind for Maybe<K> {
    type Value = Option<K::Value>;
    const REQUIRED: bool = false;
    const INSIDE: Names = K::INSIDE;

    fn read(&self, field: Field<'_>) -> Result<Option<K::Value>, Problems> {
        if field.text() == "null" {
            return Ok(None);
        }
        self.0.read(field).map(Some)
    }

    fn missing(&self, _: Location) -> Result<Option<K::Value>, Problems> {
        Ok(None)
    }

    fn schema(&self) -> RefOr<Schema> {
        Schema::from(OneOfBuilder::new().item(null()).item(self.0.schema())).into()
    }
}

/// One of these texts.
pub(super) struct OneOf<T: 'static> {
    pub(super) all: &'static [T],
    pub(super) name: fn(T) -> &'static str,
    /// What is said of any other.
    pub(super) otherwise: &'static str,
}

impl<T: Copy> Kind for OneOf<T> {
    type Value = T;

    fn read(&self, field: Field<'_>) -> Result<T, Problems> {
        let text: String =
            serde_json::from_str(field.text()).map_err(|_| Problem::string_type(field.loc()))?;
        Ok(self.parse(Cow::Owned(text), field.loc())?)
    }

    fn schema(&self) -> RefOr<Schema> {
        self.parameter_schema()
    }
}

impl<T: Copy> Parsed for OneOf<T> {
    type Value = T;

    fn parse(&self, text: Cow<'_, str>, loc: Location) -> Result<T, Problem> {
        let known = self.all.iter().copied().find(|value| (self.name)(*value) == text);
        known.ok_or_else(|| Problem::new("literal_error", loc, self.otherwise))
    }

    fn parameter_schema(&self) -> RefOr<Schema> {
        one_of(self.all.iter().map(|value| (self.name)(*value))).into()
    }
}

/// A list of one to `max_items` objects. Each is read, so that every problem is listed.
pub(super) struct List<T> {
    max_items: usize,
    of: PhantomData<fn() -> T>,
}

impl<T> List<T> {
    pub(super) const fn of_at_most(max_items: usize) -> Self {
        Self { max_items, of: PhantomData }
    }
}

impl<T: Body> Kind for List<T> {
    type Value = Vec<T>;
    const INSIDE: Names = T::NAMES;

    fn read(&self, field: Field<'_>) -> Result<Vec<T>, Problems> {
        let loc = field.loc();
        let Some(items) = field.items(&loc) else {
            return Err(Problem::list_type(field.loc()).into());
        };
        if items.is_empty() {
            return Err(Problem::list_empty(field.loc()).into());
        }
        if items.len() > self.max_items {
            let count = items.len();
            return Err(Problem::list_too_long(field.loc(), self.max_items, count).into());
        }
        let mut noted = None;
        let read = |item: Field<'_>| {
            let object = item.object().ok_or_else(|| Problem::not_an_object(item.loc()));
            Problems::note(
                &mut noted,
                object.map_err(Problems::from).and_then(|item| T::read(&item)),
            )
        };
        let read: Vec<T> = items.into_iter().filter_map(read).collect();
        noted.map_or(Ok(read), Err)
    }

    fn schema(&self) -> RefOr<Schema> {
        let list = ArrayBuilder::new().items(Ref::from_schema_name(T::name()));
        Schema::from(list.min_items(Some(1)).max_items(Some(self.max_items))).into()
    }

    fn add_schemas(&self, schemas: &mut NamedSchemas) {
        add_named::<T>(schemas);
    }
}

/// An object that is kept as it is, of which some members are read as well.
pub(super) struct Verbatim<T>(pub(super) PhantomData<fn() -> T>);

impl<T: Body> Kind for Verbatim<T> {
    type Value = (String, T);
    const INSIDE: Names = T::NAMES;

    fn read(&self, field: Field<'_>) -> Result<(String, T), Problems> {
        let object = field.object().ok_or_else(|| Problem::dict_type(field.loc()))?;
        Ok((field.text().to_owned(), T::read(&object)?))
    }

    fn schema(&self) -> RefOr<Schema> {
        Ref::from_schema_name(T::name()).into()
    }

    fn add_schemas(&self, schemas: &mut NamedSchemas) {
        let mut schema = T::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(true)));
        }
        schemas.push((T::name().into_owned(), schema));
    }
}

fn add_named<T: ToSchema>(schemas: &mut NamedSchemas) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

/// The name of a member on the wire, where it is not that of the field.
macro_rules! wire_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}

/// Declares the members of a [`Body`], each as `field: type = kind`, or `field("name"): type = kind`.
macro_rules! body {
    (
        #[doc = $about:literal]
        $body:ident { $($field:ident $(($name:literal))?: $type:ty = $kind:expr,)+ }
    ) => {
        #[doc = $about]
        #[derive(Debug)]
        struct $body {
            $($field: $type,)+
        }

        impl $crate::api::description::Body for $body {
            const NAMES: $crate::api::description::Names = $crate::api::description::Names(&[$((
                $crate::api::description::wire_name!($field $($name)?),
                $crate::api::description::names_inside(&$kind),
            ),)+]);

            fn read(
                object: &$crate::api::fields::Object<'_>,
            ) -> Result<Self, $crate::api::problem::Problems> {
                use $crate::api::{description::wire_name, problem::Problems};
                let mut noted = None;
                $(let $field = Problems::note(
                    &mut noted,
                    object.read(wire_name!($field $($name)?), &$kind),
                );)+
                match noted {
                    Some(problems) => Err(problems),
                    None => Ok(Self { $($field: $field.expect("what has no value has a problem"),)+ }),
                }
            }
        }

        impl utoipa::PartialSchema for $body {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                use $crate::api::description::{with_member, wire_name};
                let object = utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::Object)
                    .description(Some($about.trim()));
                $(let object = with_member(object, wire_name!($field $($name)?), &$kind);)+
                object.into()
            }
        }

        impl utoipa::ToSchema for $body {
            fn schemas(schemas: &mut $crate::api::description::NamedSchemas) {
                $($crate::api::description::Kind::add_schemas(&$kind, schemas);)+
            }
        }
    };
}

pub(super) fn with_member<K: Kind>(object: ObjectBuilder, name: &str, kind: &K) -> ObjectBuilder {
    let object = object.property(name, kind.schema());
    if K::REQUIRED { object.required(name) } else { object }
}

/// Declares the parameters of a query, each as `field: type = kind`, or `field("name"): type = kind`, and
/// `or default` where one that is missing means something, `and required` where it has to be there. Of a parameter given twice the last counts, unknown
/// ones are ignored.
macro_rules! query {
    (
        #[doc = $about:literal]
        $query:ident {
            $($field:ident $(($name:literal))?: $type:ty = $kind:expr
                $(, or $default:expr)? $(, and $required:ident)?;)+
        }
    ) => {
        #[doc = $about]
        #[derive(Debug)]
        pub(super) struct $query {
            $($field: Option<$type>,)+
        }

        impl $query {
            pub(super) fn read(query: &str) -> Result<Self, $crate::api::problem::Problems> {
                use $crate::api::{description::{parameter, wire_name}, problem::Problems};
                let mut noted = None;
                $(let $field = {
                    let name = wire_name!($field $($name)?);
                    let read = parameter(query, name, &$kind);
                    $(let read = read.and_then(|value| {
                        $crate::api::description::$required(value, name)
                    });)?
                    Problems::note(&mut noted, read)
                };)+
                match noted {
                    Some(problems) => Err(problems),
                    None => Ok(Self { $($field: $field.expect("what has no value has a problem"),)+ }),
                }
            }
        }

        impl utoipa::IntoParams for $query {
            fn into_params(
                _: impl Fn() -> Option<utoipa::openapi::path::ParameterIn>,
            ) -> Vec<utoipa::openapi::path::Parameter> {
                use $crate::api::description::{described_parameter, wire_name};
                vec![$(described_parameter(
                    wire_name!($field $($name)?),
                    &$kind,
                    None::<serde_json::Value>$(.or(Some($default.into())))?,
                    [$(stringify!($required))?].contains(&"required"),
                )),+]
            }
        }
    };
}

pub(super) use {body, query, wire_name};

/// The last parameter called `name`, if there is one.
pub(super) fn parameter<P: Parsed>(
    query: &str,
    name: &'static str,
    kind: &P,
) -> Result<Option<P::Value>, Problems> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let last = pairs.by_ref().filter(|(key, _)| key == name).last();
    let loc = || vec![Step::from("query"), Step::from(name)];
    Ok(last.map(|(_, text)| kind.parse(text, loc())).transpose()?)
}

/// A parameter that has to be there.
pub(super) fn required<T>(value: Option<T>, name: &'static str) -> Result<Option<T>, Problems> {
    let missing = || Problem::missing(vec![Step::from("query"), Step::from(name)]);
    value.map(Some).ok_or_else(|| missing().into())
}

pub(super) fn described_parameter<P: Parsed>(
    name: &str,
    kind: &P,
    default: Option<Value>,
    is_required: bool,
) -> Parameter {
    let mut schema = kind.parameter_schema();
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.default = default;
    }
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(if is_required { Required::True } else { Required::False })
        .schema(Some(schema))
        .build()
}

/// The schema of integers.
pub(super) fn integer(range: Range) -> ObjectBuilder {
    let integer = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .maximum(Some(Number::from(range.highest)));
    match range.lowest {
        Lowest::Above(bound) => integer.exclusive_minimum(Some(Number::from(bound))),
        Lowest::From(bound) => integer.minimum(Some(Number::from(bound))),
    }
}

/// The schema of texts.
pub(super) fn text(max_chars: usize, pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(max_chars))
        .pattern(Some(pattern))
}

/// The schema of names.
pub(super) fn one_of(names: impl IntoIterator<Item = &'static str>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names))
}

pub(super) fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}
