//! What the person who runs the service does and sees: acts, the whole, users, what was not used, and whether the books
//! are as they must be.

mod acts;
mod erasures;
mod summary;
mod unused_balance;
mod users;
mod verification;

pub(crate) use acts::PurchaseAct;
pub(crate) use erasures::Erasures;
pub(crate) use summary::{Summaries, SummaryTold};
pub(crate) use unused_balance::Reports;
pub(crate) use users::UserSeen;
pub(crate) use verification::{Verification, Verifications};
