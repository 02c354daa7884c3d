//! The numbers an operator's monitoring reads: their names, and how they are counted. Who counts decides
//! what; nothing here knows HTTP's, the ledger's or the store's types.
//!
//! A handle is an atomic (a histogram: a lock held for nanoseconds) that is made once and then found by
//! position or by comparing short texts; no labels are hashed or allocated per request.

mod labelled;
mod listener;
mod purchases;
mod requests;
mod stores;

use std::time::Duration;

use prometheus_client::{
    encoding::prometheus_text,
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use labelled::Labelled;
pub(crate) use listener::Listener;
use purchases::PurchaseGauges;
pub(crate) use purchases::{SampledMessages, SampledPurchases};
use requests::Requests;
pub(crate) use stores::StoreCall;
use stores::StoreRequests;

/// What every name begins with.
const PREFIX: &str = "token_billing";
/// Most values of a label that come from outside of the code (model names); further ones share `other`.
pub(crate) const LABEL_VALUES_MAX: usize = 32;
/// What the values of a label are called that have none of their own.
const OTHER: &str = "other";
/// Upper bounds of the buckets for batches, in operations.
const BATCH_BUCKETS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// Upper bounds of the buckets for commits, in seconds; a lock of another process is waited for 2.5 s.
const COMMIT_BUCKETS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 2.5];

/// All that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    sampled: SampledGauges,
    purchases: PurchaseGauges,
    pub(crate) requests: Requests,
    pub(crate) batches: Batches,
    pub(crate) operations: Operations,
    pub(crate) stores: StoreRequests,
}

/// What the writer of the ledger does.
#[derive(Debug)]
pub(crate) struct Batches {
    operations: Histogram,
    commit_seconds: Histogram,
    retries: Counter,
}

/// What became of operations.
#[derive(Debug)]
pub(crate) struct Operations {
    pub(crate) credits_purchased: Counter,
    pub(crate) credits_allocated: Counter,
    pub(crate) credits_refunded: Counter,
    pub(crate) credits_shortfall: Counter,
    pub(crate) credits_given_back: Counter,
    pub(crate) credits_returned: Counter,
    pub(crate) tokens_shortfall: Counter,
    pub(crate) holds_opened: Counter,
    pub(crate) holds_settled: Counter,
    pub(crate) holds_released: Counter,
    tokens_consumed: Labelled,
    tokens_reversed: Labelled,
    refusals: Labelled,
    unavailable: Labelled,
}

/// What is not counted but looked at when somebody asks.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Operations that wait for the writer.
    pub queue_depth: usize,
    /// Size of the database file.
    pub database_bytes: u64,
    /// Size of its write-ahead log.
    pub wal_bytes: u64,
    /// Purchases, where the stores confirm them.
    pub purchases: Option<SampledPurchases>,
}

/// What does not change while the service runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Operations that may wait.
    pub queue_depth: usize,
    /// Most bytes of the database file, where that is limited.
    pub database_bytes: Option<u64>,
}

#[derive(Debug, Default)]
struct SampledGauges {
    queue_depth: Gauge,
    database_bytes: Gauge,
    wal_bytes: Gauge,
}

impl Metrics {
    /// Everything at zero; `paths` are the router's.
    #[must_use]
    pub(crate) fn new(limits: Limits, paths: Vec<String>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let sampled = SampledGauges::registered(&mut registry, limits);
        let purchases = PurchaseGauges::registered(&mut registry);
        let requests = Requests::registered(&mut registry, paths);
        let batches = Batches::registered(&mut registry);
        let operations = Operations::registered(&mut registry);
        let stores = StoreRequests::registered(&mut registry);
        Self { registry, sampled, purchases, requests, batches, operations, stores }
    }

    /// All of it in Prometheus' text format.
    fn render(&self, sample: Sample) -> String {
        let Sample { queue_depth, database_bytes, wal_bytes, purchases } = sample;
        self.sampled.queue_depth.set(count(queue_depth));
        self.sampled.database_bytes.set(count(database_bytes));
        self.sampled.wal_bytes.set(count(wal_bytes));
        if let Some(purchases) = &purchases {
            self.purchases.show(purchases);
        }
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry).expect("a String takes all text");
        text
    }
}

