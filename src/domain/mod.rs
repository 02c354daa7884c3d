//! The rules of billing: what an account may do, what it costs, and why it refuses.
//!
//! Everything here is pure and synchronous: no SQL, no HTTP, no clock, no randomness. All other
//! folders use this one, and it uses none of them.

mod account;
mod amount;
mod entry;
mod history;
mod idempotency;
mod identifier;
mod operation;
mod pricing;
mod refusal;

#[cfg(test)]
mod model_test;

pub use account::Account;
pub use amount::{Credits, OutOfRange, Tokens, Usage};
pub use entry::{Entry, EntryKind};
pub use history::{HistoryFilter, HistoryPage, Transaction};
pub use idempotency::{
    BuildDigestHasher, DigestHasher, Fingerprint, IDEMPOTENCY_KEY_MAX_CHARS, IdempotencyKey,
    InvalidIdempotencyKey, Keyed, Receipt, Receipts, UserKey,
};
pub use identifier::{
    IdentifierError, MODEL_ID_MAX_CHARS, ModelId, STORE_TRANSACTION_ID_MAX_CHARS,
    StoreTransactionId, UserId,
};
pub use operation::{
    Allocate, Allocation, Consume, Context, GrantedPurchases, Needs, Operation, Purchase,
    PurchaseRecord, Reset,
};
pub use pricing::{CapacityLimits, Category, Price, PriceList};
pub use refusal::Refusal;
