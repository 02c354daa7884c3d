//! How a purchase is settled: written down, its store asked, and then granted or noted.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{
    Brought, KnownBy, Label, Receipts,
    flights::{Flight, Settled},
};
use crate::{
    domain::{
        Actor, Applied, Credits, Environment, Grant, GrantOutcome, Keyed, Note, NoteOutcome, Noted,
        PaidPurchase, PurchaseKey, PurchaseName, PurchaseRecord, PurchaseToken, Reason, Receive,
        Received, Refusal, StoreTransactionId, StoreWord, UserId, hash,
    },
    ledger::LedgerError,
    stores::{Proof, StoreError},
};

/// How long a store may be asked for one purchase.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// A paid purchase on its way to its grant.
pub(super) struct Bought {
    pub(super) paid: PaidPurchase,
    /// What stands for the token, where its store gave no id.
    pub(super) token_hash: String,
    /// With what its store was asked, if it was.
    pub(super) asked_with: Option<PurchaseToken>,
    pub(super) record: PurchaseRecord,
    pub(super) label: Option<Label>,
    /// Who brings it, if it is not the user.
    pub(super) actor: Option<Actor>,
}

/// A purchase whose store is asked.
pub(super) struct Asked {
    /// The purchase's id, if it was written down before.
    pub(super) id: Option<i64>,
    pub(super) proof: Proof,
    pub(super) known: KnownBy,
    /// Whose it is.
    pub(super) owner: UserId,
    /// The request of the owner's that is carried out by granting it.
    pub(super) keyed: Option<Keyed>,
    pub(super) record: PurchaseRecord,
    /// What the client takes it for.
    pub(super) label: Option<Label>,
    /// Who brought it for the owner, if it is not the owner.
    pub(super) actor: Option<Actor>,
}

impl Receipts {
    /// Has a purchase settled, in a task of its own: a client that hangs up changes nothing. Who comes while that
    /// is done waits for the same.
    pub(super) fn fly(
        self: &Arc<Self>,
        user: &UserId,
        keyed: Option<Keyed>,
        proof: &Proof,
        known: &KnownBy,
        brought: &Brought,
    ) -> Flight {
        let (flight, begun) = self.flights.join(&proof.key);
        if let Some(settled) = begun {
            let (this, user, proof) = (Arc::clone(self), user.clone(), proof.clone());
            let (known, brought) = (known.clone(), brought.clone());
            tokio::spawn(async move {
                let landing = this.flights.landing(proof.key.clone(), settled);
                let received = this.receive(&user, keyed, proof, known, brought).await;
                landing.settle(match received {
                    Ok(asked) => this.ask(asked).await,
                    Err(settled) => settled,
                });
            });
        }
        flight
    }

    /// The same for one that is written down.
    pub(super) fn fly_again(self: &Arc<Self>, asked: Asked) -> Flight {
        let (flight, begun) = self.flights.join(&asked.proof.key);
        if let Some(settled) = begun {
            let this = Arc::clone(self);
            tokio::spawn(async move {
                let landing = this.flights.landing(asked.proof.key.clone(), settled);
                landing.settle(this.ask(asked).await);
            });
        }
        flight
    }

    /// Writes a purchase down.
    async fn receive(
        &self,
        user: &UserId,
        keyed: Option<Keyed>,
        proof: Proof,
        known: KnownBy,
        brought: Brought,
    ) -> Result<Asked, Settled> {
        let Brought { record, label, actor, .. } = brought;
        let receive = Receive {
            key: proof.key.clone(),
            store: proof.store,
            token: proof.token.clone(),
            record: record.clone(),
        };
        let received = self.apply(user, None, receive).await;
        let Received { owner, id, is_granted } =
            received.map_err(|error| not_settled(&proof.key, &error))?.outcome;
        if is_granted {
            return Err(Settled::Granted { owner, is_news: Arc::default() });
        }
        let purchase = proof.key.short_hash();
        let is_own = owner == *user;
        let (store, user) = (proof.store.name(), owner.as_str());
        info!(purchase, purchase_id = id, store, user, "purchase received");
        let (keyed, label) = (keyed.filter(|_| is_own), is_own.then_some(label));
        let actor = actor.filter(|_| is_own);
        Ok(Asked { id, proof, known, owner, keyed, record, label, actor })
    }

