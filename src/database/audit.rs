//! What an audit of the books looks for and comes to, whatever the engine. Where the engines differ in how they
//! are asked, the SQL is in their folders.

use super::{erasing::is_same_user, rows::row};
use std::fmt;

use sqlx::{FromRow, Row};

use crate::domain::{PurchaseName, UsageSums};

/// Most differences that are told one by one; those beyond are counted.
const DIFFERENCES_TOLD: usize = 100;

/// Users, balances, transactions and idempotency keys.
pub(super) const COUNTS: &str = "
    SELECT (SELECT count(*) FROM users) AS users,
        (SELECT count(*) FROM credits) + (SELECT count(*) FROM token_balances) AS balances,
        (SELECT count(*) FROM transactions) AS transactions,
        (SELECT count(*) FROM idempotency_keys) AS idempotency_keys";

/// Transactions whose changes are not what their type and amount say. The schema refuses them, but its
/// conditions can be switched off.
const CHANGES: &str = "
    SELECT id, type, amount, user_id, model_id, credits_delta, bonus_delta, tokens_delta
    FROM transactions
    WHERE CASE type
        WHEN 'purchase' THEN
            amount >= 1 AND model_id IS NULL
            AND credits_delta = amount AND bonus_delta = 0 AND tokens_delta = 0
        WHEN 'allocation' THEN
            amount >= 1 AND model_id IS NOT NULL
            AND credits_delta = -amount AND bonus_delta BETWEEN -amount AND 0 AND tokens_delta >= 1
        WHEN 'consumption' THEN
            amount >= 0 AND model_id IS NOT NULL
            AND amount = input_tokens + output_tokens - coalesce(shortfall_tokens, 0)
            AND credits_delta = 0 AND bonus_delta = 0 AND tokens_delta = -amount
        WHEN 'refund' THEN CASE
            WHEN allocation_id IS NULL THEN
                amount >= 1 AND model_id IS NULL
                AND credits_delta = -amount AND bonus_delta BETWEEN -amount AND 0 AND tokens_delta = 0
            ELSE
                amount >= 0 AND model_id IS NOT NULL
                AND credits_delta = 0 AND bonus_delta = 0 AND tokens_delta <= -1
        END
        WHEN 'reversal' THEN amount >= 1 AND CASE
            WHEN model_id IS NULL THEN
                credits_delta = amount AND bonus_delta BETWEEN 0 AND amount AND tokens_delta = 0
            ELSE credits_delta = 0 AND bonus_delta = 0 AND tokens_delta = amount
        END
        WHEN 'return' THEN
            amount >= 0 AND model_id IS NOT NULL
            AND credits_delta = amount AND bonus_delta BETWEEN 0 AND amount AND tokens_delta <= -1
        WHEN 'grant' THEN
            amount >= 1 AND model_id IS NULL
            AND credits_delta = amount AND bonus_delta = amount AND tokens_delta = 0
        WHEN 'adjustment' THEN amount >= 1 AND CASE
            WHEN model_id IS NULL THEN
                credits_delta IN (amount, -amount) AND tokens_delta = 0
                AND (bonus_delta = 0 OR bonus_delta BETWEEN credits_delta AND 0)
            ELSE credits_delta = 0 AND bonus_delta = 0 AND tokens_delta IN (amount, -amount)
        END
        ELSE false
    END IS NOT true";

