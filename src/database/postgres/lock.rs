//! What a batch or a reader needs to know, as statements find it.

use std::{borrow::Cow, collections::HashMap};

use sqlx::{PgConnection, Row, SqlStr};

use super::{
    purchases,
    statement::{Message, Place, Remembered, Statement, Value, row},
};
use crate::{
    database::{
        DatabaseError,
        rows::{FactRow, Found, ReplayRow},
    },
    domain::{Facts, ModelId, PurchaseName, Replays, UserId, UserKey, Wanted},
};

/// Whoever reads prices and products goes on; whoever changes them waits.
const LOCK_LISTS: &str = "LOCK TABLE token_pricing, products IN SHARE ROW EXCLUSIVE MODE";

/// Users follow.
const CREDITS: &str = "
    SELECT 'credits' AS source, user_id AS owner, CASE WHEN bonus <> 0 OR frozen
        THEN concat(bonus, CASE WHEN frozen THEN ' frozen' END) END AS name, credits AS amount
    FROM credits WHERE user_id = ANY(";
/// Locked in one order, whoever locks them: two who wait for each other would wait for ever. The rows are sorted before
/// they are locked.
const FOR_UPDATE: &str = ") ORDER BY user_id FOR UPDATE";

/// What is found besides, part by part. Users follow.
const TOKENS: &str = "
    SELECT 'tokens' AS source, user_id AS owner, model_id AS name, allocated_tokens AS amount
    FROM token_balances WHERE user_id = ANY(";
const PRICES: &str = "
    SELECT 'price' AS source, category AS owner, model_id AS name, price_per_m_token AS amount
    FROM token_pricing";
/// Names follow.
const GRANTED: &str = "
    SELECT 'granted' AS source, user_id AS owner, name, 0::bigint AS amount
    FROM purchase_names WHERE name = ANY(";
/// Their number follows. Ids are given under the lock, so that a user's entries go in their order, whichever instance
/// writes them.
const ENTRY_IDS: &str = "
    SELECT 'entry_id' AS source, '' AS owner, NULL AS name,
        nextval((SELECT pg_get_serial_sequence('transactions', 'id')::regclass)) AS amount
    FROM generate_series(1, ";
/// Users follow, and a time or ids.
const HOLDS: &str = "
    SELECT 'hold' AS source, user_id AS owner, to_jsonb(holds)::text AS name, held_tokens AS amount
    FROM holds WHERE user_id = ANY(";
const OPEN_AT: &str = ") AND status = 'held' AND expires_at > ";
const SO_CALLED: &str = ") AND hold_id = ANY(";

/// Users who may be being erased follow: those have no account.
const ERASING: &str = "
    SELECT 'erasing' AS source, user_id AS owner, NULL AS name, 0::bigint AS amount
    FROM erasures WHERE user_id = ANY(";

/// Users and keys follow, in pairs.
const REPLAYS: &str = "
    SELECT user_id, key, fingerprint, outcome::text AS outcome FROM unnest(";
const KEPT_REPLAYS: &str = ") AS wanted (its_user, its_key)
    JOIN idempotency_keys ON user_id = ANY(ARRAY[its_user]) AND key = ANY(ARRAY[its_key])";

/// What the accounts come to, without locking anything, as of one moment.
pub(super) async fn read(
    connection: &mut PgConnection,
    wanted: &Wanted,
) -> Result<Facts, DatabaseError> {
    let mut found = Found::default();
    let mut facts = FactQuery::of(&wanted.users);
    facts.ask_of_users(CREDITS);
    facts.ask_besides_credits(wanted);
    if facts.parts > 0 {
        for fact in facts.statement.fetch(connection).await? {
            found.take(&row(&fact)?)?;
        }
    }
    Ok(found.into_facts(&wanted.users))
}

/// What was found under locks that last until the end of the transaction.
pub(super) struct Locked {
    pub(super) facts: Facts,
    pub(super) accounts: LockedAccounts,
}

/// The users who have an account, each with the models that it has a balance of. The others have nothing that
/// could be locked.
#[derive(Debug, Default)]
pub(super) struct LockedAccounts(HashMap<String, Vec<String>>);

impl LockedAccounts {
    pub(super) fn has(&self, user: &UserId) -> bool {
        self.0.contains_key(user.as_str())
    }

    pub(super) fn has_balance(&self, user: &UserId, model: &ModelId) -> bool {
        let models = self.0.get(user.as_str());
        models.is_some_and(|models| models.iter().any(|it| it == model.as_str()))
    }

    /// Takes note of a row. Returns whether it is to be believed: what belongs to an account that was not there when
    /// accounts were locked may be in somebody's hands.
    fn note(&mut self, row: &FactRow<'_>) -> bool {
        match row.source {
            "credits" => {
                self.0.insert(row.owner.to_owned(), Vec::new());
                true
            }
            "tokens" => match self.0.get_mut(row.owner) {
                Some(models) => {
                    models.extend(row.name.map(str::to_owned));
                    true
                }
                None => false,
            },
            "hold" => self.0.contains_key(row.owner),
            _ => true,
        }
    }
}

/// Begins a transaction, locks the accounts wanted and reads them: in one trip, but for what is about stores.
///
/// That takes several statements: what one sees besides the rows it locks is of the moment it began, before it
/// had to wait for a lock. An account that is opened between the two is not locked, so it is not read:
/// whoever asks came before it.
pub(super) async fn lock(
    connection: &mut PgConnection,
    begin: &SqlStr,
    remembered: &mut Remembered,
    wanted: &Wanted,
) -> Result<Locked, DatabaseError> {
    let (mut found, mut accounts) = (Found::default(), LockedAccounts::default());
    let mut replays = Replays::default();
    for it in message(begin, remembered, wanted).fetch(&mut *connection).await? {
        if it.try_column("fingerprint").is_ok() {
            let (key, replay) = row::<ReplayRow<'_>>(&it)?.into_replay()?;
            replays.insert_kept(key, replay);
            continue;
        }
        let fact = row(&it)?;
        if accounts.note(&fact) {
            found.take(&fact)?;
        }
    }
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
    if facts.tell_of_unread_accounts(|user| accounts.has(user)) {
        let reason = "an account was opened after it was looked for".to_owned();
        return Err(DatabaseError::Retry(reason));
    }
    facts.replays = replays;
    Ok(Locked { facts, accounts })
}

fn message(begin: &SqlStr, remembered: &mut Remembered, wanted: &Wanted) -> Message {
    let mut message = Message::default();
    message.add(begin.as_str());
    if wanted.changes_lists {
        message.add(LOCK_LISTS);
    }
    if !wanted.users.is_empty() {
        let mut lock = Statement::default();
        lock.push(CREDITS).bind(names(&wanted.users)).push(FOR_UPDATE);
        remembered.add(&lock, &mut message);
    }
    let mut besides = FactQuery::of(&wanted.users);
    besides.ask_besides_credits(wanted);
    if besides.parts > 0 {
        remembered.add(&besides.statement, &mut message);
    }
    if !wanted.keys.is_empty() {
        remembered.add(&replays(&wanted.keys), &mut message);
    }
    message
}

/// Ids for entries that are there because of what was read.
async fn reserve(
    connection: &mut PgConnection,
    entries: usize,
    found: &mut Found,
) -> Result<(), DatabaseError> {
    let mut ids = FactQuery::of(&[]);
    ids.ask_for_ids(entries);
    if ids.parts > 0 {
        for id in ids.statement.fetch(connection).await? {
            found.take(&row(&id)?)?;
        }
    }
    Ok(())
}

/// A statement that finds facts of several kinds. It has a part only for what is asked for.
struct FactQuery<'a> {
    statement: Statement<'a>,
    /// Who they are about, if anybody.
    users: Option<Place>,
    parts: usize,
}

impl<'a> FactQuery<'a> {
    /// About these users, and what else is asked for.
    fn of(users: &'a [UserId]) -> Self {
        let mut statement = Statement::default();
        let users = (!users.is_empty()).then(|| statement.keep(names(users)));
        Self { statement, users, parts: 0 }
    }

    fn part(&mut self, sql: &'static str) -> &mut Statement<'a> {
        if self.parts > 0 {
            self.statement.push(" UNION ALL ");
        }
        self.parts = self.parts.saturating_add(1);
        self.statement.push(sql)
    }

    fn ask_of_users(&mut self, sql: &'static str) {
        if let Some(users) = self.users {
            self.part(sql).use_kept(users).push(")");
        }
    }

    fn ask_for_ids(&mut self, entries: usize) {
        if entries > 0 {
            let entries = i64::try_from(entries).unwrap_or(i64::MAX);
            self.part(ENTRY_IDS).bind(Value::Number(entries)).push(")");
        }
    }

    fn ask_besides_credits(&mut self, wanted: &'a Wanted) {
        self.ask_of_users(TOKENS);
        if wanted.prices {
            self.part(PRICES);
        }
        if !wanted.purchase_names.is_empty() {
            let names = Value::texts(wanted.purchase_names.iter().map(PurchaseName::as_str));
            self.part(GRANTED).bind(names).push(")");
        }
        self.ask_for_ids(wanted.entries);
        let Some(users) = self.users else { return };
        if let Some(at) = wanted.holds_at {
            self.part(HOLDS).use_kept(users).push(OPEN_AT).bind(Value::Time(at));
        }
        if !wanted.holds.is_empty() {
            let holds = Value::texts(wanted.holds.iter().map(|(_, hold)| hold.to_string()));
            self.part(HOLDS).use_kept(users).push(SO_CALLED).bind(holds).push(")");
        }
        self.ask_of_users(ERASING);
    }
}

fn replays(keys: &[UserKey]) -> Statement<'_> {
    let mut statement = Statement::default();
    statement
        .push(REPLAYS)
        .bind(Value::texts(keys.iter().map(|key| key.user().as_str())))
        .push(", ")
        .bind(Value::texts(keys.iter().map(|key| key.key().as_str())))
        .push(KEPT_REPLAYS);
    statement
}

fn names(users: &[UserId]) -> Value<'_> {
    Value::Texts(users.iter().map(|user| Some(Cow::Borrowed(user.as_str()))).collect())
}
