//! The App Store: its signatures are judged here, and what can't be is looked up by its id.

pub(crate) mod api;
mod chain;
#[cfg(test)]
mod fixtures_test;
#[cfg(test)]
mod oracle_test;
#[cfg(test)]
mod samples;
mod signed;
mod transaction;
mod verifier;
#[cfg(test)]
mod verifier_test;
#[cfg(test)]
mod wrong_chains;

use chrono::{DateTime, Utc};

use super::StoreError;
use crate::domain::{Environment, StoreWord};
use api::{AppleApi, Found};
use signed::Unproven;
pub(crate) use verifier::Verifier;

/// The App Store, for one app.
#[derive(Debug)]
pub(crate) struct Apple {
    verifier: Verifier,
    /// To look up with, if there is a key.
    api: Option<AppleApi>,
}

/// What a signed transaction comes to.
#[derive(Debug)]
pub(super) enum Signed {
    /// It says this.
    Says(StoreWord),
    /// Its certificates can't be judged, but the transaction can be looked up.
    LookUp { id: String, environment: Option<Environment>, reason: &'static str },
}

impl Apple {
    /// Judges with `verifier`, and looks up with `api` if there is one.
    pub(crate) const fn new(verifier: Verifier, api: Option<AppleApi>) -> Self {
        Self { verifier, api }
    }

    /// Whether transactions can be looked up.
    pub(super) const fn looks_up(&self) -> bool {
        self.api.is_some()
    }

    /// Judges what a client says that Apple signed.
    pub(super) fn judge(&self, jws: &str, now: DateTime<Utc>) -> Result<Signed, StoreError> {
        match self.verifier.transaction(jws, now) {
            Ok(word) => Ok(Signed::Says(word)),
            Err(Unproven::Forged(why)) => Ok(Signed::Says(StoreWord::Never(why))),
            Err(Unproven::Chain { transaction_id: Some(id), environment, reason })
                if self.looks_up() =>
            {
                Ok(Signed::LookUp { id, environment, reason })
            }
            Err(unproven) => Err(unproven.into()),
        }
    }

    /// What Apple says of the transaction with this id.
    pub(super) async fn ask(
        &self,
        id: &str,
        environment: Option<Environment>,
        now: DateTime<Utc>,
    ) -> Result<StoreWord, StoreError> {
        let Some(api) = &self.api else {
            return Err(StoreError::NotConfigured("BILLING_APPLE_ISSUER_ID and its key are unset"));
        };
        let jws = match api.transaction(id, environment).await? {
            Found::Signed(jws) => jws,
            Found::Never(why) => return Ok(StoreWord::Never(why)),
        };
        let word = self.verifier.transaction(&jws, now)?;
        match &word {
            StoreWord::Paid(paid) if paid.store_id.as_deref() != Some(id) => {
                Err(StoreError::Unreachable("it answered with another transaction".to_owned()))
            }
            _ => Ok(word),
        }
    }
}

impl From<Unproven> for StoreError {
    fn from(unproven: Unproven) -> Self {
        match unproven {
            Unproven::Chain { reason, .. } => Self::Chain(reason),
            Unproven::Forged(why) | Unproven::Strange(why) => {
                Self::Unreachable(format!("what it signed is not understood: {why}"))
            }
        }
    }
}
