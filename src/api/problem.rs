//! What is wrong with a request, as pydantic v2 words it: the clients' tools know these.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::ToSchema;

/// One step of the way to a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Step {
    /// A name that the API gave it. What a client calls its own fields is never repeated: the app
    /// takes certain words in an error for the end of a purchase.
    Key(&'static str),
    Index(usize),
}

impl From<&'static str> for Step {
    fn from(key: &'static str) -> Self {
        Self::Key(key)
    }
}

/// The way to a field, from the body, the query or the headers.
pub(super) type Location = Vec<Step>;

/// One thing that is wrong, and where. The input itself is never repeated: it may hold a purchase
/// token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    #[schema(value_type = Vec<Step>)]
    loc: Location,
    #[schema(value_type = String)]
    msg: Cow<'static, str>,
}

impl Problem {
    pub(super) fn new(
        kind: &'static str,
        loc: Location,
        msg: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { kind, loc, msg: msg.into() }
    }

    pub(super) fn missing(loc: Location) -> Self {
        Self::new("missing", loc, "Field required")
    }

    /// Without a position: the app's restore flow looks for certain digits in this text.
    pub(super) fn json_invalid() -> Self {
        Self::new("json_invalid", vec![Step::from("body")], "JSON decode error")
    }

    pub(super) fn not_an_object(loc: Location) -> Self {
        Self::new(
            "model_attributes_type",
            loc,
            "Input should be a valid dictionary or object to extract fields from",
        )
    }

    pub(super) fn int_type(loc: Location) -> Self {
        Self::new("int_type", loc, "Input should be a valid integer")
    }

    pub(super) fn int_from_float(loc: Location) -> Self {
        Self::new(
            "int_from_float",
            loc,
            "Input should be a valid integer, got a number with a fractional part",
        )
    }

    pub(super) fn int_parsing(loc: Location) -> Self {
        Self::new(
            "int_parsing",
            loc,
            "Input should be a valid integer, unable to parse string as an integer",
        )
    }

    pub(super) fn bool_type(loc: Location) -> Self {
        Self::new("bool_type", loc, "Input should be a valid boolean")
    }

    pub(super) fn string_type(loc: Location) -> Self {
        Self::new("string_type", loc, "Input should be a valid string")
    }

    pub(super) fn string_too_short(loc: Location) -> Self {
        Self::new("string_too_short", loc, "String should have at least 1 character")
    }

    pub(super) fn string_too_long(loc: Location, max_chars: usize) -> Self {
        let msg = format!("String should have at most {max_chars} characters");
        Self::new("string_too_long", loc, msg)
    }

    pub(super) fn control_character(loc: Location) -> Self {
        Self::new("value_error", loc, "Value error, control characters are not allowed")
    }

    pub(super) fn duplicate_key(loc: Location) -> Self {
        Self::new("value_error", loc, "Value error, the key is given twice")
    }

    pub(super) fn repeated_header(loc: Location) -> Self {
        Self::new("value_error", loc, "Value error, the header is given twice")
    }

    pub(super) fn not_percent_encoded(loc: Location) -> Self {
        Self::new(
            "value_error",
            loc,
            "Value error, must be visible ASCII characters, all others and % percent-encoded as UTF-8",
        )
    }

    pub(super) fn dict_type(loc: Location) -> Self {
        Self::new("dict_type", loc, "Input should be a valid dictionary")
    }

    pub(super) fn list_type(loc: Location) -> Self {
        Self::new("list_type", loc, "Input should be a valid list")
    }

    pub(super) fn list_empty(loc: Location) -> Self {
        let msg = "List should have at least 1 item after validation, not 0";
        Self::new("too_short", loc, msg)
    }

    pub(super) fn list_too_long(loc: Location, max_items: usize, items: usize) -> Self {
        let msg =
            format!("List should have at most {max_items} items after validation, not {items}");
        Self::new("too_long", loc, msg)
    }
}

/// What is wrong with a request: at least one problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Problems(Vec<Problem>);

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl Problems {
    /// Adds to the problems found so far.
    pub(super) fn add(found: &mut Option<Self>, more: Self) {
        match found {
            Some(Self(problems)) => problems.extend(more.0),
            None => *found = Some(more),
        }
    }

    /// The value, or `None` with its problems added to those found so far.
    pub(super) fn note<T>(found: &mut Option<Self>, result: Result<T, Self>) -> Option<T> {
        result.map_err(|problems| Self::add(found, problems)).ok()
    }
}

/// The lowest value an integer may have, worded as its field declares it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lowest {
    /// More than this.
    Above(i64),
    /// This or more.
    From(i64),
}

/// The range of an integer field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) lowest: Lowest,
    pub(super) highest: i64,
}

impl Range {
    /// Takes the text of an integer, of any length.
    pub(super) fn check_digits(
        self,
        text: &str,
        loc: impl FnOnce() -> Location,
    ) -> Result<i64, Problem> {
        let Ok(value) = text.parse::<i64>() else {
            let too_low = text.starts_with('-');
            return Err(if too_low { self.too_low(loc()) } else { self.too_high(loc()) });
        };
        let high_enough = match self.lowest {
            Lowest::Above(bound) => value > bound,
            Lowest::From(bound) => value >= bound,
        };
        if !high_enough {
            return Err(self.too_low(loc()));
        }
        if value > self.highest {
            return Err(self.too_high(loc()));
        }
        Ok(value)
    }

    fn too_low(self, loc: Location) -> Problem {
        match self.lowest {
            Lowest::Above(bound) => {
                Problem::new("greater_than", loc, format!("Input should be greater than {bound}"))
            }
            Lowest::From(bound) => Problem::new(
                "greater_than_equal",
                loc,
                format!("Input should be greater than or equal to {bound}"),
            ),
        }
    }

    fn too_high(self, loc: Location) -> Problem {
        let msg = format!("Input should be less than or equal to {}", self.highest);
        Problem::new("less_than_equal", loc, msg)
    }
}
