//! Connections that serve requests: no statement, lock or idle transaction on them lasts longer than
//! a request may take, and a commit is on disk when it is reported.

use std::{io, time::Duration};

use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};
use tokio::time::timeout;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a statement may take. Well below the deadline of a request, so that whoever asked still gets
/// an answer.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_millis(2_500);
/// How long a statement waits for the locks of other writers.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// After how long the server ends a transaction in which nothing happens any more, and frees its locks:
/// that of an instance which lost its network, say.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that is set up to report commits before they are on disk is told not to.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off'";

/// How to reach the server.
#[derive(Debug, Clone)]
pub(super) struct Session {
    options: PgConnectOptions,
}

impl Session {
    /// As `options` say, with our limits.
    pub(super) fn new(options: &PgConnectOptions) -> Self {
        let limits = [
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", IDLE_TRANSACTION_TIMEOUT),
        ];
        let milliseconds = limits.map(|(name, limit)| (name, limit.as_millis()));
        Self { options: options.clone().options(milliseconds) }
    }

    /// How connections are made that only read.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// A connection to write on.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        within(CONNECT_TIMEOUT, async {
            let mut connection = self.options.connect().await?;
            sqlx::query(DURABLE).execute(&mut connection).await?;
            Ok(connection)
        })
        .await
    }
}

/// A connection whose statements may take as long as they need.
pub(super) async fn connect_unlimited(
    options: &PgConnectOptions,
) -> Result<PgConnection, sqlx::Error> {
    within(CONNECT_TIMEOUT, options.connect()).await
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let late = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "it takes too long"));
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}
