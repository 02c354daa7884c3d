//! The reads: accounts, prices, and pages of the history, on a small pool of connections that can't
//! write.

use std::{borrow::Cow, cmp::Reverse, time::Duration};

use serde::Deserialize;
use sqlx::{
    AssertSqlSafe, Sqlite, SqlitePool,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};

use super::{
    DatabaseError, DatabaseFile, snapshot,
    snapshot::{hold_fact, snapshot_sql},
};
use crate::{
    database::{
        DatabaseSize,
        erasing::NAME_OF_ENTRY,
        history::ranges,
        ledger_lines::{self, Take, TakeOfAll},
        rows,
    },
    domain::{Facts, HistoryFilter, HistoryPage, LedgerEnd, LedgerLine, ModelId, UserId, Wanted},
};

/// Connections that read at the same time.
const READ_CONNECTIONS: u32 = 4;
/// How long a read waits for one of them.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// A pool of connections that only read.
#[derive(Debug, Clone)]
pub(crate) struct SqliteReader {
    pool: SqlitePool,
    file: DatabaseFile,
}

impl SqliteReader {
    pub(super) fn new(options: &SqliteConnectOptions, file: DatabaseFile) -> Self {
        let pool = SqlitePoolOptions::new()
            .max_connections(READ_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone().read_only(true));
        Self { pool, file }
    }

    /// A connection of the pool, if the file is there.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Sqlite>, DatabaseError> {
        self.file.check_present()?;
        if let Some(connection) = self.pool.try_acquire() {
            return Ok(connection);
        }
        // In a task, for whoever asks may go away: a connection that is abandoned while it is opened would be unknown
        // to the pool, and might be open still when the writer, who is the last, empties the write-ahead log.
        let pool = self.pool.clone();
        let opened = tokio::spawn(async move { pool.acquire().await });
        Ok(opened.await.expect("nobody ends the task, and it does not panic")?)
    }

    /// What the database holds of what is wanted; replays can't be.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn read(&self, wanted: &Wanted) -> Result<Facts, DatabaseError> {
        let mut connection = self.connection().await?;
        let snapshot = snapshot::read(&mut connection, snapshot_sql!(), wanted).await?;
        Ok(snapshot.facts)
    }

    /// A page of the user's history, newest first.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(crate) async fn history(
        &self,
        user: &UserId,
        filter: &HistoryFilter,
    ) -> Result<HistoryPage, DatabaseError> {
        let Some(sql) = history_sql(filter) else { return Ok(HistoryPage::default()) };
        let mut connection = self.connection().await?;
        // One more than asked for tells whether there are more.
        let limit = usize::from(filter.limit);
        let rows: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(user.as_str())
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(i64::from(filter.limit).saturating_add(1))
            .bind(filter.model.as_ref().map(ModelId::as_str))
            .fetch_one(&mut *connection)
            .await?;
        let mut rows: Vec<HistoryRow<'_>> = serde_json::from_str(&rows)
            .map_err(|error| DatabaseError::Corrupt(format!("a transaction: {error}")))?;
        // SQLite gathers them in this order, but does not say that it always will.
        rows.sort_unstable_by_key(|row| Reverse(row.0));
        let more = rows.len() > limit;
        rows.truncate(limit);
        let transaction = |HistoryRow(id, kind, amount, model, at)| {
            rows::transaction(id, &kind, amount, model, at)
        };
        let transactions = rows.into_iter().map(transaction).collect::<Result<_, _>>()?;
        Ok(HistoryPage { transactions, more })
    }

    /// Gives lines of the user's ledger to `take`, newest first.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn ledger(
        &self,
        user: &UserId,
        filter: &HistoryFilter,
        take: Take<'_>,
    ) -> Result<LedgerEnd, DatabaseError> {
        let Some(sql) = merged_sql(filter, ledger_lines::COLUMNS) else {
            return Ok(LedgerEnd::default());
        };
        let mut connection = self.connection().await?;
        // One more than asked for tells whether there are more.
        let limit = usize::from(filter.limit);
        let rows: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(user.as_str())
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(i64::from(filter.limit).saturating_add(1))
            .bind(filter.model.as_ref().map(ModelId::as_str))
            .fetch_one(&mut *connection)
            .await?;
        let mut rows: Vec<LedgerRow<'_>> = serde_json::from_str(&rows)
            .map_err(|error| DatabaseError::Corrupt(format!("a transaction: {error}")))?;
        // As for pages of the history.
        rows.sort_unstable_by_key(|row| Reverse(row.0));
        let more = rows.len() > limit;
        rows.truncate(limit);
        for row in &rows {
            take(&row.line()?);
        }
        Ok(LedgerEnd { last: rows.last().map(|row| row.0), more })
    }

    /// Gives lines of all accounts with ids below one to `take`, newest first, each with its user.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn newest_lines(
        &self,
        limit: u16,
        before: i64,
        take: TakeOfAll<'_>,
    ) -> Result<LedgerEnd, DatabaseError> {
        let mut connection = self.connection().await?;
        let columns = ledger_lines::COLUMNS;
        let sql = format!(
            "SELECT json_group_array(json_array({NAME_OF_ENTRY}, json_array({columns})))
             FROM (SELECT id FROM transactions WHERE id < $1 ORDER BY id DESC LIMIT $2)
             CROSS JOIN transactions USING (id)"
        );
        let query = sqlx::query_scalar(AssertSqlSafe(sql));
        let query = query.bind(before).bind(i64::from(limit).saturating_add(1));
        let rows: String = query.fetch_one(&mut *connection).await?;
        let mut rows: Vec<(Text<'_>, LedgerRow<'_>)> = serde_json::from_str(&rows)
            .map_err(|error| DatabaseError::Corrupt(format!("a transaction: {error}")))?;
        // As for pages of the history.
        rows.sort_unstable_by_key(|(_, row)| Reverse(row.0));
        let more = rows.len() > usize::from(limit);
        rows.truncate(limit.into());
        for (user, row) in &rows {
            take(&user.0, &row.line()?);
        }
        Ok(LedgerEnd { last: rows.last().map(|(_, row)| row.0), more })
    }

    /// Finds that the database can be read, and that its file's permissions let somebody write.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] when it is not so, or any other but `Constraint`.
    pub(crate) async fn ping(&self) -> Result<(), DatabaseError> {
        self.file.check_writable()?;
        let mut connection = self.connection().await?;
        sqlx::query("SELECT user_id FROM users LIMIT 1").fetch_optional(&mut *connection).await?;
        Ok(())
    }

    /// How much room the database takes now.
    pub(crate) fn size(&self) -> DatabaseSize {
        self.file.sizes()
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Merges the ranges. The page comes as one JSON array, because a row of its own costs each transaction more
/// than finding it. The texts are all ours. `None` when nothing can match.
fn history_sql(filter: &HistoryFilter) -> Option<String> {
    merged_sql(filter, "id, type, amount, model_id, created_at")
}

/// The same with these columns.
fn merged_sql(filter: &HistoryFilter, columns: &str) -> Option<String> {
    let ranges: Vec<String> = ranges(filter)
        .iter()
        .map(|range| format!("SELECT id FROM transactions WHERE {range}"))
        .collect();
    (!ranges.is_empty()).then(|| {
        format!(
            "SELECT json_group_array(json_array({columns})) \
             FROM ({} ORDER BY id DESC LIMIT $3) CROSS JOIN transactions USING (id)",
            ranges.join(" UNION ALL ")
        )
    })
}

/// Id, type, amount, model, and when it was made.
#[derive(Deserialize)]
struct HistoryRow<'a>(i64, Cow<'a, str>, i64, Option<String>, String);

