//! Users as an operator looks for them, in SQLite's words.

use sqlx::FromRow;

use super::{DatabaseError, SqliteReader};
use crate::{
    database::users::{
        ALL_USERS, COUNTED, CountedRow, Names, PURCHASES_OF_USER, PurchaseRow, USERS_BY_NAME,
        USERS_BY_PREFIX, UserRow,
    },
    domain::{FoundUser, PurchaseLine, UserId},
};

impl SqliteReader {
    /// Users with numbers below one, all or those whose names begin as it is asked, the newest first.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn users(
        &self,
        names: Option<&Names>,
        before: i64,
        limit: i64,
    ) -> Result<Vec<FoundUser>, DatabaseError> {
        let mut connection = self.connection().await?;
        let query = match names {
            None => sqlx::query(ALL_USERS).bind(before).bind(limit),
            Some(Names { prefix: [first, past], .. }) => sqlx::query(USERS_BY_PREFIX)
                .bind(before)
                .bind(limit)
                .bind(first.clone())
                .bind(past.clone()),
        };
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| UserRow::from_row(row)?.into_user()).collect()
    }

    /// Users who are called so, or whose purchase is.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn users_called(
        &self,
        names: &Names,
        limit: i64,
    ) -> Result<Vec<FoundUser>, DatabaseError> {
        let mut connection = self.connection().await?;
        let query = sqlx::query(USERS_BY_NAME).bind(i64::MAX).bind(limit);
        let query = names.exact.iter().fold(query, |query, name| query.bind(name.clone()));
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| UserRow::from_row(row)?.into_user()).collect()
    }

    /// The newest purchases of a user that their stores confirm.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn purchases_of(
        &self,
        user: &UserId,
        limit: i64,
    ) -> Result<Vec<PurchaseLine>, DatabaseError> {
        let mut connection = self.connection().await?;
        let query = sqlx::query(PURCHASES_OF_USER).bind(user.as_str().to_owned()).bind(limit);
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| PurchaseRow::from_row(row)?.into_line()).collect()
    }

    /// How many users there are, and credits of refunds that could not be taken.
    ///
    /// # Errors
    /// Any [`DatabaseError`] but `Constraint`.
    pub(in crate::database) async fn counted(&self) -> Result<CountedRow, DatabaseError> {
        let mut connection = self.connection().await?;
        Ok(CountedRow::from_row(&sqlx::query(COUNTED).fetch_one(&mut *connection).await?)?)
    }
}
