//! A billing backend for LLM apps: users buy credits, turn them into a model's tokens, and every chat
//! uses tokens up.
pub mod domain;
pub mod ledger;
pub mod service;
pub mod store;
