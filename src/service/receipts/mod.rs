//! Purchases that their stores confirm: the way of one from a request to its grant. What is asked is the stores'
//! business, what a word of theirs means for an account the domain's; here is the order of the steps.

mod errands;
mod flights;
mod settling;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tracing::warn;

use super::ServiceError;
use crate::{
    database::Reader,
    domain::{
        Actor, Applied, Credits, Keyed, LookUp, Operation, PurchaseKey, PurchaseName,
        PurchaseRecord, PurchaseToken, Refusal, SandboxRule, StoreTransactionId, StoreWord, UserId,
    },
    ledger::{Clock, Ledger, LedgerError},
    metrics::{Metrics, StoreCall},
    stores::{Judged, StoreError, Stores},
};
pub(crate) use errands::Errands;
use flights::{Flights, Settled};

/// What a client brings.
#[derive(Clone)]
pub(crate) struct Brought {
    /// What proves it.
    pub token: PurchaseToken,
    /// What the client sent about it, without the token.
    pub record: PurchaseRecord,
    /// What the client takes it for, which decides nothing.
    pub label: Label,
    /// Who brings it, if it is not the user.
    pub actor: Option<Actor>,
}

/// What a client says of a purchase.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    pub credits: Credits,
    pub product: Option<String>,
    pub transaction_id: Option<StoreTransactionId>,
}

/// Has purchases confirmed, and grants them.
#[derive(Debug)]
pub(crate) struct Receipts {
    ledger: Ledger,
    reader: Reader,
    stores: Arc<Stores>,
    sandbox: SandboxRule,
    clock: Clock,
    metrics: Option<Arc<Metrics>>,
    flights: Flights,
}

impl Receipts {
    /// Has `stores` confirm purchases; `sandbox` says what test purchases get.
    pub(crate) fn new(
        ledger: Ledger,
        reader: Reader,
        stores: Arc<Stores>,
        sandbox: SandboxRule,
        clock: Clock,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        Self { ledger, reader, stores, sandbox, clock, metrics, flights: Flights::default() }
    }

    fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    async fn apply<O: Operation>(
        &self,
        user: &UserId,
        keyed: Option<Keyed>,
        operation: O,
    ) -> Result<Applied<O::Outcome>, LedgerError> {
        self.ledger.apply(user.clone(), keyed, operation).await
    }

    /// Grants a purchase if its store says that it is paid; returns the balance.
    ///
    /// # Errors
    /// [`ServiceError::Ledger`], with the [`Refusal`] that says what is missing.
    pub(super) async fn add(
        self: &Arc<Self>,
        user: &UserId,
        keyed: Option<Keyed>,
        brought: Brought,
    ) -> Result<Applied<Credits>, ServiceError> {
        let judged = self.stores.judge(&brought.token, self.now());
        let known = KnownBy::of(&brought.token, judged.as_ref().ok());
        let why = match self.look_up(user, keyed.clone(), &known).await {
            Err(LedgerError::Refused(why)) if self.may_have_changed(user, &why, &judged) => why,
            known => return Ok(known?),
        };
        match judged {
            Err(error) => Err(self.not_judged(&brought.token, &error).into()),
            Ok(Judged::Said(StoreWord::Paid(paid))) => {
                let settled = self.settle_signed(user, keyed, &known, *paid, &brought).await?;
                Ok(settled)
            }
            Ok(Judged::Said(StoreWord::Unpaid)) => Err(LedgerError::Refused(why).into()),
            Ok(Judged::Said(StoreWord::Never(why))) => {
                let purchase = PurchaseKey::of_unknown(&brought.token).short_hash();
                warn!(purchase, why, "a signed transaction is not valid");
                Err(LedgerError::Refused(Refusal::InvalidReceipt).into())
            }
            Ok(Judged::ToAsk(proof)) => {
                if let Some(doubt) = proof.doubt {
                    let error = StoreError::Chain(doubt);
                    warn!(purchase = known.short_hash(), %error, "it is looked up instead");
                    self.count_chain(&error);
                }
                let flight = self.fly(user, keyed.clone(), &proof, &known, &brought);
                let settled = flight.settled().await;
                self.tell(user, keyed, &known, &settled).await
            }
        }
    }

