//! Holds the rules of purchases that the stores confirm against what must be so whatever happens in what order:
//! one purchase, one grant, and nothing that is paid for ends where nothing gets it out.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{
    Account, Applied, Credits, Environment, Errand, Facts, Grant, LookUp, Note, Noted, Operation,
    PaidPurchase, Product, ProductId, PurchaseKey, PurchaseName, PurchaseRecord, PurchaseState,
    PurchaseToken, PurchasedItem, Reason, Receive, Refusal, Store, StoreRefund, StoreTransactionId,
    TakeTurn, Told, UserId, hash,
    samples::{facts, first_prices, user_id},
};

const USERS: [&str; 3] = ["ann", "bob", "cid"];
/// Tokens, each with its order: two are of one.
const TOKENS: [(&str, Option<&str>); 4] = [
    ("token-a", Some("GPA.1")),
    ("token-b", Some("GPA.1")),
    ("token-c", Some("GPA.2")),
    ("token-d", None),
];
const SMALL: &str = "small";
const UNKNOWN: &str = "unknown";

/// One random step of a user's, of the task in the background, or of a store's.
#[derive(Debug, Clone)]
enum Step {
    LookUp {
        user: usize,
        token: usize,
    },
    Receive {
        user: usize,
        token: usize,
    },
    /// The store's word arrives for whoever the purchase belongs to.
    Paid {
        token: usize,
        product: &'static str,
        account: Option<usize>,
        user: usize,
    },
    Noted {
        token: usize,
        what: u8,
    },
    Turn {
        token: usize,
    },
    Told {
        token: usize,
        errand: Errand,
        done: bool,
    },
    Wait {
        minutes: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (user, token) = (0..USERS.len(), 0..TOKENS.len());
    let step = prop_oneof![
        (user.clone(), token.clone()).prop_map(|(user, token)| Step::LookUp { user, token }),
        (user.clone(), token.clone()).prop_map(|(user, token)| Step::Receive { user, token }),
        (
            token.clone(),
            prop_oneof![4 => Just(SMALL), 1 => Just(UNKNOWN)],
            proptest::option::weighted(0.2, user.clone()),
            user,
        )
            .prop_map(|(token, product, account, user)| Step::Paid {
                token,
                product,
                account,
                user
            }),
        (token.clone(), 0..6_u8).prop_map(|(token, what)| Step::Noted { token, what }),
        token.clone().prop_map(|token| Step::Turn { token }),
        (token, prop_oneof![Just(Errand::Acknowledge), Just(Errand::Consume)], any::<bool>())
            .prop_map(|(token, errand, done)| Step::Told { token, errand, done }),
        (1..3_000_i64).prop_map(|minutes| Step::Wait { minutes }),
    ];
    proptest::collection::vec(step, 1..60)
}

fn token(number: usize) -> PurchaseToken {
    PurchaseToken::new(TOKENS[number].0).expect("a token")
}

fn paid(number: usize, product: &str, account: Option<&str>) -> PaidPurchase {
    PaidPurchase {
        store: Store::Google,
        environment: Environment::Production,
        store_id: TOKENS[number].1.map(str::to_owned),
        original_id: None,
        items: vec![PurchasedItem::new(product, 2).expect("a product")],
        account: account.map(str::to_owned),
        purchased_at: None,
        price_milliunits: None,
        currency: None,
        acknowledged: false,
        consumed: false,
        said_at: None,
        refund: StoreRefund::default(),
        verified: "{}".to_owned(),
    }
}

fn record() -> PurchaseRecord {
    PurchaseRecord::new("{}".to_owned())
}

/// What the service keeps between two steps, and who was told what.
struct World {
    facts: Facts,
    /// By order or else token: who got it.
    granted: BTreeMap<String, &'static str>,
}

impl World {
    fn new() -> Self {
        let accounts = USERS.map(|name| Account::new(user_id(name)));
        let credits = Credits::new(300).expect("an amount");
        let product = |name| ProductId::new(name).expect("a name");
        let mut facts = facts(&first_prices(), accounts);
        facts.products =
            [(product(SMALL), Product { credits, active: true })].into_iter().collect();
        facts.user_ids = USERS.iter().map(|name| user_id(name)).collect();
        facts.now = DateTime::<Utc>::UNIX_EPOCH;
        Self { facts, granted: BTreeMap::new() }
    }

    fn apply<O: Operation>(
        &mut self,
        user: &UserId,
        operation: &O,
    ) -> Result<Applied<O::Outcome>, Refusal> {
        operation.decide(user, &mut self.facts)
    }

