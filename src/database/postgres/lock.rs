//! What a batch or a reader needs to know, as statements find it.

use std::collections::HashSet;

use sqlx::{FromRow, PgConnection, Row};

use super::purchases;
use crate::{
    database::{
        DatabaseError,
        rows::{FactRow, Found, ReplayRow},
    },
    domain::{Facts, PurchaseName, Replays, UserId, UserKey, Wanted},
};

/// Whoever reads prices and products goes on; whoever changes them waits.
const LOCK_LISTS: &str = "LOCK TABLE token_pricing, products IN SHARE ROW EXCLUSIVE MODE";

/// `$1` users. Locked in one order, whoever locks them: two who wait for each other would wait for ever.
/// The rows are sorted before they are locked.
const LOCK_CREDITS: &str = "
    SELECT 'credits' AS source, user_id AS owner, CASE WHEN bonus <> 0 OR frozen
         THEN concat(bonus, CASE WHEN frozen THEN ' frozen' END) END AS name, credits AS amount
    FROM credits WHERE user_id = ANY($1) ORDER BY user_id FOR UPDATE";

/// `$1` users, `$2` whether prices are wanted, `$3` names of purchases, `$4` how many ids of entries,
/// `$5` by when holds count or NULL, `$6` ids of holds, `$7` users who may be being erased: those have no account. Ids are
/// given under the lock, so that a user's entries go in their order, whichever instance writes them.
macro_rules! besides_credits {
    () => {
        "SELECT 'tokens' AS source, user_id AS owner, model_id AS name, allocated_tokens AS amount
         FROM token_balances WHERE user_id = ANY($1)
         UNION ALL
         SELECT 'price', category, model_id, price_per_m_token FROM token_pricing WHERE $2
         UNION ALL
         SELECT 'granted', user_id, name, 0 FROM purchase_names WHERE name = ANY($3)
         UNION ALL
         SELECT 'entry_id', '', NULL, nextval(pg_get_serial_sequence('transactions', 'id'))
         FROM generate_series(1, $4)
         UNION ALL
         SELECT 'hold', user_id, to_jsonb(holds)::text, held_tokens FROM holds
         WHERE user_id = ANY($1) AND status = 'held' AND expires_at > $5
         UNION ALL
         SELECT 'hold', user_id, to_jsonb(holds)::text, held_tokens FROM holds
         WHERE hold_id = ANY($6) AND user_id = ANY($1)
         UNION ALL
         SELECT 'erasing', user_id, NULL, 0 FROM erasures WHERE user_id = ANY($7)"
    };
}

/// `$1` how many ids of entries.
const RESERVE: &str = "
    SELECT 'entry_id' AS source, '' AS owner, NULL AS name,
        nextval(pg_get_serial_sequence('transactions', 'id')) AS amount
    FROM generate_series(1, $1)";

/// In one statement, which sees one moment.
const READ: &str = concat!(
    besides_credits!(),
    " UNION ALL
    SELECT 'credits', user_id, CASE WHEN bonus <> 0 OR frozen
        THEN concat(bonus, CASE WHEN frozen THEN ' frozen' END) END, credits
    FROM credits WHERE user_id = ANY($1)"
);

/// `$1` users and `$2` keys, in pairs.
const FIND_REPLAYS: &str = "
    SELECT user_id, key, fingerprint, outcome::text AS outcome
    FROM unnest($1::text[], $2::text[]) AS wanted (user_id, key)
    JOIN idempotency_keys USING (user_id, key)";

/// What the accounts come to, without locking anything.
pub(super) async fn read(
    connection: &mut PgConnection,
    wanted: &Wanted,
) -> Result<Facts, DatabaseError> {
    let mut found = Found::default();
    find(connection, READ, &names(&wanted.users), wanted, &mut found).await?;
    Ok(found.into_facts(&wanted.users))
}

/// What was found under locks that last until the end of the transaction.
pub(super) struct Locked {
    pub(super) facts: Facts,
    /// The users who have an account; the others have nothing that could be locked.
    pub(super) users: HashSet<String>,
}

