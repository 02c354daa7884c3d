//! What an audit of the books comes to, whatever the engine. What an engine looks for in its own way is in
//! its folder; here is the SQL that both understand.

use std::fmt;

/// Most differences that are told one by one; those beyond are counted.
const DIFFERENCES_TOLD: usize = 100;

/// Users, balances, transactions and idempotency keys.
pub(super) const COUNTS: &str = "
    SELECT (SELECT count(*) FROM users),
        (SELECT count(*) FROM credits) + (SELECT count(*) FROM token_balances),
        (SELECT count(*) FROM transactions),
        (SELECT count(*) FROM idempotency_keys)";

/// Transactions whose changes are not what their type and amount say. The schema refuses them, but its
/// conditions can be switched off.
pub(super) const CHANGES: &str = "
    SELECT id, type, amount, user_id, model_id, credits_delta, tokens_delta FROM transactions
    WHERE CASE type
        WHEN 'purchase' THEN
            amount >= 1 AND credits_delta = amount AND tokens_delta = 0 AND model_id IS NULL
        WHEN 'allocation' THEN
            amount >= 1 AND credits_delta = -amount AND tokens_delta >= 1 AND model_id IS NOT NULL
        WHEN 'consumption' THEN
            amount >= 0 AND credits_delta = 0 AND tokens_delta = -amount AND model_id IS NOT NULL
        ELSE false
    END IS NOT true";

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Credits and tokens are the sums of their changes, and never negative.
    Balances,
    /// Every transaction belongs to a balance.
    Owners,
    /// Every transaction's changes follow from its type and amount.
    Changes,
    /// Every store transaction was granted once.
    Grants,
    /// Foreign keys lead somewhere.
    References,
    /// Names are such as can be read: the schema takes more than the service.
    Names,
    /// The engine finds its file sound.
    File,
}

impl Check {
    /// All of them, in the order in which they are told.
    pub(crate) const ALL: [Self; 7] = [
        Self::Balances,
        Self::Owners,
        Self::Changes,
        Self::Grants,
        Self::References,
        Self::Names,
        Self::File,
    ];

    /// What must hold.
    pub(crate) const fn rule(self) -> &'static str {
        match self {
            Self::Balances => "balances are the sums of their changes, none negative",
            Self::Owners => "every transaction belongs to a balance",
            Self::Changes => "every change follows from its transaction",
            Self::Grants => "every store transaction is granted once",
            Self::References => "references lead somewhere",
            Self::Names => "names are free of control characters",
            Self::File => "the file is sound",
        }
    }
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Users.
    pub users: u64,
    /// Balances, of credits and of tokens.
    pub balances: u64,
    /// Transactions.
    pub transactions: u64,
    /// Idempotency keys.
    pub idempotency_keys: u64,
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
    /// A balance that is not the sum of its changes, or is negative, or is not there at all.
    pub(super) fn wrong_balance(
        user: Option<String>,
        model: Option<String>,
        held: Option<i64>,
        sum: i128,
        entries: i64,
    ) -> Self {
        let unit = if model.is_some() { "tokens" } else { "credits" };
        let (check, expected, found) = match held {
            None => {
                let found = format!("none for {entries} transactions");
                (Check::Owners, format!("a balance of {sum} {unit}"), found)
            }
            Some(held) if i128::from(held) == sum => {
                (Check::Balances, format!("no fewer than 0 {unit}"), held.to_string())
            }
            Some(held) => (Check::Balances, format!("{sum} {unit}"), held.to_string()),
        };
        Self { check, user, model, expected, found }
    }

    /// A transaction of which more or less changed than its type and amount say.
    pub(super) fn wrong_change(
        user: Option<String>,
        model: Option<String>,
        (id, kind, amount): (i64, &str, i64),
        (credits, tokens): (i64, i64),
    ) -> Self {
        let expected = format!("what a {kind:?} of {amount} changes by transaction {id}");
        let found = format!("{credits} credits, {tokens} tokens");
        Self { check: Check::Changes, user, model, expected, found }
    }

    /// A store transaction granted more than once: to `user`, and perhaps to `other`.
    pub(super) fn repeated_grant(id: &str, grants: i64, user: &str, other: &str) -> Self {
        let others =
            if user == other { String::new() } else { format!(", also to user {other:?}") };
        Self {
            check: Check::Grants,
            user: Some(user.to_owned()),
            model: None,
            expected: format!("1 grant of store transaction {id:?}"),
            found: format!("{grants}{others}"),
        }
    }

    /// A row of `table` whose row in `parent` is missing.
    pub(super) fn dangling_reference(
        user: Option<String>,
        model: Option<String>,
        table: &str,
        parent: &str,
    ) -> Self {
        let expected = format!("a row in {parent} for one in {table}");
        Self { check: Check::References, user, model, expected, found: "none".to_owned() }
    }

    /// A name of a user or a model that the service can't read.
    pub(super) fn unreadable_name(user: Option<String>, model: Option<String>) -> Self {
        let expected = "a name free of control characters".to_owned();
        Self { check: Check::Names, user, model, expected, found: "one with some".to_owned() }
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
