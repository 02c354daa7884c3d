//! Answers to what the stores ask before they give money back: how much of a purchase was used, by the ledger. Each is
//! sent until it is accepted or its time is over, and never twice once it is.

use chrono::{DateTime, TimeDelta, Utc};
use tracing::warn;

use super::Notifications;
use crate::{
    database::{BelievedPurchase, DatabaseError, PurchaseAskedFor},
    domain::{AppleTold, Ended, Environment, PurchaseKey, PurchaseName, PurchaseUse},
    stores::{Answered, StoreError},
};

/// How long Google waits before it decides without us.
const GOOGLE_WAITS: TimeDelta = TimeDelta::hours(24);
/// How long Apple does.
const APPLE_WAITS: TimeDelta = TimeDelta::hours(12);
/// How long Apple does in its sandbox.
const APPLE_SANDBOX_WAITS: TimeDelta = TimeDelta::minutes(5);

/// What is said of a question that came too long ago.
const TOO_LATE: Ended = Ended::Done("too late to answer");

impl Notifications {
    /// How much of an order was used.
    pub(super) async fn answer_google(
        &self,
        order: &str,
        pending_refund_token: &str,
        asked_at: DateTime<Utc>,
    ) -> Ended {
        if self.is_over(asked_at, GOOGLE_WAITS) {
            return TOO_LATE;
        }
        let key = PurchaseKey::google_order(order);
        let Ok(known) = self.asked_for(&key).await else { return Ended::Again };
        let found = match known {
            Some(PurchaseAskedFor { used: Some(_), .. }) => known,
            _ => match self.believed_asked_for(order, &key).await {
                Ok(believed) => believed.or(known),
                Err(_) => return Ended::Again,
            },
        };
        // Where it is not known, somebody may still bring it.
        let Some(found) = found else { return Ended::Again };
        let used = found.used.map_or(0, PurchaseUse::milliunits);
        let answer = self.stores.review_answer(order, pending_refund_token, used).await;
        ended(&key, answer)
    }

    /// How much of a transaction was used, where its user lets Apple be told.
    pub(super) async fn answer_apple(&self, told: &AppleTold, asked_at: DateTime<Utc>) -> Ended {
        let waits = match told.environment() {
            Environment::Production => APPLE_WAITS,
            Environment::Sandbox => APPLE_SANDBOX_WAITS,
        };
        if self.is_over(asked_at, waits) {
            return TOO_LATE;
        }
        if !self.stores.has_apple_key() {
            return Ended::Done("without an API key Apple can't be answered");
        }
        let Some(id) = told.paid.store_id.as_deref() else { return Ended::Done("it has no id") };
        let key = PurchaseKey::apple_transaction(told.environment(), id);
        let found = match self.asked_for(&key).await {
            Ok(Some(found)) if found.user.is_some() => found,
            Ok(_) => return Ended::Done("nobody has brought it, so nobody consented"),
            Err(_) => return Ended::Again,
        };
        if !found.consented {
            return Ended::Done("the user has not consented");
        }
        let used = found.used.map_or(0, PurchaseUse::milliunits);
        let (environment, delivered) = (told.environment(), found.used.is_some());
        let answer = self.stores.consumption_answer(environment, id, delivered, used).await;
        ended(&key, answer)
    }

    fn is_over(&self, asked_at: DateTime<Utc>, waits: TimeDelta) -> bool {
        self.now().signed_duration_since(asked_at) >= waits
    }

    async fn asked_for(
        &self,
        key: &PurchaseKey,
    ) -> Result<Option<PurchaseAskedFor>, DatabaseError> {
        told(key, self.reader.purchase_asked_for(key).await)
    }

    /// The same of an order that was granted on a client's word.
    async fn believed_asked_for(
        &self,
        order: &str,
        key: &PurchaseKey,
    ) -> Result<Option<PurchaseAskedFor>, DatabaseError> {
        let believed = self.reader.believed_purchase(&[PurchaseName::of(order)]).await;
        match told(key, believed)? {
            Some(BelievedPurchase { entry, .. }) => {
                told(key, self.reader.believed_asked_for(entry).await)
            }
            None => Ok(None),
        }
    }
}

/// Tells the log where something can't be read.
fn told<T>(key: &PurchaseKey, found: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
    found.inspect_err(|error| {
        warn!(purchase = key.short_hash(), %error, "how much of it was used can't be read now");
    })
}

fn ended(key: &PurchaseKey, answer: Result<Answered, StoreError>) -> Ended {
    match answer {
        Ok(Answered::Taken) => Ended::Done("answered"),
        Ok(Answered::Final(why)) => Ended::Done(why),
        Err(error) => {
            warn!(purchase = key.short_hash(), %error, "a store's question can't be answered now");
            Ended::Again
        }
    }
}
