//! Many clients at work, and a journal of what they sent and what they were told.

use std::collections::BTreeSet;

use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Client, Database, Reply,
    client::{consumption, purchase},
};

/// Clients at once.
const CLIENTS: i64 = 20;
/// Most operations of one client; the tokens of [`Load::prepare`] suffice for them.
const OPERATIONS: i64 = 500;
/// What the clients consume.
const MODEL: &str = "gemini-2.0-flash";

/// Clients that buy and consume until the service no longer lets them.
#[derive(Debug)]
pub(crate) struct Load {
    clients: JoinSet<Journal>,
    acknowledgements: mpsc::UnboundedReceiver<()>,
}

/// Operations by name.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    sent: BTreeSet<String>,
    acknowledged: BTreeSet<String>,
}

impl Load {
    /// Gives the account what the clients will need.
    pub(crate) async fn prepare(client: &Client) {
        client.buy_tokens(MODEL, 375).await;
    }

    /// Sets the clients to work.
    pub(crate) fn start(client: &Client) -> Self {
        let (acknowledge, acknowledgements) = mpsc::unbounded_channel();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(work(client.clone(), number, acknowledge.clone()));
        }
        Self { clients, acknowledgements }
    }

    /// Waits until this many operations were acknowledged.
    pub(crate) async fn reach(&mut self, operations: usize) {
        for _ in 0..operations {
            self.acknowledgements.recv().await.expect("the clients are at work");
        }
    }

    /// Waits until every client has given up; returns what they know.
    pub(crate) async fn journal(self) -> Journal {
        let mut all = Journal::default();
        for mut journal in self.clients.join_all().await {
            all.sent.append(&mut journal.sent);
            all.acknowledged.append(&mut journal.acknowledged);
        }
        all
    }
}

/// One client: purchases and consumptions in turn, each with a name of its own.
async fn work(client: Client, number: i64, acknowledge: mpsc::UnboundedSender<()>) -> Journal {
    let mut journal = Journal::default();
    for operation in 0..OPERATIONS {
        let (name, path, body) = if operation % 2 == 0 {
            let name = format!("purchase {number} {operation}");
            let body = purchase(1, &name);
            (name, "/credits/add", body)
        } else {
            let name = format!("consumption {number} {operation}");
            (name, "/tokens/consume", consumption(MODEL, number, operation))
        };
        journal.sent.insert(name.clone());
        let path = format!("/api/billing{path}");
        let request = client.request(reqwest::Method::POST, &path).json(&body);
        match Reply::try_to(request).await {
            Ok(reply) if reply.status == 200 => {
                journal.acknowledged.insert(name);
                // Nobody may be counting any more.
                let _ = acknowledge.send(());
            }
            Ok(reply) => {
                assert_eq!(reply.status, 503, "only a service that stops refuses: {reply:?}");
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
        let rows = database
            .texts(
                "SELECT CASE type WHEN 'purchase' THEN transaction_id
                     ELSE type || ' ' || input_tokens || ' ' || output_tokens END
                 FROM transactions
                 WHERE type = 'consumption' OR transaction_id LIKE 'purchase %'",
            )
            .await;
        let found: BTreeSet<String> = rows.iter().cloned().collect();
        assert_eq!(rows.len(), found.len(), "operations that were carried out twice");
        let lost: Vec<_> = self.acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "acknowledged, but not there: {lost:?}");
        let strange: Vec<_> = found.difference(&self.sent).collect();
        assert!(strange.is_empty(), "there, but never sent: {strange:?}");
    }
}
