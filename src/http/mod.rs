//! Transport: connections, their limits, and who is asking. It takes a router and could serve another API;
//! what an endpoint does, and how an answer reads, is not known here.

mod admission;
mod auth;
mod cors;
mod rate_limit;
mod refusals;
mod request;
mod request_id;
mod rest;
mod server;
mod wire;

use std::time::Duration;

pub(crate) use admission::{Admission, LetIn, Peer, admit, admit_to_account};
pub(crate) use auth::{
    Admitted, Authentication, BILLING_USER, Expected, Issuer, Login, NoName, StaticTokens,
    UserLogins,
};
pub(crate) use cors::ApiHeaders;
pub(crate) use cors::Origin;
pub(crate) use rate_limit::{RateLimit, Subject};
pub(crate) use refusals::{Finish, Refusal};
pub(crate) use request::{Api, AsIfUnknown, Cause, LongBodies};
pub(crate) use request_id::RequestId;
pub(crate) use server::{Server, Stopping};

/// Most bytes of a request body, but for [`LongBodies`].
pub(crate) const BODY_LIMIT_BYTES: usize = 65_536;
/// Most bytes of a request's headers.
pub(crate) const HEADER_LIMIT_BYTES: usize = 65_536;
// The limits of time add up to less than the deadline of a request: at most 4 s for its body, 2 s in the
// ledger's queue, 2.5 s for a lock of another process. A stop takes at most 6.5 s for what arrives and is
// answered, 2.9 s for the ledger, 0.4 s for the last lines of the log.

/// How long a request's headers may take to arrive.
pub(crate) const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a request's body may take to arrive.
pub(crate) const BODY_READ_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a whole request may take; the mobile client gives up after 10 s.
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(9);
/// How long a stopping server waits for requests that are still arriving.
pub(crate) const ARRIVAL_GRACE: Duration = Duration::from_secs(5);
/// How long a stopping server waits for anything at all. With what `main` then allows the ledger, and
/// the last lines of the log, a stop stays below 10 s.
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_millis(6_500);
/// Most connections open at a time. One more takes the place of the longest idle one, or waits where none
/// is idle.
pub(crate) const CONNECTION_LIMIT: usize = 10_000;
