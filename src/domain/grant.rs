//! The grant of a purchase that its store says is paid: to one user, once, and as many credits as the products are
//! worth, whatever the client says.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applied, Credits, Entry, Facts, NoCredits, Operation, PaidPurchase, PurchaseKey, PurchaseName,
    PurchaseRecord, PurchaseState, PurchaseToken, Reason, Refusal, Store, StoreTransactionId,
    TrackedPurchase, UserId, Wanted, errand::CONSUME_AFTER, take_back,
};

/// Adds the credits of a paid purchase; tells the new balance.
pub(crate) struct Grant {
    /// All that it is known by, that by which it was brought first.
    pub keys: Vec<PurchaseKey>,
    /// By which it may have been granted on a client's word.
    pub names: Vec<PurchaseName>,
    /// What its store says.
    pub paid: PaidPurchase,
    /// The store's id for the history. One that has none gets the hash of its token.
    pub store_transaction_id: StoreTransactionId,
    /// With what its store is told of the grant.
    pub token: Option<PurchaseToken>,
    /// What the client sent about it; what it sent first counts.
    pub record: PurchaseRecord,
}

/// Without the token.
impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// What a grant comes to. Told again it is the balance alone, like that of any purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Credits", into = "Credits")]
pub(crate) struct GrantOutcome {
    /// The balance afterwards.
    pub balance: Credits,
    /// What was added; nothing when it is told again.
    pub granted: Credits,
    /// What of that was taken at once, because it was refunded before.
    pub taken: Credits,
    /// The purchase's id, if it was written down before.
    pub id: Option<i64>,
}

impl From<Credits> for GrantOutcome {
    fn from(balance: Credits) -> Self {
        Self { balance, granted: Credits::ZERO, taken: Credits::ZERO, id: None }
    }
}

impl From<GrantOutcome> for Credits {
    fn from(outcome: GrantOutcome) -> Self {
        outcome.balance
    }
}

impl Operation for Grant {
    type Outcome = GrantOutcome;

    /// The purchase, and what of it was refunded before.
    fn entries(&self) -> usize {
        2
    }

    fn asks(&self, wanted: &mut Wanted) {
        wanted.purchase_keys.extend_from_slice(&self.keys);
        wanted.purchase_names.extend_from_slice(&self.names);
        wanted.purchase_names.push(PurchaseName::of_id(&self.store_transaction_id));
        wanted.products = true;
        wanted.user_ids.extend(self.named_accounts());
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<GrantOutcome>, Refusal> {
        let found: Vec<usize> = facts
            .purchases
            .find(&self.keys)
            .into_iter()
            .filter(|place| self.is_same(facts.purchases.at(*place)))
            .collect();
        if self.was_granted(user, facts, &found)? {
            close(&found, user, facts);
            return Ok(Applied::before(facts.accounts.of(user).credits().into()));
        }
        if found.iter().any(|place| {
            let known = facts.purchases.at(*place);
            known.state.is_open() && !known.is_of(user)
        }) {
            // Who was written down first owns it.
            return Err(Refusal::StoreUnavailable);
        }
        if self.is_refunded_whole(facts, &found) {
            return Err(Refusal::InvalidReceipt);
        }
        self.check_account(user, facts)?;
        let credits = facts.products.worth(&self.paid.items).map_err(|error| match error {
            NoCredits::UnknownProduct => Refusal::PurchaseInReview { for_operator: false },
            NoCredits::TooMany => Refusal::BalanceOverflow,
        })?;
        let balance = facts.accounts.of(user).credits().checked_add(credits);
        balance.ok_or(Refusal::BalanceOverflow)?;
        Ok(Applied::now(self.carry_out(user, credits, facts, &found)))
    }
}

impl Grant {
    /// An id alone does not tell Apple's environments apart.
    fn is_same(&self, known: &TrackedPurchase) -> bool {
        known.environment.is_none_or(|environment| environment == self.paid.environment)
    }

    /// Whether nothing is left to grant, by what its store says now and told before.
    fn is_refunded_whole(&self, facts: &Facts, found: &[usize]) -> bool {
        let pieces = self.paid.items.iter().map(|item| item.quantity);
        let pieces = pieces.fold(0, u32::saturating_add);
        self.refunded(facts, found).store_refund().is_whole(pieces)
    }

    /// A purchase that knows all that was told of refunds, under whichever of the keys.
    fn refunded(&self, facts: &Facts, found: &[usize]) -> TrackedPurchase {
        let key = self.keys.first().expect("whoever brings a purchase knows it by a key");
        let mut purchase = TrackedPurchase::unclaimed(key.clone(), self.paid.store, facts.now);
        for place in found {
            let known = facts.purchases.at(*place);
            purchase.hear(&known.store_refund(), known.refund_told_at);
        }
        purchase.hear(&self.paid.refund, self.paid.said_at);
        purchase
    }

