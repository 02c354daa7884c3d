//! What was not used by a moment, on a connection of its own: it may take long, and nobody waits for it.

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use sqlx::{Connection, FromRow};

use super::{OpenError, PostgresDatabase};
use crate::{
    database::unused::{UNUSED, UnusedRow, add_up},
    domain::UnusedBalance,
};

impl PostgresDatabase {
    /// What was bought and not used by a moment.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be read.
    pub(crate) async fn unused_balance(
        &self,
        ended: DateTime<Utc>,
    ) -> Result<UnusedBalance, OpenError> {
        let mut connection = self.open_current().await?;
        let rows = sqlx::query(UNUSED).bind(ended).fetch(&mut connection);
        let found = add_up(rows.map(|row| UnusedRow::from_row(&row?))).await;
        let found = found.map_err(|error| self.unreadable(&error))?;
        connection.close().await.map_err(|error| self.unreadable(&error))?;
        found.map_err(|error| OpenError::Unreadable {
            database: self.name().to_owned(),
            reason: error.to_string(),
        })
    }
}
