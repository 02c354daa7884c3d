//! What reads from either engine, for all that does not care which. What is asked of it is in `engine`.

use super::{DatabaseError, postgres::PostgresReader, sqlite::SqliteReader};
use crate::domain::{Facts, ProductList, Wanted};

/// A reader of either engine.
#[derive(Debug, Clone)]
pub(super) enum AnyReader {
    /// From a file.
    Sqlite(SqliteReader),
    /// From a server.
    Postgres(PostgresReader),
}

impl AnyReader {
    /// The facts wanted, of one moment; replays can't be.
    pub(super) async fn read(&self, wanted: &Wanted) -> Result<Facts, DatabaseError> {
        let facts = match self {
            Self::Sqlite(reader) => reader.read(wanted).await,
            Self::Postgres(reader) => Box::pin(reader.read(wanted)).await,
        };
        facts.map_err(DatabaseError::of_read)
    }

    /// The products, those too that are not offered.
    pub(super) async fn products(&self) -> Result<ProductList, DatabaseError> {
        let products = match self {
            Self::Sqlite(reader) => reader.products().await,
            Self::Postgres(reader) => Box::pin(reader.products()).await,
        };
        products.map_err(DatabaseError::of_read)
    }
}
