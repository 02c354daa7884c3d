//! Statements that are put together from parts, for what is asked for only, and how their values reach the server: bound
//! to them, or written in a message that holds several statements. Which statements there are is told elsewhere.

use std::{borrow::Cow, collections::HashMap, fmt::Write};

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::{
    Arguments, AssertSqlSafe, FromRow, PgConnection,
    postgres::{PgArguments, PgRow},
    query_with,
};

use crate::database::DatabaseError;

/// Most statements that a session is told to remember. There are some tens of them; one more is sent whole.
const REMEMBERED_MAX: usize = 128;

/// A value of a statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Number(i64),
    Text(Cow<'a, str>),
    Time(DateTime<Utc>),
    Numbers(Vec<Option<i64>>),
    Texts(Vec<Option<Cow<'a, str>>>),
}

impl<'a> Value<'a> {
    /// A list of texts, none of them missing.
    pub(super) fn texts<T: Into<Cow<'a, str>>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::Texts(texts.into_iter().map(|text| Some(text.into())).collect())
    }

    const fn type_name(&self) -> &'static str {
        match self {
            Self::Number(_) => "bigint",
            Self::Text(_) => "text",
            Self::Time(_) => "timestamptz",
            Self::Numbers(_) => "bigint[]",
            Self::Texts(_) => "text[]",
        }
    }

    /// As a literal.
    fn written(&self) -> String {
        let text = match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone().into_owned(),
            Self::Time(time) => time.to_rfc3339_opts(SecondsFormat::Micros, true),
            Self::Numbers(numbers) => array(numbers, |array, number| {
                write!(array, "{number}").expect("a String takes everything");
            }),
            Self::Texts(texts) => array(texts, |array, text| {
                array.push('"');
                push_escaped(array, text, ('"', "\\\""));
                array.push('"');
            }),
        };
        // With an `E`, what a backslash means does not depend on a setting.
        let mut literal = String::from("E'");
        push_escaped(&mut literal, &text, ('\'', "''"));
        literal.push('\'');
        literal
    }

    fn add_to(&self, arguments: &mut PgArguments) {
        let added = match self {
            Self::Number(number) => arguments.add(number),
            Self::Text(text) => arguments.add(text),
            Self::Time(time) => arguments.add(time),
            Self::Numbers(numbers) => arguments.add(numbers),
            Self::Texts(texts) => arguments.add(texts),
        };
        added.expect("numbers, texts and times can be bound");
    }
}

fn array<T>(values: &[Option<T>], mut push: impl FnMut(&mut String, &T)) -> String {
    let mut array = String::from("{");
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            array.push(',');
        }
        match value {
            Some(value) => push(&mut array, value),
            None => array.push_str("NULL"),
        }
    }
    array.push('}');
    array
}

/// With two backslashes for each, and with what stands for the quote.
fn push_escaped(into: &mut String, text: &str, (quote, for_quote): (char, &str)) {
    for character in text.chars() {
        match character {
            '\\' => into.push_str(r"\\"),
            other if other == quote => into.push_str(for_quote),
            other => into.push(other),
        }
    }
}

/// The place of a value among those of its statement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize);

/// A statement on its way.
#[derive(Debug, Default)]
pub(super) struct Statement<'a> {
    pieces: Vec<Piece>,
    values: Vec<Value<'a>>,
}

#[derive(Debug)]
enum Piece {
    Sql(&'static str),
    Value(Place),
}

impl<'a> Statement<'a> {
    pub(super) fn push(&mut self, sql: &'static str) -> &mut Self {
        self.pieces.push(Piece::Sql(sql));
        self
    }

    /// Has a value without using it yet.
    pub(super) fn keep(&mut self, value: Value<'a>) -> Place {
        self.values.push(value);
        Place(self.values.len().saturating_sub(1))
    }

    /// Uses a value that it has.
    pub(super) fn use_kept(&mut self, place: Place) -> &mut Self {
        self.pieces.push(Piece::Value(place));
        self
    }

    pub(super) fn bind(&mut self, value: Value<'a>) -> &mut Self {
        let place = self.keep(value);
        self.use_kept(place)
    }

    /// With these for its values.
    fn text(&self, value: impl Fn(Place) -> String) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Sql(sql) => text.push_str(sql),
                Piece::Value(place) => {
                    text.push_str(&value(*place));
                    text.push_str("::");
                    text.push_str(self.values[place.0].type_name());
                }
            }
        }
        text
    }

    /// With the values in it.
    fn whole(&self) -> String {
        self.text(|place| self.values[place.0].written())
    }

    /// With names for the values.
    fn numbered(&self) -> String {
        self.text(|place| format!("${}", place.0.saturating_add(1)))
    }

    /// Carries it out, with its values bound, and takes its rows.
    ///
    /// # Errors
    /// What the server says.
    pub(super) async fn fetch(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut arguments = PgArguments::default();
        self.values.iter().for_each(|value| value.add_to(&mut arguments));
        query_with(AssertSqlSafe(self.numbered()), arguments).fetch_all(connection).await
    }
}

/// Statements that a lane's session was told to remember, by the names they were given.
#[derive(Debug)]
pub(super) struct Remembered {
    /// Whether a session keeps what it is told.
    keeps: bool,
    names: HashMap<String, u64>,
    /// Never given twice, for nobody knows what a session remembers of a message that failed.
    last_name: u64,
}

