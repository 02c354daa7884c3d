//! What is read of the stores' messages, and of the accounts that they ask about, by either engine.

use chrono::{DateTime, Utc};

use super::{DatabaseError, rows::row, tracked::time};
use crate::domain::{Credits, MessageId, PurchaseUse, Store, UserId};

/// Those that are due at `$1`, at most `$2`. Nothing is put off beyond `$3`: there the clock was ahead.
pub(super) const DUE: &str = "
    SELECT message_id FROM (
        SELECT * FROM (
            SELECT message_id, due_at FROM inbox WHERE due_at <= $1 ORDER BY due_at LIMIT $2) AS past
        UNION ALL
        SELECT * FROM (
            SELECT message_id, due_at FROM inbox WHERE due_at > $3 ORDER BY due_at LIMIT $2) AS ahead) AS due
    ORDER BY due_at LIMIT $2";

/// Makes those due at `$1` that somebody has begun on, or that are tried again later, at most `$2`.
pub(super) const MAKE_DUE: &str = "
    UPDATE inbox SET due_at = $1 WHERE message_id IN (
        SELECT message_id FROM inbox WHERE due_at > $1 LIMIT $2)";

/// Forgets those that came before `$1` and are done with, at most `$2`. Stores and ways are named as the index names
/// them, which is by them first.
pub(super) const FORGET: &str = "
    DELETE FROM inbox WHERE message_id IN (
        SELECT message_id FROM inbox
        WHERE store IN ('google', 'apple') AND way IN ('push', 'list') AND received_at < $1
            AND due_at IS NULL
        LIMIT $2)";
/// How many are forgotten at once.
pub(super) const FORGOTTEN_AT_ONCE: i64 = 256;

/// How many messages of each store wait, since when the oldest does, and when the last was pushed.
pub(super) const COUNTS: &str = "
    SELECT 'google' AS store,
        (SELECT count(*) FROM inbox WHERE due_at IS NOT NULL AND store = 'google') AS waiting,
        (SELECT CAST(min(received_at) AS TEXT) FROM inbox
            WHERE due_at IS NOT NULL AND store = 'google') AS oldest,
        (SELECT CAST(max(received_at) AS TEXT) FROM inbox
            WHERE store = 'google' AND way = 'push') AS last_pushed
    UNION ALL
    SELECT 'apple',
        (SELECT count(*) FROM inbox WHERE due_at IS NOT NULL AND store = 'apple'),
        (SELECT CAST(min(received_at) AS TEXT) FROM inbox
            WHERE due_at IS NOT NULL AND store = 'apple'),
        (SELECT CAST(max(received_at) AS TEXT) FROM inbox
            WHERE store = 'apple' AND way = 'push')";

row! {
    /// A row of [`DUE`].
    pub(super) struct DueRow<'r> {
        message_id: &'r str,
    }
}

impl DueRow<'_> {
    pub(super) fn into_id(self) -> MessageId {
        MessageId::kept(self.message_id)
    }
}

row! {
    /// A row of [`COUNTS`].
    pub(super) struct CountRow {
        store: String,
        waiting: i64,
        oldest: Option<String>,
        last_pushed: Option<String>,
    }
}

/// What waits of a store's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageCounts {
    pub store: Store,
    pub waiting: u64,
    pub oldest: Option<DateTime<Utc>>,
    pub last_pushed: Option<DateTime<Utc>>,
}

impl CountRow {
    pub(super) fn into_counts(self) -> Result<MessageCounts, DatabaseError> {
        let Self { store, waiting, oldest, last_pushed } = self;
        let store = Store::from_name(&store)
            .ok_or_else(|| DatabaseError::Corrupt(format!("a store called '{store}'")))?;
        Ok(MessageCounts {
            store,
            waiting: waiting.unsigned_abs(),
            oldest: oldest.as_deref().and_then(time),
            last_pushed: last_pushed.as_deref().and_then(time),
        })
    }
}

