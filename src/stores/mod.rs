//! The app stores: what the proof of a purchase is, and what its store says of it. What follows from that for an
//! account, and when a store is asked again, does not belong here.

pub(crate) mod apple;
pub(crate) mod google;

use std::time::Instant;

use chrono::{DateTime, Utc};
use thiserror::Error;
use tracing::{info, warn};

use crate::{
    domain::{
        Environment, Errand, Message, PurchaseKey, PurchaseToken, Store, StoreWord, TokenForm,
    },
    metrics::{Metrics, StoreCall},
};
use apple::{Apple, HistoryPage, Signed, Span};
use google::{Google, VoidedPage};

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
    /// It does not know the app, or our key, which is no fault until the app is released there.
    #[error("the store does not know the app, as it must be until its first release")]
    Unreleased,
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
            Self::Unreleased => "unreleased",
            Self::Chain(_) => "chain",
            Self::Unsupported(_) => "unsupported",
            Self::NotConfigured(_) => "not_configured",
        }
    }
}

/// Why it is not known what a notification tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Unreadable {
    /// Nothing proves that its store sent it; a constant sentence for the log says what is missing.
    #[error("{0}")]
    Unproven(&'static str),
    /// The keys to judge it with can't be had now.
    #[error("the keys to judge it with can't be had now")]
    KeysUnavailable,
    /// Its store is not named, or does not push notifications to us.
    #[error("no notifications are expected of its store")]
    NotSetUp,
}

/// A message that is its store's, and does not concern us or is not understood. Nothing is gained by having it sent
/// again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PassedOver {
    pub store: Store,
    /// By which its store knows it, and of what kind it says that it is.
    pub id: Option<String>,
    pub kind: Option<String>,
    /// A constant sentence for the log.
    pub why: &'static str,
    /// Whether its store never says so, as far as we know.
    pub is_strange: bool,
}

/// What a message tells that is its store's.
pub(crate) type Understood = Result<Message, PassedOver>;

impl PassedOver {
    /// Tells the log.
    pub(crate) fn tell(&self) {
        let Self { store, id, kind, why, is_strange } = self;
        let (store, id, kind) = (store.name(), id.as_deref(), kind.as_deref());
        if *is_strange {
            warn!(store, id, kind, why, "a notification is passed over");
        } else {
            info!(store, id, kind, why, "a notification is passed over");
        }
    }
}

/// What the operator would have the stores decide where they ask before a refund.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum RefundPreference {
    /// The stores decide alone.
    #[default]
    Nothing,
    Decline,
    Grant,
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

/// What became of our answer to a store's question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answered {
    /// The store has it.
    Taken,
    /// The store will never take it; a constant sentence for the log says why.
    Final(&'static str),
}

/// The stores that are asked.
#[derive(Debug)]
pub(crate) struct Stores {
    google: Option<Google>,
    apple: Option<Apple>,
    refund_preference: RefundPreference,
}

const GOOGLE_IS_OFF: StoreError =
    StoreError::NotConfigured("BILLING_RECEIPTS does not name google");
const APPLE_IS_OFF: StoreError = StoreError::NotConfigured("BILLING_RECEIPTS does not name apple");

impl Stores {
    /// Asks those that are there.
    pub(crate) const fn new(google: Option<Google>, apple: Option<Apple>) -> Self {
        Self { google, apple, refund_preference: RefundPreference::Nothing }
    }

    /// The same, with what they are told before a refund.
    pub(crate) fn preferring(self, refund_preference: RefundPreference) -> Self {
        Self { refund_preference, ..self }
    }

    /// Whether notifications of this store are expected.
    pub(crate) fn hear(&self, store: Store) -> bool {
        match store {
            Store::Google => self.google.as_ref().is_some_and(Google::is_heard),
            Store::Apple => self.apple.is_some(),
        }
    }

