//! Public keys of whoever signs tokens: which can be used, and how those that are served at an address are fetched
//! and kept. What a token must say, and what follows from it, is for those who ask.

mod key_set;
mod pem;
mod public_key;

pub(crate) use key_set::{KeySet, Unfetched};
pub(crate) use pem::from_pem;
pub(crate) use public_key::PublicKey;