/// Settled holds without the consumption that they name, and consumptions that name a hold which does not name them.
/// Holds are forgotten in the end, consumptions are not.
const HOLDS: &str = concat!(
    "
    SELECT hold_id, user_id, model_id, 'its consumption' AS expected, 'another or none' AS found
    FROM holds
    WHERE status = 'settled' AND NOT EXISTS (
        SELECT * FROM transactions AS entry
        WHERE entry.id = holds.transaction_id AND entry.type = 'consumption'
            AND entry.hold_id = holds.hold_id AND ",
    is_same_user!("entry", "holds"),
    "
            AND entry.model_id = holds.model_id AND entry.amount = holds.consumed_tokens
            AND entry.input_tokens = holds.input_tokens
            AND entry.output_tokens = holds.output_tokens)
    UNION ALL
    SELECT holds.hold_id, holds.user_id, holds.model_id, 'no other consumption', 'one'
    FROM transactions AS entry JOIN holds ON holds.hold_id = entry.hold_id
    WHERE entry.hold_id IS NOT NULL
        AND (holds.transaction_id IS NULL OR holds.transaction_id <> entry.id)"
);

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Credits and tokens are the sums of their changes, and never negative.
    Balances,
    /// Given credits are the sums of their changes, never negative, and no more than all credits.
    Bonus,
    /// Every transaction belongs to a balance.
    Owners,
    /// Every transaction's changes follow from its type and amount.
    Changes,
    /// Nothing goes back that was not taken, or more of it: of a consumption, a refund, an allocation.
    Backs,
    /// Every purchase was granted once: each has its names for itself, and no name is without one.
    Grants,
    /// Every settled hold names its consumption, and that one names it.
    Holds,
    /// Every purchase that its store confirmed has its grant, of what its products are worth, what waits is asked for,
    /// and what is refunded is taken or missing.
    Purchases,
    /// The sums of usage are those of their entries.
    Usage,
    /// The sums of the whole are those of all entries.
    Summary,
    /// Foreign keys lead somewhere.
    References,
    /// Names are such as can be read: the schema takes more than the service.
    Names,
    /// The ids that the server gives next are higher than all there are.
    Ids,
    /// The engine finds its file sound.
    File,
}

impl Check {
    /// All of them, in the order in which they are told.
    pub(crate) const ALL: [Self; 14] = [
        Self::Balances,
        Self::Bonus,
        Self::Owners,
        Self::Changes,
        Self::Backs,
        Self::Grants,
        Self::Holds,
        Self::Purchases,
        Self::Usage,
        Self::Summary,
        Self::References,
        Self::Names,
        Self::Ids,
        Self::File,
    ];

    /// What must hold.
    pub(crate) const fn rule(self) -> &'static str {
        match self {
            Self::Balances => "balances are the sums of their changes, none negative",
            Self::Bonus => "given credits are the sums of their changes, within all credits",
            Self::Owners => "every transaction belongs to a balance",
            Self::Changes => "every change follows from its transaction",
            Self::Backs => "no more goes back than was taken, at what was paid",
            Self::Grants => "every store transaction is granted once",
            Self::Holds => "every settled hold has its consumption",
            Self::Purchases => "every confirmed purchase has its grant",
            Self::Usage => "sums of usage are those of their entries",
            Self::Summary => "sums of the whole are those of all entries",
            Self::References => "references lead somewhere",
            Self::Names => "names are free of control characters",
            Self::Ids => "ids to be given are new",
            Self::File => "the file is sound",
        }
    }
}

/// How much of the machine an audit may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// As much as it can get.
    Usual,
    /// What others leave.
    Low,
}

row! {
    /// How much was looked at.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Counts {
        pub users: i64,
        /// Of credits and of tokens.
        pub balances: i64,
        pub transactions: i64,
        pub idempotency_keys: i64,
    }
}

/// What one statement looks for; its differences may also break a related check.
pub(super) struct Search<R> {
    pub check: Check,
    pub sql: &'static str,
    pub difference: fn(&R) -> Result<Difference, sqlx::Error>,
}

impl<R: Row> Search<R> {
    /// What each row of `sql` tells as a `T`.
    fn of<T: for<'r> FromRow<'r, R> + Into<Difference>>(check: Check, sql: &'static str) -> Self {
        Self { check, sql, difference: |row| T::from_row(row).map(T::into) }
    }
}

