//! The database file, opened beside the service: to look, to prepare, and to check the books.

use std::{path::Path, path::PathBuf};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions,
};

use super::PATIENCE;

/// Queries that find nothing in a sound database.
const VIOLATIONS: [(&str, &str); 7] = [
    (
        "credits are the sum of their changes",
        "SELECT user_id || ': ' || credits FROM credits WHERE credits <> (
             SELECT COALESCE(SUM(credits_delta), 0) FROM transactions
             WHERE transactions.user_id = credits.user_id)",
    ),
    (
        "tokens are the sum of their changes",
        "SELECT user_id || ', ' || model_id || ': ' || allocated_tokens
         FROM token_balances AS balance WHERE allocated_tokens <> (
             SELECT COALESCE(SUM(tokens_delta), 0) FROM transactions
             WHERE user_id = balance.user_id AND model_id = balance.model_id)",
    ),
    (
        "every change belongs to a balance",
        "SELECT CAST(id AS TEXT) FROM transactions AS entry
         WHERE NOT EXISTS (SELECT * FROM credits WHERE user_id = entry.user_id)
            OR model_id IS NOT NULL AND NOT EXISTS (
                SELECT * FROM token_balances
                WHERE user_id = entry.user_id AND model_id = entry.model_id)",
    ),
    (
        "nothing is negative",
        "SELECT user_id FROM credits WHERE credits < 0
         UNION ALL SELECT model_id FROM token_balances WHERE allocated_tokens < 0",
    ),
    (
        "a store transaction is granted once",
        "SELECT transaction_id FROM transactions WHERE transaction_id IS NOT NULL
         GROUP BY transaction_id HAVING COUNT(*) > 1",
    ),
    ("references lead somewhere", "SELECT \"table\" FROM pragma_foreign_key_check"),
    (
        "the file is sound",
        "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
    ),
];

/// Every row of the tables that hold money, as text.
const ROWS: [&str; 4] = [
    "SELECT json_array('user', id, user_id, created_at) FROM users ORDER BY id",
    "SELECT json_array('credits', user_id, credits, updated_at) FROM credits ORDER BY user_id",
    "SELECT json_array('tokens', id, user_id, model_id, allocated_tokens, updated_at)
     FROM token_balances ORDER BY id",
    "SELECT json_array('transaction', id, user_id, type, amount, model_id, transaction_id, metadata,
         input_tokens, output_tokens, price_per_m_token, credits_delta, tokens_delta, created_at)
     FROM transactions ORDER BY id",
];

/// A database file, which the service may have open.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    path: PathBuf,
}

impl Database {
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The size of the write-ahead log, in bytes; zero when there is none.
    pub(crate) fn wal_bytes(&self) -> u64 {
        let wal = self.path.with_extension("db-wal");
        std::fs::metadata(wal).map_or(0, |metadata| metadata.len())
    }

    async fn connect(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(PATIENCE)
            .connect()
            .await
            .expect("the database opens")
    }

    /// Runs statements; makes the file where there is none.
    pub(crate) async fn execute(&self, sql: &str) {
        if !self.path.exists() {
            std::fs::write(&self.path, "").expect("the file can be made");
        }
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
        connection.close().await.expect("the database closes");
    }

    /// The first column of a query, which must be text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let mut connection = self.connect().await;
        let texts = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
        connection.close().await.expect("the database closes");
        texts
    }

    /// Everything the service knows about money. Equal digests: nothing has changed.
    pub(crate) async fn digest(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for sql in ROWS {
            rows.append(&mut self.texts(sql).await);
        }
        rows
    }

    /// Keeps everybody else from writing, as a stuck process would, until the lock is released.
    pub(crate) async fn lock(&self) -> Lock {
        let mut connection = self.connect().await;
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.expect("nobody holds it");
        Lock(connection)
    }

    /// Checks that the books balance.
    pub(crate) async fn check_invariants(&self) {
        for (rule, sql) in VIOLATIONS {
            assert_eq!(self.texts(sql).await, Vec::<String>::new(), "{rule}");
        }
    }
}

/// The right to write, held by a test.
#[derive(Debug)]
pub(crate) struct Lock(SqliteConnection);

impl Lock {
    pub(crate) async fn release(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await.expect("the lock is held");
        self.0.close().await.expect("the database closes");
    }
}
