//! What is left to do at the stores, done by a task in the background: purchases that wait are asked for again, and
//! what was granted is acknowledged, and consumed a day later. What is due is in the database, so a stop loses
//! nothing, and of several instances one has a purchase at a time.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{
    super::at_work::AtWork,
    KnownBy, Receipts,
    settling::{Asked, Bought},
};
use crate::{
    database::{Chore, DuePurchase},
    domain::{
        Environment, Errand, Noted, PurchaseKey, PurchaseName, PurchaseRecord, TakeTurn, Told, Turn,
    },
    ledger::LedgerError,
    stores::{Proof, StoreError},
};

/// How long until it is looked again whether something is due.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Purchases at work at the same time.
const AT_ONCE: u16 = 16;
/// How long after a grant its store is still told what it does not know. Google cancels what is not acknowledged
/// after three days, and forgets the token of what was bought again.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(7);
/// How long one errand may take at its store.
const ERRAND_LIMIT: Duration = Duration::from_secs(10);

/// What became of a purchase that was due.
#[derive(Debug)]
enum Took {
    /// It was worked on.
    Turn,
    /// Somebody else has it, or it could not be written.
    Nothing,
}

/// The task in the background.
#[derive(Debug)]
pub(crate) struct Errands(Arc<Receipts>);

impl Errands {
    /// The errands of these purchases. Nothing runs yet.
    pub(crate) const fn of(receipts: Arc<Receipts>) -> Self {
        Self(receipts)
    }

    /// Runs for good. At the start all is due.
    pub(crate) async fn run(self) {
        if let Err(error) = self.0.ledger.chore(Chore::MakeDue { now: self.0.now() }).await {
            warn!(%error, "purchases that wait are asked for when their time comes");
        }
        let mut running = AtWork::new();
        loop {
            running.clear();
            let room = usize::from(AT_ONCE).saturating_sub(running.len());
            if room > 0 {
                // Those that have not taken their turn yet are among those that are due.
                match self.0.reader.due_purchases(self.0.now(), AT_ONCE).await {
                    Ok(mut due) => {
                        due.retain(|due| !running.has(&due.key));
                        due.truncate(room);
                        let begins = !due.is_empty();
                        for due in due {
                            let key = due.key.clone();
                            running.begin(key, Arc::clone(&self.0).run_errand(due));
                        }
                        // There may be more. Where another instance takes the turns, it goes on with them.
                        if begins
                            && let Ok(Some(Took::Turn)) = timeout(LOOK_AGAIN, running.next()).await
                        {
                            continue;
                        }
                    }
                    Err(error) => warn!(%error, "it can't be seen which purchases are due"),
                }
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

impl Receipts {
    async fn run_errand(self: Arc<Self>, due: DuePurchase) -> Took {
        let DuePurchase { key, user } = &due;
        let turn = match self.apply(user, None, TakeTurn { key: key.clone() }).await {
            Ok(applied) => applied.outcome,
            Err(error) => {
                warn!(purchase = key.short_hash(), %error, "a purchase that is due has to wait");
                return Took::Nothing;
            }
        };
        match turn {
            Some(turn) if turn.errand == Errand::Ask => self.ask_again(due, turn).await,
            Some(turn) => self.tell_store(due, turn).await,
            None => return Took::Nothing,
        }
        Took::Turn
    }

    async fn ask_again(self: &Arc<Self>, due: DuePurchase, turn: Turn) {
        let DuePurchase { key, user: owner } = due;
        let record = turn.record.unwrap_or_else(|| "{}".to_owned());
        let record = PurchaseRecord::new(record);
        match (turn.token, turn.paid) {
            (Some(token), _) => {
                let names = vec![PurchaseName::of_token(&token)];
                let known = KnownBy { keys: vec![key.clone()], names };
                let (environment, doubt) = (None, None);
                let proof = Proof { store: turn.store, key, token, environment, doubt };
                let (id, keyed, label, actor) = (turn.id, None, None, None);
                let asked = Asked { id, proof, known, owner, keyed, record, label, actor };
                self.fly_again(asked).settled().await;
            }
            (None, Some(paid)) => {
                let is_test = paid.environment == Environment::Sandbox;
                let mut known = KnownBy { keys: vec![key], names: Vec::new() };
                if is_test && !self.sandbox.grants(&owner) {
                    self.write_note(&owner, &known, None, Noted::Sandbox(paid)).await;
                    return;
                }
                known.keys.extend(PurchaseKey::all_of(&paid));
                let (token_hash, asked_with, label, actor) = (String::new(), None, None, None);
                let paid = *paid;
                let bought = Bought { paid, token_hash, asked_with, record, label, actor };
                let granted = self.grant(&owner, None, &known, bought).await;
                if let Err(error @ (LedgerError::Unavailable | LedgerError::Failed(_))) = granted {
                    warn!(purchase = known.short_hash(), %error, "a purchase in review has to wait");
                }
            }
            (None, None) => {}
        }
    }

    /// Whether a store that does not know a granted purchase any more has nothing to be told.
    fn is_long_ago(&self, granted_at: Option<DateTime<Utc>>) -> bool {
        granted_at.is_some_and(|at| self.now().signed_duration_since(at) >= FORGOTTEN_AFTER)
    }

    async fn tell_store(&self, due: DuePurchase, turn: Turn) {
        let DuePurchase { key, user } = due;
        let (Some(product), Some(token)) = (&turn.product, &turn.token) else { return };
        let telling = self.stores.tell(turn.errand, product, token);
        let late = || Err(StoreError::Unreachable("it takes too long".to_owned()));
        let told = timeout(ERRAND_LIMIT, telling).await.unwrap_or_else(|_| late());
        let purchase = key.short_hash();
        match &told {
            Ok(()) => {
                info!(purchase, purchase_id = turn.id, errand = ?turn.errand, "its store was told");
            }
            Err(error) => {
                warn!(purchase, purchase_id = turn.id, errand = ?turn.errand, %error, "its store was not told");
            }
        }
        let is_forgotten = told == Err(StoreError::Unknown) && self.is_long_ago(turn.granted_at);
        let noted = Told { key, errand: turn.errand, done: told.is_ok() || is_forgotten };
        if let Err(error) = self.apply(&user, None, noted).await {
            warn!(purchase, %error, "what its store was told is not noted, and told again");
        }
    }
}