/// SQL in which the engines differ. The columns have the names of what they are decoded into.
pub(super) struct Texts {
    /// [`WrongBalance`]s.
    pub balances: &'static str,
    /// [`WrongBack`]s.
    pub backs: &'static str,
    /// [`WrongPurchase`]s.
    pub purchases: &'static str,
    /// [`DanglingReference`]s.
    pub references: &'static str,
    /// [`UnreadableName`]s.
    pub names: &'static str,
}

impl Texts {
    /// Everything that is looked for with one statement.
    pub(super) fn searches<R: Row>(&self) -> [Search<R>; 7]
    where
        WrongBalance: for<'r> FromRow<'r, R>,
        WrongBack: for<'r> FromRow<'r, R>,
        WrongHold: for<'r> FromRow<'r, R>,
        WrongChange: for<'r> FromRow<'r, R>,
        WrongPurchase: for<'r> FromRow<'r, R>,
        DanglingReference: for<'r> FromRow<'r, R>,
        UnreadableName: for<'r> FromRow<'r, R>,
    {
        [
            Search::of::<WrongBalance>(Check::Balances, self.balances),
            Search::of::<WrongChange>(Check::Changes, CHANGES),
            Search::of::<WrongBack>(Check::Backs, self.backs),
            Search::of::<WrongHold>(Check::Holds, HOLDS),
            Search::of::<WrongPurchase>(Check::Purchases, self.purchases),
            Search::of::<DanglingReference>(Check::References, self.references),
            Search::of::<UnreadableName>(Check::Names, self.names),
        ]
    }
}

row! {
    /// A balance that is not the sum of its changes, or is negative, or is not there at all. The sum is in
    /// halves of 32 bits: wrong amounts are looked for here, and 64 bits may not do for their sum.
    #[derive(Debug)]
    pub(super) struct WrongBalance {
        user_id: Option<String>,
        model_id: Option<String>,
        held: Option<i64>,
        high: i64,
        low: i64,
        entries: i64,
        /// Whether it is about credits that were given.
        given: bool,
    }
}

impl From<WrongBalance> for Difference {
    fn from(wrong: WrongBalance) -> Self {
        let WrongBalance { user_id: user, model_id: model, held, high, low, entries, given } =
            wrong;
        let sum = (i128::from(high) << 32_u32).saturating_add(i128::from(low));
        let unit = match (&model, given) {
            (Some(_), _) => "tokens",
            (None, true) => "given credits",
            (None, false) => "credits",
        };
        let (check, expected, found) = match held {
            None => {
                let found = format!("none for {entries} transactions");
                (Check::Owners, format!("a balance of {sum} {unit}"), found)
            }
            Some(held) if given && i128::from(held) == sum => {
                let expected = format!("no fewer than 0 {unit}, and no more than credits");
                (Check::Bonus, expected, held.to_string())
            }
            Some(held) if given => (Check::Bonus, format!("{sum} {unit}"), held.to_string()),
            Some(held) if i128::from(held) == sum => {
                (Check::Balances, format!("no fewer than 0 {unit}"), held.to_string())
            }
            Some(held) => (Check::Balances, format!("{sum} {unit}"), held.to_string()),
        };
        Self { check, user, model, expected, found }
    }
}

row! {
    /// A transaction of which more or less changed than its type and amount say.
    #[derive(Debug)]
    pub(super) struct WrongChange {
        id: i64,
        kind("type"): String,
        amount: i64,
        user_id: Option<String>,
        model_id: Option<String>,
        credits_delta: i64,
        bonus_delta: i64,
        tokens_delta: i64,
    }
}

impl From<WrongChange> for Difference {
    fn from(wrong: WrongChange) -> Self {
        let WrongChange { id, kind, amount, credits_delta, tokens_delta, .. } = wrong;
        let given = match wrong.bonus_delta {
            0 => String::new(),
            bonus => format!(" ({bonus} of them given)"),
        };
        Self {
            check: Check::Changes,
            user: wrong.user_id,
            model: wrong.model_id,
            expected: format!("what a {kind:?} of {amount} changes by transaction {id}"),
            found: format!("{credits_delta} credits{given}, {tokens_delta} tokens"),
        }
    }
}

