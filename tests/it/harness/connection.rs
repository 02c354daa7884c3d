//! One connection of a test to a database of either engine.

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, PgConnection, SqliteConnection,
    error::ErrorKind, postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};

/// A connection, on which a transaction may be left open.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Connection {
    pub(super) async fn to_sqlite(options: SqliteConnectOptions) -> Self {
        Self::Sqlite(options.connect().await.expect("the database opens"))
    }

    pub(super) async fn to_postgres(options: &PgConnectOptions) -> Self {
        Self::Postgres(options.connect().await.expect("the server takes connections"))
    }

    async fn try_execute(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        match self {
            Self::Sqlite(connection) => statements.execute(connection).await.map(drop),
            Self::Postgres(connection) => statements.execute(connection).await.map(drop),
        }
    }

    /// Runs statements.
    pub(crate) async fn execute(&mut self, sql: &str) {
        self.try_execute(sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// Runs statements that may break a constraint; returns the kind of it then.
    pub(crate) async fn refusal(&mut self, sql: &str) -> Option<ErrorKind> {
        let error = self.try_execute(sql).await.err()?;
        Some(error.as_database_error().unwrap_or_else(|| panic!("{error}: {sql}")).kind())
    }

    /// The first column of a query, which must be text.
    pub(crate) async fn texts(&mut self, sql: &str) -> Vec<String> {
        let query = AssertSqlSafe(sql.to_owned());
        let result = match self {
            Self::Sqlite(connection) => sqlx::query_scalar(query).fetch_all(connection).await,
            Self::Postgres(connection) => sqlx::query_scalar(query).fetch_all(connection).await,
        };
        result.unwrap_or_else(|error| panic!("{error}: {sql}"))
    }

    /// Ends it in good order.
    pub(crate) async fn close(self) {
        let result = match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
        };
        result.expect("the database closes");
    }
}
