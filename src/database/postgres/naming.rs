//! Gives older purchases the names that they are known by: before anything is served, so many at once that an
//! interruption costs little. Newer ones get theirs when they are written.

use futures_util::TryStreamExt;
use sqlx::PgConnection;

use super::{
    patience::{LOCK_PATIENCE, patiently},
    session::Session,
};
use crate::database::purchase_names::{
    NAMED, NAMED_AT_ONCE, NewNames, PURCHASES_TO_NAME, SOME_TO_NAME,
};

/// Of several instances that start, one after the other takes some.
const LOCK: &str = "LOCK TABLE purchases_to_name IN SHARE ROW EXCLUSIVE MODE";

/// `$1` names, `$2` users. A name belongs to whom it was granted to first.
const INSERT: &str = "INSERT INTO purchase_names (name, user_id)
    SELECT name, user_id
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS named (name, user_id, place) ORDER BY place
    ON CONFLICT DO NOTHING";

/// Names all that are on the list. After an error the connection is of no use any more.
pub(super) async fn name_purchases(
    connection: &mut PgConnection,
    session: &Session,
) -> Result<(), sqlx::Error> {
    let begin = session.begin_work(LOCK_PATIENCE);
    while patiently(connection, &begin, async |on| name_some(on).await).await? {}
    Ok(())
}

/// Names some in the open transaction. Returns whether there were any.
async fn name_some(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    if !sqlx::query_scalar(SOME_TO_NAME).fetch_one(&mut *connection).await? {
        return Ok(false);
    }
    sqlx::raw_sql(LOCK).execute(&mut *connection).await?;
    let mut new = NewNames::default();
    let mut purchases =
        sqlx::query_as(PURCHASES_TO_NAME).bind(NAMED_AT_ONCE).fetch(&mut *connection);
    while let Some(purchase) = purchases.try_next().await? {
        new.add(&purchase);
    }
    drop(purchases);
    let (names, users) = new.sorted();
    sqlx::query(INSERT).bind(names).bind(users).execute(&mut *connection).await?;
    sqlx::query(NAMED).bind(new.done_up_to()).execute(connection).await?;
    Ok(true)
}
