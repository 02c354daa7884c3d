//! Accounts that are being erased, the same for both engines: what is done for them piece by piece, in which order, and
//! what is left of their purchases. When a piece is done, and how statements are run, is not known here.
//!
//! From the moment that an erasure is written down the user, the credits and the balances have the new name, so all that
//! is left is rows of which there may be any number. The old name belongs to nobody until they are all done, and what
//! reads them one account at a time finds them by `erasures`.

use serde_json::json;

use super::{DatabaseError, purchase_names::RecordedPurchase, rows::row};
use crate::domain::PurchaseName;

/// Most rows that get their new name in one piece, or are deleted, which takes a few milliseconds.
pub(super) const CHANGED_AT_ONCE: i64 = 256;
/// Most rows of all users that are looked through in one piece, where no index finds those of one.
pub(super) const LOOKED_THROUGH_AT_ONCE: i64 = 4_096;
/// Beyond the id of every hold.
pub(super) const ALL_HOLDS: &str = "~";

/// Whether there are any.
pub(super) const ARE_ANY: &str = "SELECT EXISTS (SELECT * FROM erasures)";

/// Whether nothing of user `$1` is being erased, by the old name or by the new one.
macro_rules! is_not_erasing {
    () => {
        "NOT EXISTS (SELECT * FROM erasures WHERE erasures.user_id = $1
            OR erasures.account = (SELECT id FROM users WHERE users.user_id = $1))"
    };
}
pub(super) use is_not_erasing;

/// Whether the rows of two tables are of the same user, who may be getting another name.
macro_rules! is_same_user {
    ($one:literal, $other:literal) => {
        concat!(
            "(",
            $one,
            ".user_id = ",
            $other,
            ".user_id OR EXISTS (
                SELECT * FROM erasures JOIN users ON users.id = erasures.account
                WHERE (erasures.user_id = ",
            $one,
            ".user_id AND users.user_id = ",
            $other,
            ".user_id) OR (erasures.user_id = ",
            $other,
            ".user_id AND users.user_id = ",
            $one,
            ".user_id)))"
        )
    };
}
pub(super) use is_same_user;

/// What the user of an entry is called, also where the entry has still to get that name.
pub(super) const NAME_OF_ENTRY: &str = "coalesce((
    SELECT users.user_id FROM erasures JOIN users ON users.id = erasures.account
    WHERE erasures.user_id = transactions.user_id), transactions.user_id)";

row! {
    /// An erasure that is under way.
    #[derive(Debug, Clone)]
    pub(super) struct Erasing {
        pub(super) account: i64,
        pub(super) old_name: String,
        pub(super) new_name: String,
        pub(super) swept_holds: String,
    }
}

/// [`Erasing`]s, in the brackets where the engines differ: further columns, and how the row is locked.
macro_rules! next_erasing {
    ($columns:literal, $lock:literal) => {
        concat!(
            "SELECT account, erasures.user_id AS old_name, users.user_id AS new_name, swept_holds",
            $columns,
            " FROM erasures JOIN users ON users.id = erasures.account
            ORDER BY account LIMIT 1",
            $lock
        )
    };
}
pub(super) use next_erasing;

/// Statements that take the old name, the new one and [`CHANGED_AT_ONCE`].
pub(super) struct ChangeTexts {
    /// Empties purchases that the stores confirm. What was granted stays granted. What is not is nobody's, and refused until
    /// somebody brings it again. A token is kept as long as its store has to be told that it was delivered.
    pub(super) empty_purchases: &'static str,
    pub(super) rename_allocations: &'static str,
    pub(super) rename_consumptions: &'static str,
    /// Sums of usage can be worked out again from the entries. (`$2` has to be spoken of.)
    pub(super) forget_sums: &'static str,
}

/// [`ChangeTexts`], in the brackets where the engines differ: how rows are found by a list of ids.
///
/// The name is asked for as a range here and below: PostgreSQL reads them in the order of the index that begins with it
/// then. Where it knows that there is one name it may look through all rows in the order of their ids.
macro_rules! change_texts {
    ($is_in:literal, $end:literal) => {
        $crate::database::erasing::ChangeTexts {
            empty_purchases: concat!(
                "UPDATE purchases SET
                    user_id = CASE WHEN granted_at IS NULL AND coalesce(reason, '') <> 'duplicate'
                        THEN NULL ELSE $2 END,
                    state = CASE WHEN state IN ('received', 'pending', 'review')
                        THEN 'refused' ELSE state END,
                    reason = CASE WHEN state IN ('received', 'pending', 'review')
                        THEN 'given_up' ELSE reason END,
                    token = CASE WHEN granted_at IS NOT NULL AND due_at IS NOT NULL THEN token END,
                    due_at = CASE WHEN granted_at IS NOT NULL THEN due_at END,
                    record = NULL, verified = NULL
                WHERE id ",
                $is_in,
                "SELECT id FROM purchases WHERE user_id >= $1 AND user_id <= $1
                    ORDER BY user_id, id LIMIT $3",
                $end
            ),
            rename_allocations: $crate::database::erasing::rename_entries!(
                "allocation", $is_in, $end
            ),
            rename_consumptions: $crate::database::erasing::rename_entries!(
                "consumption", $is_in, $end
            ),
            forget_sums: "
                DELETE FROM usage_sums WHERE user_id = $1 AND user_id <> $2
                    AND (quarter, model_id) IN (
                        SELECT quarter, model_id FROM usage_sums WHERE user_id = $1
                        ORDER BY quarter, model_id LIMIT $3)",
        }
    };
}
pub(super) use change_texts;

