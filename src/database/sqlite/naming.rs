//! Gives older purchases the names that they are known by: before anything is served, so many at once that an
//! interruption costs little. Newer ones get theirs when they are written.

use futures_util::TryStreamExt;
use sqlx::SqliteConnection;

use crate::database::purchase_names::{
    NAMED, NAMED_AT_ONCE, NewNames, PURCHASES_TO_NAME, SOME_TO_NAME,
};

/// `$1` pairs of a name and a user, as a JSON array. A name belongs to whom it was granted to first.
const INSERT: &str = "INSERT INTO purchase_names (name, user_id)
    SELECT value ->> 0, value ->> 1 FROM json_each($1) WHERE true ORDER BY key
    ON CONFLICT DO NOTHING";

/// Names all that are on the list. After an error the connection is of no use any more.
pub(super) async fn name_purchases(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    while sqlx::query_scalar(SOME_TO_NAME).fetch_one(&mut *connection).await? {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let mut new = NewNames::default();
        let mut purchases =
            sqlx::query_as(PURCHASES_TO_NAME).bind(NAMED_AT_ONCE).fetch(&mut *connection);
        while let Some(purchase) = purchases.try_next().await? {
            new.add(&purchase);
        }
        drop(purchases);
        let (names, users) = new.sorted();
        let pairs: Vec<_> = names.into_iter().zip(users).collect();
        let pairs = serde_json::to_string(&pairs).expect("pairs of texts are JSON");
        sqlx::query(INSERT).bind(pairs).execute(&mut *connection).await?;
        sqlx::query(NAMED).bind(new.done_up_to()).execute(&mut *connection).await?;
        sqlx::query("COMMIT").execute(&mut *connection).await?;
    }
    Ok(())
}