/// A text that is copied only where JSON had to escape it.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The columns of [`ledger_lines::COLUMNS`].
#[derive(Deserialize)]
struct LedgerRow<'a>(
    i64,
    #[serde(borrow)] Text<'a>,
    i64,
    i64,
    i64,
    i64,
    #[serde(borrow)] Option<Text<'a>>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    #[serde(borrow)] Option<Text<'a>>,
    Option<i64>,
    Option<i64>,
    #[serde(borrow)] Option<Text<'a>>,
    #[serde(borrow)] Option<Text<'a>>,
    #[serde(borrow)] Option<Text<'a>>,
    #[serde(borrow)] Text<'a>,
);

impl LedgerRow<'_> {
    fn line(&self) -> Result<LedgerLine<'_>, DatabaseError> {
        Ok(LedgerLine {
            id: self.0,
            kind: ledger_lines::kind(&self.1.0)?,
            amount: self.2,
            credits_delta: self.3,
            bonus_delta: self.4,
            tokens_delta: self.5,
            model_id: shown(self.6.as_ref()),
            price_per_m_token: self.7,
            input_tokens: self.8,
            output_tokens: self.9,
            shortfall_tokens: self.10,
            store_transaction_id: shown(self.11.as_ref()),
            reverses: self.12,
            allocation_id: self.13,
            hold_id: shown(self.14.as_ref()),
            reason: shown(self.15.as_ref()),
            actor: shown(self.16.as_ref()),
            created_at: &self.17.0,
        })
    }
}

fn shown<'a>(text: Option<&'a Text<'_>>) -> Option<&'a str> {
    text.map(|Text(text)| &**text)
}