/// Locks the accounts wanted and reads them.
///
/// That takes two statements: what one sees besides the rows it locks is of the moment it began, before it
/// had to wait for a lock. An account that is opened between the two is not locked, so it is not read:
/// whoever asks came before it.
pub(super) async fn lock(
    connection: &mut PgConnection,
    wanted: &Wanted,
) -> Result<Locked, DatabaseError> {
    let mut found = Found::default();
    let mut users = HashSet::new();
    if wanted.changes_lists {
        sqlx::raw_sql(LOCK_LISTS).execute(&mut *connection).await?;
    }
    let query = sqlx::query(LOCK_CREDITS).bind(names(&wanted.users));
    for row in query.fetch_all(&mut *connection).await? {
        found.take(&FactRow::from_row(&row)?)?;
        users.insert(row.try_get("owner")?);
    }
    let locked: Vec<&str> = users.iter().map(String::as_str).collect();
    find(connection, besides_credits!(), &locked, wanted, &mut found).await?;
    reserve(connection, found.balances(&wanted.emptied), &mut found).await?;
    let about_stores = if wanted.is_about_stores() {
        let about_stores = purchases::lock(connection, wanted).await?;
        reserve(connection, about_stores.entries(wanted), &mut found).await?;
        Some(about_stores)
    } else {
        None
    };
    let mut facts = found.into_facts(&wanted.users);
    if let Some(about_stores) = about_stores {
        about_stores.add_to(&mut facts, &wanted.lots_of);
    }
    if facts.tell_of_unread_accounts(|user| users.contains(user.as_str())) {
        let reason = "an account was opened after it was looked for".to_owned();
        return Err(DatabaseError::Retry(reason));
    }
    if !wanted.keys.is_empty() {
        facts.replays = replays(connection, &wanted.keys).await?;
    }
    Ok(Locked { facts, users })
}

/// Ids for entries that are there because of what was read.
async fn reserve(
    connection: &mut PgConnection,
    entries: usize,
    found: &mut Found,
) -> Result<(), DatabaseError> {
    if entries > 0 {
        let query = sqlx::query(RESERVE).bind(number(entries));
        for row in query.fetch_all(connection).await? {
            found.take(&FactRow::from_row(&row)?)?;
        }
    }
    Ok(())
}

fn number(entries: usize) -> i64 {
    i64::try_from(entries).unwrap_or(i64::MAX)
}

async fn find(
    connection: &mut PgConnection,
    sql: &'static str,
    users: &[&str],
    wanted: &Wanted,
    found: &mut Found,
) -> Result<(), DatabaseError> {
    let purchases = wanted.purchase_names.iter().map(PurchaseName::as_str);
    let query = sqlx::query(sql)
        .bind(users)
        .bind(wanted.prices)
        .bind(purchases.collect::<Vec<_>>())
        .bind(number(wanted.entries))
        .bind(wanted.holds_at)
        .bind(wanted.holds.iter().map(|(_, hold)| hold.to_string()).collect::<Vec<_>>())
        .bind(names(&wanted.users));
    for row in query.fetch_all(connection).await? {
        found.take(&FactRow::from_row(&row)?)?;
    }
    Ok(())
}

async fn replays(
    connection: &mut PgConnection,
    keys: &[UserKey],
) -> Result<Replays, DatabaseError> {
    let (users, keys): (Vec<&str>, Vec<&str>) =
        keys.iter().map(|key| (key.user().as_str(), key.key().as_str())).unzip();
    let mut replays = Replays::default();
    for row in sqlx::query(FIND_REPLAYS).bind(users).bind(keys).fetch_all(connection).await? {
        let (key, replay) = ReplayRow::from_row(&row)?.into_replay()?;
        replays.insert_kept(key, replay);
    }
    Ok(replays)
}

fn names(users: &[UserId]) -> Vec<&str> {
    users.iter().map(UserId::as_str).collect()
}
