//! What the program does besides serving: one command per file, for people and scripts at a terminal.
//!
//! A command prints its findings to standard output; why it did not succeed is its error.

mod backup;
mod progress;
mod report;
mod verify;

pub(crate) use backup::backup;
pub(crate) use verify::verify;