impl Remembered {
    pub(super) fn new(keeps: bool) -> Self {
        Self { keeps, names: HashMap::new(), last_name: 0 }
    }

    /// Begins again, in another session.
    pub(super) fn forget(&mut self) {
        self.names.clear();
    }

    /// Adds a statement to a message: by its name, whole, or with a name for the next time. A session whose message
    /// failed is not to be used any more, or has to be [forgotten](Self::forget).
    pub(super) fn add(&mut self, statement: &Statement<'_>, message: &mut Message) {
        if !self.keeps {
            return message.add(&statement.whole());
        }
        let text = statement.numbered();
        let name = match self.names.get(&text) {
            Some(name) => *name,
            None if self.names.len() >= REMEMBERED_MAX => return message.add(&statement.whole()),
            None => {
                self.last_name = self.last_name.saturating_add(1);
                message.add(&format!("PREPARE billing_{} AS {text}", self.last_name));
                self.names.insert(text, self.last_name);
                self.last_name
            }
        };
        let values: Vec<_> = statement.values.iter().map(Value::written).collect();
        let values =
            if values.is_empty() { String::new() } else { format!(" ({})", values.join(", ")) };
        message.add(&format!("EXECUTE billing_{name}{values}"));
    }

    /// Carries a statement out on its own and takes its rows, in one trip.
    ///
    /// # Errors
    /// What the server says.
    pub(super) async fn fetch(
        &self,
        statement: &Statement<'_>,
        connection: &mut PgConnection,
    ) -> Result<Vec<PgRow>, DatabaseError> {
        if self.keeps {
            return Ok(statement.fetch(connection).await?);
        }
        let mut message = Message::default();
        message.add(&statement.whole());
        message.fetch(connection).await
    }
}

/// Statements that are sent in one trip, and carried out one after the other up to the first that fails. Each sees what
/// is committed when it begins.
#[derive(Debug, Default)]
pub(super) struct Message(String);

impl Message {
    pub(super) fn add(&mut self, statement: &str) {
        if !self.0.is_empty() {
            self.0.push_str(";\n");
        }
        self.0.push_str(statement);
    }

    /// The rows of all its statements.
    ///
    /// # Errors
    /// What the server says; [`DatabaseError::Constraint`] where a text can't be sent.
    pub(super) async fn fetch(
        self,
        connection: &mut PgConnection,
    ) -> Result<Vec<PgRow>, DatabaseError> {
        if self.0.contains('\0') {
            // It would end the message.
            return Err(DatabaseError::Constraint("a text holds a NUL".to_owned()));
        }
        Ok(sqlx::raw_sql(AssertSqlSafe(self.0)).fetch_all(connection).await?)
    }
}

/// Reads a row as what it is told to be.
pub(super) fn row<'r, R: FromRow<'r, PgRow>>(row: &'r PgRow) -> Result<R, DatabaseError> {
    Ok(R::from_row(row)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the server makes of a literal, or of an element of an array in it.
    fn read<'t>(text: &'t str, opening: &str, quote: char) -> (String, &'t str) {
        let mut rest = text.strip_prefix(opening).unwrap().chars();
        let mut read = String::new();
        loop {
            match rest.next().unwrap() {
                '\\' => read.push(rest.next().unwrap()),
                '\'' if quote == '\'' && rest.as_str().starts_with('\'') => {
                    read.push(rest.next().unwrap());
                }
                end if end == quote => return (read, rest.as_str()),
                other => read.push(other),
            }
        }
    }

    proptest! {
        #[test]
        fn texts_are_read_as_they_were(texts in prop::collection::vec(r#"[a'"\\{},;$ é-]{0,8}"#, 0..4)) {
            let written = Value::texts(&texts).written();
            let (array, rest) = read(&written, "E'", '\'');
            prop_assert_eq!(rest, "");
            let mut rest = array.strip_prefix('{').unwrap();
            for text in &texts {
                let (element, after) = read(rest.trim_start_matches(','), "\"", '"');
                prop_assert_eq!(&element, text);
                rest = after;
            }
            prop_assert_eq!(rest, "}");
        }
    }

    #[test]
    fn a_statement_has_names_or_values() {
        let mut statement = Statement::default();
        let users = statement.keep(Value::texts(["ann"]));
        statement.push("SELECT ").use_kept(users).push(", ").bind(Value::Numbers(vec![None]));
        statement.push(", ").use_kept(users);
        assert_eq!(statement.numbered(), "SELECT $1::text[], $2::bigint[], $1::text[]");
        let whole = r#"SELECT E'{"ann"}'::text[], E'{NULL}'::bigint[], E'{"ann"}'::text[]"#;
        assert_eq!(statement.whole(), whole);
    }

    #[test]
    fn a_session_is_told_a_statement_once() {
        let mut statement = Statement::default();
        statement.push("SELECT ").bind(Value::Number(-1));
        let mut remembered = Remembered::new(true);
        let told = |remembered: &mut Remembered| {
            let mut message = Message::default();
            remembered.add(&statement, &mut message);
            message.0
        };
        let both = "PREPARE billing_1 AS SELECT $1::bigint;\nEXECUTE billing_1 (E'-1')";
        assert_eq!(told(&mut remembered), both);
        assert_eq!(told(&mut remembered), "EXECUTE billing_1 (E'-1')");
        remembered.forget();
        assert!(told(&mut remembered).starts_with("PREPARE billing_2 AS"));
        assert_eq!(told(&mut Remembered::new(false)), "SELECT E'-1'::bigint");
    }
}