    /// What Google tells in what it pushes: `authorization` is the header's value.
    ///
    /// # Errors
    /// [`Unreadable`] when it is not proved to be Google's, or can't be now.
    pub(crate) async fn read_google_push(
        &self,
        authorization: Option<&str>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Understood, Unreadable> {
        let google = self.google.as_ref().ok_or(Unreadable::NotSetUp)?;
        google.read_push(authorization, body, now).await
    }

    /// What Apple tells in a notification.
    ///
    /// # Errors
    /// [`Unreadable`] when it is not proved to be Apple's.
    pub(crate) fn read_apple_notification(
        &self,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Understood, Unreadable> {
        self.apple.as_ref().ok_or(Unreadable::NotSetUp)?.read_notification(body, now)
    }

    /// What a notification of Apple's tells that was found in the history.
    ///
    /// # Errors
    /// [`StoreError`] when it is not proved to be Apple's: a new root of theirs may be the reason.
    pub(crate) fn apple_message(
        &self,
        payload: &str,
        now: DateTime<Utc>,
    ) -> Result<Understood, StoreError> {
        Ok(self.apple.as_ref().ok_or(APPLE_IS_OFF)?.message(payload, now)?)
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

    /// Whether Google is asked.
    pub(crate) const fn has_google(&self) -> bool {
        self.google.is_some()
    }

    /// Whether Apple is asked, and there is a key to ask it with.
    pub(crate) fn has_apple_key(&self) -> bool {
        self.apple.as_ref().is_some_and(Apple::looks_up)
    }

    /// One page of the purchases that Google has taken back since `from`; the first, or the one that the page
    /// before it named as its next. Google lists those of the last 30 days at most. `was_read` says whether the list
    /// could ever be read.
    ///
    /// # Errors
    /// [`StoreError`] when there is no page; [`StoreError::Unreleased`] only where it was never read.
    pub(crate) async fn voided_page(
        &self,
        from: DateTime<Utc>,
        page: Option<String>,
        was_read: bool,
    ) -> Result<VoidedPage, StoreError> {
        self.google.as_ref().ok_or(GOOGLE_IS_OFF)?.voided_page(from, page, was_read).await
    }

    /// Tells Google, which asked, how much of an order was used, in thousandths of a percent.
    ///
    /// # Errors
    /// [`StoreError`] when it must be told later.
    pub(crate) async fn review_answer(
        &self,
        order: &str,
        pending_refund_token: &str,
        used_milliunits: u32,
    ) -> Result<Answered, StoreError> {
        let google = self.google.as_ref().ok_or(GOOGLE_IS_OFF)?;
        google
            .review_answer(order, pending_refund_token, used_milliunits, self.refund_preference)
            .await
    }

    /// One page of the notifications that Apple has sent, each as it was signed; the first, or the one that the page
    /// before it named as its next, of the same span. `was_read` says whether the list could ever be read.
    ///
    /// # Errors
    /// [`StoreError`] when there is no page; [`StoreError::Unreleased`] only where it was never read.
    pub(crate) async fn apple_history_page(
        &self,
        environment: Environment,
        span: &Span,
        page: Option<String>,
        was_read: bool,
    ) -> Result<HistoryPage, StoreError> {
        let apple = self.apple.as_ref().ok_or(APPLE_IS_OFF)?;
        apple.history_page(environment, span, page, was_read).await
    }

    /// Tells Apple, which asked, whether a transaction was delivered, and how much of it was used, in thousandths of
    /// a percent. Only for users who consented: it is told to Apple that they did.
    ///
    /// # Errors
    /// [`StoreError`] when it must be told later.
    pub(crate) async fn consumption_answer(
        &self,
        environment: Environment,
        id: &str,
        delivered: bool,
        used_milliunits: u32,
    ) -> Result<Answered, StoreError> {
        let apple = self.apple.as_ref().ok_or(APPLE_IS_OFF)?;
        let preference = self.refund_preference;
        apple.consumption_answer(environment, id, delivered, used_milliunits, preference).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use apple::Sweep;

    #[tokio::test]
    async fn stores_that_are_off_are_not_asked() {
        let stores = Stores::new(None, None);
        assert!(!stores.has_google() && !stores.has_apple_key());
        let (from, environment) = (DateTime::UNIX_EPOCH, Environment::Production);
        let span = Span { from, to: from, which: Sweep::Missed };
        for (error, name) in [
            (stores.voided_page(from, None, true).await.err(), "google"),
            (stores.review_answer("GPA.1", "token", 0).await.err(), "google"),
            (stores.apple_history_page(environment, &span, None, true).await.err(), "apple"),
            (stores.consumption_answer(environment, "1", true, 0).await.err(), "apple"),
        ] {
            let Some(StoreError::NotConfigured(line)) = error else { panic!("{name}: {error:?}") };
            assert!(line.contains(name), "{line}");
        }
    }
}
