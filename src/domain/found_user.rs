//! What an operator sees of users and of their purchases. How they are found is in `database`.

use chrono::{DateTime, Utc};

use super::{PurchaseState, Store, UserId};

/// Which users are told of, the newest first.
#[derive(Debug, Clone)]
pub(crate) struct UserFilter {
    /// A user's name, or its beginning, or a purchase's id at its store.
    pub query: Option<String>,
    /// Only accounts with a number below this one.
    pub before: Option<i64>,
    /// Most users on the page.
    pub limit: u16,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundUser {
    /// The number of the account. Later ones have higher numbers.
    pub number: i64,
    pub user: UserId,
    pub credits: i64,
    /// Whether nothing may be spent or used.
    pub frozen: bool,
    pub created_at: DateTime<Utc>,
}

/// Users, those first that are called as it was asked, then the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UserPage {
    pub users: Vec<FoundUser>,
    /// Where older ones remain, the number below which they are.
    pub next_before: Option<i64>,
}

impl UserPage {
    /// Those who are called as it was asked, which are told on the first page, and of `page` as many as fit, and none
    /// twice. In `page` there is one more than fits, if there are more.
    pub(crate) fn of(
        mut called: Vec<FoundUser>,
        page: Vec<FoundUser>,
        filter: &UserFilter,
    ) -> Self {
        let limit = usize::from(filter.limit);
        let is_called = |user: &FoundUser| called.iter().any(|other| other.number == user.number);
        let others: Vec<_> = page.into_iter().filter(|user| !is_called(user)).collect();
        if filter.before.is_some() {
            called.clear();
        }
        called.truncate(limit);
        let mut users = called;
        let room = limit.saturating_sub(users.len());
        let more = others.len() > room;
        let last = others.get(room.saturating_sub(1)).or_else(|| others.first());
        // Without room for any of the others the next page begins with the newest of them.
        let next_before = last
            .filter(|_| more)
            .map(|last| if room == 0 { last.number.saturating_add(1) } else { last.number });
        users.extend(others.into_iter().take(room));
        Self { users, next_before }
    }
}

/// A purchase that its store confirms, without what is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PurchaseLine {
    pub id: i64,
    pub store: Store,
    pub state: PurchaseState,
    pub reason: Option<String>,
    pub environment: Option<String>,
    pub store_id: Option<String>,
    pub product_id: Option<String>,
    pub quantity: Option<i64>,
    pub credits: Option<i64>,
    pub price_milliunits: Option<i64>,
    pub currency: Option<String>,
    pub received_at: DateTime<Utc>,
    pub purchased_at: Option<DateTime<Utc>>,
    pub granted_at: Option<DateTime<Utc>>,
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// What refunds took, in credits, and what they could not.
    pub taken_credits: i64,
    pub shortfall_credits: i64,
}
