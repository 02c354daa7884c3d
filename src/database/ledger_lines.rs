//! Lines of a ledger as either engine finds them, the same for both: many, so that their texts are lent to whoever
//! reads them and not copied. Which ones match is in `history`.

use super::DatabaseError;
use crate::domain::{EntryKind, LedgerLine};

/// The columns of a line, in the order of a [`LedgerLine`].
pub(super) const COLUMNS: &str =
    "id, type, amount, credits_delta, bonus_delta, tokens_delta, model_id,
    price_per_m_token, input_tokens, output_tokens, shortfall_tokens, transaction_id, reverses,
    allocation_id, hold_id, reason, actor, created_at";

/// What takes the lines, one by one.
pub(super) type Take<'a> = &'a mut (dyn FnMut(&LedgerLine<'_>) + Send);

/// The same of lines of all accounts, each with its user.
pub(super) type TakeOfAll<'a> = &'a mut (dyn FnMut(&str, &LedgerLine<'_>) + Send);

/// The kind called so.
pub(super) fn kind(name: &str) -> Result<EntryKind, DatabaseError> {
    EntryKind::from_name(name)
        .ok_or_else(|| DatabaseError::Corrupt(format!("type of a transaction: '{name}'")))
}
