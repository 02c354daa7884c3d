//! The reads: accounts, prices, and pages of the history, on a small pool of connections.

use crate::database::rows::row;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row};
use tokio::time::timeout;

use super::{
    lock,
    pool::{Lent, Pool},
    session::Session,
};
use crate::{
    database::{
        DatabaseError, DatabaseSize,
        erasing::NAME_OF_ENTRY,
        history::ranges,
        ledger_lines::{self, Take, TakeOfAll},
        rows, timestamp,
    },
    domain::{Facts, HistoryFilter, HistoryPage, LedgerEnd, LedgerLine, UserId, Wanted},
};

/// How long a read may take once it has a connection. The server ends a statement before that, so it is
/// taken for one on which nothing comes any more.
const READ_LIMIT: Duration = Duration::from_secs(3);

/// A standby, and a server that was told to, take no writes.
const MAY_BE_WRITTEN: &str = "SELECT current_setting('transaction_read_only') = 'off'
    AND (SELECT count(*) FROM (SELECT FROM users LIMIT 1) AS seen) >= 0";

/// Reads on a pool of connections.
#[derive(Debug, Clone)]
pub(crate) struct PostgresReader {
    pool: Pool,
}

impl PostgresReader {
    pub(super) fn new(session: Session) -> Self {
        Self { pool: Pool::new(session) }
    }

    /// Reads on a connection of the pool.
    pub(super) async fn read_on<T>(
        &self,
        read: impl AsyncFnOnce(&mut PgConnection) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let lent = self.pool.lend().await?;
        Ok(self.read_with(lent, read).await?.0)
    }

    /// The same on a connection that is lent already, and given back.
    async fn read_with<T>(
        &self,
        mut lent: Lent,
        read: impl AsyncFnOnce(&mut PgConnection) -> Result<T, DatabaseError>,
    ) -> Result<(T, Lent), DatabaseError> {
        let begin = self.pool.session().begin_read();
        let is_transaction = begin.is_some();
        let reading = async {
            let Some(begin) = begin else { return read(&mut lent).await };
            sqlx::raw_sql(begin).execute(&mut *lent).await?;
            let found = read(&mut lent).await?;
            sqlx::raw_sql("COMMIT").execute(&mut *lent).await?;
            Ok(found)
        };
        match timeout(READ_LIMIT, reading).await {
            Ok(Ok(found)) => Ok((found, lent)),
            Ok(Err(error)) => {
                if is_transaction {
                    lent.throw_away();
                }
                Err(error)
            }
            Err(_) => {
                // The others went the same way.
                self.pool.empty();
                lent.throw_away();
                Err(late())
            }
        }
    }

