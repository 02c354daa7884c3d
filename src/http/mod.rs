//! HTTP: routes, the JSON shapes, errors to statuses, and the connections themselves.
//!
//! The rules of billing are `domain`'s and reached only through the service. What clients may rely on
//! is in the README's API table.

mod admission;
mod auth;
mod body;
mod caller;
mod cors;
mod docs;
mod error;
mod fields;
mod json;
mod key_set;
mod openapi;
mod probes;
mod problem;
mod query;
mod rate_limit;
mod request;
mod retry;
mod routes;
mod schemas;
mod server;

use std::time::Duration;

pub use auth::{Authentication, CLOCK_LEEWAY_SECONDS, Expected, SECRET_MIN_BYTES, Verifier};
pub use cors::Origin;
pub use key_set::KeySet;
pub use rate_limit::{RATE_LIMIT_MAX, RateLimit};
pub use server::Server;

/// Most bytes of a request body.
pub const BODY_LIMIT_BYTES: usize = 65_536;
/// Most bytes of a request's headers.
pub const HEADER_LIMIT_BYTES: usize = 65_536;
/// How long a request's headers may take to arrive; an idle connection is closed after it too.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a request's body may take to arrive.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a whole request may take; the mobile client gives up after 10 s.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(9);
/// How long a stopping server waits for requests that are still arriving.
pub const ARRIVAL_GRACE: Duration = Duration::from_secs(5);
/// How long a stopping server waits for anything at all. With what `main` then allows the ledger, and
/// the last lines of the log, a stop stays below 10 s.
pub const SHUTDOWN_GRACE: Duration = Duration::from_millis(6_500);
/// Most connections open at a time; more wait to be accepted.
pub const CONNECTION_LIMIT: usize = 10_000;
/// History pages at least this long are compressed for clients that take gzip.
pub const COMPRESS_FROM_BYTES: u64 = 1_024;
/// What `Retry-After` tells clients, in seconds.
pub const RETRY_AFTER_SECONDS: &str = "1";
