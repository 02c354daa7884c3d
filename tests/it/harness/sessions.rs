//! The service's sessions at a PostgreSQL database: what they wait for, and how they are stopped and ended.

use std::process::{Command, Stdio};

use super::{Connection, Database, Pooler, eventually};

/// Sessions that wait for a lock which somebody else holds.
pub(crate) const BLOCKED: &str = "wait_event_type = 'Lock'";

/// A view of the sessions of all services at a database, from a connection of its own.
#[derive(Debug)]
pub(crate) struct Sessions(Connection);

impl Sessions {
    pub(crate) async fn at(database: &Database) -> Self {
        Self(database.connect().await)
    }

    /// The processes that serve those of which `condition` holds, in terms of `pg_stat_activity`.
    async fn processes(&mut self, condition: &str) -> Vec<String> {
        self.0.texts(&select("CAST(pid AS TEXT)", condition)).await
    }

    /// Waits until there is one of which `condition` holds.
    pub(crate) async fn reach(&mut self, condition: &str) {
        self.reach_unless(|| false, condition).await;
    }

    /// The same, unless what it would wait in is `over`: a slow machine may see it too late.
    pub(crate) async fn reach_unless(&mut self, over: impl Fn() -> bool, condition: &str) {
        eventually(&format!("a session is {condition}"), async || {
            (over() || !self.processes(condition).await.is_empty()).then_some(())
        })
        .await;
    }

    /// How many there are of which `condition` holds.
    pub(crate) async fn count(&mut self, condition: &str) -> usize {
        self.processes(condition).await.len()
    }

    /// Waits until there is none at all.
    pub(super) async fn all_end(&mut self) {
        eventually("the service's sessions end", async || {
            // A pooler keeps them for the next.
            let left = if Pooler::of_all().is_some() { "state <> 'idle'" } else { "true" };
            self.processes(left).await.is_empty().then_some(())
        })
        .await;
    }

    /// Has the server end those of which `condition` holds; returns how many.
    pub(crate) async fn terminate(&mut self, condition: &str) -> usize {
        self.0.texts(&select("CAST(pg_terminate_backend(pid) AS TEXT)", condition)).await.len()
    }

    /// Has the one of which `condition` holds do nothing at all, until it may [`Self::go_on`].
    pub(crate) async fn hang(&mut self, condition: &str) -> Hanging {
        let mut processes = self.processes(condition).await;
        assert_eq!(processes.len(), 1, "{processes:?} are {condition}");
        Hanging::stopped(processes.remove(0))
    }

    /// The same with `count` of them, as soon as there are so many.
    pub(crate) async fn hang_all(&mut self, count: usize, condition: &str) -> Vec<Hanging> {
        let processes = eventually(&format!("{count} sessions are {condition}"), async || {
            Some(self.processes(condition).await).filter(|found| found.len() == count)
        })
        .await;
        processes.into_iter().map(Hanging::stopped).collect()
    }

    /// Lets it go on, and waits for its end, since nobody listens to it any more.
    pub(crate) async fn go_on(&mut self, hanging: Hanging) {
        hanging.signal("-CONT");
        let condition = format!("pid = {}", hanging.0);
        eventually("a session ends", async || {
            self.processes(&condition).await.is_empty().then_some(())
        })
        .await;
    }

    pub(crate) async fn close(self) {
        self.0.close().await;
    }
}

/// The process of a session that was stopped.
#[derive(Debug)]
pub(crate) struct Hanging(String);

impl Drop for Hanging {
    fn drop(&mut self) {
        // It may have ended, and a failed test must leave none behind.
        let _ = Command::new("kill").args(["-CONT", &self.0]).stderr(Stdio::null()).status();
    }
}

impl Hanging {
    fn stopped(process: String) -> Self {
        let hanging = Self(process);
        hanging.signal("-STOP");
        hanging
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.0]).status().expect("kill starts");
        assert!(status.success(), "the server is ours");
    }
}

fn select(what: &str, condition: &str) -> String {
    format!(
        "SELECT {what} FROM pg_stat_activity WHERE datname = current_database()
             AND application_name = 'token-billing' AND ({condition})"
    )
}