    /// Whose the purchase of a token is, while it is open.
    fn owner(&self, number: usize) -> Option<UserId> {
        let found = self.facts.purchases.find(&[PurchaseKey::google_token(&token(number))]);
        found.first().and_then(|place| self.facts.purchases.at(*place).user.clone())
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::LookUp { user, token: number } => self.look_up(user, number),
            Step::Receive { user, token: number } => {
                let receive = Receive {
                    key: PurchaseKey::google_token(&token(number)),
                    store: Store::Google,
                    token: token(number),
                    record: record(),
                };
                let before = self.owner(number);
                let open = before.as_ref().is_some_and(|_| self.is_open(number));
                let received = self.apply(&user_id(USERS[user]), &receive);
                let owner = received.expect("few wait").outcome.owner;
                if open {
                    assert_eq!(Some(owner), before, "who was first owns it");
                }
            }
            Step::Paid { token: number, product, account, user } => {
                let user = self.owner(number).unwrap_or_else(|| user_id(USERS[user]));
                self.grant(&user, number, product, account.map(|account| USERS[account]));
            }
            Step::Noted { token: number, what } => {
                let what = match what {
                    0 => Noted::Unsaid,
                    1 => Noted::Unpaid,
                    2 => Noted::Never,
                    5 => Noted::Unknown,
                    3 => Noted::Sandbox(Box::new(paid(number, SMALL, None))),
                    _ => Noted::Review(
                        Reason::UnknownProduct,
                        Box::new(paid(number, UNKNOWN, None)),
                        record(),
                    ),
                };
                let Some(owner) = self.owner(number) else { return };
                let keys = vec![PurchaseKey::google_token(&token(number))];
                let noted = self.apply(
                    &owner,
                    &Note { keys, names: Vec::new(), token: Some(token(number)), what },
                );
                noted.expect("a note is taken");
            }
            Step::Turn { token: number } => {
                let Some(owner) = self.owner(number) else { return };
                let key = PurchaseKey::google_token(&token(number));
                let turn = self.apply(&owner, &TakeTurn { key: key.clone() });
                if turn.expect("a turn is told").outcome.is_some() {
                    let second = self.apply(&owner, &TakeTurn { key });
                    assert!(second.expect("told").outcome.is_none(), "two have a turn");
                }
            }
            Step::Told { token: number, errand, done } => {
                let Some(owner) = self.owner(number) else { return };
                let key = PurchaseKey::google_token(&token(number));
                self.apply(&owner, &Told { key, errand, done }).expect("it is noted");
            }
            Step::Wait { minutes } => self.facts.now += TimeDelta::minutes(minutes),
        }
    }

    fn is_open(&self, number: usize) -> bool {
        let found = self.facts.purchases.find(&[PurchaseKey::google_token(&token(number))]);
        found.iter().any(|place| self.facts.purchases.at(*place).state.is_open())
    }

    fn look_up(&mut self, user: usize, number: usize) {
        let keys = vec![PurchaseKey::google_token(&token(number))];
        let known = LookUp { keys, names: vec![PurchaseName::of_token(&token(number))] };
        let told = self.apply(&user_id(USERS[user]), &known);
        let owner = self.granted.get(TOKENS[number].1.unwrap_or(TOKENS[number].0));
        match told {
            Ok(applied) => {
                assert!(applied.replayed);
                assert_eq!(owner, Some(&USERS[user]), "told of a grant that was not");
            }
            Err(Refusal::PurchaseAlreadyProcessed) => {
                assert!(owner.is_some_and(|owner| *owner != USERS[user]), "{owner:?}");
            }
            Err(_) => {}
        }
    }

    fn grant(&mut self, user: &UserId, number: usize, product: &str, account: Option<&str>) {
        let paid = paid(number, product, account);
        let id = paid.store_id.clone().unwrap_or_else(|| hash(token(number).as_str()));
        let mut keys = vec![PurchaseKey::google_token(&token(number))];
        keys.extend(PurchaseKey::all_of(&paid));
        let grant = Grant {
            keys,
            names: vec![PurchaseName::of_token(&token(number)), PurchaseName::of(id.clone())],
            paid,
            token: Some(token(number)),
            store_transaction_id: StoreTransactionId::new(id).expect("an id"),
            record: record(),
        };
        let before = self.credits();
        let granted = self.apply(user, &grant);
        let order = TOKENS[number].1.unwrap_or(TOKENS[number].0).to_owned();
        let name = USERS.into_iter().find(|name| user_id(name) == *user).expect("a user");
        match granted {
            Ok(applied) if !applied.replayed => {
                assert_eq!(product, SMALL, "granted for a product that is unknown");
                assert_eq!(self.credits(), before + 600);
                assert_eq!(self.granted.insert(order, name), None, "granted twice");
            }
            told => {
                assert_eq!(self.credits(), before, "{told:?}");
                if told.is_ok() {
                    assert_eq!(self.granted.get(&order), Some(&name));
                }
            }
        }
    }

    fn credits(&self) -> i64 {
        self.facts.accounts.iter().map(|account| account.credits().get()).sum()
    }

