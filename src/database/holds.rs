//! What both engines know about the table of holds: how it is written, and which of them are forgotten.

use std::sync::LazyLock;

use crate::domain::HOLD_COLUMNS;

/// Forgets those that were closed, or expired, before `$1`; of the oldest, which have the lowest ids, `$2` are
/// looked at.
pub(super) const FORGET: &str = "
    DELETE FROM holds WHERE hold_id IN (
        SELECT hold_id FROM (
            SELECT hold_id, closed_at, expires_at FROM holds ORDER BY hold_id LIMIT $2) AS oldest
        WHERE coalesce(closed_at, expires_at) < $1)";
/// How many are looked at at once.
pub(super) const FORGOTTEN_AT_ONCE: i64 = 256;

/// What happens to one that is there already: all that is not known from the start may change.
pub(super) static CHANGE: LazyLock<String> = LazyLock::new(|| {
    let (_, known_later) = HOLD_COLUMNS.split_at(4);
    let changes: Vec<_> =
        known_later.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    format!("ON CONFLICT (hold_id) DO UPDATE SET {}", changes.join(", "))
});