    /// Asks the store, and does what follows from its word.
    async fn ask(&self, asked: Asked) -> Settled {
        let key = &asked.proof.key;
        let asking = timeout(ASK_LIMIT, self.stores.ask(&asked.proof, self.now()));
        let late = || Err(StoreError::Unreachable("it takes too long".to_owned()));
        let word = asking.await.unwrap_or_else(|_| late());
        let (purchase, purchase_id) = (key.short_hash(), asked.id);
        match word {
            Ok(StoreWord::Paid(paid)) => return self.settle_paid(asked, *paid).await,
            Ok(StoreWord::Unpaid) => {
                info!(purchase, purchase_id, "its store says that it is not paid yet");
                self.note(&asked, Noted::Unpaid, Refusal::PurchasePending).await
            }
            Ok(StoreWord::Never(why)) => {
                info!(purchase, purchase_id, why, "its store says that it is not valid");
                self.note(&asked, Noted::Never, Refusal::InvalidReceipt).await
            }
            Err(StoreError::Unknown) => {
                info!(purchase, purchase_id, "its store does not know it, or not yet");
                self.note(&asked, Noted::Unknown, Refusal::StoreUnavailable).await
            }
            Err(error) => {
                self.count_chain(&error);
                warn!(purchase, purchase_id, %error, "its store does not confirm it now");
                let refusal = match error {
                    StoreError::NotConfigured(_) => Refusal::StoreNotConfigured,
                    _ => Refusal::StoreUnavailable,
                };
                self.note(&asked, Noted::Unsaid, refusal).await
            }
        }
    }

    /// Grants what was asked for, or notes why not.
    async fn settle_paid(&self, asked: Asked, paid: PaidPurchase) -> Settled {
        let Asked { proof, mut known, owner, keyed, record, label, actor, .. } = asked;
        let purchase = proof.key.short_hash();
        if paid.environment == Environment::Sandbox && !self.sandbox.grants(&owner) {
            info!(purchase, "a test purchase is refused (BILLING_SANDBOX_PURCHASES)");
            let noted = Noted::Sandbox(Box::new(paid));
            return self.note_known(&owner, &known, None, noted, Refusal::SandboxRefused).await;
        }
        for key in PurchaseKey::all_of(&paid) {
            if !known.keys.contains(&key) {
                known.keys.push(key);
            }
        }
        if let Some(id) = paid.store_id.as_deref() {
            known.add_name(PurchaseName::of(id));
        }
        let token_hash = hash(proof.token.as_str());
        let asked_with = Some(proof.token.clone());
        let bought = Bought { paid, token_hash, asked_with, record, label, actor };
        let granted = self.grant(&owner, keyed, &known, bought).await;
        match granted {
            Ok(Applied { replayed, .. }) => {
                let is_news = Arc::new(AtomicBool::new(!replayed));
                Settled::Granted { owner, is_news }
            }
            Err(LedgerError::Refused(refusal)) => Settled::Refused(refusal),
            Err(error) => not_settled(&proof.key, &error),
        }
    }

    /// Grants what was signed, or notes why not.
    pub(super) async fn settle_signed(
        &self,
        user: &UserId,
        keyed: Option<Keyed>,
        known: &KnownBy,
        paid: PaidPurchase,
        brought: &Brought,
    ) -> Result<Applied<Credits>, LedgerError> {
        if paid.environment == Environment::Sandbox && !self.sandbox.grants(user) {
            let purchase = known.short_hash();
            info!(purchase, "a test purchase is refused (BILLING_SANDBOX_PURCHASES)");
            return Err(LedgerError::Refused(Refusal::SandboxRefused));
        }
        let (record, label) = (brought.record.clone(), Some(brought.label.clone()));
        let actor = brought.actor;
        let token_hash = hash(brought.token.as_str());
        let bought = Bought { paid, token_hash, asked_with: None, record, label, actor };
        self.grant(user, keyed, known, bought).await
    }

    /// Grants a purchase; where something has to be cleared up first, that is noted.
    pub(super) async fn grant(
        &self,
        owner: &UserId,
        keyed: Option<Keyed>,
        known: &KnownBy,
        bought: Bought,
    ) -> Result<Applied<Credits>, LedgerError> {
        let Bought { paid, token_hash, asked_with, record, label, actor } = bought;
        let id = paid.store_id.as_deref().unwrap_or(&token_hash);
        let store_transaction_id = StoreTransactionId::new(id)
            .map_err(|error| LedgerError::Failed(format!("a store's id: {error}")))?;
        let grant = Grant {
            keys: known.keys.clone(),
            names: known.names.clone(),
            paid: paid.clone(),
            store_transaction_id,
            token: asked_with.clone(),
            record: record.clone(),
        };
        let purchase = known.short_hash();
        match self.ledger.apply_as(actor, owner.clone(), keyed, grant).await {
            Ok(Applied { outcome, replayed }) => {
                if !replayed {
                    self.tell_of_grant(&purchase, owner, &outcome, &paid);
                    warn_of_label(&purchase, label.as_ref(), &paid, &token_hash, outcome.granted);
                }
                Ok(Applied { outcome: outcome.balance, replayed })
            }
            Err(LedgerError::Refused(refusal)) => {
                if let Some(what) = noted(&purchase, &refusal, paid, record) {
                    self.write_note(owner, known, asked_with, what).await;
                }
                Err(LedgerError::Refused(refusal))
            }
            Err(error) => Err(error),
        }
    }

