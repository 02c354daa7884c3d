//! What a store tells of a purchase without being asked, and what becomes of the purchase: it waits for whoever
//! brings it, is asked for again, or is taken back. What is booked then is in `take_back`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    AppleTold, Applied, Believed, Credits, Environment, Facts, MessageId, Operation, ProductId,
    ProductList, PurchaseKey, PurchaseRecord, PurchaseState, Reason, Refusal, Store, StoreRefund,
    TrackedPurchase, UserId, Wanted, take_back,
};

/// What a message came to whose news are noted.
pub(crate) const NOTED: &str = "noted";

/// Takes note of news of a purchase, as its owner if it has one.
#[derive(Debug)]
pub(crate) struct Hear {
    /// By which its store knows it.
    pub keys: Vec<PurchaseKey>,
    pub store: Store,
    pub news: News,
    /// What the user was granted for it on a client's word, if that was found.
    pub believed: Option<Believed>,
    /// The message that is done with them, if it tells nothing else.
    pub ends: Option<MessageId>,
}

/// What is told.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// Google: something became of it that has to be asked for.
    Changed(Option<ProductId>),
    /// Google: so much is refunded. It only grows.
    Refunded(StoreRefund),
    /// Apple: what the transaction is like at a time.
    Transaction(AppleTold),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Heard {
    /// Nothing: the purchase is another user's, and has to be told to that one.
    OfAnother(UserId),
    /// This.
    Noted {
        /// The purchase's id, if it was written down before.
        id: Option<i64>,
        state: PurchaseState,
        is_test: bool,
        /// Whether it may have been granted on a client's word.
        may_be_believed: bool,
        /// Whether anything is refunded, by its store's word.
        is_refunded: bool,
        /// Credits that were taken, could not be taken, and were given back.
        taken: Credits,
        missing: Credits,
        given_back: Credits,
    },
}

impl Operation for Hear {
    type Outcome = Heard;

    fn asks(&self, wanted: &mut Wanted) {
        wanted.purchase_keys.extend_from_slice(&self.keys);
        wanted.products = true;
        wanted.messages.extend(self.ends.clone());
        wanted.reversing.extend(self.believed.iter().map(|believed| believed.entry));
    }

    fn asks_of(&self, user: &UserId, wanted: &mut Wanted) {
        wanted.lots_of.push(user.clone());
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Heard>, Refusal> {
        let place = self.place(facts);
        let owner = facts.purchases.at(place).user.clone();
        if let Some(owner) = owner.filter(|owner| owner != user) {
            return Ok(Applied::before(Heard::OfAnother(owner)));
        }
        let mut purchase = facts.purchases.at(place).clone();
        let booking = self.book(user, &mut purchase, facts)?;
        for key in &self.keys {
            facts.purchases.add_key(key.clone(), place);
        }
        let may_be_believed = purchase.may_be_believed();
        if let Some(id) = self.ends.as_ref().filter(|_| !may_be_believed) {
            facts.inbox.end(id, NOTED);
        }
        let heard = Heard::Noted {
            id: purchase.id,
            state: purchase.state,
            is_test: purchase.environment == Some(Environment::Sandbox),
            may_be_believed,
            is_refunded: purchase.refund.is_some(),
            taken: booking.taken,
            missing: booking.missing,
            given_back: booking.given_back,
        };
        *facts.purchases.change(place) = purchase;
        Ok(Applied::now(heard))
    }
}

impl Hear {
    /// An id alone does not tell Apple's environments apart.
    fn is_about(&self, known: &TrackedPurchase) -> bool {
        match &self.news {
            News::Transaction(told) => {
                known.environment.is_none_or(|environment| environment == told.environment())
            }
            News::Changed(_) | News::Refunded(_) => true,
        }
    }

    /// The purchase that is told of, a granted one first; an unclaimed one, where none is known.
    fn place(&self, facts: &mut Facts) -> usize {
        let purchases = &mut facts.purchases;
        let mut found = purchases.find(&self.keys);
        found.retain(|place| self.is_about(purchases.at(*place)));
        let granted = found.iter().find(|place| purchases.at(**place).is_granted());
        if let Some(place) = granted.or_else(|| found.first()) {
            return *place;
        }
        let key = self.keys.first().expect("whoever tells of a purchase names it");
        purchases.add(TrackedPurchase::unclaimed(key.clone(), self.store, facts.now))
    }