/// One of [`ChangeTexts`]: entries of a kind.
macro_rules! rename_entries {
    ($kind:literal, $is_in:literal, $end:literal) => {
        concat!(
            "UPDATE transactions SET user_id = $2 WHERE id ",
            $is_in,
            "SELECT id FROM transactions WHERE user_id >= $1 AND user_id <= $1 AND type = '",
            $kind,
            "' ORDER BY user_id, id LIMIT $3",
            $end
        )
    };
}
pub(super) use rename_entries;

/// The next entries of `$1` that are neither consumption nor allocation, at most `$2`: [`RareEntry`]s.
pub(super) const RARE_ENTRIES: &str = "
    SELECT id, user_id, transaction_id, coalesce(CAST(metadata AS TEXT), '') AS metadata,
        CAST(CASE WHEN type = 'purchase' THEN 1 ELSE 0 END AS bigint) AS is_purchase
    FROM transactions
    WHERE user_id >= $1 AND user_id <= $1 AND type <> 'consumption' AND type <> 'allocation'
    ORDER BY user_id, id LIMIT $2";

row! {
    /// An entry that may be a purchase.
    pub(super) struct RareEntry {
        id: i64,
        user_id: String,
        transaction_id: Option<String>,
        metadata: String,
        is_purchase: i64,
    }
}

/// What is left of entries: rows of id, the store's id, and what the client sent, as a JSON list; and the names of
/// purchases among them.
#[derive(Debug, Default)]
pub(super) struct Emptied {
    pub(super) rows: String,
    pub(super) names: Vec<PurchaseName>,
}

impl Emptied {
    /// Of what the client sent only the name of the token is left, by which the purchase is known for ever.
    pub(super) fn of(entries: Vec<RareEntry>) -> Self {
        let mut emptied = Self::default();
        let rows = entries.into_iter().map(|entry| {
            let RareEntry { id, user_id, transaction_id, metadata, is_purchase } = entry;
            if is_purchase == 0 {
                return json!([id, transaction_id, None::<String>]);
            }
            let purchase = RecordedPurchase { id, user_id, transaction_id, metadata };
            let token = purchase.token_name();
            let record = match &token {
                Some(name) => json!({"purchaseToken": name.as_str()}),
                None => json!({}),
            };
            emptied.names.extend(purchase.names());
            let shown = purchase.transaction_id.map(|id| match token {
                // The app takes the token for an id where its store has none yet.
                Some(name) if PurchaseName::of(id.as_str()) == name => name.as_str().to_owned(),
                _ => id,
            });
            json!([id, shown, record.to_string()])
        });
        emptied.rows = serde_json::Value::from(rows.collect::<Vec<_>>()).to_string();
        emptied
    }
}

/// What a piece came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Something was changed.
    Done,
    /// There was nothing left of its kind.
    Nothing,
}

impl Piece {
    pub(super) const fn of(rows: u64) -> Self {
        if rows == 0 { Self::Nothing } else { Self::Done }
    }
}

/// What of an erasure is left, as an engine does it in the transaction that is open.
pub(super) trait Erasure {
    /// What is changed by statements alone.
    const CHANGES: ChangeTexts;

    /// Rows that an index finds, at most [`CHANGED_AT_ONCE`], by a statement that takes both names and that number.
    async fn change(&mut self, sql: &'static str) -> Result<Piece, DatabaseError>;
    /// Entries that may be purchases.
    async fn empty_entries(&mut self) -> Result<Piece, DatabaseError>;
    /// Holds, which are looked through.
    async fn sweep_holds(&mut self) -> Result<Piece, DatabaseError>;
    /// Idempotency keys, which are forgotten.
    async fn forget_keys(&mut self) -> Result<Piece, DatabaseError>;
    /// Nothing is left.
    async fn end(&mut self) -> Result<(), DatabaseError>;
}

/// Does the next piece of an erasure. Purchases come first: their stores may tell of them any time.
pub(super) async fn next_piece<E: Erasure>(erasure: &mut E) -> Result<(), DatabaseError> {
    if erasure.change(E::CHANGES.empty_purchases).await? == Piece::Done
        || erasure.empty_entries().await? == Piece::Done
        || erasure.change(E::CHANGES.rename_allocations).await? == Piece::Done
        || erasure.change(E::CHANGES.rename_consumptions).await? == Piece::Done
        || erasure.change(E::CHANGES.forget_sums).await? == Piece::Done
        || erasure.sweep_holds().await? == Piece::Done
        || erasure.forget_keys().await? == Piece::Done
    {
        return Ok(());
    }
    erasure.end().await
}