    /// What must be so after every step.
    fn check(&self) {
        let mut owners = BTreeSet::new();
        let mut granted = 0;
        for number in 0..TOKENS.len() {
            let key = PurchaseKey::google_token(&token(number));
            for place in self.facts.purchases.find(&[key]) {
                let kept = self.facts.purchases.at(place);
                match kept.state {
                    PurchaseState::Received | PurchaseState::Pending => {
                        assert!(kept.due_at.is_some() && kept.token.is_some(), "{kept:?} is lost");
                    }
                    PurchaseState::Review if kept.reason == Some(Reason::UnknownProduct) => {
                        assert!(kept.due_at.is_some(), "{kept:?} is lost");
                    }
                    PurchaseState::Granted => {
                        granted += 1;
                        assert!(owners.insert(kept.key.clone()), "two rows of one key");
                        let told = kept.acknowledged_at.is_some() && kept.consumed_at.is_some();
                        assert!(told || kept.due_at.is_some(), "{kept:?} is never acknowledged");
                    }
                    _ => assert_eq!(kept.due_at, None, "{kept:?} is asked for"),
                }
            }
        }
        assert_eq!(granted, self.granted.len(), "a grant is remembered");
        let credits = i64::try_from(self.granted.len()).expect("few") * 600;
        assert_eq!(self.credits(), credits);
    }
}

proptest! {
    #[test]
    fn one_purchase_is_granted_once_and_none_is_lost(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(&step);
            world.check();
        }
    }
}

#[test]
fn a_store_is_asked_in_growing_pauses_then_daily_and_not_for_ever() {
    let mut world = World::new();
    let ann = user_id("ann");
    let key = PurchaseKey::google_token(&token(0));
    let (store, record) = (Store::Google, record());
    let receive = Receive { key: key.clone(), store, token: token(0), record };
    world.apply(&ann, &receive).expect("it is new");
    let mut pauses = Vec::new();
    loop {
        let note =
            Note { keys: vec![key.clone()], names: Vec::new(), token: None, what: Noted::Unsaid };
        world.apply(&ann, &note).expect("a note is taken");
        let kept = world.facts.purchases.at(0);
        let Some(due_at) = kept.due_at else { break };
        pauses.push((due_at - world.facts.now).num_milliseconds());
        world.facts.now = due_at;
    }
    let about = |pause: i64, seconds: i64| (seconds * 900..=seconds * 1_100).contains(&pause);
    for (number, pause) in pauses.iter().take(11).enumerate() {
        assert!(about(*pause, 2 << number), "pause {number} of {pause} ms");
    }
    assert!(pauses.iter().skip(11).all(|pause| about(*pause, 3_600) || about(*pause, 86_400)));
    let daily = pauses.iter().filter(|pause| about(**pause, 86_400)).count();
    assert!((24..=31).contains(&daily), "{daily} times daily");
    let kept = world.facts.purchases.at(0);
    assert_eq!((kept.state, kept.reason), (PurchaseState::Refused, Some(Reason::GivenUp)));
    // Given up is not refused for good: whoever brings it again has it asked for again.
    let look_up = LookUp { keys: vec![key], names: Vec::new() };
    assert_eq!(world.apply(&ann, &look_up), Err(Refusal::StoreUnavailable));
    world.apply(&ann, &receive).expect("it is brought again");
    assert_eq!(world.facts.purchases.at(0).state, PurchaseState::Received);
}

#[test]
fn who_brought_what_was_granted_on_anothers_word_is_not_told_that_it_is_theirs() {
    let mut world = World::new();
    let (ann, bob) = (user_id("ann"), user_id("bob"));
    // Ann's since before her store was asked; bob brought the bare id, and ann brings what Apple signed.
    world.facts.granted.insert_kept(PurchaseName::of("1001"), ann.clone());
    let key = PurchaseKey::apple_id("1001");
    let (store, token) = (Store::Apple, PurchaseToken::new("1001").expect("a token"));
    let receive = Receive { key: key.clone(), store, token, record: record() };
    world.apply(&bob, &receive).expect("it is new");
    let id = Some("1001".to_owned());
    let paid = PaidPurchase { store, store_id: id, ..paid(3, SMALL, None) };
    let grant = Grant {
        keys: PurchaseKey::all_of(&paid),
        names: Vec::new(),
        paid,
        store_transaction_id: StoreTransactionId::new("1001").expect("an id"),
        token: None,
        record: record(),
    };
    let told = world.apply(&ann, &grant).expect("it is hers");
    assert!(told.replayed);
    let look_up = LookUp { keys: vec![key], names: Vec::new() };
    assert_eq!(world.apply(&bob, &look_up), Err(Refusal::PurchaseAlreadyProcessed));
    assert!(world.apply(&ann, &look_up).expect("hers").replayed);
    assert_eq!(world.credits(), 0);
}
