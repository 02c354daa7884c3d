//! Users as an operator looks for them, and what of a user only an operator sees: the statements, the same for both
//! engines, and what their rows tell.

use super::{DatabaseError, rows::row};
use crate::domain::{
    Environment, FoundUser, PurchaseKey, PurchaseLine, PurchaseName, PurchaseState, Store, UserId,
};

/// Above every character that a name may have.
const LAST_CHARACTER: char = char::MAX;

/// [`UserRow`]s, the newest first: those with an id below `$1`, at most `$2`, in the brackets where it is said which.
macro_rules! users {
    ($which:literal) => {
        concat!(
            "SELECT users.id, users.user_id, coalesce(credits.credits, 0) AS credits,
                CAST(CASE WHEN credits.frozen THEN 1 ELSE 0 END AS bigint) AS frozen,
                CAST(users.created_at AS TEXT) AS created_at
            FROM (",
            $which,
            ") AS page
            JOIN users ON users.id = page.id LEFT JOIN credits ON credits.user_id = users.user_id
            ORDER BY users.id DESC"
        )
    };
}

/// All of them.
pub(super) const ALL_USERS: &str =
    users!("SELECT id FROM users WHERE id < $1 ORDER BY id DESC LIMIT $2");

/// Those whose names begin as `$3` does, which are those below `$4`.
pub(super) const USERS_BY_PREFIX: &str = users!(
    "SELECT id FROM users WHERE user_id >= $3 AND user_id < $4 AND id < $1
    ORDER BY id DESC LIMIT $2"
);

/// Whoever is called `$3`, and whoever got the purchase that is called `$4`, or that its store calls by one of six
/// keys from `$5` on.
pub(super) const USERS_BY_NAME: &str = users!(
    "SELECT id FROM users WHERE id < $1 AND user_id IN (
        SELECT user_id FROM users WHERE user_id = $3
        UNION SELECT user_id FROM purchase_names WHERE name = $4
        UNION SELECT bought.user_id FROM purchase_keys AS known
            JOIN purchases AS bought ON bought.id = known.purchase_id
            WHERE known.key IN ($5, $6, $7, $8, $9, $10) AND bought.user_id IS NOT NULL)
    ORDER BY id DESC LIMIT $2"
);

row! {
    /// A row of `users`, with the credits.
    pub(super) struct UserRow {
        id: i64,
        user_id: String,
        credits: i64,
        frozen: i64,
        created_at: String,
    }
}

impl UserRow {
    pub(super) fn into_user(self) -> Result<FoundUser, DatabaseError> {
        let Self { id: number, user_id, credits, frozen, created_at } = self;
        let corrupt = |what: &str| DatabaseError::Corrupt(format!("{what} of user {number}"));
        Ok(FoundUser {
            number,
            user: UserId::new(user_id).map_err(|_| corrupt("user_id"))?,
            credits,
            frozen: frozen == 1,
            created_at: super::tracked::time(&created_at).ok_or_else(|| corrupt("created_at"))?,
        })
    }
}

/// What users are looked for by.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The first names that begin as it is asked, and the one after the last.
    pub(super) prefix: [String; 2],
    /// The user, or the purchase, that is called so.
    pub(super) exact: [String; 8],
}

impl Names {
    pub(super) fn of(query: &str) -> Self {
        let [production, sandbox] = [Environment::Production, Environment::Sandbox];
        let keys = [
            PurchaseKey::google_order(query),
            PurchaseKey::apple_id(query),
            PurchaseKey::apple_transaction(production, query),
            PurchaseKey::apple_transaction(sandbox, query),
            PurchaseKey::apple_original(production, query),
            PurchaseKey::apple_original(sandbox, query),
        ];
        let [one, two, three, four, five, six] = keys.map(|key| key.as_str().to_owned());
        let name = PurchaseName::of(query).as_str().to_owned();
        Self {
            prefix: [query.to_owned(), format!("{query}{LAST_CHARACTER}")],
            exact: [query.to_owned(), name, one, two, three, four, five, six],
        }
    }
}

/// Purchases of user `$1`, the newest first, at most `$2`.
pub(super) const PURCHASES_OF_USER: &str = "
    SELECT id, store, state, reason, environment, store_id, product_id, quantity, credits,
        price_milliunits, currency, CAST(received_at AS TEXT) AS received_at,
        CAST(purchased_at AS TEXT) AS purchased_at, CAST(granted_at AS TEXT) AS granted_at,
        CAST(acknowledged_at AS TEXT) AS acknowledged_at, taken_credits, shortfall_credits
    FROM purchases WHERE user_id = $1 ORDER BY id DESC LIMIT $2";

row! {
    /// A row of `purchases`, without what is secret.
    pub(super) struct PurchaseRow {
        id: i64,
        store: String,
        state: String,
        reason: Option<String>,
        environment: Option<String>,
        store_id: Option<String>,
        product_id: Option<String>,
        quantity: Option<i64>,
        credits: Option<i64>,
        price_milliunits: Option<i64>,
        currency: Option<String>,
        received_at: String,
        purchased_at: Option<String>,
        granted_at: Option<String>,
        acknowledged_at: Option<String>,
        taken_credits: i64,
        shortfall_credits: i64,
    }
}

impl PurchaseRow {
    pub(super) fn into_line(self) -> Result<PurchaseLine, DatabaseError> {
        let id = self.id;
        let corrupt = |what: &str| DatabaseError::Corrupt(format!("{what} of purchase {id}"));
        let time = |text: Option<String>, what: &str| {
            let time = text.map(|text| super::tracked::time(&text).ok_or_else(|| corrupt(what)));
            time.transpose()
        };
        let state = PurchaseState::ALL.into_iter().find(|state| state.name() == self.state);
        let received_at = time(Some(self.received_at), "received_at")?;
        Ok(PurchaseLine {
            id,
            store: Store::from_name(&self.store).ok_or_else(|| corrupt("store"))?,
            state: state.ok_or_else(|| corrupt("state"))?,
            reason: self.reason,
            environment: self.environment,
            store_id: self.store_id,
            product_id: self.product_id,
            quantity: self.quantity,
            credits: self.credits,
            price_milliunits: self.price_milliunits,
            currency: self.currency,
            received_at: received_at.ok_or_else(|| corrupt("received_at"))?,
            purchased_at: time(self.purchased_at, "purchased_at")?,
            granted_at: time(self.granted_at, "granted_at")?,
            acknowledged_at: time(self.acknowledged_at, "acknowledged_at")?,
            taken_credits: self.taken_credits,
            shortfall_credits: self.shortfall_credits,
        })
    }
}

/// How many users there are, and what refunds could not take.
pub(super) const COUNTED: &str = "
    SELECT (SELECT count(*) FROM users) AS users,
        CAST(coalesce((SELECT sum(shortfall_credits) FROM purchases WHERE shortfall_credits > 0), 0)
            AS bigint) AS shortfall";

row! {
    /// What [`COUNTED`] tells.
    pub(super) struct CountedRow {
        pub(super) users: i64,
        pub(super) shortfall: i64,
    }
}
