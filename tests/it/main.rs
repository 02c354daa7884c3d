//! Tests of the running service, through its public API only.
//!
//! Every test starts the real binary in a directory of its own; see `harness`.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "tests count small numbers, and an overflow fails the test"
)]

mod acceptance;
mod account_reads;
mod backup;
mod bonus;
mod business_rules;
mod clocks;
mod connections;
mod cors;
mod crashes;
mod crowds;
mod database_files;
mod full_disk;
mod harness;
mod history;
mod holds;
mod idempotency;
mod key_sets;
mod languages;
mod ledger;
mod log_lines;
mod login;
mod lost_databases;
mod malformed_bodies;
mod malformed_queries;
mod metrics;
mod migrate_to;
mod openapi;
mod operators;
mod other_writers;
mod pages;
mod postgres;
mod pricing;
mod probes;
mod purchase_names;
mod purchases;
mod quotes;
mod races;
mod rate_limit;
mod receipt_settings;
mod receipts;
mod roles;
mod routing;
mod rude_clients;
mod schemas;
mod settings;
mod shutdown;
mod start_failures;
mod taking_back;
mod usage;
mod verify;
mod verify_files;
mod wallet;
