//! Purchases that are being settled: whoever brings one meanwhile waits for the same asking.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use crate::domain::{PurchaseKey, Refusal, UserId};

/// What became of a purchase.
#[derive(Debug, Clone)]
pub(super) enum Settled {
    /// It was granted, now or before.
    Granted {
        /// To whom.
        owner: UserId,
        /// Whether it was now, and nobody was told yet.
        is_news: Arc<AtomicBool>,
    },
    /// It was not.
    Refused(Refusal),
}

impl Settled {
    /// Whether this user is the first to hear of the grant. True once.
    pub(super) fn is_news_for(&self, user: &UserId) -> bool {
        match self {
            Self::Granted { owner, is_news } => {
                owner == user && is_news.swap(false, Ordering::Relaxed)
            }
            Self::Refused(_) => false,
        }
    }
}

/// A purchase on its way.
#[derive(Debug, Clone)]
pub(super) struct Flight(watch::Receiver<Option<Settled>>);

impl Flight {
    /// Waits until it is settled.
    pub(super) async fn settled(mut self) -> Settled {
        match self.0.wait_for(Option::is_some).await {
            Ok(settled) => settled.clone().expect("it was waited for"),
            // It broke off; the purchase is written down.
            Err(_) => Settled::Refused(Refusal::StoreUnavailable),
        }
    }
}

/// All that are on their way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<PurchaseKey, Flight>>);

/// The end of a flight. Whoever waits is told when it is dropped, too.
#[derive(Debug)]
pub(super) struct Landing<'a> {
    flights: &'a Flights,
    key: PurchaseKey,
    settled: watch::Sender<Option<Settled>>,
}

impl Flights {
    /// Joins the flight of a purchase, or begins one: then there is something to do, in a task of its own, that
    /// ends with [`Self::landing`].
    pub(super) fn join(
        &self,
        key: &PurchaseKey,
    ) -> (Flight, Option<watch::Sender<Option<Settled>>>) {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(key) {
            return (flight.clone(), None);
        }
        let (sender, receiver) = watch::channel(None);
        let flight = Flight(receiver);
        flights.insert(key.clone(), flight.clone());
        (flight, Some(sender))
    }

    /// What ends a flight that was begun.
    pub(super) fn landing(
        &self,
        key: PurchaseKey,
        settled: watch::Sender<Option<Settled>>,
    ) -> Landing<'_> {
        Landing { flights: self, key, settled }
    }
}

impl Landing<'_> {
    /// Tells all who wait.
    pub(super) fn settle(self, settled: Settled) {
        self.settled.send_replace(Some(settled));
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
