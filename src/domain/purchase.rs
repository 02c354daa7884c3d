//! A purchase: credits bought in an app store, added once.

use std::{collections::HashMap, fmt};

use serde_json::value::RawValue;

use super::{
    Applied, Credits, Entry, Facts, Operation, PURCHASE_TOKEN_MAX_CHARS, PurchaseName,
    PurchaseToken, Refusal, StoreTransactionId, UserId, Wanted,
};

/// Adds bought credits; tells the new balance.
#[derive(Debug, Clone)]
pub(crate) struct Purchase {
    /// Credits to add.
    pub credits: Credits,
    /// The store's id of the purchase, when the store gave one.
    pub store_transaction_id: Option<StoreTransactionId>,
    /// What the store gave the buyer to prove it by.
    pub token: Option<PurchaseToken>,
    /// What the client sent about it.
    pub record: PurchaseRecord,
}

impl Purchase {
    /// What it is known by; both may be the same.
    fn names(&self) -> impl Iterator<Item = PurchaseName> {
        let id = self.store_transaction_id.as_ref().map(PurchaseName::of_id);
        let token = self.token.as_ref().map(PurchaseName::of_token);
        id.into_iter().chain(token)
    }
}

impl Operation for Purchase {
    type Outcome = Credits;

    fn asks(&self, wanted: &mut Wanted) {
        wanted.purchase_names.extend(self.names());
    }

    /// A purchase of which any name is known was granted before. It adds nothing then, and teaches no name.
    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Credits>, Refusal> {
        let Facts { accounts, granted, .. } = facts;
        let owners: Vec<&UserId> = self.names().filter_map(|name| granted.owner(&name)).collect();
        if owners.iter().any(|owner| *owner != user) {
            return Err(Refusal::PurchaseAlreadyProcessed);
        }
        let account = accounts.of(user);
        if !owners.is_empty() {
            return Ok(Applied::before(account.credits()));
        }
        let balance =
            account.credits().checked_add(self.credits).ok_or(Refusal::BalanceOverflow)?;

        for name in self.names() {
            granted.insert_new(name, user.clone());
        }
        let entry = Entry::Purchase {
            credits: self.credits,
            store_transaction_id: self.store_transaction_id.clone(),
            record: self.record.clone(),
        };
        accounts.record(user, entry);
        Ok(Applied::now(balance))
    }
}

/// What the client sent about a purchase: a JSON object, kept to the letter.
///
/// It holds the store's purchase token, so it never shows its text in a log.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PurchaseRecord(String);

impl PurchaseRecord {
    /// Keeps the text of a JSON object.
    pub(crate) fn new(json: String) -> Self {
        Self(json)
    }

    /// The text as it was sent.
    pub(crate) fn as_json(&self) -> &str {
        &self.0
    }

    /// The token in it, which may be anything that is JSON: of several the last, and none that is no string or
    /// too long.
    pub(crate) fn token(&self) -> Option<String> {
        let members: HashMap<String, &RawValue> = serde_json::from_str(&self.0).ok()?;
        let token: String = serde_json::from_str(members.get("purchaseToken")?.get()).ok()?;
        (token.chars().count() <= PURCHASE_TOKEN_MAX_CHARS).then_some(token)
    }

    /// What the purchase is known by through its token. An empty text names nothing, and one with a NUL can't be
    /// kept.
    pub(crate) fn token_name(&self) -> Option<PurchaseName> {
        let token = self.token().filter(|token| !token.is_empty() && !token.contains('\0'))?;
        Some(PurchaseName::of(token))
    }
}

impl fmt::Debug for PurchaseRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PurchaseRecord(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Account,
        samples::{credits, decide, facts, facts_of_ann, first_prices, purchase, user_id},
    };

    #[test]
    fn credits_stop_at_the_largest_amount() {
        let mut facts = facts_of_ann(Credits::MAX.get() - 1);
        assert_eq!(decide(&purchase(2, &["GPA.1"]), &mut facts), Err(Refusal::BalanceOverflow));
        // The refused purchase was not granted, so its store transaction is still good.
        assert_eq!(decide(&purchase(1, &["GPA.1"]), &mut facts), Ok(Credits::MAX));
        assert_eq!(decide(&purchase(1, &[]), &mut facts), Err(Refusal::BalanceOverflow));
    }

    #[test]
    fn a_purchase_of_which_a_name_is_known_adds_nothing_and_teaches_no_name() {
        let mut facts =
            facts(&first_prices(), ["ann", "bob"].map(|name| Account::new(user_id(name))));
        let mut told = |user: &str, names: &[&str]| {
            let result = purchase(300, names).decide(&user_id(user), &mut facts);
            result.map(|applied| (applied.outcome, applied.replayed))
        };
        let new = |balance| Ok((credits(balance), false));
        let repeated = |balance| Ok((credits(balance), true));
        let another = Err(Refusal::PurchaseAlreadyProcessed);
        // A pending purchase has its token for an id.
        assert_eq!(told("ann", &["token", "token"]), new(300));
        assert_eq!(told("ann", &["GPA.1", "token"]), repeated(300));
        assert_eq!(told("bob", &["GPA.2", "token"]), another);
        // The names beside the known one are nobody's yet.
        assert_eq!(told("bob", &["GPA.1", "t1"]), new(300));
        assert_eq!(told("bob", &["GPA.2", "t2"]), new(600));
        assert_eq!(told("bob", &["GPA.1", "t2"]), repeated(600));
        // One of somebody else's is enough.
        assert_eq!(told("ann", &["token", "t2"]), another);
        assert_eq!(told("ann", &[]), new(600));
    }
}
