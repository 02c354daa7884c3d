//! The rules of billing: what an account may do, what it costs, and why it refuses.
//!
//! Everything here is pure and synchronous: no SQL, no HTTP, no clock, no randomness. All other
//! folders use this one, and it uses none of them.

mod account;
mod active_users;
mod actor;
mod adjustment;
mod allocation;
mod amount;
mod believed;
mod consent;
mod consumption;
mod credit_grant;
mod entry;
mod erasure;
mod errand;
mod facts;
mod found_user;
mod freeze;
mod funds;
mod grant;
mod history;
mod hold;
mod hold_closing;
mod hold_opening;
mod idempotency;
mod inbox;
mod kept_entry;
mod log_line;
mod look_through;
mod lot;
mod names;
mod news;
mod notification;
mod operation;
mod operator_act;
mod pause;
mod price_act;
mod price_line;
mod pricing;
mod product;
mod product_act;
mod purchase;
mod purchase_act;
mod purchase_key;
mod purchase_state;
mod quote;
mod receipt;
mod refusal;
mod reset;
mod return_tokens;
mod reversal;
mod role;
mod store_purchase;
mod store_refund;
mod summary;
mod sweep;
mod take_back;
mod token_form;
mod tracked;
mod tracked_purchases;
mod unused_balance;
mod usage_period;
mod usage_share;
mod usage_sums;
mod wallet;

#[cfg(test)]
mod model_test;
#[cfg(test)]
mod receipts_test;
#[cfg(test)]
mod refunds_test;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod taking_back_test;

pub(crate) use account::Account;
pub(crate) use active_users::{ActiveUsers, Arrivals, UserDay};
pub(crate) use actor::Actor;
pub(crate) use adjustment::{Adjust, Adjustment};
pub(crate) use allocation::{Allocate, Allocation};
pub(crate) use amount::{Credits, Delta, OutOfRange, Tokens, Usage};
pub(crate) use believed::Believed;
pub(crate) use consent::Consent;
pub(crate) use consumption::{Consume, Consumed};
pub(crate) use credit_grant::{GiveCredits, Given};
pub(crate) use entry::{Entry, EntryKind, Recorded};
pub(crate) use erasure::Erase;
pub(crate) use errand::{Errand, TakeTurn, Told, Turn};
pub(crate) use facts::{Accounts, EntryIds, Facts, GrantedPurchases, Wanted};
pub(crate) use found_user::{FoundUser, PurchaseLine, UserFilter, UserPage};
pub(crate) use freeze::{Freeze, Unfreeze};
pub(crate) use funds::Funds;
pub(crate) use grant::{Grant, GrantOutcome};
pub(crate) use history::{HistoryFilter, HistoryPage, LedgerEnd, LedgerLine, Transaction};
pub(crate) use hold::{HOLD_COLUMNS, Hold, HoldId, HoldStatus, Holds};
pub(crate) use hold_closing::{Release, ReleaseHold, SettleHold, Settlement};
pub(crate) use hold_opening::{OpenHold, OpenedHold};
pub(crate) use idempotency::{
    BuildDigestHasher, Fingerprint, IDEMPOTENCY_KEY_MAX_CHARS, IdempotencyKey, Keyed, Replay,
    Replays, UserKey,
};
pub(crate) use inbox::{
    EndTurn, Ended, Inbox, KeepMessage, MessageTurn, TakeMessage, TrackedMessage, Way,
};
pub(crate) use kept_entry::{KeptEntries, KeptEntry};
pub(crate) use log_line::{LogFilter, LogLine, LogPage};
pub(crate) use look_through::LookThrough;
pub(crate) use lot::{Lot, Lots};
pub(crate) use names::{
    ENTRY_REASON_MAX_CHARS, EntryReason, IdentifierError, MODEL_ID_MAX_CHARS, ModelId,
    PRODUCT_ID_MAX_CHARS, PURCHASE_TOKEN_MAX_CHARS, ProductId, PurchaseName, PurchaseToken,
    STORE_TRANSACTION_ID_MAX_CHARS, StoreTransactionId, USER_ID_MAX_CHARS, UserId, hash,
};
pub(crate) use news::{Hear, Heard, NOTED, News};
pub(crate) use notification::{AppleTold, Message, MessageId, StoreEvent};
pub(crate) use operation::{Applied, Operation};
pub(crate) use operator_act::{ByOperator, Logged, OperatorAct, OperatorLine};
pub(crate) use price_act::{RemovePrice, SetPrice};
pub(crate) use price_line::{PriceLine, PricePage};
pub(crate) use pricing::{CapacityLimits, Category, Price, PriceList};
pub(crate) use product::{NoCredits, Product, ProductList};
pub(crate) use product_act::SetProduct;
pub(crate) use purchase::{Purchase, PurchaseRecord};
pub(crate) use purchase_act::{
    ActedOn, Approve, Booked, ChosenPurchase, RefundPurchase, Reject, Retry,
};
pub(crate) use purchase_key::PurchaseKey;
pub(crate) use purchase_state::{PurchaseState, Reason};
pub(crate) use quote::{Asked, Limit, Quote, Quotes};
pub(crate) use receipt::{LookUp, Note, NoteOutcome, Noted, Receive, Received};
pub(crate) use refusal::Refusal;
pub(crate) use reset::Reset;
pub(crate) use return_tokens::{ReturnTokens, Returned};
pub(crate) use reversal::{Reverse, Reversed};
pub(crate) use role::Role;
pub(crate) use store_purchase::{
    Environment, PaidPurchase, PurchasedItem, SandboxRule, Store, StoreWord,
};
pub(crate) use store_refund::{StoreRefund, WHOLE_MILLIUNITS};
pub(crate) use summary::{
    AlikeEntries, KeptSums, PeriodTokens, Summary, SummaryCounts, SummaryDay, SummaryTotals,
    WholeQuarter, last_days, told_by_day,
};
pub(crate) use sweep::{EndSweep, Sweep, SweepTurn, Sweeps, TakeSweep, TrackedSweep};
pub(crate) use token_form::TokenForm;
pub(crate) use tracked::TrackedPurchase;
pub(crate) use tracked_purchases::TrackedPurchases;
pub(crate) use unused_balance::{PaidAndBonus, ReportDay, UnusedAccount, UnusedBalance};
pub(crate) use usage_period::{DateRange, Periods, Quarters, UsageBy, quarter_of};
pub(crate) use usage_share::PurchaseUse;
pub(crate) use usage_sums::{
    FreshUsage, QuarterSums, UsageLine, UsagePart, UsageReport, UsageSums, cost_credits_micro,
};
pub(crate) use wallet::{CategoryRoom, Wallet, WalletTokens};