    /// Whether the user got it before. Somebody else did: that is the refusal.
    fn was_granted(&self, user: &UserId, facts: &Facts, found: &[usize]) -> Result<bool, Refusal> {
        let of_id = PurchaseName::of_id(&self.store_transaction_id);
        let names = self.names.iter().chain([&of_id]);
        let named: Vec<&UserId> = names.filter_map(|name| facts.granted.owner(name)).collect();
        let mut owners: Vec<Option<&UserId>> = named.into_iter().map(Some).collect();
        for place in found {
            let known = facts.purchases.at(*place);
            match (known.state, known.reason) {
                _ if known.is_granted() => owners.push(known.user.as_ref()),
                (PurchaseState::Refused, Some(Reason::Duplicate)) => {
                    owners.push(known.user.as_ref());
                }
                (PurchaseState::Review, Some(Reason::AnotherAccount)) => {
                    return Err(Refusal::PurchaseInReview { for_operator: true });
                }
                _ => {}
            }
        }
        if owners.iter().any(|owner| *owner != Some(user)) {
            return Err(Refusal::PurchaseAlreadyProcessed);
        }
        Ok(!owners.is_empty())
    }

    /// What it names may be a user's name; a UUID is one in any case.
    fn named_accounts(&self) -> Vec<UserId> {
        let Some(account) = &self.paid.account else { return Vec::new() };
        let mut spelled = vec![account.clone()];
        if is_uuid(account) {
            spelled.push(account.to_ascii_lowercase());
            spelled.push(account.to_ascii_uppercase());
        }
        spelled.into_iter().filter_map(|name| UserId::new(name).ok()).collect()
    }

    /// It may name another user's account: then a person has to look.
    fn check_account(&self, user: &UserId, facts: &Facts) -> Result<(), Refusal> {
        let named = self.named_accounts();
        let is_own = named.iter().any(|name| {
            name == user
                || (is_uuid(user.as_str()) && name.as_str().eq_ignore_ascii_case(user.as_str()))
        });
        if !is_own && named.iter().any(|name| facts.knows(name)) {
            return Err(Refusal::PurchaseInReview { for_operator: true });
        }
        Ok(())
    }

    fn carry_out(
        &self,
        user: &UserId,
        credits: Credits,
        facts: &mut Facts,
        found: &[usize],
    ) -> GrantOutcome {
        let now = facts.now;
        let refunded = self.refunded(facts, found);
        let Facts { purchases, products, granted, accounts, .. } = facts;
        let (place, others) = if let Some((first, others)) = found.split_first() {
            (*first, others)
        } else {
            let key = self.keys.first().expect("whoever brings a purchase knows it by a key");
            let new = TrackedPurchase::new(key.clone(), self.paid.store, user.clone(), now);
            (purchases.add(new), found)
        };
        let purchase = purchases.change(place);
        purchase.learn(&self.paid, products);
        purchase.reason = None;
        (purchase.refund, purchase.refund_told_at) = (refunded.refund, refunded.refund_told_at);
        purchase.user = Some(user.clone());
        purchase.credits = Some(credits);
        purchase.granted_at = Some(now);
        purchase.attempts = 0;
        let record =
            purchase.record.take().map_or_else(|| self.record.clone(), PurchaseRecord::new);
        // Whoever consumed it acknowledged it.
        let is_acknowledged = self.paid.acknowledged || self.paid.consumed;
        purchase.acknowledged_at = is_acknowledged.then_some(now);
        purchase.consumed_at = self.paid.consumed.then_some(now);
        let is_google = self.paid.store == Store::Google;
        purchase.due_at = match (is_acknowledged, self.paid.consumed) {
            (false, _) if is_google => Some(now),
            (true, false) if is_google => now.checked_add_signed(CONSUME_AFTER),
            _ => None,
        };
        purchase.token = self.token.clone().filter(|_| purchase.due_at.is_some());
        for name in self.record_names(&record) {
            granted.insert_new(name, user.clone());
        }
        let entry = Entry::Purchase {
            credits,
            store_transaction_id: Some(self.store_transaction_id.clone()),
            record,
        };
        purchase.entry_id = Some(accounts.record(user, entry));
        // What was refunded in part before is taken from what was just added.
        purchase.count_refund();
        let take_back::Booking { taken, .. } = take_back::settle(user, purchase, accounts, now)
            .expect("nothing comes back of what was just granted");
        let id = purchase.id;
        for key in &self.keys {
            purchases.add_key(key.clone(), place);
        }
        for other in others {
            purchases.change(*other).end_as_duplicate(user);
        }
        let balance = accounts.of(user).credits();
        GrantOutcome { balance, granted: credits, taken, id }
    }

    /// What the entry is known by from now on: the store's id, and what the record calls the token.
    fn record_names(&self, record: &PurchaseRecord) -> Vec<PurchaseName> {
        let mut names = vec![PurchaseName::of_id(&self.store_transaction_id)];
        names.extend(record.token_name().filter(|name| !names.contains(name)));
        names
    }
}

/// Purchases that turn out to be one that was granted to `owner` before, whoever brought them.
fn close(found: &[usize], owner: &UserId, facts: &mut Facts) {
    for place in found {
        let known = facts.purchases.at(*place);
        if !known.is_granted() && known.reason != Some(Reason::Duplicate) {
            facts.purchases.change(*place).end_as_duplicate(owner);
        }
    }
}

/// Whether a text is a UUID as people write it.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
