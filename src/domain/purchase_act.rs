//! What an operator decides about a purchase: one that has to be looked at is granted or refused, one that waits is
//! asked for again, and the money of one that was granted is given back.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Applied, Credits, Entry, Facts, NoCredits, Operation, OperatorAct, ProductId, PurchaseKey,
    PurchaseName, PurchaseRecord, PurchaseState, PurchasedItem, Reason, Refusal, Store,
    StoreTransactionId, TrackedPurchase, UserId, Wanted, store_refund::GrantedItem, take_back,
};

/// The purchase that an act is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChosenPurchase {
    pub id: i64,
    /// The first of its keys.
    pub key: PurchaseKey,
}

/// Grants a purchase that has to be looked at, to whoever brought it.
#[derive(Debug, Clone)]
pub(crate) struct Approve {
    pub purchase: ChosenPurchase,
    /// What its entry is known by: what the history shows, and the name in what the client sent.
    pub store_transaction_id: StoreTransactionId,
    pub token_name: Option<PurchaseName>,
    /// For how many credits, if not for what its products are worth.
    pub credits: Option<Credits>,
}

/// Refuses a purchase that has to be looked at.
#[derive(Debug, Clone)]
pub(crate) struct Reject(pub(crate) ChosenPurchase);

/// Has the store of a purchase that is not granted asked at once.
#[derive(Debug, Clone)]
pub(crate) struct Retry(pub(crate) ChosenPurchase);

/// Takes back what was granted for a purchase, because the operator gave its money back.
#[derive(Debug, Clone)]
pub(crate) struct RefundPurchase {
    pub purchase: ChosenPurchase,
    /// How much of it, if not all.
    pub credits: Option<Credits>,
}

/// What became of the purchase.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ActedOn {
    /// What it is then: without its token, what the client sent, what its store said, and its user, which are kept in
    /// one place, where they are found when the user is erased.
    pub purchase: Box<TrackedPurchase>,
    /// What is not told again.
    #[serde(skip)]
    pub booked: Booked,
}

/// What an act booked, for whoever counts that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Booked {
    /// Credits that were granted.
    pub granted: Credits,
    /// Those that were taken, and those that could not be.
    pub taken: Credits,
    pub missing: Credits,
}

impl ChosenPurchase {
    fn asks(&self, wanted: &mut Wanted) {
        wanted.purchase_keys.push(self.key.clone());
    }

    /// Where it is, if it is still in one of these states and the user's.
    fn find(
        &self,
        user: &UserId,
        facts: &Facts,
        states: &[PurchaseState],
    ) -> Result<usize, Refusal> {
        let found = facts.purchases.find(std::slice::from_ref(&self.key));
        let is_it = |known: &TrackedPurchase| {
            known.id == Some(self.id) && known.user.as_ref().is_none_or(|owner| owner == user)
        };
        let place = found.into_iter().find(|place| is_it(facts.purchases.at(*place)));
        let place = place.ok_or(Refusal::PurchaseNotFound)?;
        let state = facts.purchases.at(place).state;
        if states.contains(&state) { Ok(place) } else { Err(Refusal::PurchaseState { state }) }
    }

    fn state(&self, facts: &Facts) -> Value {
        let found = facts.purchases.find(std::slice::from_ref(&self.key));
        let known = found.first().map(|place| facts.purchases.at(*place));
        json!({
            "purchase_id": self.id,
            "state": known.map(|known| known.state.name()),
            "credits": known.and_then(|known| known.credits),
            "refunded_credits": known.map(|known| known.refund_operator),
        })
    }

    fn done(facts: &Facts, place: usize, booked: Booked) -> Applied<ActedOn> {
        let purchase = facts.purchases.at(place).clone();
        let purchase =
            TrackedPurchase { token: None, record: None, verified: None, user: None, ..purchase };
        Applied::now(ActedOn { purchase: Box::new(purchase), booked })
    }
}

impl Operation for Approve {
    type Outcome = ActedOn;

    /// The purchase, and what of it was refunded before.
    fn entries(&self) -> usize {
        2
    }

    fn asks(&self, wanted: &mut Wanted) {
        self.purchase.asks(wanted);
        wanted.purchase_names.extend(self.names());
        wanted.products = true;
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<ActedOn>, Refusal> {
        let place = self.purchase.find(user, facts, &[PurchaseState::Review])?;
        let known = facts.purchases.at(place);
        if self.names().iter().any(|name| facts.granted.owner(name).is_some()) {
            return Err(Refusal::PurchaseAlreadyProcessed);
        }
        if known.is_refunded_whole() {
            return Err(Refusal::InvalidReceipt);
        }
        let (items, credits) = self.worth(known, facts)?;
        let balance = facts.accounts.of(user).credits().checked_add(credits);
        balance.ok_or(Refusal::BalanceOverflow)?;
        let now = facts.now;
        let names = self.names();
        let Facts { purchases, granted, accounts, .. } = facts;
        let purchase = purchases.change(place);
        purchase.items = Some(items);
        purchase.reason = None;
        purchase.credits = Some(credits);
        purchase.granted_at = Some(now);
        purchase.attempts = 0;
        // Whether its store was told before is found out by telling it.
        purchase.due_at =
            (purchase.store == Store::Google && purchase.token.is_some()).then_some(now);
        if purchase.due_at.is_none() {
            purchase.token = None;
        }
        let record = purchase.record.take().unwrap_or_else(|| "{}".to_owned());
        for name in names {
            granted.insert_new(name, user.clone());
        }
        let entry = Entry::Purchase {
            credits,
            store_transaction_id: Some(self.store_transaction_id.clone()),
            record: PurchaseRecord::new(record),
        };
        purchase.entry_id = Some(accounts.record(user, entry));
        purchase.count_refund();
        let take_back::Booking { taken, missing, .. } =
            take_back::settle(user, purchase, accounts, now)?;
        Ok(ChosenPurchase::done(facts, place, Booked { granted: credits, taken, missing }))
    }
}

impl Approve {
    fn names(&self) -> Vec<PurchaseName> {
        let of_id = PurchaseName::of_id(&self.store_transaction_id);
        let of_token = self.token_name.clone().filter(|name| *name != of_id);
        std::iter::once(of_id).chain(of_token).collect()
    }

