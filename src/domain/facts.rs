//! What operations ask to know before they decide, and what they are told. A new fact is a field in
//! each, and a statement an engine that reads it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use chrono::{DateTime, Utc};

use super::{
    Account, Actor, CapacityLimits, Entry, HoldId, Inbox, KeptEntries, MessageId, ModelId,
    OperatorLine, Price, PriceList, Product, ProductId, ProductList, PurchaseKey, PurchaseName,
    Recorded, Replays, Sweeps, TrackedPurchases, UserId, UserKey,
};

/// What has to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(crate) struct Wanted {
    /// Whose accounts.
    pub users: Vec<UserId>,
    /// Whether the prices.
    pub prices: bool,
    /// To whom the purchases of these names were granted, if they were.
    pub purchase_names: Vec<PurchaseName>,
    /// What these requests came to, if they were carried out.
    pub keys: Vec<UserKey>,
    /// The purchases that the stores know by these.
    pub purchase_keys: Vec<PurchaseKey>,
    /// Whether the products.
    pub products: bool,
    /// Which of these are users.
    pub user_ids: Vec<UserId>,
    /// How many purchases of each of the users wait for their store.
    pub waiting: bool,
    /// Which messages of the stores.
    pub messages: Vec<MessageId>,
    /// How far these lists were read.
    pub sweeps: Vec<&'static str>,
    /// Whose balances are all taken to nothing, with an entry each.
    pub emptied: Vec<UserId>,
    /// Whose allocations, with what went back of them.
    pub lots_of: Vec<UserId>,
    /// Who turns tokens back, once for each time: a lot may go back in part each time.
    pub returning: Vec<UserId>,
    /// Which entries somebody wants taken back.
    pub reversing: Vec<i64>,
    /// These holds of these users, whether or not they count.
    pub holds: Vec<(UserId, HoldId)>,
    /// By when holds of the users count, if those that do are wanted.
    pub holds_at: Option<DateTime<Utc>>,
    /// Whether a balance may get tokens that no allocation bought and no consumption took.
    pub adds_tokens: bool,
    /// How many entries may be added.
    pub entries: usize,
    /// Whether somebody changes prices or products.
    pub changes_lists: bool,
    /// Whether an operator acts, which is seldom.
    pub by_operator: bool,
}

impl Wanted {
    /// Whether anything of it is about purchases that the stores confirm, or about what is taken back.
    pub(crate) const fn is_about_stores(&self) -> bool {
        !self.purchase_keys.is_empty()
            || self.products
            || !self.user_ids.is_empty()
            || self.waiting
            || !self.messages.is_empty()
            || !self.sweeps.is_empty()
            || !self.lots_of.is_empty()
            || !self.reversing.is_empty()
    }

    /// The same, each once and in order.
    pub(crate) fn each_once(mut self) -> Self {
        self.users.sort_unstable();
        self.users.dedup();
        self.purchase_names.sort_unstable();
        self.purchase_names.dedup();
        self.keys.sort_unstable();
        self.keys.dedup();
        self.purchase_keys.sort_unstable();
        self.purchase_keys.dedup();
        self.user_ids.sort_unstable();
        self.user_ids.dedup();
        self.lots_of.sort_unstable();
        self.lots_of.dedup();
        self.reversing.sort_unstable();
        self.reversing.dedup();
        self.messages.sort_unstable();
        self.messages.dedup();
        self.holds.sort_unstable();
        self.holds.dedup();
        self.sweeps.sort_unstable();
        self.sweeps.dedup();
        self
    }

    /// How many of the things asked for are new if all goes well: purchases and requests.
    pub(crate) const fn hoped_new(&self) -> usize {
        self.purchase_names.len().saturating_add(self.keys.len())
    }
}

/// What is so, as the operations of a batch find it and leave it, in order.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The accounts asked for; new ones for users nobody has seen.
    pub accounts: Accounts,
    /// The prices, if asked for.
    pub prices: PriceList,
    /// Most tokens per category.
    pub limits: CapacityLimits,
    /// Who got which of the purchases asked for.
    pub granted: GrantedPurchases,
    /// The replays of those of the requests that were carried out.
    pub replays: Replays,
    /// The purchases asked for that are kept, and new ones.
    pub purchases: TrackedPurchases,
    /// The products, if asked for.
    pub products: ProductList,
    /// Those of the names asked for that are users'.
    pub user_ids: HashSet<UserId>,
    /// How many purchases of a user wait for their store.
    pub waiting: HashMap<UserId, u64>,
    /// The messages asked for that are kept, and new ones.
    pub inbox: Inbox,
    /// How far the lists asked for were read.
    pub sweeps: Sweeps,
    /// The entries asked for, as far as there are any.
    pub entries: KeptEntries,
    /// Who lets Apple be told of consumption, or no longer does.
    pub consents: Vec<(UserId, bool)>,
    /// Prices that change, or end.
    pub price_changes: BTreeMap<ModelId, Option<Price>>,
    /// Products that change, or are new.
    pub product_changes: BTreeMap<ProductId, Product>,
    /// Who is being erased from now on, with their new names.
    pub erased: Vec<(UserId, UserId)>,
    /// What operators did.
    pub log: Vec<OperatorLine>,
    /// When all of the batch happens.
    pub now: DateTime<Utc>,
}

impl Facts {
    /// Whether something was granted to one of the accounts that was not there yet when they were read.
    pub(crate) fn tell_of_unread_accounts(&self, is_read: impl Fn(&UserId) -> bool) -> bool {
        let unread = |user: &UserId| {
            // One that is being erased is nobody's, and is not opened before that ends.
            self.accounts.get(user).is_some_and(|account| !account.is_erasing()) && !is_read(user)
        };
        self.granted.owners().any(unread) || self.purchases.owners_of_granted().any(unread)
    }

