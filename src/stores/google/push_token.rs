//! Who pushes: the token that Google signs for the account of a push subscription. What is pushed
//! does not belong here.
//!
//! Whoever has a project at Google can have anything pushed to our address, with a token for our audience. Only the
//! account tells our subscription from theirs.

use chrono::{DateTime, Utc};
use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, dangerous::insecure_decode, decode,
};
use serde::Deserialize;

use crate::{
    key_sets::{KeySet, PublicKey},
    outgoing::{Outgoing, Site},
    stores::Unreadable,
};

/// Where Google serves the keys of its tokens.
const KEYS_PATH: &str = "/oauth2/v3/certs";
/// What Google calls itself; the documentation has both.
const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];
/// How much clocks may differ, in seconds.
const CLOCK_LEEWAY_SECONDS: i64 = 5;

/// Judges who pushes.
#[derive(Debug)]
pub(super) struct Pushers {
    keys: KeySet<DecodingKey>,
    audience: String,
    account: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    email: String,
    email_verified: bool,
    exp: i64,
}

impl Pushers {
    /// Takes what this account pushes with a token for this audience. The keys are fetched when the first comes.
    pub(super) fn new(
        audience: String,
        account: String,
        keys: &Site,
        client: Outgoing,
    ) -> Result<Self, String> {
        let for_rs256 = |PublicKey { key, algorithm }: PublicKey| {
            (algorithm == Algorithm::RS256).then_some(key)
        };
        let keys = KeySet::at("Google's notifications", keys.at(KEYS_PATH)?, client, for_rs256);
        Ok(Self { keys, audience, account })
    }

    /// Whether the value of an `Authorization` header proves that ours pushes.
    ///
    /// # Errors
    /// [`Unreadable::Unproven`] when it does not, [`Unreadable::KeysUnavailable`] when that can't be told now.
    pub(super) async fn judge(
        &self,
        authorization: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(), Unreadable> {
        let token =
            authorization.and_then(bearer).ok_or(Unreadable::Unproven("it has no token"))?;
        // Judged before its signature, so that nothing senseless has the keys fetched.
        let id = self.key_id(token, now).map_err(Unreadable::Unproven)?;
        let keys = match self.keys.known(&id) {
            Some(keys) => Some(keys),
            None => self.keys.fetched(&id).await.map_err(|_| Unreadable::KeysUnavailable)?,
        };
        let rules = rules();
        let is_signed_by = |key: &DecodingKey| decode::<Claims>(token, key, &rules).is_ok();
        match keys {
            Some(keys) if keys.iter().any(is_signed_by) => Ok(()),
            Some(_) => Err(Unreadable::Unproven("its token is not signed by Google")),
            None => Err(Unreadable::Unproven("Google has no such key as its token names")),
        }
    }

    /// The key that a token names, if all that the token says is as it must be.
    fn key_id(&self, token: &str, now: DateTime<Utc>) -> Result<String, &'static str> {
        let token = insecure_decode::<Claims>(token).map_err(|_| "its token can't be read")?;
        let id = key_id(token.header)?;
        let Claims { iss, aud, email, email_verified, exp } = token.claims;
        if !ISSUERS.contains(&iss.as_str()) {
            return Err("its token is not issued by Google");
        }
        if aud != self.audience {
            return Err("its token is for another audience than BILLING_GOOGLE_PUSH_AUDIENCE");
        }
        if email != self.account || !email_verified {
            return Err("its token is of another account than BILLING_GOOGLE_PUSH_ACCOUNT");
        }
        if now.timestamp().saturating_sub(CLOCK_LEEWAY_SECONDS) >= exp {
            return Err("its token has expired");
        }
        Ok(id)
    }
}

fn key_id(header: Header) -> Result<String, &'static str> {
    if header.alg != Algorithm::RS256 {
        return Err("its token is not signed with RS256");
    }
    // What `crit` names must be understood (RFC 7515), and we understand none of it; an unencoded payload
    // (`b64`, RFC 7797) is one such thing.
    if header.crit.is_some() || header.extras.inner().contains_key("b64") {
        return Err("its token has critical extensions");
    }
    header.kid.ok_or("its token names no key")
}

/// Its signature counts; the claims are judged here, by our clock.
fn rules() -> Validation {
    let mut rules = Validation::new(Algorithm::RS256);
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
