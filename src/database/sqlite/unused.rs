//! What was not used by a moment, on a connection of its own: it may take long, and nobody waits for it.

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use sqlx::FromRow;

use super::{OpenError, SqliteDatabase, read_only::give_way};
use crate::{
    database::{
        timestamp,
        unused::{UNUSED, UnusedRow, add_up},
    },
    domain::UnusedBalance,
};

impl SqliteDatabase {
    /// What was bought and not used by a moment.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be read.
    pub(crate) async fn unused_balance(
        &self,
        ended: DateTime<Utc>,
    ) -> Result<UnusedBalance, OpenError> {
        let found = self.read(async |connection| {
            let _giving_way = give_way(connection).await?;
            let rows = sqlx::query(UNUSED).bind(timestamp(ended)).fetch(connection);
            add_up(rows.map(|row| UnusedRow::from_row(&row?))).await
        });
        let reason = |error: super::DatabaseError| OpenError::Unreadable {
            database: self.name().to_owned(),
            reason: error.to_string(),
        };
        found.await?.map_err(reason)
    }
}