    /// How many purchases of `user` wait for their store.
    pub(super) fn waiting_of(&self, user: &UserId) -> u64 {
        self.waiting.get(user).copied().unwrap_or(0)
    }

    /// One more waits.
    pub(super) fn add_waiting(&mut self, user: &UserId) {
        let waiting = self.waiting.entry(user.clone()).or_default();
        *waiting = waiting.saturating_add(1);
    }

    /// Sets the price of a model, or takes it off.
    pub(super) fn set_price(&mut self, model: &ModelId, price: Option<Price>) {
        self.prices.set(model, price);
        self.price_changes.insert(model.clone(), price);
    }

    /// Adds a product, or changes it.
    pub(super) fn set_product(&mut self, id: &ProductId, product: Product) {
        self.products.set(id, product);
        self.product_changes.insert(id.clone(), product);
    }

    /// Has a user erased, who is called `name` from now on.
    pub(super) fn erase(&mut self, user: &UserId, name: &UserId) {
        self.accounts.of(user).know_erasing();
        self.erased.push((user.clone(), name.clone()));
    }

    /// Adds a line to the operators' log.
    pub(super) fn log(&mut self, line: OperatorLine) {
        self.log.push(line);
    }

    /// Whether a name is a user's.
    pub(super) fn knows(&self, name: &UserId) -> bool {
        self.user_ids.contains(name)
    }

    /// Whether the operations have left anything to be written. What was refused has not.
    pub(crate) fn change_something(&self) -> bool {
        self.replays.new_ones().len() > 0
            || self.purchases.changed().next().is_some()
            || self.inbox.changed().next().is_some()
            || self.sweeps.changed().next().is_some()
            || !self.consents.is_empty()
            || !self.log.is_empty()
            || self.accounts.iter().any(Account::is_changed)
    }
}

/// The ids of entries to come.
#[derive(Debug, Clone)]
pub(crate) enum EntryIds {
    /// All from this one on: nobody else writes.
    From(i64),
    /// These, which were reserved.
    Reserved(VecDeque<i64>),
}

impl EntryIds {
    fn next(&mut self) -> i64 {
        match self {
            Self::From(next) => {
                let id = *next;
                *next = id.checked_add(1).expect("nobody writes so many entries");
                id
            }
            Self::Reserved(ids) => ids.pop_front().expect("as many as were asked for"),
        }
    }
}

impl Default for EntryIds {
    fn default() -> Self {
        Self::From(1)
    }
}

/// Accounts by their users, and who acts on them.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    by_user: HashMap<UserId, Account>,
    ids: EntryIds,
    actor: Option<Actor>,
}

impl Accounts {
    /// The account of a user whose account was asked for.
    pub(crate) fn of(&mut self, user: &UserId) -> &mut Account {
        self.by_user.get_mut(user).expect("every account asked for is there, a new one too")
    }

    pub(crate) fn get(&self, user: &UserId) -> Option<&Account> {
        self.by_user.get(user)
    }

    pub(crate) fn get_mut(&mut self, user: &UserId) -> Option<&mut Account> {
        self.by_user.get_mut(user)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Account> {
        self.by_user.values()
    }

    /// The same, with the ids that entries get.
    pub(crate) fn with_ids(self, ids: EntryIds) -> Self {
        Self { ids, ..self }
    }

    /// The ids that are left.
    pub(crate) const fn ids(&self) -> &EntryIds {
        &self.ids
    }

    /// Who makes the entries from here on; nobody, where the users do.
    pub(crate) const fn set_actor(&mut self, actor: Option<Actor>) {
        self.actor = actor;
    }

    /// Adds an entry to a user's account, whose rule has seen to it that balances stay amounts. Tells its id.
    pub(super) fn record(&mut self, user: &UserId, entry: Entry) -> i64 {
        let (id, actor) = (self.ids.next(), self.actor);
        self.of(user).record(Recorded { id, actor, entry });
        id
    }

    pub(crate) fn into_all(self) -> impl ExactSizeIterator<Item = Account> {
        self.by_user.into_values()
    }
}

impl FromIterator<Account> for Accounts {
    fn from_iter<I: IntoIterator<Item = Account>>(accounts: I) -> Self {
        let accounts = accounts.into_iter();
        let by_user = accounts.map(|account| (account.user().clone(), account)).collect();
        Self { by_user, ..Self::default() }
    }
}

/// By which names purchases were granted, and to whom.
#[derive(Debug, Default)]
pub(crate) struct GrantedPurchases {
    kept: HashMap<PurchaseName, UserId>,
    new: HashMap<PurchaseName, UserId>,
}

impl GrantedPurchases {
    /// Who got the purchase called `name`.
    pub(crate) fn owner(&self, name: &PurchaseName) -> Option<&UserId> {
        self.new.get(name).or_else(|| self.kept.get(name))
    }

    /// Who got those that are kept.
    fn owners(&self) -> impl Iterator<Item = &UserId> {
        self.kept.values()
    }

    /// Takes note of a name that is kept already.
    pub(crate) fn insert_kept(&mut self, name: PurchaseName, user: UserId) {
        self.kept.insert(name, user);
    }

    /// Adds a name of a purchase just granted.
    pub(crate) fn insert_new(&mut self, name: PurchaseName, user: UserId) {
        self.new.insert(name, user);
    }

    /// Forgets all that was granted to `user`.
    pub(crate) fn forget(&mut self, user: &UserId) {
        self.kept.retain(|_, owner| owner != user);
        self.new.retain(|_, owner| owner != user);
    }

    /// The names to keep.
    pub(crate) fn new_ones(&self) -> impl ExactSizeIterator<Item = (&PurchaseName, &UserId)> {
        self.new.iter()
    }
}
