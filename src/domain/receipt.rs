//! What a user brings to be granted: looked up, written down before its store is asked, and noted afterwards when
//! the store's word is not that it is paid. What happens when it is, is in `grant`.
//!
//! What a word makes of a purchase:
//!
//! | it was | unsaid, unknown, unpaid, sandbox | never, review, duplicate | paid |
//! |---|---|---|---|
//! | received, pending, review | noted | noted | granted |
//! | unclaimed, refused, refunded before | left alone | noted | granted |
//! | granted | left alone | left alone | told again |

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Applied, Credits, Facts, Operation, PaidPurchase, PurchaseKey, PurchaseName, PurchaseRecord,
    PurchaseState, PurchaseToken, Reason, Refusal, Store, TrackedPurchase, UserId, Wanted,
};

/// Purchases of a user that may wait for their store at the same time.
const WAITING_MAX: u64 = 20;

/// Asks what is known of a purchase; changes nothing. Tells the balance where it was granted to the user.
#[derive(Debug)]
pub(crate) struct LookUp {
    /// By which it is known to its store.
    pub keys: Vec<PurchaseKey>,
    /// By which it may have been granted on a client's word.
    pub names: Vec<PurchaseName>,
}

impl Operation for LookUp {
    type Outcome = Credits;

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        wanted.purchase_keys.extend_from_slice(&self.keys);
        wanted.purchase_names.extend_from_slice(&self.names);
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Credits>, Refusal> {
        let owners: Vec<&UserId> =
            self.names.iter().filter_map(|name| facts.granted.owner(name)).collect();
        if owners.iter().any(|owner| *owner != user) {
            return Err(Refusal::PurchaseAlreadyProcessed);
        }
        let before = |facts: &mut Facts| Applied::before(facts.accounts.of(user).credits());
        if !owners.is_empty() {
            return Ok(before(facts));
        }
        let mut refusal = Refusal::StoreUnavailable;
        for place in facts.purchases.find(&self.keys) {
            match Known::of(facts.purchases.at(place)) {
                Known::Granted if facts.purchases.at(place).is_of(user) => {
                    return Ok(before(facts));
                }
                Known::Granted => return Err(Refusal::PurchaseAlreadyProcessed),
                Known::NotGranted(why) => refusal = why,
            }
        }
        Err(refusal)
    }
}

/// What a purchase's state means for whoever brings it.
enum Known {
    Granted,
    NotGranted(Refusal),
}

impl Known {
    fn of(purchase: &TrackedPurchase) -> Self {
        use PurchaseState::{Granted, Pending, Received, Refunded, Refused, Review, Unclaimed};
        if purchase.is_granted() {
            return Self::Granted;
        }
        Self::NotGranted(match (purchase.state, purchase.reason) {
            (Granted, _) | (Refused, Some(Reason::Duplicate)) => return Self::Granted,
            (Refused, Some(Reason::Sandbox)) => Refusal::SandboxRefused,
            (Received | Unclaimed, _) | (Refused, Some(Reason::GivenUp)) => {
                Refusal::StoreUnavailable
            }
            (Refused | Refunded, _) => Refusal::InvalidReceipt,
            (Pending, _) => Refusal::PurchasePending,
            (Review, reason) => {
                let for_operator = reason != Some(Reason::UnknownProduct);
                Refusal::PurchaseInReview { for_operator }
            }
        })
    }
}

/// Writes a purchase down before its store is asked; tells whose it is. Who was written down first owns it.
pub(crate) struct Receive {
    /// By which it is brought.
    pub key: PurchaseKey,
    pub store: Store,
    /// What its store is asked with.
    pub token: PurchaseToken,
    /// What the client sent about it.
    pub record: PurchaseRecord,
}

/// Without the token.
impl fmt::Debug for Receive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receive").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A purchase that is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Whose it is, if it comes to be granted.
    pub owner: UserId,
    /// Its id, if it was written down before.
    pub id: Option<i64>,
    /// Whether it is granted meanwhile.
    pub is_granted: bool,
}

impl Operation for Receive {
    type Outcome = Received;

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        wanted.purchase_keys.push(self.key.clone());
        wanted.waiting = true;
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<Received>, Refusal> {
        let now = facts.now;
        let known = facts.purchases.find(std::slice::from_ref(&self.key));
        let place = if let Some(place) = known.first() {
            *place
        } else {
            if facts.waiting_of(user) >= WAITING_MAX {
                return Err(Refusal::StoreUnavailable);
            }
            facts.add_waiting(user);
            let purchase = TrackedPurchase::new(self.key.clone(), self.store, user.clone(), now);
            facts.purchases.add(purchase)
        };
        let known = facts.purchases.at(place);
        if known.is_granted() || known.state == PurchaseState::Review {
            let owner = known.user.clone().unwrap_or_else(|| user.clone());
            let (id, is_granted) = (known.id, known.is_granted());
            return Ok(Applied::before(Received { owner, id, is_granted }));
        }
        let purchase = facts.purchases.change(place);
        if !purchase.is_waiting() {
            // Nobody's yet, or refused for a reason that may be gone.
            purchase.reopen(user, now);
        }
        purchase.token.get_or_insert_with(|| self.token.clone());
        purchase.record.get_or_insert_with(|| self.record.as_json().to_owned());
        purchase.lease(now);
        let owner = purchase.user.clone().unwrap_or_else(|| user.clone());
        let id = purchase.id;
        Ok(Applied::now(Received { owner, id, is_granted: false }))
    }
}

