//! Requests to the app stores by call and outcome, and how long they took.

use std::{sync::OnceLock, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::OTHER;

/// What a store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreCall {
    /// Google: permission to ask.
    GoogleAccessToken,
    /// Google: what became of a purchase.
    GooglePurchase,
    /// Google is told that a purchase was delivered.
    GoogleAcknowledge,
    /// Google is told that a product may be bought again.
    GoogleConsume,
    /// Google: purchases taken back.
    GoogleVoided,
    /// Google is told how much of an order was used.
    GoogleReview,
    /// A transaction that Apple signed is judged here. Only what can't be is counted.
    AppleVerify,
    /// Apple: a transaction.
    AppleTransaction,
    /// Apple is asked for a notification.
    AppleTestNotification,
    /// Apple: notifications that it has sent.
    AppleHistory,
    /// Apple is told how much of a transaction was used.
    AppleConsumption,
}

impl StoreCall {
    const ALL: [Self; 11] = [
        Self::GoogleAccessToken,
        Self::GooglePurchase,
        Self::GoogleAcknowledge,
        Self::GoogleConsume,
        Self::GoogleVoided,
        Self::GoogleReview,
        Self::AppleVerify,
        Self::AppleTransaction,
        Self::AppleTestNotification,
        Self::AppleHistory,
        Self::AppleConsumption,
    ];

    /// Its store and its name.
    const fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::GoogleAccessToken => ("google", "access_token"),
            Self::GooglePurchase => ("google", "purchase"),
            Self::GoogleAcknowledge => ("google", "acknowledge"),
            Self::GoogleConsume => ("google", "consume"),
            Self::GoogleVoided => ("google", "voided"),
            Self::GoogleReview => ("google", "review"),
            Self::AppleVerify => ("apple", "verify"),
            Self::AppleTransaction => ("apple", "transaction"),
            Self::AppleTestNotification => ("apple", "test_notification"),
            Self::AppleHistory => ("apple", "history"),
            Self::AppleConsumption => ("apple", "consumption"),
        }
    }

    fn place(self) -> usize {
        Self::ALL.iter().position(|call| *call == self).expect("each call is among all")
    }
}

/// What may become of a request; whatever else shares the last.
const OUTCOMES: [&str; 9] =
    ["ok", "never", "unreachable", "limited", "unknown", "refused", "unreleased", "chain", OTHER];
/// Upper bounds of the buckets, in seconds; no request about a purchase takes longer than 3, none for a list
/// longer than 10.
const DURATION_BUCKETS: [f64; 11] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0];

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The counters, each made when it is first needed and then found by its place.
#[derive(Debug)]
pub(crate) struct StoreRequests {
    counted: Family<Labels<3>, Counter>,
    counters: [[OnceLock<Counter>; OUTCOMES.len()]; StoreCall::ALL.len()],
    timed: Family<Labels<2>, Histogram, fn() -> Histogram>,
    durations: [OnceLock<Histogram>; StoreCall::ALL.len()],
}

impl StoreRequests {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let counted = Family::<Labels<3>, Counter>::default();
        registry.register("store_requests", "Requests to the app stores", counted.clone());
        let timed = Family::<Labels<2>, Histogram, fn() -> Histogram>::new_with_constructor(|| {
            Histogram::new(DURATION_BUCKETS)
        });
        registry.register(
            "store_request_seconds",
            "Time from a request to an app store to its answer",
            timed.clone(),
        );
        let counters = [const { [const { OnceLock::new() }; _] }; _];
        Self { counted, counters, timed, durations: [const { OnceLock::new() }; _] }
    }

    /// Shows all calls to `store` from the start, so that the first increase is one.
    pub(crate) fn expect(&self, store: &str) {
        for call in StoreCall::ALL.into_iter().filter(|call| call.labels().0 == store) {
            for outcome in 0..OUTCOMES.len() {
                self.counter(call, outcome);
            }
        }
    }

    /// A store was asked; `outcome` is what its word, or its silence, meant.
    pub(crate) fn asked(&self, call: StoreCall, outcome: &str, took: Duration) {
        let last = OUTCOMES.len().saturating_sub(1);
        let outcome = OUTCOMES.iter().position(|known| *known == outcome).unwrap_or(last);
        self.counter(call, outcome).inc();
        let (store, name) = call.labels();
        self.durations[call.place()]
            .get_or_init(|| self.timed.get_or_create_owned(&[("store", store), ("call", name)]))
            .observe(took.as_secs_f64());
    }

    fn counter(&self, call: StoreCall, outcome: usize) -> &Counter {
        self.counters[call.place()][outcome].get_or_init(|| {
            let (store, name) = call.labels();
            let outcome = OUTCOMES[outcome];
            self.counted.get_or_create_owned(&[
                ("store", store),
                ("call", name),
                ("outcome", outcome),
            ])
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;

    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_came_to() {
        let mut registry = Registry::default();
        let requests = StoreRequests::registered(&mut registry);
        requests.expect("google");
        requests.asked(StoreCall::GooglePurchase, "ok", Duration::from_millis(30));
        requests.asked(StoreCall::GooglePurchase, "made up", Duration::from_secs(1));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a String takes all text");
        for line in [
            "store_requests_total{store=\"google\",call=\"purchase\",outcome=\"ok\"} 1\n",
            "store_requests_total{store=\"google\",call=\"purchase\",outcome=\"other\"} 1\n",
            "store_requests_total{store=\"google\",call=\"voided\",outcome=\"refused\"} 0\n",
            "store_request_seconds_count{store=\"google\",call=\"purchase\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(!text.contains("apple"), "{text}");
    }
}
