//! What operators do: how PostgreSQL reads and writes it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;

use super::PostgresReader;
use crate::{
    database::{
        DatabaseError,
        changes::OperatorChanges,
        operator_log::{LogRow, bounds, page, select_log},
    },
    domain::{LogFilter, LogPage, UserId},
};

/// `$1` the time, `$2` users, each with whether frozen.
const FREEZE: &str = "
    UPDATE credits SET frozen = (said.value ->> 1)::boolean, updated_at = $1
    FROM jsonb_array_elements($2::jsonb) AS said (value) WHERE credits.user_id = said.value ->> 0";

/// `$1` the time, `$2` lines.
const LOG: &str = "
    INSERT INTO operator_log
        (created_at, actor, action, account, before, after, reason, request_id)
    SELECT $1, line.actor, line.action, users.id, line.before, line.after, line.reason,
        line.request_id
    FROM jsonb_to_recordset($2::jsonb) AS line (
        actor text, action text, account text, before text, after text, reason text,
        request_id text)
    LEFT JOIN users ON users.user_id = line.account";

/// As [`crate::database::timestamp`] writes it.
const READ_LOG: &str = select_log!(
    "to_char(log.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    ""
);
const READ_LOG_OF: &str = select_log!(
    "to_char(log.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    "AND log.account = (SELECT id FROM users WHERE user_id = $3)"
);

const KNOWS: &str = "SELECT EXISTS (SELECT FROM users WHERE user_id = $1)";

/// Writes what operators did in the open transaction, after everything else: users it names are there then. Returns
/// whether all of it could be; if not, another instance was the first.
pub(super) async fn save(
    connection: &mut PgConnection,
    changes: &OperatorChanges<'_>,
    now: DateTime<Utc>,
) -> Result<bool, DatabaseError> {
    let OperatorChanges { frozen, log } = changes;
    if !frozen.is_empty() {
        let query = sqlx::query(FREEZE).bind(now).bind(json(frozen));
        let changed = query.execute(&mut *connection).await?.rows_affected();
        if usize::try_from(changed) != Ok(frozen.len()) {
            return Ok(false);
        }
    }
    sqlx::query(LOG).bind(now).bind(json(log)).execute(connection).await?;
    Ok(true)
}

fn json<T: Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).expect("texts and numbers always have a JSON form")
}

impl PostgresReader {
    /// A page of the operators' log, newest first.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn operator_log(
        &self,
        filter: &LogFilter,
    ) -> Result<LogPage, DatabaseError> {
        let (before, limit) = bounds(filter);
        let query = sqlx::query_as(if filter.user.is_some() { READ_LOG_OF } else { READ_LOG })
            .bind(before)
            .bind(limit);
        let query = match &filter.user {
            Some(user) => query.bind(user.as_str()),
            None => query,
        };
        let rows = self.read_on(async |connection| Ok(query.fetch_all(connection).await?)).await?;
        let rows: Vec<LogRow> = rows;
        Ok(page(rows, filter))
    }

    /// Whether somebody has seen this user.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn knows(&self, user: &UserId) -> Result<bool, DatabaseError> {
        let query = sqlx::query_scalar(KNOWS).bind(user.as_str());
        self.read_on(async |connection| Ok(query.fetch_one(connection).await?)).await
    }
}
