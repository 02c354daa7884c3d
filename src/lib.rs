//! A billing backend for LLM apps: users buy credits, turn them into a model's tokens, and every chat
//! uses tokens up.
//!
//! A request passes one way through the house:
//!
//! [`http`] parses and answers → [`service`] has one method per operation → [`ledger`] loads, decides,
//! persists and commits in batches → [`store`] holds all SQL. The rules are in [`domain`], pure, used
//! by all. [`config`] reads the settings, [`telemetry`] writes the log, [`metrics`] counts. The program
//! around it is in `main.rs` and `commands/`.

#![cfg_attr(
    test,
    expect(
        clippy::arithmetic_side_effects,
        reason = "tests compute with small numbers, and an overflow fails them"
    )
)]

mod caught;
pub mod config;
pub mod domain;
pub mod http;
pub mod ledger;
pub mod metrics;
pub mod service;
pub mod store;
pub mod telemetry;