    fn tell_of_grant(
        &self,
        purchase: &str,
        owner: &UserId,
        outcome: &GrantOutcome,
        paid: &PaidPurchase,
    ) {
        let GrantOutcome { granted, taken, id: purchase_id, .. } = outcome;
        let (user, credits) = (owner.as_str(), granted.get());
        let is_test = paid.environment == Environment::Sandbox;
        info!(purchase, purchase_id, user, credits, is_test, "purchase granted");
        if let (Some(metrics), false) = (&self.metrics, is_test) {
            metrics.operations.credits_purchased.inc_by(credits.unsigned_abs());
            metrics.operations.credits_refunded.inc_by(taken.get().unsigned_abs());
        }
    }

    async fn note(&self, asked: &Asked, what: Noted, refusal: Refusal) -> Settled {
        let token = Some(asked.proof.token.clone());
        self.note_known(&asked.owner, &asked.known, token, what, refusal).await
    }

    async fn note_known(
        &self,
        owner: &UserId,
        known: &KnownBy,
        token: Option<PurchaseToken>,
        what: Noted,
        refusal: Refusal,
    ) -> Settled {
        Settled::Refused(match self.write_note(owner, known, token, what).await {
            Some(NoteOutcome { is_invalid: true }) => Refusal::InvalidReceipt,
            Some(_) => refusal,
            None => Refusal::StoreUnavailable,
        })
    }

    /// What the note came to, if it could be taken. If not, it is asked again when its lease has ended.
    pub(super) async fn write_note(
        &self,
        owner: &UserId,
        known: &KnownBy,
        token: Option<PurchaseToken>,
        what: Noted,
    ) -> Option<NoteOutcome> {
        let KnownBy { keys, names } = known.clone();
        let noted = self.apply(owner, None, Note { keys, names, token, what }).await;
        if let Err(error) = &noted {
            error!(purchase = known.short_hash(), %error, "what became of it was not noted");
        }
        noted.ok().map(|applied| applied.outcome)
    }
}

fn not_settled(key: &PurchaseKey, error: &LedgerError) -> Settled {
    if !matches!(error, LedgerError::Refused(_)) {
        error!(purchase = key.short_hash(), %error, "a purchase was not settled");
    }
    Settled::Refused(Refusal::StoreUnavailable)
}

/// What is to be noted where a paid purchase is not granted, if anything.
fn noted(
    purchase: &str,
    refusal: &Refusal,
    paid: PaidPurchase,
    record: PurchaseRecord,
) -> Option<Noted> {
    match refusal {
        Refusal::PurchaseInReview { for_operator } => {
            warn!(purchase, for_operator, product = product_names(&paid), "purchase in review");
            let reason =
                if *for_operator { Reason::AnotherAccount } else { Reason::UnknownProduct };
            Some(Noted::Review(reason, Box::new(paid), record))
        }
        Refusal::PurchaseAlreadyProcessed => {
            info!(purchase, "it was granted to another user before");
            Some(Noted::Duplicate)
        }
        Refusal::StoreUnavailable => {
            info!(purchase, "it waits for another user, who brought it first");
            None
        }
        Refusal::InvalidReceipt => {
            info!(purchase, "it was refunded before anybody got it");
            Some(Noted::Claimed(Box::new(paid), record))
        }
        refusal => {
            warn!(purchase, code = refusal.code(), "a paid purchase is not granted now");
            Some(Noted::Unsaid)
        }
    }
}

/// The client may say otherwise: it labels a purchase with what the user tapped last.
fn warn_of_label(
    purchase: &str,
    label: Option<&Label>,
    paid: &PaidPurchase,
    token_hash: &str,
    granted: Credits,
) {
    let Some(Label { credits, product, transaction_id }) = label else { return };
    let products = product_names(paid);
    let other_product = product.as_ref().is_some_and(|product| *product != products);
    // While there is no order yet the app takes the token for one, which nobody has to know of.
    let other_id = matches!((transaction_id, &paid.store_id), (Some(labelled), Some(id))
        if labelled.as_str() != id && hash(labelled.as_str()) != token_hash);
    if *credits != granted || other_product || other_id {
        let labelled: String = product.iter().flat_map(|name| name.chars()).take(64).collect();
        warn!(
            purchase,
            labelled,
            labelled_credits = credits.get(),
            products,
            credits = granted.get(),
            other_id,
            "the client took it for another purchase; its store's word was granted"
        );
    }
}

fn product_names(paid: &PaidPurchase) -> String {
    let names: Vec<&str> = paid.items.iter().map(|item| item.product.as_str()).collect();
    names.join(",")
}
