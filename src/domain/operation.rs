//! What a user may ask of an account, as values the ledger can decide, and decide again.
//!
//! An operation says what it needs to know and decides on an account loaded with that. The rules
//! themselves are `Account`'s.

use std::{collections::HashMap, fmt};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    Account, CapacityLimits, Credits, ModelId, PriceList, Refusal, Replays, StoreTransactionId,
    Tokens, Usage, UserId,
};

/// A change one user asks for.
///
/// Deciding must be repeatable: a batch that fails is decided again from freshly loaded accounts.
pub trait Operation: fmt::Debug + Send + 'static {
    /// What success tells the caller, and tells again when the request is repeated.
    type Outcome: Serialize + DeserializeOwned + Send + 'static;

    /// What must be loaded besides the account.
    fn needs(&self) -> Needs<'_>;

    /// Changes the account, or refuses and leaves it as it was.
    ///
    /// # Errors
    /// The [`Refusal`] of the first rule that says no.
    fn decide(
        &self,
        account: &mut Account,
        context: &mut Context,
    ) -> Result<Self::Outcome, Refusal>;
}

/// What an operation must know besides its account.
#[derive(Debug, Clone, Copy, Default)]
pub struct Needs<'a> {
    /// The current prices.
    pub prices: bool,
    /// Whether this store transaction was granted before.
    pub store_transaction_id: Option<&'a StoreTransactionId>,
}

/// What operations know besides their account; shared by the operations of a batch, in order.
#[derive(Debug)]
pub struct Context {
    /// Current prices; empty when no operation needs them.
    pub prices: PriceList,
    /// Most tokens per category.
    pub limits: CapacityLimits,
    /// Store transactions that were granted, among those asked for.
    pub granted: GrantedPurchases,
    /// Requests that were carried out before, among those asked for.
    pub replays: Replays,
}

/// Which store transactions were granted, and to whom.
#[derive(Debug, Default)]
pub struct GrantedPurchases(HashMap<StoreTransactionId, UserId>);

impl GrantedPurchases {
    /// Whether `id` was granted, to anyone.
    #[must_use]
    pub fn contains(&self, id: &StoreTransactionId) -> bool {
        self.0.contains_key(id)
    }

    /// Remembers that `id` was granted to `user`.
    pub fn insert(&mut self, id: StoreTransactionId, user: UserId) {
        self.0.insert(id, user);
    }

    /// Forgets all that was granted to `user`.
    pub fn forget(&mut self, user: &UserId) {
        self.0.retain(|_, owner| owner != user);
    }
}

/// What the client sent about a purchase: a JSON object, kept to the letter.
///
/// It holds the store's purchase token, so it never shows its text in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct PurchaseRecord(String);

impl PurchaseRecord {
    /// Keeps the text of a JSON object.
    #[must_use]
    pub fn new(json: String) -> Self {
        Self(json)
    }

    /// The text as it was sent.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PurchaseRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PurchaseRecord(…)")
    }
}

/// Adds bought credits; tells the new balance.
#[derive(Debug, Clone)]
pub struct Purchase {
    /// Credits bought.
    pub credits: Credits,
    /// The store's id of the purchase, when the store gave one.
    pub store_transaction_id: Option<StoreTransactionId>,
    /// What the client sent about it.
    pub record: PurchaseRecord,
}

impl Operation for Purchase {
    type Outcome = Credits;

    fn needs(&self) -> Needs<'_> {
        Needs { store_transaction_id: self.store_transaction_id.as_ref(), ..Needs::default() }
    }

    fn decide(&self, account: &mut Account, context: &mut Context) -> Result<Credits, Refusal> {
        account.purchase(self, &mut context.granted)
    }
}

/// Credits to turn into tokens of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The model that gets the tokens.
    pub model: ModelId,
    /// Credits to spend.
    pub credits: Credits,
}

/// Turns credits into tokens, all items or none.
#[derive(Debug, Clone)]
pub(crate) struct Allocate {
    /// What to buy, in this order.
    pub items: Vec<Allocation>,
}

impl Operation for Allocate {
    type Outcome = ();

    fn needs(&self) -> Needs<'_> {
        Needs { prices: true, ..Needs::default() }
    }

    fn decide(&self, account: &mut Account, context: &mut Context) -> Result<(), Refusal> {
        account.allocate(&self.items, &context.prices, context.limits)
    }
}

/// Uses up tokens; tells how many remain.
#[derive(Debug, Clone)]
pub(crate) struct Consume {
    /// The model that answered.
    pub model: ModelId,
    /// Tokens used.
    pub usage: Usage,
}

impl Operation for Consume {
    type Outcome = Tokens;

    fn needs(&self) -> Needs<'_> {
        Needs::default()
    }

    fn decide(&self, account: &mut Account, _: &mut Context) -> Result<Tokens, Refusal> {
        account.consume(&self.model, self.usage)
    }
}

/// Forgets everything about the user but their name.
#[derive(Debug, Clone)]
pub(crate) struct Reset;

impl Operation for Reset {
    type Outcome = ();

    fn needs(&self) -> Needs<'_> {
        Needs::default()
    }

    fn decide(&self, account: &mut Account, context: &mut Context) -> Result<(), Refusal> {
        account.reset(&mut context.granted);
        context.replays.forget(account.user());
        Ok(())
    }
}