    /// Its items with what one of each is granted for, as they are kept, and what they come to.
    fn worth(
        &self,
        purchase: &TrackedPurchase,
        facts: &Facts,
    ) -> Result<(String, Credits), Refusal> {
        let items = purchase.items.as_deref().ok_or(Refusal::UnknownProduct)?;
        let items: Vec<(ProductId, u32, Option<Credits>)> =
            serde_json::from_str(items).expect("what is kept of its items was written by `learn`");
        let bought: Vec<PurchasedItem> = items
            .into_iter()
            .map(|(product, quantity, _)| PurchasedItem { product, quantity })
            .collect();
        if let Some(credits) = self.credits {
            return Ok((GrantedItem::keep(&GrantedItem::all_alike(&bought, credits)), credits));
        }
        let credits = facts.products.worth(&bought).map_err(|error| match error {
            NoCredits::UnknownProduct => Refusal::UnknownProduct,
            NoCredits::TooMany => Refusal::BalanceOverflow,
        })?;
        let items = bought.into_iter().map(|PurchasedItem { product, quantity }| {
            let unit = facts.products.credits(&product).expect("it was counted");
            GrantedItem { product, quantity, unit }
        });
        Ok((GrantedItem::keep(&items.collect::<Vec<_>>()), credits))
    }
}

impl Operation for Reject {
    type Outcome = ActedOn;

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        self.0.asks(wanted);
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<ActedOn>, Refusal> {
        let place = self.0.find(user, facts, &[PurchaseState::Review])?;
        facts.purchases.change(place).end(PurchaseState::Refused, Reason::Invalid);
        Ok(ChosenPurchase::done(facts, place, Booked::default()))
    }
}

impl Operation for Retry {
    type Outcome = ActedOn;

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        self.0.asks(wanted);
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<ActedOn>, Refusal> {
        use PurchaseState::{Pending, Received, Review};
        let place = self.0.find(user, facts, &[Received, Pending, Review])?;
        let now = facts.now;
        let purchase = facts.purchases.change(place);
        if purchase.state == Review && purchase.reason != Some(Reason::UnknownProduct) {
            // Only what waits is asked for.
            purchase.state = Received;
            purchase.reason = None;
        }
        purchase.due_at = Some(now);
        purchase.attempts = 0;
        Ok(ChosenPurchase::done(facts, place, Booked::default()))
    }
}

impl Operation for RefundPurchase {
    type Outcome = ActedOn;

    fn asks(&self, wanted: &mut Wanted) {
        self.purchase.asks(wanted);
    }

    fn asks_of(&self, user: &UserId, wanted: &mut Wanted) {
        wanted.lots_of.push(user.clone());
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<ActedOn>, Refusal> {
        let place = self.purchase.find(user, facts, &[PurchaseState::Granted])?;
        let Facts { purchases, accounts, now, .. } = facts;
        let mut purchase = purchases.at(place).clone();
        let all = purchase.credits.expect("what is granted was granted for credits");
        let credits = self.credits.unwrap_or(all);
        if credits > all {
            let required = credits.get().into();
            return Err(Refusal::InsufficientCredits { required, available: all });
        }
        purchase.refund_operator = credits;
        let take_back::Booking { taken, missing, .. } =
            take_back::settle(user, &mut purchase, accounts, *now)?;
        *purchases.change(place) = purchase;
        let booked = Booked { taken, missing, ..Booked::default() };
        Ok(ChosenPurchase::done(facts, place, booked))
    }
}

/// All of them tell the same, and may be about somebody to whom nothing was granted yet.
macro_rules! acts {
    ($($act:ident $name:literal $self:ident $purchase:expr;)+) => {
        $(impl OperatorAct for $act {
            const ACTION: &'static str = $name;
            const OPENS_ACCOUNTS: bool = true;

            fn state(&$self, _: &UserId, facts: &Facts) -> Value {
                $purchase.state(facts)
            }
        })+
    };
}

acts! {
    Approve "approve_purchase" self self.purchase;
    Reject "reject_purchase" self self.0;
    Retry "retry_purchase" self self.0;
    RefundPurchase "refund_purchase" self self.purchase;
}
