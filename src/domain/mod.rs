//! The rules of billing: what an account may do, what it costs, and why it refuses.
//!
//! Everything here is pure and synchronous: no SQL, no HTTP, no clock, no randomness. All other
//! folders use this one, and it uses none of them.

mod account;
mod allocation;
mod amount;
mod consumption;
mod entry;
mod errand;
mod facts;
mod grant;
mod history;
mod idempotency;
mod names;
mod operation;
mod pricing;
mod product;
mod purchase;
mod purchase_key;
mod purchase_state;
mod quote;
mod receipt;
mod refusal;
mod reset;
mod store_purchase;
mod token_form;
mod tracked;
mod tracked_purchases;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod receipts_test;
#[cfg(test)]
mod samples;

pub(crate) use account::Account;
pub(crate) use allocation::{Allocate, Allocation};
pub(crate) use amount::{Credits, OutOfRange, Tokens, Usage};
pub(crate) use consumption::Consume;
pub(crate) use entry::{Entry, EntryKind};
pub(crate) use errand::{Errand, TakeTurn, Told, Turn};
pub(crate) use facts::{Accounts, Facts, GrantedPurchases, Wanted};
pub(crate) use grant::{Grant, GrantOutcome};
pub(crate) use history::{HistoryFilter, HistoryPage, Transaction};
pub(crate) use idempotency::{
    BuildDigestHasher, Fingerprint, IDEMPOTENCY_KEY_MAX_CHARS, IdempotencyKey, Keyed, Replay,
    Replays, UserKey,
};
pub(crate) use names::{
    IdentifierError, MODEL_ID_MAX_CHARS, ModelId, PURCHASE_TOKEN_MAX_CHARS, ProductId,
    PurchaseName, PurchaseToken, STORE_TRANSACTION_ID_MAX_CHARS, StoreTransactionId, UserId, hash,
};
pub(crate) use operation::{Applied, Operation};
pub(crate) use pricing::{CapacityLimits, Category, Price, PriceList};
pub(crate) use product::{NoCredits, Product, ProductList};
pub(crate) use purchase::{Purchase, PurchaseRecord};
pub(crate) use purchase_key::PurchaseKey;
pub(crate) use purchase_state::{PurchaseState, Reason};
pub(crate) use quote::{Asked, Limit, Quote, Quotes};
pub(crate) use receipt::{LookUp, Note, NoteOutcome, Noted, Receive, Received};
pub(crate) use refusal::Refusal;
pub(crate) use reset::Reset;
pub(crate) use store_purchase::{
    Environment, PaidPurchase, PurchasedItem, SandboxRule, Store, StoreWord,
};
pub(crate) use token_form::TokenForm;
pub(crate) use tracked::TrackedPurchase;
pub(crate) use tracked_purchases::{Granted, TrackedPurchases};
