//! Rows as either engine finds them, made into what the rules know. A row that can't be is corrupt data.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fmt,
};

use super::DatabaseError;
use crate::domain::{
    Account, Accounts, Category, Credits, EntryIds, EntryKind, Facts, Fingerprint, Funds,
    GrantedPurchases, Hold, IdempotencyKey, ModelId, Price, PurchaseName, Replay, Tokens,
    Transaction, UserId, UserKey,
};

/// Makes a struct that a row of either engine is read into, each field from the column of its name, or of the
/// name in brackets. (sqlx's own derive would have both engines compiled once more, for the compiler to run.)
macro_rules! row {
    ($(#[$meta:meta])* $vis:vis struct $name:ident<$life:lifetime> { $($fields:tt)* }) => {
        row!(@struct [$(#[$meta])* $vis struct $name<$life>] [$name<$life>] $life $($fields)*);
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($fields:tt)* }) => {
        row!(@struct [$(#[$meta])* $vis struct $name] [$name] 'row $($fields)*);
    };
    (@struct [$($head:tt)*] [$($name:tt)*] $life:lifetime
        $($(#[$doc:meta])* $vis:vis $field:ident $(($column:literal))?: $type:ty,)*
    ) => {
        $($head)* { $($(#[$doc])* $vis $field: $type,)* }

        impl<$life, R: sqlx::Row> sqlx::FromRow<$life, R> for $($name)*
        where
            &'static str: sqlx::ColumnIndex<R>,
            $($type: sqlx::Decode<$life, R::Database> + sqlx::Type<R::Database>,)*
        {
            fn from_row(row: &$life R) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: row.try_get(row!(@name $field $($column)?))?,)* })
            }
        }
    };
    (@name $field:ident $column:literal) => { $column };
    (@name $field:ident) => { stringify!($field) };
}
pub(super) use row;

row! {
    /// A row of the statement that reads facts of all kinds at once.
    pub(super) struct FactRow<'r> {
        /// The kind: `credits` of an owner, with those that were given for a name and `frozen` behind them, where it is
        /// not `0` alone; `tokens` of an owner and the model named; the `price` of the model
        /// named, with its category for an owner; a purchase so named `granted` to an owner; an `entry_id` that
        /// was reserved; an owner who is `erasing`; a `hold` of an owner as JSON, with its tokens; and `version` and `newest`, which are SQLite's own.
        pub(super) source: &'r str,
        pub(super) owner: &'r str,
        pub(super) name: Option<&'r str>,
        pub(super) amount: i64,
    }
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Found {
    funds: HashMap<String, Funds>,
    frozen: HashSet<String>,
    erasing: HashSet<String>,
    tokens: HashMap<String, BTreeMap<ModelId, Tokens>>,
    prices: Vec<(ModelId, Price)>,
    granted: GrantedPurchases,
    holds: Vec<Hold>,
    entry_ids: VecDeque<i64>,
}

impl Found {
    /// How many balances these users have, but for their credits.
    pub(super) fn balances(&self, users: &[UserId]) -> usize {
        let of_user = |user: &UserId| self.tokens.get(user.as_str()).map_or(0, BTreeMap::len);
        users.iter().map(of_user).fold(0, usize::saturating_add)
    }

    pub(super) fn take(&mut self, row: &FactRow<'_>) -> Result<(), DatabaseError> {
        let FactRow { source, owner, name, amount } = *row;
        let name = name.unwrap_or_default();
        match source {
            "credits" => {
                let credits = possible(Credits::new(amount), "credits", owner)?;
                let (bonus, frozen) = match name.strip_suffix(" frozen") {
                    Some(bonus) => (bonus, true),
                    None => (name, false),
                };
                self.funds.insert(owner.to_owned(), funds(credits, bonus, owner)?);
                if frozen {
                    self.frozen.insert(owner.to_owned());
                }
            }
            "tokens" => {
                let model = possible(ModelId::new(name), "token_balances.model_id", name)?;
                let tokens = possible(Tokens::new(amount), "allocated_tokens", owner)?;
                self.tokens.entry(owner.to_owned()).or_default().insert(model, tokens);
            }
            "price" => {
                let model = possible(ModelId::new(name), "token_pricing.model_id", name)?;
                let category = Category::from_name(owner)
                    .ok_or_else(|| DatabaseError::Corrupt(format!("category of {name}")))?;
                self.prices.push((model, possible(Price::new(amount, category), "price", name)?));
            }
            "granted" => {
                let user = possible(UserId::new(owner), "purchase_names.user_id", owner)?;
                self.granted.insert_kept(PurchaseName::kept(name), user);
            }
            "hold" => {
                let hold: Hold = possible(serde_json::from_str(name), "holds", owner)?;
                self.holds.push(hold);
            }
            "erasing" => drop(self.erasing.insert(owner.to_owned())),
            "entry_id" => self.entry_ids.push_back(amount),
            other => return Err(DatabaseError::Corrupt(format!("a row of '{other}'"))),
        }
        Ok(())
    }

    /// All of it, with new accounts for those of `users` of whom nothing was found.
    pub(super) fn into_facts(mut self, users: &[UserId]) -> Facts {
        let accounts = users.iter().map(|user| {
            let funds = self.funds.remove(user.as_str());
            let tokens = self.tokens.remove(user.as_str()).unwrap_or_default();
            let mut account = Account::loaded(user.clone(), funds, tokens);
            if self.frozen.contains(user.as_str()) {
                account.know_frozen();
            }
            if self.erasing.contains(user.as_str()) {
                account.know_erasing();
            }
            account
        });
        let mut accounts: Accounts = accounts.collect();
        for hold in self.holds {
            if let Some(account) = accounts.get_mut(&hold.user) {
                account.know_hold(hold);
            }
        }
        Facts {
            accounts: accounts.with_ids(EntryIds::Reserved(self.entry_ids)),
            prices: self.prices.into_iter().collect(),
            granted: self.granted,
            ..Facts::default()
        }
    }
}

row! {
    /// A row of `idempotency_keys`.
    pub(super) struct ReplayRow<'r> {
        user_id: &'r str,
        key: &'r str,
        fingerprint: i64,
        outcome: String,
    }
}

impl ReplayRow<'_> {
    /// The replay, with whose it is.
    pub(super) fn into_replay(self) -> Result<(UserKey, Replay), DatabaseError> {
        let Self { user_id, key, fingerprint, outcome } = self;
        let key = possible(IdempotencyKey::new(key), "idempotency_keys.key", user_id)?;
        let user = possible(UserId::kept_owner(user_id), "idempotency_keys.user_id", user_id)?;
        let replay = Replay { fingerprint: Fingerprint::kept(fingerprint), outcome };
        Ok((UserKey::new(user, key), replay))
    }
}

/// Credits, of which as many were given as a text says.
fn funds(credits: Credits, bonus: &str, owner: &str) -> Result<Funds, DatabaseError> {
    let bonus = if bonus.is_empty() { 0 } else { possible(bonus.parse(), "bonus", owner)? };
    let bonus = possible(Credits::new(bonus), "bonus", owner)?;
    let funds = Funds::new(credits, bonus).ok_or("it is more than the credits");
    possible(funds, "bonus", owner)
}

/// A line of the history.
pub(super) fn transaction(
    id: i64,
    kind: &str,
    amount: i64,
    model: Option<String>,
    created_at: String,
) -> Result<Transaction, DatabaseError> {
    let kind = EntryKind::from_name(kind)
        .ok_or_else(|| DatabaseError::Corrupt(format!("type of a transaction: '{kind}'")))?;
    Ok(Transaction { id, kind, amount, model, created_at })
}

/// A value of the database as the rules know it.
fn possible<T, E: fmt::Display>(
    value: Result<T, E>,
    column: &str,
    whose: &str,
) -> Result<T, DatabaseError> {
    value.map_err(|error| DatabaseError::Corrupt(format!("{column} of '{whose}': {error}")))
}
