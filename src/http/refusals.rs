//! Why the transport itself turns a request away. How that reads is the API's: it gives a [`Wording`].

use axum::{http::HeaderValue, response::Response};

use super::{auth::NoName, rate_limit::Subject};

/// What happened before or around the router.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The head is longer than any may be.
    HeadersTooLarge,
    /// The head announces a body that is longer than any may be.
    BodyTooLarge,
    /// There is no token, or it proves nothing. Why is not told.
    Unauthorized,
    /// The keys to judge the token with can't be had now.
    LoginUnavailable,
    /// The header that names a user is wrong, or must be there.
    UserUnnamed(NoName),
    /// Whoever asks is known, and may not.
    Forbidden,
    /// More requests than the rate limit allows, of the user or of the address.
    TooManyRequests(Subject),
    /// The answer took too long.
    DeadlinePassed,
    /// A bug, with what the panic said.
    Panicked(String),
}

/// Makes an answer of a refusal.
pub(crate) type Wording = fn(Refusal) -> Response;

/// Completes an answer for a client that accepts these languages.
pub(crate) type Finish = fn(Option<&HeaderValue>, Response) -> Response;
