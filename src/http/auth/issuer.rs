//! Whoever issues the tokens, and serves the keys to judge them by. When the keys are fetched is the key set's.

use jsonwebtoken::decode_header;

use super::{
    Login, Unidentified,
    verifier::{Expected, Verifier, may_be_good},
};
use crate::{
    key_sets::KeySet,
    outgoing::{self, Outgoing},
};

/// Judges tokens by the keys that their issuer serves.
#[derive(Debug)]
pub(crate) struct Issuer(KeySet<Verifier>);

impl Issuer {
    /// One whose keys are fetched when the first token comes.
    ///
    /// # Errors
    /// A sentence when the address may not be used.
    pub(crate) fn at(url: &str, expected: Expected) -> Result<Self, String> {
        let (url, client) = (outgoing::address(url)?, Outgoing::new()?);
        let judge = move |key| Some(Verifier::of_public_key(key, &expected));
        Ok(Self(KeySet::at("logins", url, client, judge)))
    }

    /// Whose token it is, if it proves it.
    pub(super) async fn login(&self, token: &str) -> Result<Option<Login>, Unidentified> {
        let Some(id) = decode_header(token).ok().and_then(|header| header.kid) else {
            return Ok(None);
        };
        let keys = match self.0.known(&id) {
            Some(keys) => Some(keys),
            None if may_be_good(token) => self.0.fetched(&id).await?,
            None => None,
        };
        Ok(keys.and_then(|keys| keys.iter().find_map(|verifier| verifier.login(token))))
    }

    /// Whether there are keys, or they can be fetched now.
    pub(super) async fn can_judge(&self) -> bool {
        self.0.can_be_had().await
    }
}
