//! The rules of billing: what an account may do, what it costs, and why it refuses.
//!
//! Everything here is pure and synchronous: no SQL, no HTTP, no clock, no randomness. All other
//! folders use this one, and it uses none of them.

mod account;
mod amount;
mod entry;
mod history;
mod idempotency;
mod names;
mod operation;
mod pricing;
mod refusal;

#[cfg(test)]
mod model_test;

pub(crate) use account::Account;
pub(crate) use amount::{Credits, OutOfRange, Tokens, Usage};
pub(crate) use entry::{Entry, EntryKind};
pub(crate) use history::{HistoryFilter, HistoryPage, Transaction};
pub(crate) use idempotency::{
    BuildDigestHasher, Fingerprint, IDEMPOTENCY_KEY_MAX_CHARS, IdempotencyKey, Keyed, Replay,
    Replays, UserKey,
};
pub(crate) use names::{
    IdentifierError, MODEL_ID_MAX_CHARS, ModelId, PurchaseName, STORE_TRANSACTION_ID_MAX_CHARS,
    StoreTransactionId, UserId,
};
pub(crate) use operation::{
    Allocate, Allocation, Consume, Context, GrantedPurchases, Needs, Operation, Purchase,
    PurchaseRecord, Reset,
};
pub(crate) use pricing::{CapacityLimits, Category, Price, PriceList};
pub(crate) use refusal::Refusal;