/// Takes note of what became of a purchase that was not granted.
pub(crate) struct Note {
    pub keys: Vec<PurchaseKey>,
    /// By which it may have been granted on a client's word.
    pub names: Vec<PurchaseName>,
    /// What its store was asked with, and is asked with again.
    pub token: Option<PurchaseToken>,
    pub what: Noted,
}

/// Without the token.
impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Note").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// What there is to note. What is granted stays as it is. The first four are for what is still open, the others for
/// whatever is not granted.
#[derive(Debug)]
pub(crate) enum Noted {
    /// Its store said nothing that counts.
    Unsaid,
    /// Its store says that it does not know it.
    Unknown,
    /// Its store says that it is not paid yet.
    Unpaid,
    /// It is a test purchase that is not granted.
    Sandbox(Box<PaidPurchase>),
    /// It can never become valid.
    Never,
    /// It is paid, and has to be looked at; and what the client sent about it.
    Review(Reason, Box<PaidPurchase>, PurchaseRecord),
    /// It was refunded whole before anybody got it. If that is reversed it is for whoever brought it, with what the
    /// client sent about it.
    Claimed(Box<PaidPurchase>, PurchaseRecord),
    /// It is another purchase's, that was granted.
    Duplicate,
}

/// What a note came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NoteOutcome {
    /// Whether the purchase is refused for good.
    pub is_invalid: bool,
}

impl Operation for Note {
    type Outcome = NoteOutcome;

    fn entries(&self) -> usize {
        0
    }

    fn asks(&self, wanted: &mut Wanted) {
        wanted.purchase_keys.extend_from_slice(&self.keys);
        wanted.purchase_names.extend_from_slice(&self.names);
        wanted.products = true;
    }

    fn decide(&self, user: &UserId, facts: &mut Facts) -> Result<Applied<NoteOutcome>, Refusal> {
        let now = facts.now;
        let found = facts.purchases.find(&self.keys);
        let owner = self.owner(facts, &found);
        let mut open: Vec<usize> =
            found.into_iter().filter(|place| !facts.purchases.at(*place).is_granted()).collect();
        // A signed transaction was not written down before.
        if let (true, Noted::Review(_, paid, _) | Noted::Claimed(paid, _), Some(key)) =
            (open.is_empty() && owner.is_none(), &self.what, self.keys.first())
        {
            let purchase = TrackedPurchase::new(key.clone(), paid.store, user.clone(), now);
            open.push(facts.purchases.add(purchase));
        }
        let Facts { purchases, products, .. } = facts;
        let mut is_invalid = false;
        for place in open {
            if self.is_for_open() && !purchases.at(place).state.is_open() {
                continue;
            }
            let purchase = purchases.change(place);
            match &self.what {
                Noted::Unsaid => purchase.try_again(now),
                Noted::Unknown => purchase.note_unknown(now),
                Noted::Unpaid => {
                    purchase.state = PurchaseState::Pending;
                    purchase.unknown_since = None;
                    purchase.try_again(now);
                }
                Noted::Never => purchase.end(PurchaseState::Refused, Reason::Invalid),
                Noted::Sandbox(paid) => {
                    purchase.learn(paid, products);
                    purchase.end(PurchaseState::Refused, Reason::Sandbox);
                }
                Noted::Review(reason, paid, record) => {
                    // Whoever had brought it may have been erased meanwhile.
                    purchase.user.get_or_insert_with(|| user.clone());
                    purchase.learn(paid, products);
                    purchase.state = PurchaseState::Review;
                    purchase.reason = Some(*reason);
                    purchase.record.get_or_insert_with(|| record.as_json().to_owned());
                    purchase.try_again(now);
                    if *reason != Reason::UnknownProduct {
                        purchase.due_at = None;
                    }
                    for key in &self.keys {
                        purchases.add_key(key.clone(), place);
                    }
                }
                Noted::Claimed(paid, record) => {
                    purchase.user.get_or_insert_with(|| user.clone());
                    purchase.learn(paid, products);
                    purchase.hear(&paid.refund, paid.said_at);
                    purchase.end_as_refunded(record);
                    for key in &self.keys {
                        purchases.add_key(key.clone(), place);
                    }
                }
                // Where nobody got it, there is no other one.
                Noted::Duplicate => match &owner {
                    Some(owner) => purchase.end_as_duplicate(owner),
                    None => purchase.try_again(now),
                },
            }
            let purchase = purchases.change(place);
            if purchase.state.is_open() && purchase.token.is_none() {
                purchase.token.clone_from(&self.token);
            }
            is_invalid |= purchase.reason == Some(Reason::Invalid);
        }
        Ok(Applied::now(NoteOutcome { is_invalid }))
    }
}

impl Note {
    /// Whether it leaves alone what has come to an end.
    const fn is_for_open(&self) -> bool {
        matches!(self.what, Noted::Unsaid | Noted::Unknown | Noted::Unpaid | Noted::Sandbox(_))
    }

    /// To whom the purchase was granted, under another key or by a client's word.
    fn owner(&self, facts: &Facts, found: &[usize]) -> Option<UserId> {
        let granted = found.iter().map(|place| facts.purchases.at(*place));
        let granted = granted.filter(|purchase| purchase.is_granted());
        let mut granted = granted.filter_map(|purchase| purchase.user.clone());
        let mut named = self.names.iter().filter_map(|name| facts.granted.owner(name).cloned());
        granted.next().or_else(|| named.next())
    }
}
