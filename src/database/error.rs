//! Why the database did not do what it was asked. What the errors of an engine mean is the engine's to say.

use sqlx::postgres::PgDatabaseError;
use thiserror::Error;

use super::{postgres, sqlite};

/// Why the database did not do what it was asked.
#[derive(Debug, Clone, Error)]
pub(crate) enum DatabaseError {
    /// What was written broke a constraint: one operation of the batch is at fault, not the database.
    #[error("the database refuses a value: {0}")]
    Constraint(String),
    /// The transaction did not get to its commit, and nothing of it is kept, through no fault of the
    /// operations or the database: begin, decide and save again.
    #[error("the transaction has to be tried again: {0}")]
    Retry(String),
    /// What was read can't be: somebody changed the data by hand into something impossible.
    #[error("the database holds an impossible value: {0}")]
    Corrupt(String),
    /// The database can't do it now: busy, full, read-only or gone. It may pass.
    #[error("the database does not answer: {0}")]
    Unavailable(String),
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        let of_postgres = error
            .as_database_error()
            .and_then(<dyn sqlx::error::DatabaseError>::try_downcast_ref::<PgDatabaseError>);
        match (&error, of_postgres) {
            (_, Some(error)) => postgres::meaning(error),
            (sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_), None) => {
                Self::Corrupt(error.to_string())
            }
            // A server that was lost, or a thread of SQLite's that could not be started: what was not
            // committed is undone.
            (sqlx::Error::Io(_) | sqlx::Error::Protocol(_), None) => {
                Self::Retry(format!("the connection was lost: {error}"))
            }
            (_, None) => sqlite::meaning(&error),
        }
    }
}

impl DatabaseError {
    /// As an error of a read, which nobody tries again but the client.
    pub(super) fn of_read(self) -> Self {
        match self {
            Self::Retry(reason) => Self::Unavailable(reason),
            other => other,
        }
    }
}
