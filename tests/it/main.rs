//! Tests of the running service, through its public API only.
//!
//! Every test starts the real binary in a directory of its own; see `harness`.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "tests count small numbers, and an overflow fails the test"
)]

mod acceptance;
mod business_rules;
mod crashes;
mod full_disk;
mod harness;
mod history;
mod idempotency;
mod log_lines;
mod login;
mod malformed_bodies;
mod malformed_queries;
mod openapi;
mod other_writers;
mod pricing;
mod purchases;
mod races;
mod routing;
mod rude_clients;
mod settings;
mod shutdown;
mod start_failures;