    /// What the database holds of what is wanted; replays can't be.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn read(&self, wanted: &Wanted) -> Result<Facts, DatabaseError> {
        self.read_on(async |connection| lock::read(connection, wanted).await).await
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
        // One more than asked for tells whether there are more.
        let limit = usize::from(filter.limit);
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(user.as_str())
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(i64::from(filter.limit).saturating_add(1));
        if let Some(model) = &filter.model {
            query = query.bind(model.as_str());
        }
        let rows = self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
        let mut transactions = Vec::with_capacity(limit.min(rows.len()));
        for row in rows.iter().take(limit) {
            let HistoryRow { id, kind, amount, model_id, created_at } = HistoryRow::from_row(row)?;
            let at = timestamp(created_at);
            transactions.push(rows::transaction(id, kind, amount, model_id, at)?);
        }
        Ok(HistoryPage { transactions, more: rows.len() > limit })
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
        // One more than asked for tells whether there are more.
        let limit = usize::from(filter.limit);
        let mut query = sqlx::query(AssertSqlSafe(sql))
            .bind(user.as_str())
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(i64::from(filter.limit).saturating_add(1));
        if let Some(model) = &filter.model {
            query = query.bind(model.as_str());
        }
        let rows = self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
        let mut last = None;
        for row in rows.iter().take(limit) {
            let row = LedgerRow::from_row(row)?;
            let created_at = timestamp(row.created_at);
            take(&row.line(&created_at)?);
            last = Some(row.id);
        }
        Ok(LedgerEnd { last, more: rows.len() > limit })
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
        let columns = ledger_lines::COLUMNS;
        let sql = format!(
            "SELECT {columns}, {NAME_OF_ENTRY} AS user_id FROM transactions
             WHERE id < $1 ORDER BY id DESC LIMIT $2"
        );
        let query = sqlx::query(AssertSqlSafe(sql));
        let query = query.bind(before).bind(i64::from(limit).saturating_add(1));
        let rows = self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
        let mut last = None;
        for row in rows.iter().take(limit.into()) {
            let user: &str = row.try_get("user_id")?;
            let row = LedgerRow::from_row(row)?;
            let created_at = timestamp(row.created_at);
            take(user, &row.line(&created_at)?);
            last = Some(row.id);
        }
        Ok(LedgerEnd { last, more: rows.len() > usize::from(limit) })
    }

    /// Finds that the database can be read, and that the server would take writes.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] when it is not so, or any other but `Constraint`.
    pub(crate) async fn ping(&self) -> Result<(), DatabaseError> {
        let query = sqlx::query_scalar(MAY_BE_WRITTEN);
        let ask = async |connection: &mut PgConnection| Ok(query.fetch_one(connection).await?);
        let lent = self.pool.lend().await?;
        let (may_be_written, lent) = self.read_with(lent, ask).await?;
        if may_be_written {
            return Ok(());
        }
        // They would never learn that new ones may write by now, or where.
        self.pool.empty();
        lent.throw_away();
        Err(DatabaseError::Unavailable("the server takes no writes".to_owned()))
    }

    /// How much room the database takes now; zero when the server does not tell. Its log is shared with
    /// other databases.
    pub(crate) async fn size(&self) -> DatabaseSize {
        let size = sqlx::query_scalar("SELECT pg_database_size(current_database())");
        let bytes = self.read_on(async |connection| Ok(size.fetch_one(connection).await?)).await;
        let bytes: i64 = bytes.unwrap_or_default();
        DatabaseSize { file_bytes: u64::try_from(bytes).unwrap_or_default(), wal_bytes: 0 }
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

fn late() -> DatabaseError {
    DatabaseError::Unavailable("nothing comes from it in time".to_owned())
}

/// Merges the ranges. The texts are all ours. `None` when nothing can match.
fn history_sql(filter: &HistoryFilter) -> Option<String> {
    merged_sql(filter, "id, type, amount, model_id, created_at")
}

/// The same with these columns.
fn merged_sql(filter: &HistoryFilter, columns: &str) -> Option<String> {
    let ranges: Vec<String> = ranges(filter)
        .iter()
        .map(|range| {
            format!(
                "(SELECT {columns} FROM transactions \
                 WHERE {range} ORDER BY id DESC LIMIT $3)"
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

row! {
    struct HistoryRow<'r> {
        id: i64,
        kind("type"): &'r str,
        amount: i64,
        model_id: Option<String>,
        created_at: DateTime<Utc>,
    }
}

row! {
    /// The columns of [`ledger_lines::COLUMNS`].
    struct LedgerRow<'r> {
        id: i64,
        kind("type"): &'r str,
        amount: i64,
        credits_delta: i64,
        bonus_delta: i64,
        tokens_delta: i64,
        model_id: Option<&'r str>,
        price_per_m_token: Option<i64>,
        input_tokens: Option<i64>,
        output_tokens: Option<i64>,
        shortfall_tokens: Option<i64>,
        transaction_id: Option<&'r str>,
        reverses: Option<i64>,
        allocation_id: Option<i64>,
        hold_id: Option<&'r str>,
        reason: Option<&'r str>,
        actor: Option<&'r str>,
        created_at: DateTime<Utc>,
    }
}

impl<'r> LedgerRow<'r> {
    fn line<'a>(&self, created_at: &'a str) -> Result<LedgerLine<'a>, DatabaseError>
    where
        'r: 'a,
    {
        Ok(LedgerLine {
            id: self.id,
            kind: ledger_lines::kind(self.kind)?,
            amount: self.amount,
            credits_delta: self.credits_delta,
            bonus_delta: self.bonus_delta,
            tokens_delta: self.tokens_delta,
            model_id: self.model_id,
            price_per_m_token: self.price_per_m_token,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            shortfall_tokens: self.shortfall_tokens,
            store_transaction_id: self.transaction_id,
            reverses: self.reverses,
            allocation_id: self.allocation_id,
            hold_id: self.hold_id,
            reason: self.reason,
            actor: self.actor,
            created_at,
        })
    }
}