/// What went back of an allocation beyond what was paid with bought credits.
macro_rules! bonus_back {
    () => {
        "(CASE WHEN back.credits > bought.amount + bought.bonus_delta
            THEN back.credits - bought.amount - bought.bonus_delta ELSE 0 END)"
    };
}
pub(super) use bonus_back;

/// Entries of which more goes back than was taken, or at another price, in the brackets where the engines differ: the
/// product of two amounts, divided by a third. What an allocation of C credits and T tokens gave back for t tokens is
/// ⌊C × t ÷ T⌋; what of that had been given does not show where a refund took it.
macro_rules! wrong_backs {
    ($product:literal, $quotient:literal) => {
        concat!(
            "SELECT taken.id, taken.user_id, taken.model_id, 'no more than it took' AS expected,
                'more' AS found
            FROM (
                SELECT reverses, sum(amount) AS amount, sum(bonus_delta) AS bonus
                FROM transactions
                WHERE reverses IS NOT NULL AND type = 'reversal' GROUP BY reverses
            ) AS back
            LEFT JOIN transactions AS taken ON taken.id = back.reverses
            WHERE coalesce(back.amount > taken.amount, true)
                OR taken.type NOT IN ('refund', 'consumption')
                OR (taken.allocation_id IS NULL AND back.bonus > -taken.bonus_delta)
            UNION ALL
            SELECT bought.id, bought.user_id, bought.model_id,
                'tokens back, and credits at what was paid', 'others'
            FROM (
                SELECT allocation_id, sum(-tokens_delta) AS tokens, sum(amount) AS credits,
                    sum(bonus_delta) AS bonus,
                    sum(CASE type WHEN 'refund' THEN 1 ELSE 0 END) AS refunds
                FROM transactions WHERE allocation_id IS NOT NULL GROUP BY allocation_id
            ) AS back
            LEFT JOIN transactions AS bought
                ON bought.id = back.allocation_id AND bought.type = 'allocation'
            WHERE coalesce(back.tokens > bought.tokens_delta OR (",
            $product,
            " AND back.credits <> ",
            $quotient,
            ") OR CASE WHEN back.refunds = 0 THEN back.bonus <> ",
            bonus_back!(),
            " ELSE back.bonus > ",
            bonus_back!(),
            " END, true)"
        )
    };
}
pub(super) use wrong_backs;

row! {
    /// An entry of which more goes back than may.
    #[derive(Debug)]
    pub(super) struct WrongBack {
        id: Option<i64>,
        user_id: Option<String>,
        model_id: Option<String>,
        expected: String,
        found: String,
    }
}

impl From<WrongBack> for Difference {
    fn from(WrongBack { id, user_id: user, model_id: model, expected, found }: WrongBack) -> Self {
        let of = id.map_or_else(
            || "an entry that is missing".to_owned(),
            |id| format!("transaction {id}"),
        );
        Self { check: Check::Backs, user, model, expected: format!("{expected} of {of}"), found }
    }
}

/// Purchases that are not as they must be, in the brackets where the engines differ: what the items of one are
/// worth together.
macro_rules! wrong_purchases {
    ($worth:literal) => {
        concat!(
            "SELECT id, user_id, expected, found FROM (
                SELECT id, user_id, 'an entry of its credits for its user' AS expected,
                    'another or none' AS found
                FROM purchases
                WHERE granted_at IS NOT NULL AND NOT EXISTS (
                    SELECT * FROM transactions AS entry
                    WHERE entry.id = purchases.entry_id AND entry.type = 'purchase'
                        AND ",
            $crate::database::erasing::is_same_user!("entry", "purchases"),
            " AND entry.amount = purchases.credits)
                UNION ALL
                SELECT id, user_id, 'no entry before it is granted', 'one'
                FROM purchases WHERE granted_at IS NULL AND entry_id IS NOT NULL
                UNION ALL
                SELECT id, user_id, 'the credits of its items', 'others'
                FROM purchases WHERE granted_at IS NOT NULL AND coalesce(credits <> ",
            $worth,
            ", true)
                UNION ALL
                SELECT id, user_id, 'its key among the keys', 'none'
                FROM purchases WHERE NOT EXISTS (
                    SELECT * FROM purchase_keys
                    WHERE purchase_keys.key = purchases.key AND purchase_id = purchases.id)
                UNION ALL
                SELECT id, user_id, 'when its store is asked or told next', 'never'
                FROM purchases
                WHERE (due_at IS NULL OR (token IS NULL AND verified IS NULL))
                    AND (state IN ('received', 'pending') OR (store = 'google'
                        AND state <> 'refunded' AND granted_at IS NOT NULL AND acknowledged_at IS NULL))
                UNION ALL
                SELECT id, user_id, 'what is refunded as taken and missing credits', 'more or less'
                FROM purchases WHERE taken_credits + shortfall_credits
                    <> CASE WHEN granted_at IS NULL THEN 0
                        WHEN refund_store > refund_operator THEN refund_store ELSE refund_operator END
                UNION ALL
                SELECT id, user_id, 'entries of the credits that were taken', 'of others'
                FROM purchases WHERE taken_credits <> coalesce((
                    SELECT sum(part.amount - coalesce((SELECT sum(back.amount)
                        FROM transactions AS back WHERE back.reverses = part.id), 0))
                    FROM transactions AS part
                    WHERE part.reverses = purchases.entry_id AND part.type = 'refund'), 0)
                UNION ALL
                SELECT id, user_id, 'the state of a refund', state
                FROM purchases WHERE granted_at IS NOT NULL
                    AND (state = 'refunded') <> (refund_store > 0 OR refund_operator > 0)
            ) AS wrong"
        )
    };
}
pub(super) use wrong_purchases;

row! {
    /// A hold whose consumption is not what it says.
    #[derive(Debug)]
    pub(super) struct WrongHold {
        hold_id: String,
        user_id: Option<String>,
        model_id: Option<String>,
        expected: String,
        found: String,
    }
}

impl From<WrongHold> for Difference {
    fn from(wrong: WrongHold) -> Self {
        let WrongHold { hold_id, user_id: user, model_id: model, expected, found } = wrong;
        let expected = format!("{expected} of hold {hold_id}");
        Self { check: Check::Holds, user, model, expected, found }
    }
}

row! {
    /// A purchase that is not as it must be.
    #[derive(Debug)]
    pub(super) struct WrongPurchase {
        id: i64,
        user_id: Option<String>,
        expected: String,
        found: String,
    }
}

impl From<WrongPurchase> for Difference {
    fn from(WrongPurchase { id, user_id: user, expected, found }: WrongPurchase) -> Self {
        let expected = format!("{expected} of purchase {id}");
        Self { check: Check::Purchases, user, model: None, expected, found }
    }
}

row! {
    /// A row of `origin` whose row in `parent` is missing.
    #[derive(Debug)]
    pub(super) struct DanglingReference {
        origin: String,
        parent: String,
        user_id: Option<String>,
        model_id: Option<String>,
    }
}

impl From<DanglingReference> for Difference {
    fn from(dangling: DanglingReference) -> Self {
        let DanglingReference { origin, parent, user_id: user, model_id: model } = dangling;
        let expected = format!("a row in {parent} for one in {origin}");
        Self { check: Check::References, user, model, expected, found: "none".to_owned() }
    }
}

row! {
    /// A name of a user or a model that the service can't read.
    #[derive(Debug)]
    pub(super) struct UnreadableName {
        user_id: Option<String>,
        model_id: Option<String>,
    }
}

impl From<UnreadableName> for Difference {
    fn from(UnreadableName { user_id: user, model_id: model }: UnreadableName) -> Self {
        let expected = "a name free of control characters".to_owned();
        Self { check: Check::Names, user, model, expected, found: "one with some".to_owned() }
    }
}

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// What it breaks.
    pub check: Check,
    /// Whose it is, where that is known.
    pub user: Option<String>,
    /// The model concerned, if any.
    pub model: Option<String>,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Difference {
    /// One line, whatever the texts hold.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(formatter, "user {user:?}, ")?;
        }
        if let Some(model) = &self.model {
            write!(formatter, "model {model:?}, ")?;
        }
        let found = self.found.replace(char::is_control, " ");
        write!(formatter, "expected {}, found {found}", self.expected)
    }
}

impl Difference {
    /// A name that a purchase does not have for itself.
    pub(super) fn wrong_name(user: &str, id: i64, name: &PurchaseName, found: &str) -> Self {
        Self {
            check: Check::Grants,
            user: Some(user.to_owned()),
            model: None,
            expected: format!("{:?} as a name of purchase {id} alone", name.as_str()),
            found: found.to_owned(),
        }
    }

    /// A sum of usage that is not that of its entries.
    pub(super) fn wrong_usage(
        user: String,
        model: String,
        quarter: i64,
        entries: UsageSums,
        kept: UsageSums,
    ) -> Self {
        Self {
            check: Check::Usage,
            user: Some(user),
            model: Some(model),
            expected: format!("{entries:?} in quarter of an hour {quarter}"),
            found: format!("{kept:?}"),
        }
    }

    /// A sum of the whole that is not that of all entries.
    pub(super) fn wrong_summary(what: &str, expected: &str, found: String) -> Self {
        let (user, model) = (None, None);
        let expected = format!("{what} of {expected}");
        Self { check: Check::Summary, user, model, expected, found }
    }

    /// A table whose next id would be one that there is already, or may be.
    pub(super) fn used_id(table: &str, next: i64, newest: i64) -> Self {
        Self {
            check: Check::Ids,
            user: None,
            model: None,
            expected: format!("a next id in {table} beyond {newest}"),
            found: next.to_string(),
        }
    }

    /// Something wrong with the database's file.
    pub(super) fn damaged_file(found: String) -> Self {
        let expected = "a sound file".to_owned();
        Self { check: Check::File, user: None, model: None, expected, found }
    }
}

/// What an audit came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Audit {
    /// What was looked at. An engine that has no file of ours has none to check.
    pub checks: &'static [Check],
    /// How much was looked at; unknown where the file is too damaged to count.
    pub counts: Option<Counts>,
    /// The first differences.
    pub told: Vec<Difference>,
    totals: [u64; Check::ALL.len()],
}

impl Audit {
    /// How many differences there are, told or not.
    pub(crate) fn total(&self) -> u64 {
        self.totals.iter().sum()
    }

    /// How many of them break this rule.
    pub(crate) fn total_of(&self, check: Check) -> u64 {
        Check::ALL.iter().zip(self.totals).find(|(known, _)| **known == check).map_or(0, |(_, n)| n)
    }

    /// One that has still to be made.
    pub(super) fn of(checks: &'static [Check]) -> Self {
        Self { checks, ..Self::default() }
    }

    /// Takes in what another part of the audit came to.
    pub(super) fn append(&mut self, other: Self) {
        for (total, more) in self.totals.iter_mut().zip(other.totals) {
            *total = total.saturating_add(more);
        }
        let room = DIFFERENCES_TOLD.saturating_sub(self.told.len());
        self.told.extend(other.told.into_iter().take(room));
    }

    pub(super) fn add(&mut self, difference: Difference) {
        for (known, total) in Check::ALL.iter().zip(&mut self.totals) {
            if *known == difference.check {
                *total = total.saturating_add(1);
            }
        }
        if self.told.len() < DIFFERENCES_TOLD {
            self.told.push(difference);
        }
    }
}
