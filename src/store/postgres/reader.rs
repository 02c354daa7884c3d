//! The reads: accounts, prices, and pages of the history, on a small pool of connections.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{
    AssertSqlSafe, PgPool, Row,
    postgres::{PgPoolOptions, PgRow},
};

use super::{load, session::Session};
use crate::{
    domain::{EntryKind, HistoryFilter, HistoryPage, Transaction, UserId},
    store::{DatabaseSize, Loaded, StoreError, Wanted, timestamp},
};

/// Connections that read at the same time.
const READ_CONNECTIONS: u32 = 8;
/// How long a read waits for one of them, or for the server.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// A standby, and a server that was told to, take no writes.
const MAY_BE_WRITTEN: &str = "SELECT current_setting('transaction_read_only') = 'off'
    AND (SELECT count(*) FROM (SELECT FROM users LIMIT 1) AS seen) >= 0";

/// A pool of connections to read on.
#[derive(Debug, Clone)]
pub struct PostgresReader {
    pool: PgPool,
}

impl PostgresReader {
    pub(super) fn new(session: &Session) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(READ_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(session.options());
        Self { pool }
    }

    /// What the database holds of what is wanted; receipts can't be.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Corrupt`].
    pub(in crate::store) async fn load(&self, wanted: &Wanted) -> Result<Loaded, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(unavailable)?;
        load::read(&mut connection, wanted).await.map_err(final_error)
    }

    /// A page of the user's history, newest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Corrupt`].
    pub async fn history(
        &self,
        user: &UserId,
        filter: &HistoryFilter,
    ) -> Result<HistoryPage, StoreError> {
        let Some(sql) = history_sql(filter) else { return Ok(HistoryPage::default()) };
        // One more than asked for tells whether there are more.
        let limit = usize::from(filter.limit);
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(user.as_str())
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(i64::from(filter.limit).saturating_add(1));
        if let Some(model) = &filter.model {
            query = query.bind(model.as_str());
        }
        let rows = query.fetch_all(&self.pool).await.map_err(unavailable)?;
        let transactions = rows.iter().take(limit).map(transaction).collect::<Result<_, _>>()?;
        Ok(HistoryPage { transactions, more: rows.len() > limit })
    }

    /// Whether the database can be read, and the server would take writes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await.map_err(unavailable)?;
        let query = sqlx::query_scalar(MAY_BE_WRITTEN);
        let may_be_written: bool = query.fetch_one(&mut *connection).await.map_err(unavailable)?;
        if !may_be_written {
            // It would never learn that a new connection may write by now.
            connection.close().await.map_err(unavailable)?;
            return Err(StoreError::Unavailable("the server takes no writes".to_owned()));
        }
        Ok(())
    }

    /// How much room the database takes now; zero when the server does not tell. Its log is shared with
    /// other databases.
    pub async fn size(&self) -> DatabaseSize {
        let size = sqlx::query_scalar("SELECT pg_database_size(current_database())");
        let bytes: i64 = size.fetch_one(&self.pool).await.unwrap_or_default();
        DatabaseSize { file_bytes: u64::try_from(bytes).unwrap_or_default(), wal_bytes: 0 }
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Whoever only reads does not try again; the client may.
fn unavailable(error: sqlx::Error) -> StoreError {
    final_error(error.into())
}

fn final_error(error: StoreError) -> StoreError {
    match error {
        StoreError::Retry(reason) => StoreError::Unavailable(reason),
        other => other,
    }
}

/// Merges one index per kind, each read backwards only as far as the page needs: the cost is the
/// page's length, however long the history is. The texts are all ours. `None` when nothing can match.
fn history_sql(filter: &HistoryFilter) -> Option<String> {
    let model = if filter.model.is_some() { " AND model_id = $4" } else { "" };
    let ranges: Vec<String> = EntryKind::ALL
        .into_iter()
        .filter(|kind| filter.kind.is_none_or(|wanted| wanted == *kind))
        .filter(|kind| filter.model.is_none() || *kind != EntryKind::Purchase)
        .map(|kind| {
            format!(
                "(SELECT id, type, amount, model_id, created_at FROM transactions \
                 WHERE user_id = $1 AND type = '{}' AND id < $2{model} ORDER BY id DESC LIMIT $3)",
                kind.name()
            )
        })
        .collect();
    (!ranges.is_empty())
        // A single range in brackets may be sorted again only as a table.
        .then(|| {
            let merged = ranges.join(" UNION ALL ");
            format!("SELECT * FROM ({merged}) AS merged ORDER BY id DESC LIMIT $3")
        })
}

fn transaction(row: &PgRow) -> Result<Transaction, StoreError> {
    let kind: &str = row.try_get(1)?;
    let created_at: DateTime<Utc> = row.try_get(4)?;
    Ok(Transaction {
        id: row.try_get(0)?,
        kind: EntryKind::from_name(kind)
            .ok_or_else(|| StoreError::Corrupt(format!("type of a transaction: '{kind}'")))?,
        amount: row.try_get(2)?,
        model: row.try_get(3)?,
        created_at: timestamp(created_at),
    })
}
