//! A purchase: credits bought in an app store, added once.

use std::fmt;

use super::{
    Applied, Credits, Entry, Facts, Operation, Refusal, StoreTransactionId, UserId, Wanted,
};

/// Adds bought credits; tells the new balance.
#[derive(Debug, Clone)]
pub(crate) struct Purchase {
    /// Credits to add.
    pub credits: Credits,
    /// The store's id of the purchase, when the store gave one.
    pub store_transaction_id: Option<StoreTransactionId>,
    /// What the client sent about it.
    pub record: PurchaseRecord,
}

impl Operation for Purchase {
    type Outcome = Credits;

    fn asks(&self, wanted: &mut Wanted) {
        wanted.store_transaction_ids.extend(self.store_transaction_id.clone());
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Credits>, Refusal> {
        let Facts { accounts, granted, .. } = facts;
        let id = self.store_transaction_id.as_ref();
        if id.is_some_and(|id| granted.owner(id).is_some()) {
            return Err(Refusal::PurchaseAlreadyProcessed);
        }
        let account = accounts.of(user);
        let balance =
            account.credits().checked_add(self.credits).ok_or(Refusal::BalanceOverflow)?;

        if let Some(id) = id {
            granted.insert(id.clone(), user.clone());
        }
        account.record(Entry::Purchase {
            credits: self.credits,
            store_transaction_id: self.store_transaction_id.clone(),
            record: self.record.clone(),
        });
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
}

impl fmt::Debug for PurchaseRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PurchaseRecord(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::samples::{decide, facts_of_ann, purchase};

    #[test]
    fn credits_stop_at_the_largest_amount() {
        let mut facts = facts_of_ann(Credits::MAX.get() - 1);
        assert_eq!(decide(&purchase(2, Some("GPA.1")), &mut facts), Err(Refusal::BalanceOverflow));
        // The refused purchase was not granted, so its store transaction is still good.
        assert_eq!(decide(&purchase(1, Some("GPA.1")), &mut facts), Ok(Credits::MAX));
        assert_eq!(decide(&purchase(1, None), &mut facts), Err(Refusal::BalanceOverflow));
    }
}
