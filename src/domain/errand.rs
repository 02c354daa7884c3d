//! What is left to do at a store for a purchase that is written down: to ask what it says, to tell it that the
//! purchase was delivered, and a day later that it may be bought again. Somebody takes a turn, does it, and tells.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Applied, Facts, Operation, PaidPurchase, PurchaseKey, PurchaseState, PurchaseToken, Reason,
    Refusal, Store, TrackedPurchase, UserId, Wanted,
};

/// How long the app has to say itself that a purchase is used up: it fails there when it was said before.
pub(super) const CONSUME_AFTER: TimeDelta = TimeDelta::days(1);

/// Takes the turn at a purchase that is due, for as long as a lease lasts. Tells what is to be done, if anything.
#[derive(Debug)]
pub(crate) struct TakeTurn {
    pub key: PurchaseKey,
}

/// What is to be done for a purchase.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Turn {
    pub errand: Errand,
    /// The purchase's id.
    pub id: Option<i64>,
    pub store: Store,
    /// The store's name of what was bought, where it is known. Of several the first.
    pub product: Option<String>,
    /// None for what was signed, and need not be asked.
    pub token: Option<PurchaseToken>,
    /// What the store said, where it can't be asked again.
    pub paid: Option<Box<PaidPurchase>>,
    /// Since when it has been granted, if it is.
    pub granted_at: Option<DateTime<Utc>>,
    /// What the client sent about it.
    pub record: Option<String>,
}

/// Without the token, and what the client sent.
impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("errand", &self.errand).finish_non_exhaustive()
    }
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// To ask its store.
    Ask,
    /// To tell its store that it was delivered.
    Acknowledge,
    /// To tell its store that it may be bought again.
    Consume,
}

impl Operation for TakeTurn {
    type Outcome = Option<Turn>;

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        wanted.purchase_keys.push(self.key.clone());
    }

    fn decide(&self, _: &UserId, facts: &mut Facts) -> Result<Applied<Option<Turn>>, Refusal> {
        let now = facts.now;
        let due = facts
            .purchases
            .find(std::slice::from_ref(&self.key))
            .into_iter()
            .find(|place| facts.purchases.at(*place).is_due(now));
        let Some(place) = due else { return Ok(Applied::before(None)) };
        let purchase = facts.purchases.change(place);
        let Some(errand) = errand(purchase) else {
            purchase.due_at = None;
            return Ok(Applied::now(None));
        };
        if errand == Errand::Ask && purchase.token.is_none() && purchase.paid().is_none() {
            // There is nothing to ask with; whoever brings it again has it.
            purchase.end(PurchaseState::Refused, Reason::GivenUp);
            return Ok(Applied::now(None));
        }
        purchase.lease(now);
        let product = purchase.product_id.as_deref();
        let product = product.and_then(|names| names.split(',').next()).map(str::to_owned);
        Ok(Applied::now(Some(Turn {
            errand,
            id: purchase.id,
            store: purchase.store,
            product,
            token: purchase.token.clone(),
            paid: purchase.paid().map(Box::new),
            granted_at: purchase.granted_at,
            record: purchase.record.clone(),
        })))
    }
}

fn errand(purchase: &TrackedPurchase) -> Option<Errand> {
    if purchase.is_granted() {
        let to_tell = purchase.store == Store::Google && purchase.token.is_some();
        return match (purchase.acknowledged_at, purchase.consumed_at) {
            _ if !to_tell => None,
            (_, Some(_)) => None,
            (None, None) => Some(Errand::Acknowledge),
            (Some(_), None) => Some(Errand::Consume),
        };
    }
    let is_asked = purchase.is_waiting()
        || (purchase.state == PurchaseState::Review
            && purchase.reason == Some(Reason::UnknownProduct));
    is_asked.then_some(Errand::Ask)
}

/// Takes note of how an errand went that is not to ask.
#[derive(Debug)]
pub(crate) struct Told {
    pub key: PurchaseKey,
    pub errand: Errand,
    /// Whether the store took note.
    pub done: bool,
}

impl Operation for Told {
    type Outcome = ();

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        wanted.purchase_keys.push(self.key.clone());
    }

    fn decide(&self, _: &UserId, facts: &mut Facts) -> Result<Applied<()>, Refusal> {
        let now = facts.now;
        let found = facts.purchases.find(std::slice::from_ref(&self.key));
        let granted = |place: &usize| facts.purchases.at(*place).is_granted();
        let Some(place) = found.into_iter().find(granted) else { return Ok(Applied::before(())) };
        let purchase = facts.purchases.change(place);
        match (self.done, self.errand) {
            (false, _) | (_, Errand::Ask) => purchase.try_again(now),
            (true, Errand::Acknowledge) => {
                purchase.acknowledged_at.get_or_insert(now);
                purchase.attempts = 0;
                let granted_at = purchase.granted_at.unwrap_or(now);
                purchase.due_at = granted_at.checked_add_signed(CONSUME_AFTER);
            }
            (true, Errand::Consume) => {
                // Whoever consumes it acknowledges it.
                purchase.acknowledged_at.get_or_insert(now);
                purchase.consumed_at.get_or_insert(now);
                purchase.attempts = 0;
                purchase.due_at = None;
                purchase.token = None;
            }
        }
        Ok(Applied::now(()))
    }
}
