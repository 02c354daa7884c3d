//! The statements that write holds, and what is bound to them: a few values where one is made, all where it is closed.
//! What else a batch writes is in `save`.

use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};

use super::save::SqliteQuery;
use crate::{
    database::{holds::CHANGE, timestamp},
    domain::{HOLD_COLUMNS, Hold, Tokens},
};

const NULL: Option<i64> = None;

/// Holds as `bind_opened` binds them.
pub(super) const SAVE_OPENED: &str = "
    INSERT INTO holds
        (status, hold_id, user_id, model_id, held_tokens, created_at, expires_at)
    SELECT 'held', * FROM (VALUES ";
pub(super) const OPENED_PLACES: &str = "(?,?,?,?,?,?)";
const OPENED_VALUES: usize = 6;

/// Holds as `bind_closed` binds them. One that is not there is made: it may have been forgotten meanwhile, or be of the
/// same batch.
pub(super) static SAVE_CLOSED: LazyLock<String> = LazyLock::new(|| {
    format!("INSERT INTO holds ({}) SELECT * FROM (VALUES ", HOLD_COLUMNS.join(", "))
});
pub(super) const CLOSED_PLACES: &str = "(?,?,?,?,?,?,?,?,?,?,?,?,?,?)";

/// What comes after the values of those closed.
pub(super) fn change_closed() -> &'static str {
    CHANGE.as_str()
}

/// Fills all places: what is bound after these would move into those left over.
pub(super) fn bind_opened(query: SqliteQuery, places: usize, holds: &[&Hold]) -> SqliteQuery {
    let (mut created, mut expires) = (Times::default(), Times::default());
    let query = holds.iter().fold(query, |query, hold| {
        query
            .bind(hold.id.text())
            .bind(hold.user.shared())
            .bind(hold.model.shared())
            .bind(hold.held_tokens.get())
            .bind(created.text(hold.created_at))
            .bind(expires.text(hold.expires_at))
    });
    fill(query, places.saturating_sub(holds.len()).saturating_mul(OPENED_VALUES))
}

/// Fills all places, too. In the order of [`HOLD_COLUMNS`].
pub(super) fn bind_closed(query: SqliteQuery, places: usize, holds: &[&Hold]) -> SqliteQuery {
    let (mut created, mut expires, mut closed) =
        (Times::default(), Times::default(), Times::default());
    let query = holds.iter().fold(query, |query, hold| {
        query
            .bind(hold.id.text())
            .bind(hold.user.shared())
            .bind(hold.model.shared())
            .bind(hold.held_tokens.get())
            .bind(hold.status.name())
            .bind(created.text(hold.created_at))
            .bind(expires.text(hold.expires_at))
            .bind(hold.closed_at.map(|time| closed.text(time)))
            .bind(hold.input_tokens.map(Tokens::get))
            .bind(hold.output_tokens.map(Tokens::get))
            .bind(hold.consumed_tokens.map(Tokens::get))
            .bind(hold.released_tokens.map(Tokens::get))
            .bind(hold.remaining_tokens.map(Tokens::get))
            .bind(hold.transaction_id)
    });
    fill(query, places.saturating_sub(holds.len()).saturating_mul(HOLD_COLUMNS.len()))
}

fn fill(query: SqliteQuery, values: usize) -> SqliteQuery {
    (0..values).fold(query, |query, _| query.bind(NULL))
}

/// Texts of times of which many in a row are the same: those of one batch.
#[derive(Default)]
struct Times(Option<(DateTime<Utc>, Arc<str>)>);

impl Times {
    fn text(&mut self, time: DateTime<Utc>) -> Arc<str> {
        match &self.0 {
            Some((last, text)) if *last == time => Arc::clone(text),
            _ => {
                let text = Arc::<str>::from(timestamp(time));
                self.0 = Some((time, Arc::clone(&text)));
                text
            }
        }
    }
}
