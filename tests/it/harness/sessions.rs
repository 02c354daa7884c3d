//! The service's sessions at a PostgreSQL database: what they wait for, and how they are ended.

use super::{Connection, Database, eventually};

/// Sessions that wait for a lock which somebody else holds.
pub(crate) const BLOCKED: &str = "wait_event_type = 'Lock'";

/// A view of the sessions of all services at a database, from a connection of its own.
#[derive(Debug)]
pub(crate) struct Sessions(Connection);

impl Sessions {
    pub(crate) async fn at(database: &Database) -> Self {
        Self(database.connect().await)
    }

    /// How many there are of which `condition` holds, in terms of `pg_stat_activity`.
    async fn count(&mut self, condition: &str) -> usize {
        self.0.texts(&select("CAST(pid AS TEXT)", condition)).await.len()
    }

    /// Waits until there is one of which `condition` holds.
    pub(crate) async fn reach(&mut self, condition: &str) {
        eventually(&format!("a session is {condition}"), async || {
            (self.count(condition).await > 0).then_some(())
        })
        .await;
    }

    /// Waits until there is none at all.
    pub(super) async fn all_end(&mut self) {
        eventually("the service's sessions end", async || {
            (self.count("true").await == 0).then_some(())
        })
        .await;
    }

    /// Has the server end those of which `condition` holds; returns how many.
    pub(crate) async fn terminate(&mut self, condition: &str) -> usize {
        self.0.texts(&select("CAST(pg_terminate_backend(pid) AS TEXT)", condition)).await.len()
    }

    pub(crate) async fn close(self) {
        self.0.close().await;
    }
}

fn select(what: &str, condition: &str) -> String {
    format!(
        "SELECT {what} FROM pg_stat_activity WHERE datname = current_database()
             AND application_name = 'token-billing' AND ({condition})"
    )
}
