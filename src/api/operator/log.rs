//! The log of what operators did, in pages.

use axum::{extract::State, http::Uri, response::Response};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{door::Operator, paged};
use crate::{
    api::{
        code::refusals,
        description::{Text, query},
        error::ApiError,
        schemas::ValidationError,
        state::Service,
        transactions::{DEFAULT_LIMIT, LIMIT, TRANSACTION_ID, transaction_id_schema},
    },
    domain::{LogFilter, LogLine, LogPage, USER_ID_MAX_CHARS, UserId},
};

const USER: Text<UserId> = Text { max_chars: USER_ID_MAX_CHARS, make: |text| UserId::new(text) };

query! {
    /// Which lines of the log.
    LogQuery {
        user_id: UserId = USER;
        limit: u16 = LIMIT, or DEFAULT_LIMIT;
        before: i64 = TRANSACTION_ID;
    }
}

#[derive(Serialize, ToSchema)]
struct LogItem {
    #[schema(schema_with = transaction_id_schema)]
    id: i64,
    /// In UTC, with microseconds.
    #[schema(format = DateTime)]
    at: String,
    /// The operator's name in the token, or `operator` of a static one.
    actor: String,
    action: String,
    /// Whose account it was about, by today's name.
    user_id: Option<String>,
    /// What was so.
    #[schema(value_type = Object)]
    before: Option<Box<RawValue>>,
    /// What was so then.
    #[schema(value_type = Object)]
    after: Option<Box<RawValue>>,
    reason: String,
    request_id: String,
}

impl TryFrom<LogLine> for LogItem {
    type Error = serde_json::Error;

    fn try_from(line: LogLine) -> Result<Self, serde_json::Error> {
        Ok(Self {
            id: line.id,
            at: line.at,
            actor: line.actor,
            action: line.action,
            user_id: line.user,
            before: line.before.map(RawValue::from_string).transpose()?,
            after: line.after.map(RawValue::from_string).transpose()?,
            reason: line.reason,
            request_id: line.request_id,
        })
    }
}

#[derive(Serialize, ToSchema)]
struct OperatorLog {
    items: Vec<LogItem>,
}

refusals!(UnknownUser, "Nobody has seen this user.", ["user_not_found"]);

/// Who did what to whom, when and why
///
/// Newest first. Lines are only ever added, each together with what it tells of.
#[utoipa::path(
    get, path = "/api/billing/operator/log", tag = "operator", security(("bearer" = [])),
    params(LogQuery),
    responses(
        (status = 200, description = "A page of the log.", body = OperatorLog,
            headers(("Link" = String, description = "`<…>; rel=\"next\"` when older ones remain")),
            example = json!({"items": [{
                "id": 7, "at": "2026-11-24T10:35:02.105316Z", "actor": "operator", "action": "freeze",
                "user_id": "user-42", "before": {"frozen": false}, "after": {"frozen": true},
                "reason": "charged back twice", "request_id": "2f6c0a",
            }]})),
        UnknownUser,
        (status = 422, description = "Malformed. Every problem is listed.",
            body = ValidationError, example = json!({"detail": [{
                "type": "greater_than_equal", "loc": ["query", "limit"],
                "msg": "Input should be greater than or equal to 1",
            }]})),
    ),
)]
pub(super) async fn log(
    State(service): Service,
    _: Operator,
    uri: Uri,
) -> Result<Response, ApiError> {
    let LogQuery { user_id, limit, before } = LogQuery::read(uri.query().unwrap_or_default())?;
    let filter = LogFilter { user: user_id, limit: limit.unwrap_or(DEFAULT_LIMIT), before };
    let LogPage { lines, more } = service.operator_log(&filter).await?;
    let last = lines.last().map(|line| line.id).filter(|_| more);
    let items = lines.into_iter().map(LogItem::try_from).collect::<Result<_, _>>();
    let items = items.map_err(|error| ApiError::Internal(format!("the log: {error}")))?;
    let user = filter.user.as_ref().map(|user| ("user_id", user.as_str()));
    Ok(paged(&OperatorLog { items }, &uri, filter.limit, user.as_slice(), last))
}
