//! How the operators' log is read by either engine.

use super::rows::row;
use crate::domain::{LogFilter, LogLine, LogPage};

/// `$1` ids below this one, `$2` how many, newest first.
macro_rules! select_log {
    ($created_at:literal, $which:literal) => {
        concat!(
            "SELECT log.id, ",
            $created_at,
            " AS created_at, actor, action, user_id, before, after, reason, request_id
             FROM operator_log AS log LEFT JOIN users ON users.id = log.account
             WHERE log.id < $1 ",
            $which,
            " ORDER BY log.id DESC LIMIT $2"
        )
    };
}
pub(super) use select_log;

row! {
    /// A row of the log; its time as text.
    pub(super) struct LogRow {
        id: i64,
        created_at: String,
        actor: String,
        action: String,
        user_id: Option<String>,
        before: Option<String>,
        after: Option<String>,
        reason: String,
        request_id: String,
    }
}

impl From<LogRow> for LogLine {
    fn from(row: LogRow) -> Self {
        Self {
            id: row.id,
            at: row.created_at,
            actor: row.actor,
            action: row.action,
            user: row.user_id,
            before: row.before,
            after: row.after,
            reason: row.reason,
            request_id: row.request_id,
        }
    }
}

/// Lines that are bound to `$1` and `$2`: one more than asked for tells whether there are more.
pub(super) fn bounds(filter: &LogFilter) -> (i64, i64) {
    (filter.before.unwrap_or(i64::MAX), i64::from(filter.limit).saturating_add(1))
}

/// The page that rows come to.
pub(super) fn page(rows: Vec<LogRow>, filter: &LogFilter) -> LogPage {
    let limit = usize::from(filter.limit);
    let more = rows.len() > limit;
    let lines = rows.into_iter().take(limit).map(LogLine::from).collect();
    LogPage { lines, more }
}