impl SampledGauges {
    fn registered(registry: &mut Registry, limits: Limits) -> Self {
        let this = Self::default();
        registry.register(
            "ledger_queue_depth",
            "Operations that wait for the ledger's writer",
            this.queue_depth.clone(),
        );
        registry.register(
            "ledger_queue_limit",
            "Operations that may wait; one more is answered with 503",
            constant(limits.queue_depth),
        );
        registry.register(
            "database_bytes",
            "Size of the database file",
            this.database_bytes.clone(),
        );
        registry.register(
            "database_wal_bytes",
            "Size of the database's write-ahead log",
            this.wal_bytes.clone(),
        );
        if let Some(limit) = limits.database_bytes {
            registry.register(
                "database_max_bytes",
                "Most bytes the database file may grow to",
                constant(limit),
            );
        }
        this
    }
}

impl Batches {
    fn registered(registry: &mut Registry) -> Self {
        let operations = Histogram::new(BATCH_BUCKETS);
        let commit_seconds = Histogram::new(COMMIT_BUCKETS);
        let retries = Counter::default();
        registry.register(
            "ledger_batch_operations",
            "Operations written in one transaction",
            operations.clone(),
        );
        registry.register(
            "ledger_commit_seconds",
            "Time to write and commit one transaction",
            commit_seconds.clone(),
        );
        registry.register(
            "ledger_batch_retries",
            "Transactions begun again, because what they went by was out of date",
            retries.clone(),
        );
        Self { operations, commit_seconds, retries }
    }

    /// A transaction is begun again.
    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    /// A transaction was committed.
    pub(crate) fn committed(&self, operations: usize, took: Duration) {
        self.operations.observe(f64::from(u32::try_from(operations).unwrap_or(u32::MAX)));
        self.commit_seconds.observe(took.as_secs_f64());
    }
}

impl Operations {
    fn registered(registry: &mut Registry) -> Self {
        let mut counter = |name, text| {
            let counter = Counter::default();
            registry.register(name, text, counter.clone());
            counter
        };
        let credits_purchased = counter("credits_purchased", "Credits added by purchases");
        let credits_allocated = counter("credits_allocated", "Credits turned into tokens");
        let credits_refunded = counter(
            "credits_refunded",
            "Credits taken back, because the store gave the money back",
        );
        let credits_shortfall = counter(
            "credits_shortfall",
            "Credits that a store gave the money back for, and that were used up",
        );
        let credits_given_back =
            counter("credits_given_back", "Credits given back, because a refund was reversed");
        let credits_returned =
            counter("credits_returned", "Credits that unused tokens were turned back into");
        let tokens_shortfall = counter(
            "shortfall_tokens",
            "Tokens that chats used beyond their holds and could not be taken",
        );
        let holds_opened = counter("holds_opened", "Holds made");
        let holds_settled = counter("holds_settled", "Holds settled by what was used");
        let holds_released = counter("holds_released", "Holds given up");
        let mut labelled = |name, text, label| Labelled::registered(registry, name, text, label);
        Self {
            credits_purchased,
            credits_allocated,
            credits_refunded,
            credits_shortfall,
            credits_given_back,
            credits_returned,
            tokens_reversed: labelled(
                "tokens_reversed",
                "Tokens of consumptions that came back",
                "model",
            ),
            tokens_shortfall,
            holds_opened,
            holds_settled,
            holds_released,
            tokens_consumed: labelled("tokens_consumed", "Tokens used by chats", "model"),
            refusals: labelled("refusals", "Operations that a rule refused", "code"),
            unavailable: labelled(
                "operations_unavailable",
                "Operations answered with 503 because of load, a stop or the database",
                "code",
            ),
        }
    }

    /// Shows these codes from the start, so that the first increase is one.
    pub(crate) fn expect_unavailable(&self, codes: impl IntoIterator<Item = &'static str>) {
        for code in codes {
            self.unavailable.of(code);
        }
    }

    /// A chat used tokens of a model.
    pub(crate) fn consumed(&self, model: &str, tokens: u64) {
        self.tokens_consumed.of(model).inc_by(tokens);
    }

    /// Tokens of a consumption came back.
    pub(crate) fn reversed(&self, model: &str, tokens: u64) {
        self.tokens_reversed.of(model).inc_by(tokens);
    }

    /// A rule said no.
    pub(crate) fn refused(&self, code: &'static str) {
        self.refusals.of(code).inc();
    }

    /// It could not be carried out now.
    pub(crate) fn unavailable(&self, code: &'static str) {
        self.unavailable.of(code).inc();
    }
}

fn constant(value: impl TryInto<i64>) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(count(value));
    gauge
}

fn count(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}