    /// Writes down what is told, and books what follows from it.
    fn book(
        &self,
        user: &UserId,
        purchase: &mut TrackedPurchase,
        facts: &mut Facts,
    ) -> Result<take_back::Booking, Refusal> {
        let Facts { purchases, products, accounts, entries, now, .. } = facts;
        self.tell(purchase, products);
        if let Some(believed) = &self.believed
            && purchase.may_be_believed()
            && !purchases.have_entry(believed.entry)
        {
            purchase.take_over(believed, user, entries);
        }
        let booking = if purchase.is_granted() {
            purchase.count_refund();
            let booking = take_back::settle(user, purchase, accounts, *now)?;
            purchase.forget_what_is_gone();
            booking
        } else {
            purchase.follow_refund(*now);
            take_back::Booking::default()
        };
        if matches!(self.news, News::Changed(_)) {
            purchase.wake(*now);
        }
        Ok(booking)
    }

    fn tell(&self, purchase: &mut TrackedPurchase, products: &ProductList) {
        match &self.news {
            News::Changed(product) => {
                if purchase.product_id.is_none() {
                    purchase.product_id = product.as_ref().map(|id| id.as_str().to_owned());
                }
            }
            News::Refunded(refund) => purchase.hear(refund, None),
            News::Transaction(AppleTold { paid, signed_at, .. }) => {
                // What was granted stays what it was granted for.
                if !purchase.is_granted() {
                    purchase.learn(paid, products);
                }
                purchase.hear(&paid.refund, Some(*signed_at));
            }
        }
    }
}

impl TrackedPurchase {
    /// Takes note of what its store says is refunded: Google's word grows, of Apple's the latest counts.
    pub(super) fn hear(&mut self, told: &StoreRefund, said_at: Option<DateTime<Utc>>) {
        let mut refund = self.store_refund();
        match self.store {
            Store::Google => refund.rise(told),
            Store::Apple => {
                let is_later = match (said_at, self.refund_told_at) {
                    (Some(said), Some(known)) => said > known,
                    (None, Some(_)) => false,
                    (_, None) => true,
                };
                if !is_later {
                    return;
                }
                refund.clone_from(told);
                self.refund_told_at = said_at;
            }
        }
        self.refund = (!refund.is_nothing()).then_some(refund);
    }

    /// What is refunded by its store's word.
    pub(super) fn store_refund(&self) -> StoreRefund {
        self.refund.clone().unwrap_or_default()
    }

    /// Whether nothing is left of it, by its store's word.
    pub(super) fn is_refunded_whole(&self) -> bool {
        let pieces = self.quantity.and_then(|quantity| u32::try_from(quantity).ok());
        self.store_refund().is_whole(pieces.unwrap_or(0))
    }

    /// Counts a granted purchase's refund in credits.
    pub(super) fn count_refund(&mut self) {
        let credits = self.credits.expect("what is granted was granted for credits");
        self.refund_store = self.store_refund().credits(&self.granted_items(), credits);
    }

    /// Of what is not granted only a whole refund counts: nobody can have it, until it is reversed. Then it is for
    /// whoever brought it, or for whoever does.
    fn follow_refund(&mut self, now: DateTime<Utc>) {
        let is_gone = matches!(self.reason, Some(Reason::Duplicate | Reason::Invalid));
        if self.is_refunded_whole() {
            if !is_gone {
                self.state = PurchaseState::Refunded;
                self.reason = None;
                self.token = None;
                self.due_at = None;
            }
        } else if self.state == PurchaseState::Refunded {
            self.attempts = 0;
            match self.user {
                Some(_) => {
                    self.state = PurchaseState::Received;
                    self.due_at = Some(now);
                }
                None => self.state = PurchaseState::Unclaimed,
            }
        }
    }

    /// Was given back whole before anybody got it. What the client sent is kept for the day that is reversed.
    pub(super) fn end_as_refunded(&mut self, record: &PurchaseRecord) {
        self.record.get_or_insert_with(|| record.as_json().to_owned());
        self.state = PurchaseState::Refunded;
        self.reason = None;
        self.token = None;
        self.due_at = None;
    }

    /// There is nothing to tell the store of what was given back whole.
    fn forget_what_is_gone(&mut self) {
        if self.is_refunded_whole() {
            self.token = None;
            self.due_at = None;
        }
    }

    /// Has its store asked now, if it is still waited for.
    fn wake(&mut self, now: DateTime<Utc>) {
        let waits = self.is_waiting()
            || (self.state == PurchaseState::Review && self.reason == Some(Reason::UnknownProduct));
        if waits && self.due_at.is_some() {
            self.due_at = Some(now);
            self.attempts = 0;
        }
    }
}
