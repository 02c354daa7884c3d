//! The App Store: its signatures are judged here, and what can't be is looked up by its id. It is asked for what it
//! has told, and told how much of a transaction was used.

pub(crate) mod api;
mod chain;
mod consumption;
#[cfg(test)]
mod fixtures_test;
mod history;
mod notification;
#[cfg(test)]
mod notification_test;
#[cfg(test)]
mod oracle_test;
#[cfg(test)]
mod refunds_test;
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

use super::{Answered, RefundPreference, StoreError};
use crate::domain::{Environment, StoreWord};
use api::{AppleApi, Found};
pub(crate) use history::{HistoryPage, Span, Sweep};
use signed::Unproven;
pub(crate) use verifier::Verifier;

/// The App Store, for one app.
#[derive(Debug)]
pub(crate) struct Apple {
    verifier: Verifier,
    /// The app's Apple ID, which notifications name.
    app_id: Option<u64>,
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
    /// Judges with `verifier`, and looks up with `api` if there is one. `app_id` is the app's Apple ID, if it is
    /// known.
    pub(crate) const fn new(
        verifier: Verifier,
        app_id: Option<u64>,
        api: Option<AppleApi>,
    ) -> Self {
        Self { verifier, app_id, api }
    }

    /// Whether transactions can be looked up.
    pub(super) const fn looks_up(&self) -> bool {
        self.api.is_some()
    }

    /// One page of the notifications that Apple has sent, as it signed them.
    pub(super) async fn history_page(
        &self,
        environment: Environment,
        span: &Span,
        page: Option<String>,
        was_read: bool,
    ) -> Result<HistoryPage, StoreError> {
        self.keyed()?.history_page(environment, span, page, was_read).await
    }

    /// Tells Apple how much of a transaction was used.
    pub(super) async fn consumption_answer(
        &self,
        environment: Environment,
        id: &str,
        delivered: bool,
        used_milliunits: u32,
        preference: RefundPreference,
    ) -> Result<Answered, StoreError> {
        let api = self.keyed()?;
        api.consumption_answer(environment, id, delivered, used_milliunits, preference).await
    }

    fn keyed(&self) -> Result<&AppleApi, StoreError> {
        self.api
            .as_ref()
            .ok_or(StoreError::NotConfigured("BILLING_APPLE_ISSUER_ID and its key are unset"))
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
        let jws = match self.keyed()?.transaction(id, environment).await? {
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
