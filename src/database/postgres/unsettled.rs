//! A connection whose commit did not come to an end in time. Where the server waits for a synchronous standby, another
//! connection would only wait too, and each holds its locks: so the one there is is waited on, and no other is made.

use std::time::Duration;

use sqlx::{Connection, PgConnection, Row};
use tokio::time::timeout;

use super::session::Session;
use crate::database::DatabaseError;

/// How long whoever needs a connection waits for the commit.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether somebody like us waits for a standby.
const WAITS_FOR_STANDBY: &str = "SELECT count(*) FILTER (WHERE wait_event = 'SyncRep')::text
    FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user";

/// At most one such connection.
#[derive(Debug, Default)]
pub(super) struct Unsettled(Option<PgConnection>);

impl Unsettled {
    /// Takes a connection whose commit is on its way.
    pub(super) fn keep(&mut self, connection: PgConnection) {
        self.0 = Some(connection);
    }

    /// The connection, if its commit has come to an end; none where there is none, or it is dead.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] while the server waits for a standby, or can't be asked.
    pub(super) async fn settle(
        &mut self,
        session: &Session,
    ) -> Result<Option<PgConnection>, DatabaseError> {
        let Some(connection) = &mut self.0 else { return Ok(None) };
        match timeout(PATIENCE, connection.ping()).await {
            Ok(Ok(())) => return Ok(self.0.take()),
            Ok(Err(_)) => {}
            Err(_) => {
                let waits = waits_for_standby(session).await.map_err(|error| {
                    DatabaseError::Unavailable(format!("the server can't be reached: {error}"))
                })?;
                if waits {
                    let reason = "it waits for its synchronous standby to confirm a commit";
                    return Err(DatabaseError::Unavailable(reason.to_owned()));
                }
            }
        }
        self.0 = None;
        Ok(None)
    }
}

async fn waits_for_standby(session: &Session) -> Result<bool, sqlx::Error> {
    let mut connection = session.connect_to_work().await?;
    let row = sqlx::raw_sql(WAITS_FOR_STANDBY).fetch_one(&mut connection).await?;
    let waits = row.try_get::<&str, _>(0)? != "0";
    // The server finds out by itself, too.
    let _ = connection.close().await;
    Ok(waits)
}
