//! Purchases that the stores confirm, by how far they have come, and what waits for how long.

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::count;

/// What is looked at when somebody asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct SampledPurchases {
    /// How many of each store and state.
    pub by_state: Vec<(&'static str, &'static str, u64)>,
    /// For how many seconds the oldest has waited for its store's word, or for somebody to look.
    pub oldest_waiting_seconds: u64,
    /// Granted purchases whose store has yet to be told.
    pub acknowledgements_due: u64,
    /// For how many seconds the oldest of those has been granted.
    pub acknowledgements_oldest_seconds: u64,
    /// What waits of each store's messages.
    pub messages: Vec<SampledMessages>,
}

/// A store's messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SampledMessages {
    pub store: &'static str,
    /// How many are to be worked on.
    pub waiting: u64,
    /// For how many seconds the oldest of those has waited.
    pub oldest_seconds: u64,
    /// How many seconds ago the last was pushed, if one ever was.
    pub age_seconds: Option<u64>,
}

type Labels = [(&'static str, &'static str); 2];

#[derive(Debug, Default)]
pub(super) struct PurchaseGauges {
    by_state: Family<Labels, Gauge>,
    oldest_waiting_seconds: Gauge,
    acknowledgements_due: Gauge,
    acknowledgements_oldest_seconds: Gauge,
    messages_waiting: Family<[(&'static str, &'static str); 1], Gauge>,
    messages_oldest_seconds: Family<[(&'static str, &'static str); 1], Gauge>,
    notification_age_seconds: Family<[(&'static str, &'static str); 1], Gauge>,
}

impl PurchaseGauges {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register(
            "purchases",
            "Purchases that the stores confirm, by how far they have come",
            this.by_state.clone(),
        );
        for (name, text, family) in [
            (
                "notifications_waiting",
                "What the stores told and that is to be worked on, or answered",
                &this.messages_waiting,
            ),
            (
                "notifications_oldest_seconds",
                "Age of the oldest of those",
                &this.messages_oldest_seconds,
            ),
            (
                "notification_age_seconds",
                "Time since a store last pushed a notification that concerns purchases",
                &this.notification_age_seconds,
            ),
        ] {
            registry.register(name, text, family.clone());
        }
        let mut gauge = |name, text, gauge: &Gauge| registry.register(name, text, gauge.clone());
        gauge(
            "purchases_oldest_waiting_seconds",
            "Age of the oldest purchase that is not settled",
            &this.oldest_waiting_seconds,
        );
        gauge(
            "acknowledgements_due",
            "Granted purchases whose store has yet to be told; it cancels them after three days",
            &this.acknowledgements_due,
        );
        gauge(
            "acknowledgements_oldest_seconds",
            "Time since the oldest of those was granted",
            &this.acknowledgements_oldest_seconds,
        );
        this
    }

    pub(super) fn show(&self, sampled: &SampledPurchases) {
        for (store, state, purchases) in &sampled.by_state {
            let labels = [("store", *store), ("state", *state)];
            self.by_state.get_or_create_owned(&labels).set(count(*purchases));
        }
        for messages in &sampled.messages {
            let labels = [("store", messages.store)];
            self.messages_waiting.get_or_create_owned(&labels).set(count(messages.waiting));
            let oldest = self.messages_oldest_seconds.get_or_create_owned(&labels);
            oldest.set(count(messages.oldest_seconds));
            if let Some(age) = messages.age_seconds {
                self.notification_age_seconds.get_or_create_owned(&labels).set(count(age));
            }
        }
        self.oldest_waiting_seconds.set(count(sampled.oldest_waiting_seconds));
        self.acknowledgements_due.set(count(sampled.acknowledgements_due));
        self.acknowledgements_oldest_seconds.set(count(sampled.acknowledgements_oldest_seconds));
    }
}
