//! The program around the service: its settings, its log, and what it can be told to do, one command per
//! file. What a command finds goes to standard output; why it did not succeed is its error.

mod backup;
pub(crate) mod env_file;
pub(crate) mod log;
mod migrate_to;
mod progress;
mod purchases_check;
pub(crate) mod receipts;
mod report;
mod serve;
pub(crate) mod settings;
mod unused_balance;
mod verify;

pub(crate) use backup::backup;
pub(crate) use migrate_to::migrate_to;
pub(crate) use purchases_check::purchases_check;
pub(crate) use report::{Differs, complain};
pub(crate) use serve::serve;
pub(crate) use unused_balance::{not_over, unused_balance};
pub(crate) use verify::verify;
