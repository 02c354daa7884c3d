//! What the stores tell: pushed and found in their lists, kept, and worked on afterwards. Whether a message is its
//! store's, and what it tells, is the stores' business; what it does to an account is the domain's.

mod answers;
mod lists;
mod news;
mod proofs;
mod work;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use thiserror::Error;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::{
    database::Reader,
    domain::{
        Actor, Applied, KeepMessage, Message, Operation, PurchaseKey, SandboxRule, Store,
        StoreEvent, UserId, Way,
    },
    ledger::{Clock, Ledger, LedgerError},
    metrics::Metrics,
    stores::{Stores, Understood, Unreadable},
};

use proofs::{Proofs, Turn};

/// Why a message is not taken.
#[derive(Debug, Error)]
pub(crate) enum NotTaken {
    /// It is not proved, or can't be now, or is not expected.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Too many come that prove nothing: it was not looked at.
    #[error("too many prove nothing")]
    Crowded,
    /// It could not be kept.
    #[error(transparent)]
    NotKept(#[from] LedgerError),
}

/// As whom what the stores tell is written, where it is nobody's. Its account stays empty.
const NOBODY: &str = "nobody";

/// Takes what the stores tell.
#[derive(Debug)]
pub(crate) struct Notifications {
    ledger: Ledger,
    reader: Reader,
    stores: Arc<Stores>,
    sandbox: SandboxRule,
    clock: Clock,
    metrics: Option<Arc<Metrics>>,
    /// What those cost who prove nothing.
    proofs: [Proofs; 2],
    /// Tells the task that works on them that one came.
    came: Notify,
}

impl Notifications {
    /// Takes what `stores` tell. Nothing is worked on before [`Self::run`].
    pub(crate) fn new(
        ledger: Ledger,
        reader: Reader,
        stores: Arc<Stores>,
        sandbox: SandboxRule,
        clock: Clock,
        metrics: Option<Arc<Metrics>>,
    ) -> Self {
        let proofs = Store::ALL.map(|_| Proofs::new());
        Self { ledger, reader, stores, sandbox, clock, metrics, proofs, came: Notify::new() }
    }

    fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// Whether this store pushes.
    pub(crate) fn hear(&self, store: Store) -> bool {
        self.stores.hear(store)
    }

    /// Takes what Google pushes; `authorization` is the header's value. What does not concern us is done with.
    ///
    /// # Errors
    /// [`NotTaken`] when it is not proved, or was not kept.
    pub(crate) async fn take_google(
        &self,
        authorization: Option<&str>,
        body: &[u8],
    ) -> Result<(), NotTaken> {
        let turn = self.turn(Store::Google).await?;
        let read = self.stores.read_google_push(authorization, body, self.now()).await;
        self.take(Store::Google, turn, read).await
    }

    /// Takes a notification of Apple's. What does not concern us is done with.
    ///
    /// # Errors
    /// [`NotTaken`] when it is not proved, or was not kept.
    pub(crate) async fn take_apple(&self, body: &[u8]) -> Result<(), NotTaken> {
        let turn = self.turn(Store::Apple).await?;
        let read = self.stores.read_apple_notification(body, self.now());
        self.take(Store::Apple, turn, read).await
    }

    /// A turn to be judged.
    async fn turn(&self, store: Store) -> Result<Turn<'_>, NotTaken> {
        self.proofs(store).turn().await.ok_or(NotTaken::Crowded)
    }

    fn proofs(&self, store: Store) -> &Proofs {
        let [google, apple] = &self.proofs;
        match store {
            Store::Google => google,
            Store::Apple => apple,
        }
    }

    async fn take(
        &self,
        store: Store,
        turn: Turn<'_>,
        read: Result<Understood, Unreadable>,
    ) -> Result<(), NotTaken> {
        if let Ok(Ok(message)) = read {
            drop(turn);
            self.keep(message, Way::Push).await?;
            return Ok(());
        }
        if self.proofs(store).failed() {
            match &read {
                Ok(Ok(_)) => {}
                Ok(Err(passed_over)) => passed_over.tell(),
                Err(error) => warn!(store = store.name(), %error, "a notification is not taken"),
            }
        }
        turn.end().await;
        read.map_err(NotTaken::from).map(drop)
    }

    /// Tells of those together that were not told one by one.
    fn tell_untold(&self) {
        for store in Store::ALL {
            if let Some(notifications) = self.proofs(store).untold() {
                let store = store.name();
                warn!(store, notifications, "more notifications are not taken, or passed over");
            }
        }
    }

    /// Keeps a message, to be worked on afterwards. Returns whether it was not known.
    async fn keep(&self, message: Message, way: Way) -> Result<bool, LedgerError> {
        let (id, store) = (message.id.clone(), message.store);
        let (event, purchase) = (message.event.name(), short_hash(&message.event));
        let kept = self.apply(&nobody(), KeepMessage { message, way }).await?;
        let is_known = kept.replayed;
        if !is_known || way == Way::Push {
            let (id, store) = (id.as_str(), store.name());
            info!(id, store, event, purchase, is_known, ?way, "a notification came");
        }
        if !is_known {
            self.came.notify_one();
        }
        Ok(!is_known)
    }

    /// As the stores.
    async fn apply<O: Operation>(
        &self,
        user: &UserId,
        operation: O,
    ) -> Result<Applied<O::Outcome>, LedgerError> {
        self.ledger.apply_as(Some(Actor::Store), user.clone(), None, operation).await
    }
}

fn nobody() -> UserId {
    UserId::new(NOBODY).expect("a constant that is a name")
}

/// By which the log tells apart the purchases that messages are about.
fn short_hash(event: &StoreEvent) -> Option<String> {
    let key = match event {
        StoreEvent::GoogleChange { token, .. } | StoreEvent::GoogleVoid { token, .. } => {
            PurchaseKey::google_token(token)
        }
        StoreEvent::GoogleReview { order, .. } => PurchaseKey::google_order(order),
        StoreEvent::AppleTransaction(told) | StoreEvent::AppleConsumption(told) => {
            PurchaseKey::all_of(&told.paid).into_iter().next()?
        }
    };
    Some(key.short_hash())
}
