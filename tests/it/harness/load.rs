//! Many clients at work, and a journal of what they sent and what they were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Client, Database, Reply,
    client::{consumption, purchase},
    reached,
};

/// Clients at once.
const CLIENTS: i64 = 20;
/// Most operations of one client.
const OPERATIONS: i64 = 500;
/// What the clients consume.
const MODEL: &str = "gemini-2.0-flash";
/// More of both credits and tokens than all operations together use up.
const CREDITS: i64 = 1_000_000_000;

/// The names of all operations in the database, as in a [`Journal`].
const NAMES: &str = "
    SELECT CASE type WHEN 'purchase' THEN transaction_id
        WHEN 'allocation' THEN 'allocation-' || amount
        ELSE 'consumption-' || input_tokens END
    FROM transactions
    WHERE transaction_id LIKE 'purchase-%' OR type = 'allocation' AND amount < 1000000000
        OR type = 'consumption' AND amount > 0";

/// Clients that buy, allocate and consume until the service no longer lets them.
#[derive(Debug)]
pub(crate) struct Load {
    journal: Journal,
    clients: JoinSet<Journal>,
    steps: mpsc::UnboundedReceiver<()>,
}

/// Operations by name.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    sent: BTreeMap<String, Operation>,
    acknowledged: BTreeSet<String>,
}

/// One request, which can be told from all others by its number.
#[derive(Debug)]
struct Operation {
    name: String,
    path: &'static str,
    body: Value,
    keyed: bool,
}

impl Operation {
    /// Kinds in turn, and every other one of each under a key.
    fn new(number: i64) -> Self {
        let (kind, path) = match number % 3 {
            0 => ("purchase", "/credits/add"),
            1 => ("allocation", "/credits/allocate"),
            _ => ("consumption", "/tokens/consume"),
        };
        let name = format!("{kind}-{number}");
        let body = match kind {
            "purchase" => purchase(1, &name),
            "allocation" => json!({"allocations": [{"model_id": MODEL, "credits": number}]}),
            _ => consumption(MODEL, number, 0),
        };
        Self { name, path, body, keyed: number % 2 == 0 }
    }

    async fn send(&self, client: &Client) -> reqwest::Result<Reply> {
        let path = format!("/api/billing{}", self.path);
        let mut request = client.request(reqwest::Method::POST, &path).json(&self.body);
        if self.keyed {
            request = request.header("idempotency-key", &self.name);
        }
        Reply::try_to(request).await
    }
}

impl Load {
    /// What a service needs to be set to.
    pub(crate) const SETTINGS: [(&str, &str); 1] = [("BILLING_CAPACITY_QUICK", "9007199254740991")];

    /// Gives the account what the clients will need.
    pub(crate) async fn prepare(client: &Client) {
        client.buy_tokens(MODEL, CREDITS).await;
        for number in 0..5 {
            client.add(CREDITS, &format!("credits {number}")).await.ok();
        }
    }

    /// Sets the clients to work.
    pub(crate) fn start(client: &Client) -> Self {
        Self::go_on(client, Journal::default())
    }

    /// Sets the clients to work, where others have been before.
    pub(crate) fn go_on(client: &Client, journal: Journal) -> Self {
        let (step, steps) = mpsc::unbounded_channel();
        let numbers = journal.sent.values().map(|operation| &operation.name);
        let last = numbers.filter_map(|name| name.split_once('-')?.1.parse().ok()).max();
        let next = Arc::new(AtomicI64::new(last.unwrap_or(0) + 1));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(work(client.clone(), Arc::clone(&next), step.clone()));
        }
        Self { journal, clients, steps }
    }

    /// Waits until this often a request was sent or acknowledged.
    pub(crate) async fn reach(&mut self, steps: usize) {
        assert!(self.goes_on(steps).await, "the clients have given up");
    }

    /// The same; tells whether it came to that before every client had given up or was done.
    pub(crate) async fn goes_on(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
            if self.steps.recv().await.is_none() {
                return false;
            }
        }
        true
    }

    /// Waits until every client has given up; returns what they know.
    pub(crate) async fn journal(self) -> Journal {
        let mut all = self.journal;
        for mut journal in self.clients.join_all().await {
            all.sent.append(&mut journal.sent);
            all.acknowledged.append(&mut journal.acknowledged);
        }
        all
    }
}

/// One client, which gives up when it is refused or gets no answer.
async fn work(client: Client, numbers: Arc<AtomicI64>, step: mpsc::UnboundedSender<()>) -> Journal {
    let mut journal = Journal::default();
    for _ in 0..OPERATIONS {
        let operation = Operation::new(numbers.fetch_add(1, Ordering::Relaxed));
        // Nobody may be counting any more.
        let _ = step.send(());
        let result = operation.send(&client).await;
        let name = operation.name.clone();
        journal.sent.insert(name.clone(), operation);
        match result {
            Ok(reply) if reply.status == 200 => {
                assert!(!reply.is_replayed(), "{name} was never sent before: {reply:?}");
                journal.acknowledged.insert(name);
                let _ = step.send(());
            }
            Ok(reply) => {
                assert_eq!(reply.status, 503, "only a service in trouble refuses: {reply:?}");
                assert!(reply.header("retry-after").is_some(), "{reply:?}");
                assert!(reply.json()["code"].is_string(), "{reply:?}");
                break;
            }
            Err(_) => break,
        }
    }
    journal
}

impl Journal {
    /// Everything acknowledged is there, nothing twice, and nothing that was not sent.
    pub(crate) async fn compare(&self, database: &Database) {
        let found = names(database).await;
        let lost: Vec<_> = self.acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "acknowledged, but not there: {lost:?}");
        let strange: Vec<_> = found.iter().filter(|name| !self.sent.contains_key(*name)).collect();
        assert!(strange.is_empty(), "there, but never sent: {strange:?}");
    }

    /// How many operations were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// How many operations with a key have no success yet.
    pub(crate) fn unsettled(&self) -> usize {
        self.lost().filter(|operation| operation.keyed).count()
    }

    fn lost(&self) -> impl Iterator<Item = &Operation> {
        self.sent.values().filter(|operation| !self.acknowledged.contains(&operation.name))
    }

    /// Settles what has no success yet. What has a key is repeated under it; of the rest, what is there
    /// has to stay, and what is not must not appear any more. Returns how many were there already.
    pub(crate) async fn settle(&mut self, client: &Client, database: &Database) -> usize {
        let found = names(database).await;
        let lost: Vec<String> = self.lost().map(|operation| operation.name.clone()).collect();
        let happened = lost.iter().filter(|name| found.contains(*name)).count();
        for name in lost {
            let operation = &self.sent[&name];
            if operation.keyed {
                let send = async || operation.send(client).await.expect("the service answers");
                let reply = reached(database.engine(), send).await;
                reply.ok();
                assert_eq!(reply.is_replayed(), found.contains(&name), "{name}: {reply:?}");
            } else if !found.contains(&name) {
                self.sent.remove(&name);
                continue;
            }
            self.acknowledged.insert(name);
        }
        self.compare(database).await;
        happened
    }
}

/// The names of the operations that are there, each once.
async fn names(database: &Database) -> BTreeSet<String> {
    let rows = database.texts(NAMES).await;
    let found: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(rows.len(), found.len(), "operations that were carried out twice");
    found
}
