//! What the person who runs the service sees: the whole, users, what was not used, and whether the books are as they
//! must be. What an operator changes is elsewhere.

mod summary;
mod unused_balance;
mod users;
mod verification;

pub(crate) use summary::{Summaries, SummaryTold};
pub(crate) use unused_balance::Reports;
pub(crate) use users::UserSeen;
pub(crate) use verification::{Verification, Verifications};
