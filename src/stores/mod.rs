//! The app stores: what the proof of a purchase is, and what its store says of it. What follows from that for an
//! account, and when a store is asked again, does not belong here.

pub(crate) mod apple;
pub(crate) mod google;

use std::time::Instant;

use chrono::{DateTime, Utc};
use thiserror::Error;

use crate::{
    domain::{Environment, Errand, PurchaseKey, PurchaseToken, Store, StoreWord, TokenForm},
    metrics::{Metrics, StoreCall},
};
use apple::{Apple, Signed};
use google::Google;

/// Why a store gives no word that counts. All of it may pass.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum StoreError {
    /// It can't be reached, is slow, or is broken.
    #[error("the store can't be asked: {0}")]
    Unreachable(String),
    /// It takes no more requests now.
    #[error("the store takes no more requests now")]
    Limited,
    /// It does not know the purchase, or not yet.
    #[error("the store does not know the purchase")]
    Unknown,
    /// It does not let us ask; the sentence says what to set right.
    #[error("the store refuses us: {0}")]
    Refused(String),
    /// What proves the purchase can't be judged; a new root of the store's may be the reason.
    #[error("the certificates lead to no root that is known: {0}")]
    Chain(&'static str),
    /// Its kind of proof can't be judged at all.
    #[error("{0}")]
    Unsupported(&'static str),
    /// It is not asked with these settings.
    #[error("the store is not set up: {0}")]
    NotConfigured(&'static str),
}

impl StoreError {
    /// Its name in metrics.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Limited => "limited",
            Self::Unknown => "unknown",
            Self::Refused(_) => "refused",
            Self::Chain(_) => "chain",
            Self::Unsupported(_) => "unsupported",
            Self::NotConfigured(_) => "not_configured",
        }
    }
}

/// What the proof of a purchase comes to before anybody is asked.
#[derive(Debug)]
pub(crate) enum Judged {
    /// It was signed by its store, and says this.
    Said(StoreWord),
    /// Its store has to be asked.
    ToAsk(Proof),
}

/// What a store is asked with.
#[derive(Clone)]
pub(crate) struct Proof {
    pub store: Store,
    /// What the purchase is known by, until its store says more.
    pub key: PurchaseKey,
    /// Google's token, or Apple's id.
    pub token: PurchaseToken,
    /// Where Apple is asked first, if that is known.
    pub environment: Option<Environment>,
    /// Why Apple's signature on it can't be judged, where it has one.
    pub doubt: Option<&'static str>,
}

/// Without the token.
impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proof").field("key", &self.key).finish_non_exhaustive()
    }
}

/// The stores that are asked.
#[derive(Debug)]
pub(crate) struct Stores {
    google: Option<Google>,
    apple: Option<Apple>,
}

const GOOGLE_IS_OFF: StoreError =
    StoreError::NotConfigured("BILLING_RECEIPTS does not name google");
const APPLE_IS_OFF: StoreError = StoreError::NotConfigured("BILLING_RECEIPTS does not name apple");

impl Stores {
    /// Asks those that are there.
    pub(crate) const fn new(google: Option<Google>, apple: Option<Apple>) -> Self {
        Self { google, apple }
    }

    /// Judges what a client brings, without asking anybody.
    ///
    /// # Errors
    /// [`StoreError`] where it can't be judged, and there is nobody to ask.
    pub(crate) fn judge(
        &self,
        token: &PurchaseToken,
        now: DateTime<Utc>,
    ) -> Result<Judged, StoreError> {
        match TokenForm::of(token.as_str()) {
            Some(TokenForm::Google) => {
                self.google.as_ref().ok_or(GOOGLE_IS_OFF)?;
                let key = PurchaseKey::google_token(token);
                let token = token.clone();
                let (environment, doubt) = (None, None);
                Ok(Judged::ToAsk(Proof { store: Store::Google, key, token, environment, doubt }))
            }
            Some(TokenForm::AppleSigned) => {
                let apple = self.apple.as_ref().ok_or(APPLE_IS_OFF)?;
                match apple.judge(token.as_str(), now)? {
                    Signed::Says(word) => Ok(Judged::Said(word)),
                    Signed::LookUp { id, environment, reason } => {
                        to_look_up(&id, environment, Some(reason))
                    }
                }
            }
            Some(TokenForm::AppleId) => {
                let apple = self.apple.as_ref().ok_or(APPLE_IS_OFF)?;
                if !apple.looks_up() {
                    return Err(StoreError::NotConfigured(
                        "an id alone can't be looked up without BILLING_APPLE_ISSUER_ID and its key",
                    ));
                }
                to_look_up(token.as_str(), None, None)
            }
            Some(TokenForm::AppleLegacy) => Err(StoreError::Unsupported(
                "a receipt as it was before StoreKit 2 can't be verified",
            )),
            None => Err(StoreError::Unsupported("no store gives such a token")),
        }
    }

    /// What the store says of a purchase.
    ///
    /// # Errors
    /// [`StoreError`] when it says nothing that counts.
    pub(crate) async fn ask(
        &self,
        proof: &Proof,
        now: DateTime<Utc>,
    ) -> Result<StoreWord, StoreError> {
        match proof.store {
            Store::Google => {
                self.google.as_ref().ok_or(GOOGLE_IS_OFF)?.purchase(proof.token.as_str()).await
            }
            Store::Apple => {
                let apple = self.apple.as_ref().ok_or(APPLE_IS_OFF)?;
                apple.ask(proof.token.as_str(), proof.environment, now).await
            }
        }
    }

    /// Tells Google what became of a purchase. Apple needs no word.
    ///
    /// # Errors
    /// [`StoreError`] when it did not take note.
    pub(crate) async fn tell(
        &self,
        errand: Errand,
        product: &str,
        token: &PurchaseToken,
    ) -> Result<(), StoreError> {
        let google = self.google.as_ref().ok_or(GOOGLE_IS_OFF)?;
        match errand {
            Errand::Ask => Ok(()),
            Errand::Acknowledge => google.acknowledge(product, token.as_str()).await,
            Errand::Consume => google.consume(product, token.as_str()).await,
        }
    }
}

fn to_look_up(
    id: &str,
    environment: Option<Environment>,
    doubt: Option<&'static str>,
) -> Result<Judged, StoreError> {
    let token = PurchaseToken::new(id).map_err(|_| StoreError::Unsupported("an empty id"))?;
    let key = PurchaseKey::apple_id(id);
    Ok(Judged::ToAsk(Proof { store: Store::Apple, key, token, environment, doubt }))
}

/// Takes note of a request that was sent at `asked_at` and has come to something.
fn counted(metrics: Option<&Metrics>, call: StoreCall, outcome: &str, asked_at: Instant) {
    if let Some(metrics) = metrics {
        metrics.stores.asked(call, outcome, asked_at.elapsed());
    }
}