    /// What is known of it, a repetition of the request first.
    async fn look_up(
        &self,
        user: &UserId,
        keyed: Option<Keyed>,
        known: &KnownBy,
    ) -> Result<Applied<Credits>, LedgerError> {
        let KnownBy { keys, names } = known.clone();
        self.apply(user, keyed, LookUp { keys, names }).await
    }

    /// Whether it makes sense to ask again.
    fn may_have_changed(
        &self,
        user: &UserId,
        why: &Refusal,
        judged: &Result<Judged, StoreError>,
    ) -> bool {
        match why {
            // What somebody claimed, and could not prove, says nothing against its store's signature.
            Refusal::InvalidReceipt => matches!(judged, Ok(Judged::Said(StoreWord::Paid(_)))),
            Refusal::StoreUnavailable
            | Refusal::PurchasePending
            | Refusal::PurchaseInReview { for_operator: false } => true,
            Refusal::SandboxRefused => self.sandbox.grants(user),
            _ => false,
        }
    }

    /// What became of it, for one of those who waited.
    async fn tell(
        &self,
        user: &UserId,
        keyed: Option<Keyed>,
        known: &KnownBy,
        settled: &Settled,
    ) -> Result<Applied<Credits>, ServiceError> {
        let refusal = match settled {
            Settled::Granted { .. } => None,
            Settled::Refused(refusal) => Some(refusal.clone()),
        };
        match self.look_up(user, keyed, known).await {
            Ok(Applied { outcome, .. }) if settled.is_news_for(user) => Ok(Applied::now(outcome)),
            Err(LedgerError::Refused(Refusal::StoreUnavailable)) if refusal.is_some() => {
                Err(LedgerError::Refused(refusal.unwrap_or(Refusal::StoreUnavailable)).into())
            }
            told => Ok(told?),
        }
    }

    /// Counts certificates that lead to no root: if the store has a new one, somebody has to know.
    fn count_chain(&self, error: &StoreError) {
        if let (Some(metrics), StoreError::Chain(_)) = (&self.metrics, error) {
            metrics.stores.asked(StoreCall::AppleVerify, error.name(), Duration::ZERO);
        }
    }

    /// Why nobody can be asked about a proof.
    fn not_judged(&self, token: &PurchaseToken, error: &StoreError) -> LedgerError {
        self.count_chain(error);
        let purchase = PurchaseKey::of_unknown(token).short_hash();
        warn!(purchase, %error, "a purchase can't be confirmed");
        LedgerError::Refused(match error {
            StoreError::NotConfigured(_) => Refusal::StoreNotConfigured,
            _ => Refusal::StoreUnavailable,
        })
    }
}

/// What a purchase is known by.
#[derive(Debug, Clone)]
struct KnownBy {
    /// To its store.
    keys: Vec<PurchaseKey>,
    /// By which it may have been granted on a client's word.
    names: Vec<PurchaseName>,
}

impl KnownBy {
    fn of(token: &PurchaseToken, judged: Option<&Judged>) -> Self {
        let mut known = Self { keys: Vec::new(), names: vec![PurchaseName::of_token(token)] };
        match judged {
            Some(Judged::ToAsk(proof)) => {
                known.keys.push(proof.key.clone());
                known.add_name(PurchaseName::of_token(&proof.token));
            }
            Some(Judged::Said(StoreWord::Paid(paid))) => {
                known.keys = PurchaseKey::all_of(paid);
                known.names.extend(paid.store_id.as_deref().map(PurchaseName::of));
            }
            _ => {}
        }
        known
    }

    fn add_name(&mut self, name: PurchaseName) {
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }

    /// By which the log tells purchases apart.
    fn short_hash(&self) -> String {
        self.keys.first().map(PurchaseKey::short_hash).unwrap_or_default()
    }
}