/// What a purchase is that is read as in the brackets, and how much of what its owner bought was allocated. Kinds are
/// named as the indexes name them.
macro_rules! purchase_use {
    ($bought:literal) => {
        concat!(
            "
    SELECT bought.user_id, bought.store_id, bought.credits, bought.granted_at IS NOT NULL AS granted,
        coalesce((SELECT apple_consumption FROM consents WHERE consents.user_id = bought.user_id),
            false) AS consented,
        CAST(
            coalesce((SELECT sum(entry.amount) FROM transactions AS entry
                WHERE entry.user_id = bought.user_id AND entry.type <> 'consumption'
                    AND entry.type <> 'allocation' AND entry.type = 'purchase'
                    AND entry.id < bought.entry_id), 0)
            - coalesce((SELECT sum(entry.amount + entry.bonus_delta) FROM transactions AS entry
                JOIN transactions AS earlier ON earlier.id = entry.reverses
                WHERE entry.user_id = bought.user_id AND entry.type <> 'consumption'
                    AND entry.type <> 'allocation' AND entry.type = 'refund'
                    AND entry.allocation_id IS NULL AND earlier.id < bought.entry_id), 0)
            + coalesce((SELECT sum(back.amount - back.bonus_delta) FROM transactions AS back
                JOIN transactions AS entry ON entry.id = back.reverses
                JOIN transactions AS earlier ON earlier.id = entry.reverses
                WHERE back.user_id = bought.user_id AND back.type <> 'consumption'
                    AND back.type <> 'allocation' AND back.type = 'reversal'
                    AND entry.type = 'refund' AND earlier.id < bought.entry_id), 0)
            + coalesce((SELECT sum(entry.credits_delta - entry.bonus_delta) FROM transactions AS entry
                WHERE entry.user_id = bought.user_id AND entry.type <> 'consumption'
                    AND entry.type <> 'allocation' AND entry.type = 'adjustment'
                    AND entry.id < bought.entry_id), 0)
        AS BIGINT) AS bought_before,
        CAST(
            coalesce((SELECT sum(entry.bonus_delta - entry.credits_delta) FROM transactions AS entry
                WHERE entry.user_id = bought.user_id AND entry.type = 'allocation'), 0)
            + coalesce((SELECT sum(entry.bonus_delta - entry.credits_delta) FROM transactions AS entry
                WHERE entry.user_id = bought.user_id AND entry.type <> 'consumption'
                    AND entry.type <> 'allocation' AND entry.type = 'return'), 0)
        AS BIGINT) AS allocated
    FROM ",
            $bought
        )
    };
}

/// `$1` a key: a [`UseRow`].
pub(super) const PURCHASE_USE: &str = purchase_use!(
    "purchase_keys AS keys JOIN purchases AS bought ON bought.id = keys.purchase_id
    WHERE keys.key = $1"
);

/// `$1` an entry that granted one on a client's word: a [`UseRow`].
pub(super) const BELIEVED_USE: &str = purchase_use!(
    "(SELECT user_id, transaction_id AS store_id, amount AS credits, created_at AS granted_at,
            id AS entry_id
        FROM transactions WHERE id = $1 AND type = 'purchase') AS bought"
);

row! {
    /// A row of [`PURCHASE_USE`] or [`BELIEVED_USE`].
    pub(super) struct UseRow {
        user_id: Option<String>,
        store_id: Option<String>,
        credits: Option<i64>,
        granted: bool,
        consented: bool,
        bought_before: i64,
        allocated: i64,
    }
}

/// What there is to tell of a purchase that its store asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PurchaseAskedFor {
    /// Whose it is.
    pub user: Option<UserId>,
    pub store_id: Option<String>,
    /// Whether the user lets Apple be told.
    pub consented: bool,
    /// How much of it was used, where it was granted.
    pub used: Option<PurchaseUse>,
}

impl UseRow {
    pub(super) fn into_asked_for(self) -> Result<PurchaseAskedFor, DatabaseError> {
        let Self { user_id, store_id, credits, granted, consented, bought_before, allocated } =
            self;
        let corrupt = |what: &str| DatabaseError::Corrupt(what.to_owned());
        let user = user_id.map(UserId::new).transpose();
        let user = user.map_err(|_| corrupt("purchases.user_id"))?;
        let credits = credits.map(Credits::new).transpose();
        let credits = credits.map_err(|_| corrupt("purchases.credits"))?;
        let used = credits.filter(|_| granted).map(|credits| PurchaseUse {
            credits,
            bought_before,
            allocated,
        });
        Ok(PurchaseAskedFor { user, store_id, consented, used })
    }
}
