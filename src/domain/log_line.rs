//! A line of the operators' log, and which of them somebody wants to see.

use super::UserId;

/// Which lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFilter {
    /// Those about this user's account only.
    pub user: Option<UserId>,
    /// Most lines of a page.
    pub limit: u16,
    /// Only lines with a lower id.
    pub before: Option<i64>,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogLine {
    pub id: i64,
    /// RFC 3339.
    pub at: String,
    /// The operator.
    pub actor: String,
    pub action: String,
    /// Whose account it was about, by today's name.
    pub user: Option<String>,
    /// JSON.
    pub before: Option<String>,
    /// JSON.
    pub after: Option<String>,
    pub reason: String,
    pub request_id: String,
}

/// Lines, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LogPage {
    pub lines: Vec<LogLine>,
    /// Whether there are older ones.
    pub more: bool,
}
