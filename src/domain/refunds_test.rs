//! Random histories of purchases and their refunds, against a second and simpler reading of the rules: what is taken
//! is looked for token by token, and what is refunded is worked out from all that was told.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{
    Account, Adjust, Adjustment, AppleTold, Category, Delta, EntryReason, Environment, Facts,
    GiveCredits, Grant, Hear, Heard, News, Note, Noted, Operation, PaidPurchase, Product,
    ProductId, PurchaseKey, PurchaseRecord, PurchaseState, PurchaseToken, PurchasedItem, Refusal,
    Store, StoreRefund, StoreTransactionId, TakeTurn, Turn,
    samples::{Prices, allocate, consume, credits, facts, user_id},
};

/// Credits for one piece; each purchase is of three.
const PIECE: i64 = 100;
const PIECES: u32 = 3;
const WHOLE: i64 = 300;
/// Two of Google's, two of Apple's.
const PURCHASES: usize = 4;
const MODELS: [&str; 3] = ["cheap", "even", "dear"];
/// What Apple says is refunded, as time goes by.
const APPLE_SAYS: [u32; 7] = [0, 33_333, 0, 66_667, 100_000, 16_667, 50_000];

fn prices() -> Prices {
    BTreeMap::from([
        ("cheap", (333_333, Category::Quick)),
        ("even", (1_000_000, Category::Think)),
        // Fewer tokens than credits.
        ("dear", (2_500_001, Category::Quick)),
    ])
}

#[derive(Debug, Clone)]
enum Step {
    Bring { purchase: usize, time: usize },
    Allocate { model: usize, credits: i64 },
    Consume { model: usize, tokens: i64 },
    Give { credits: i64 },
    Take { credits: i64 },
    Void { purchase: usize, refund: Void },
    Told { purchase: usize, time: usize },
}

/// What Google tells of a refund.
#[derive(Debug, Clone, Copy)]
enum Void {
    Whole,
    /// The purchase says how many pieces are gone.
    Pieces(u32),
    /// The list says how many went at a time.
    Listed(i64, u32),
}

fn void() -> impl Strategy<Value = Void> {
    prop_oneof![
        Just(Void::Whole),
        (1..=PIECES).prop_map(Void::Pieces),
        (0..3_i64, 1..=2_u32).prop_map(|(time, pieces)| Void::Listed(time, pieces)),
    ]
}

/// Something a store tells.
fn news() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..2_usize, void()).prop_map(|(purchase, refund)| Step::Void { purchase, refund }),
        (2..PURCHASES, 0..APPLE_SAYS.len())
            .prop_map(|(purchase, time)| Step::Told { purchase, time }),
    ]
}

fn bring() -> impl Strategy<Value = Step> {
    (0..PURCHASES, 0..APPLE_SAYS.len()).prop_map(|(purchase, time)| Step::Bring { purchase, time })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => bring(),
        3 => (0..MODELS.len(), 1..120_i64)
            .prop_map(|(model, credits)| Step::Allocate { model, credits }),
        2 => (0..MODELS.len(), 1..200_i64)
            .prop_map(|(model, tokens)| Step::Consume { model, tokens }),
        2 => (1..120_i64).prop_map(|credits| Step::Give { credits }),
        1 => (1..120_i64).prop_map(|credits| Step::Take { credits }),
        4 => news(),
    ];
    proptest::collection::vec(step, 1..50)
}

fn at(time: usize) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(i64::try_from(time).expect("small"))
}

fn store(purchase: usize) -> Store {
    if purchase < 2 { Store::Google } else { Store::Apple }
}

fn small() -> ProductId {
    ProductId::new("small").expect("a product")
}

fn paid(purchase: usize, time: usize) -> PaidPurchase {
    let is_apple = store(purchase) == Store::Apple;
    let refund = StoreRefund { milliunits: APPLE_SAYS[time], ..StoreRefund::default() };
    PaidPurchase {
        store: store(purchase),
        environment: Environment::Production,
        store_id: Some(format!("{purchase}")),
        original_id: None,
        items: vec![PurchasedItem::new("small", PIECES).expect("an item")],
        account: None,
        purchased_at: None,
        price_milliunits: None,
        currency: None,
        acknowledged: is_apple,
        consumed: is_apple,
        said_at: is_apple.then(|| at(time)),
        refund: if is_apple { refund } else { StoreRefund::default() },
        verified: "{}".to_owned(),
    }
}

fn keys(purchase: usize) -> Vec<PurchaseKey> {
    PurchaseKey::all_of(&paid(purchase, 0))
}

fn reason() -> EntryReason {
    EntryReason::new("sorry").expect("a reason")
}

fn refund(void: Void) -> StoreRefund {
    match void {
        Void::Whole => StoreRefund::of_all(),
        Void::Pieces(pieces) => {
            let pieces = BTreeMap::from([(small(), pieces)]);
            StoreRefund { pieces, ..StoreRefund::default() }
        }
        Void::Listed(time, pieces) => {
            let voids = BTreeMap::from([(time, pieces)]);
            StoreRefund { voids, ..StoreRefund::default() }
        }
    }
}

/// What the rules make of it.
struct World {
    facts: Facts,
}

impl World {
    fn new() -> Self {
        let ann = Account::new(user_id("ann"));
        let nobody = Account::new(user_id("nobody"));
        let mut facts = facts(&prices(), [ann, nobody]);
        facts.products = [(small(), Product { credits: credits(PIECE.into()), active: true })]
            .into_iter()
            .collect();
        facts.now = at(1_000);
        facts.accounts.of(&user_id("ann")).know_lots(super::Lots::default());
        facts.accounts.of(&user_id("nobody")).know_lots(super::Lots::default());
        Self { facts }
    }

    fn bring(&mut self, paid: PaidPurchase) {
        let record = PurchaseRecord::new("{}".to_owned());
        let id = paid.store_id.clone().expect("each has one");
        let keys = PurchaseKey::all_of(&paid);
        let token = (paid.store == Store::Google)
            .then(|| PurchaseToken::new(format!("token-{id}")).expect("a token"));
        let grant = Grant {
            keys: keys.clone(),
            names: Vec::new(),
            paid: paid.clone(),
            store_transaction_id: StoreTransactionId::new(id).expect("an id"),
            token: token.clone(),
            record: record.clone(),
        };
        match grant.decide(&user_id("ann"), &mut self.facts) {
            Ok(_) => {}
            Err(Refusal::InvalidReceipt) => {
                let what = Noted::Claimed(Box::new(paid), record);
                let note = Note { keys, names: Vec::new(), token, what };
                note.decide(&user_id("ann"), &mut self.facts).expect("a note is taken");
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    fn hear(&mut self, purchase: usize, news: &News) {
        for user in ["nobody", "ann"] {
            let (store, news) = (store(purchase), news.clone());
            let hear = Hear { keys: keys(purchase), store, news, believed: None, ends: None };
            let heard = hear.decide(&user_id(user), &mut self.facts).expect("news are taken");
            match heard.outcome {
                Heard::OfAnother(owner) => assert_eq!(owner, user_id("ann")),
                Heard::Noted { .. } => break,
            }
        }
        // The task in the background.
        for key in keys(purchase) {
            let turn = TakeTurn { key }.decide(&user_id("ann"), &mut self.facts).expect("a turn");
            if let Some(Turn { paid: Some(paid), .. }) = turn.outcome {
                self.bring(*paid);
            }
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Bring { purchase, time } => self.bring(paid(*purchase, *time)),
            Step::Allocate { model, credits } => {
                let _ = allocate(&[(MODELS[*model], *credits)])
                    .decide(&user_id("ann"), &mut self.facts);
            }
            Step::Consume { model, tokens } => {
                let _ =
                    consume(MODELS[*model], *tokens, 0).decide(&user_id("ann"), &mut self.facts);
            }
            Step::Give { credits: amount } => {
                let gift = GiveCredits { credits: credits((*amount).into()), reason: reason() };
                gift.decide(&user_id("ann"), &mut self.facts).expect("there is room");
            }
            Step::Take { credits } => {
                let adjustment = Adjustment::Credits(Delta::new(-credits).expect("not zero"));
                let take = Adjust { adjustment, reason: reason() };
                let _ = take.decide(&user_id("ann"), &mut self.facts);
            }
            Step::Void { purchase, refund: void } => {
                self.hear(*purchase, &News::Refunded(refund(*void)));
            }
            Step::Told { purchase, time } => {
                let told = AppleTold {
                    paid: Box::new(paid(*purchase, *time)),
                    signed_at: at(*time),
                    notified_at: None,
                };
                self.hear(*purchase, &News::Transaction(told));
            }
        }
    }

    /// Credits; tokens by model; of each purchase whether it was granted, what was taken and what is missing.
    fn books(&self) -> Books {
        let account = self.facts.accounts.get(&user_id("ann")).expect("ann");
        let tokens = account.tokens().iter();
        let tokens = tokens.map(|(model, tokens)| (model.as_str().to_owned(), tokens.get()));
        let purchases = (0..PURCHASES).map(|purchase| {
            let found = self.facts.purchases.find(&keys(purchase));
            found.first().map_or((false, 0, 0), |place| {
                let known = self.facts.purchases.at(*place);
                let target = known.refund_store.get();
                let booked = known.taken_credits.get() + known.shortfall_credits.get();
                assert_eq!(booked, if known.is_granted() { target } else { 0 });
                if known.is_granted() {
                    let refunded = known.state == PurchaseState::Refunded;
                    assert_eq!(refunded, target > 0, "{:?}", known.state);
                }
                (known.is_granted(), known.taken_credits.get(), known.shortfall_credits.get())
            })
        });
        Books {
            credits: account.credits().get(),
            given: account.funds().bonus().get(),
            tokens: tokens.filter(|(_, tokens)| *tokens > 0).collect(),
            purchases: purchases.collect(),
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Books {
    credits: i64,
    given: i64,
    tokens: BTreeMap<String, i64>,
    purchases: Vec<(bool, i64, i64)>,
}

/// The second reading.
#[derive(Default)]
struct Reading {
    credits: i64,
    given: i64,
    balances: BTreeMap<usize, i64>,
    /// The newest last.
    lots: Vec<Bought>,
    told: [Told; PURCHASES],
}

#[derive(Default, Clone)]
struct Told {
    voids: Vec<Void>,
    times: Vec<usize>,
    brought: bool,
    granted: bool,
    /// Each credit that was taken, in order: whether it had been given.
    taken: Vec<bool>,
    missing: i64,
}

/// What an allocation bought.
struct Bought {
    model: usize,
    paid: i64,
    /// How many of the credits had been given.
    given: i64,
    tokens: i64,
    back: i64,
}

impl Told {
    /// Credits that are refunded by all that was told.
    fn refunded(&self) -> i64 {
        if let Some(time) = self.times.iter().max() {
            return (WHOLE * i64::from(APPLE_SAYS[*time]) + 50_000) / 100_000;
        }
        let pieces = self.voids.iter().map(|void| match void {
            Void::Whole => PIECES,
            Void::Pieces(pieces) => *pieces,
            Void::Listed(..) => 0,
        });
        let listed = (0..3_i64).map(|at| {
            let then = self.voids.iter().filter_map(|void| match void {
                Void::Listed(time, pieces) if *time == at => Some(*pieces),
                _ => None,
            });
            then.max().unwrap_or(0)
        });
        let pieces = pieces.max().unwrap_or(0).max(listed.sum());
        i64::from(pieces.min(PIECES)) * PIECE
    }
}

fn count(credits: &[bool]) -> i64 {
    credits.len().try_into().expect("few")
}

impl Reading {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Bring { purchase, time } => {
                let told = &mut self.told[purchase];
                if !told.granted {
                    told.brought = true;
                    if purchase >= 2 {
                        told.times.push(time);
                    }
                    self.settle(purchase);
                }
            }
            Step::Allocate { model, credits } => {
                let price = prices()[MODELS[model]].0;
                let tokens = credits * 1_000_000 / price;
                if credits <= self.credits && tokens > 0 {
                    let given = self.given.min(credits);
                    self.credits -= credits;
                    self.given -= given;
                    *self.balances.entry(model).or_default() += tokens;
                    self.lots.push(Bought { model, paid: credits, given, tokens, back: 0 });
                }
            }
            Step::Consume { model, tokens } => {
                if let Some(balance) = self.balances.get_mut(&model)
                    && *balance >= tokens
                {
                    *balance -= tokens;
                }
            }
            Step::Give { credits } => {
                self.credits += credits;
                self.given += credits;
            }
            Step::Take { credits } => {
                if credits <= self.credits {
                    self.take_unspent(credits);
                }
            }
            Step::Void { purchase, refund } => {
                self.told[purchase].voids.push(refund);
                self.settle(purchase);
            }
            Step::Told { purchase, time } => {
                self.told[purchase].times.push(time);
                self.settle(purchase);
            }
        }
    }

    fn settle(&mut self, purchase: usize) {
        let mut told = self.told[purchase].clone();
        let target = told.refunded();
        if told.brought && !told.granted && target < WHOLE {
            told.granted = true;
            self.credits += WHOLE;
        }
        if told.granted {
            let missing = target - count(&told.taken) - told.missing;
            if missing > 0 {
                let mut taken = self.take_back(missing);
                told.missing += missing - count(&taken);
                told.taken.append(&mut taken);
            } else {
                let never_taken = told.missing.min(-missing);
                told.missing -= never_taken;
                for _ in 0..-missing - never_taken {
                    let was_given = told.taken.pop().expect("it was taken");
                    self.credits += 1;
                    self.given += i64::from(was_given);
                }
            }
        }
        self.told[purchase] = told;
    }

    /// Takes unspent credits one by one, those that were bought first. Tells of each whether it was given.
    fn take_unspent(&mut self, credits: i64) -> Vec<bool> {
        let one_more = |_| {
            let was_given = self.credits == self.given;
            self.given -= i64::from(was_given);
            self.credits -= 1;
            was_given
        };
        (0..credits).map(one_more).collect()
    }

    /// Tells of each credit of so many that could be taken whether it had been given.
    fn take_back(&mut self, credits: i64) -> Vec<bool> {
        let mut taken = self.take_unspent(self.credits.min(credits));
        let mut rest = credits - count(&taken);
        let mut unused = self.balances.clone();
        for Bought { model, paid, given, tokens: bought, back } in self.lots.iter_mut().rev() {
            let unused = unused.entry(*model).or_default();
            let of_lot = (*bought - *back).min(*unused);
            *unused -= of_lot;
            let before = *paid * *back / *bought;
            let worth = |more: i64| *paid * (*back + more) / *bought - before;
            // The fewest that are worth the most that is not too much.
            let best =
                (0..=of_lot).filter(|more| worth(*more) <= rest).map(worth).max().unwrap_or(0);
            let tokens = (0..=of_lot).find(|more| worth(*more) == best).unwrap_or(0);
            rest -= best;
            taken.extend((before..before + best).map(|credit| credit >= *paid - *given));
            *back += tokens;
            *self.balances.get_mut(model).expect("it has a lot") -= tokens;
        }
        taken
    }

    fn books(&self) -> Books {
        let tokens = self.balances.iter().filter(|(_, tokens)| **tokens > 0);
        Books {
            credits: self.credits,
            given: self.given,
            tokens: tokens.map(|(model, tokens)| (MODELS[*model].to_owned(), *tokens)).collect(),
            purchases: self
                .told
                .iter()
                .map(|told| (told.granted, count(&told.taken), told.missing))
                .collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn refunds_are_booked_as_a_second_reading_says(steps in steps()) {
        let (mut world, mut reading) = (World::new(), Reading::default());
        for step in &steps {
            world.take(step);
            reading.take(step);
            prop_assert_eq!(world.books(), reading.books(), "after {:?}", step);
        }
    }

    /// Where nothing was spent, the balance comes out the same in whatever order and however often it is told. Whether
    /// a purchase that is refunded whole was granted before may differ.
    #[test]
    fn the_order_of_what_is_told_does_not_matter(
        (told, shuffled) in proptest::collection::vec(prop_oneof![bring(), news()], 1..12)
            .prop_flat_map(|told| {
                let twice: Vec<Step> = told.iter().chain(&told).cloned().collect();
                (Just(told), Just(twice).prop_shuffle())
            })
    ) {
        // What Apple says when a purchase is brought after its grant is not asked for: it is told as well.
        let with_brought = |steps: &[Step]| -> Vec<Step> {
            steps.iter().flat_map(|step| match step {
                Step::Bring { purchase, time } if *purchase >= 2 => {
                    vec![step.clone(), Step::Told { purchase: *purchase, time: *time }]
                }
                step => vec![step.clone()],
            }).collect()
        };
        let books = |steps: &[Step]| {
            let mut world = World::new();
            for step in with_brought(steps) {
                world.take(&step);
            }
            let books = world.books();
            let missing: Vec<_> = books.purchases.iter().map(|(.., missing)| *missing).collect();
            (books.credits, missing)
        };
        prop_assert_eq!(books(&told), books(&shuffled));
    }
}

#[test]
fn what_was_taken_last_comes_back_first_and_given_credits_are_given_ones_again() {
    let steps = [
        (Step::Bring { purchase: 2, time: 0 }, [300, 0]),
        (Step::Give { credits: 60 }, [360, 60]),
        (Step::Allocate { model: 1, credits: 200 }, [160, 0]),
        (Step::Consume { model: 1, tokens: 200 }, [160, 0]),
        (Step::Give { credits: 50 }, [210, 50]),
        // 33,333 is 100 credits.
        (Step::Told { purchase: 2, time: 1 }, [110, 50]),
        (Step::Told { purchase: 2, time: 2 }, [210, 50]),
        // 66,667 is 200.
        (Step::Told { purchase: 2, time: 3 }, [10, 10]),
        // All: 90 are missing.
        (Step::Told { purchase: 2, time: 4 }, [0, 0]),
        // 16,667 is 50: of the 160 that come back 10 were taken last, and 40 before them.
        (Step::Told { purchase: 2, time: 5 }, [160, 50]),
    ];
    let (mut world, mut reading) = (World::new(), Reading::default());
    for (step, [credits, given]) in steps {
        world.take(&step);
        reading.take(&step);
        let books = world.books();
        assert_eq!(books, reading.books(), "after {step:?}");
        assert_eq!([books.credits, books.given], [credits, given], "after {step:?}");
    }
}

/// Of what Apple signed only what was verified is kept, and with it whom the app named.
#[test]
fn a_reversed_refund_grants_nothing_that_names_another_user() {
    let named = |time| PaidPurchase {
        account: Some("bob".to_owned()),
        verified: r#"{"appAccountToken":"bob"}"#.to_owned(),
        ..paid(2, time)
    };
    // Brought while it was refunded whole, so that nobody looked whom it names.
    let mut world = World::new();
    world.facts.user_ids.insert(user_id("bob"));
    let grant = |world: &mut World, paid: PaidPurchase| {
        let record = PurchaseRecord::new("{}".to_owned());
        let grant = Grant {
            keys: keys(2),
            names: Vec::new(),
            paid: paid.clone(),
            store_transaction_id: StoreTransactionId::new("2").expect("an id"),
            token: None,
            record: record.clone(),
        };
        let refusal = grant.decide(&user_id("ann"), &mut world.facts).err();
        if refusal == Some(Refusal::InvalidReceipt) {
            let what = Noted::Claimed(Box::new(paid), record);
            let note = Note { keys: keys(2), names: Vec::new(), token: None, what };
            note.decide(&user_id("ann"), &mut world.facts).expect("a note is taken");
        }
        refusal
    };
    assert_eq!(grant(&mut world, named(4)), Some(Refusal::InvalidReceipt));
    let told = AppleTold {
        paid: Box::new(PaidPurchase { refund: StoreRefund::default(), ..named(5) }),
        signed_at: at(5),
        notified_at: None,
    };
    for user in ["nobody", "ann"] {
        let news = News::Transaction(told.clone());
        let hear = Hear { keys: keys(2), store: Store::Apple, news, believed: None, ends: None };
        hear.decide(&user_id(user), &mut world.facts).expect("news are taken");
    }
    let key = keys(2).remove(0);
    let turn = TakeTurn { key }.decide(&user_id("ann"), &mut world.facts).expect("a turn");
    let asked = turn.outcome.and_then(|turn| turn.paid).expect("it is due");
    let review = Refusal::PurchaseInReview { for_operator: true };
    assert_eq!(grant(&mut world, *asked), Some(review));
}

#[test]
fn one_piece_of_a_product_on_two_lines_is_one() {
    let item = |quantity| super::store_refund::GrantedItem {
        product: small(),
        quantity,
        unit: credits(PIECE.into()),
    };
    let pieces = StoreRefund { pieces: BTreeMap::from([(small(), 1)]), ..StoreRefund::default() };
    assert_eq!(pieces.credits(&[item(1), item(2)], credits(WHOLE.into())), credits(PIECE.into()));
    let two = StoreRefund { pieces: BTreeMap::from([(small(), 2)]), ..StoreRefund::default() };
    assert_eq!(two.credits(&[item(1), item(2)], credits(WHOLE.into())).get(), 2 * PIECE);
}

#[test]
fn a_list_that_a_clock_that_was_ahead_read_is_read_again() {
    use super::{EndSweep, Sweep, SweepTurn, TakeSweep};
    let mut world = World::new();
    let sweep = Sweep::GoogleVoided;
    let (user, ahead) = (user_id("nobody"), at(1_000) + TimeDelta::days(365));
    let end = EndSweep { sweep, until: Some(ahead) };
    end.decide(&user, &mut world.facts).expect("it is noted");
    let take = TakeSweep { sweep, at_start: true };
    let turn = take.decide(&user, &mut world.facts).expect("a turn").outcome;
    let (from, until) = (at(1_000) - TimeDelta::days(29), at(1_000));
    assert_eq!(turn, SweepTurn::Read { from, until, was_read: true });
}

/// A service that ends again and again must not use up what a store allows.
#[test]
fn a_list_is_left_alone_at_a_start_that_was_touched_just_before() {
    use super::{EndSweep, Sweep, SweepTurn, TakeSweep};
    let user = user_id("nobody");
    // It was read, it was tried in vain for long, or whoever was at it has died.
    for (tries, ends) in [(1, Some(true)), (6, Some(false)), (12, Some(false)), (1, None)] {
        for sweep in [Sweep::GoogleVoided, Sweep::AppleRefunds(Environment::Production)] {
            let mut world = World::new();
            let start = TakeSweep { sweep, at_start: true };
            let mut touched = world.facts.now;
            for _ in 0..tries {
                world.facts.now += TimeDelta::days(1);
                touched = world.facts.now;
                let turn = start.decide(&user, &mut world.facts).expect("a turn").outcome;
                assert!(matches!(turn, SweepTurn::Read { .. }), "{sweep:?} {turn:?}");
                if let Some(is_read) = ends {
                    let end = EndSweep { sweep, until: is_read.then_some(touched) };
                    end.decide(&user, &mut world.facts).expect("it is noted");
                }
            }
            for seconds in [0, 1, 59] {
                world.facts.now = touched + TimeDelta::seconds(seconds);
                let turn = start.decide(&user, &mut world.facts).expect("a turn").outcome;
                let SweepTurn::NotBefore(time) = turn else { panic!("{sweep:?} {turn:?}") };
                assert!(time > world.facts.now && time <= touched + TimeDelta::minutes(1));
            }
            world.facts.now = touched + TimeDelta::minutes(1);
            let turn = start.decide(&user, &mut world.facts).expect("a turn").outcome;
            assert!(matches!(turn, SweepTurn::Read { .. }), "{sweep:?} {turn:?}");
        }
    }
}

/// As after a step back to an older version.
#[test]
fn a_message_that_can_not_be_read_is_kept_until_it_can() {
    use super::{KeepMessage, Message, MessageId, MessageTurn, StoreEvent, TakeMessage, Way};
    let mut world = World::new();
    let id = MessageId::new("apple", "1");
    let (order, pending_refund_token) = ("GPA.1".to_owned(), "token".to_owned());
    let event = StoreEvent::GoogleReview { order, pending_refund_token, asked_at: None };
    let message = Message { id: id.clone(), store: Store::Google, event };
    let keep = KeepMessage { message, way: Way::Push };
    keep.decide(&user_id("nobody"), &mut world.facts).expect("it is kept");
    let mut kept = world.facts.inbox.changed().next().expect("one").clone();
    let good = kept.content.replace(r#"{"of_tomorrow":{}}"#.to_owned());
    for content in [kept.content.clone(), good] {
        kept = super::TrackedMessage { content, ..kept };
        world.facts.inbox.insert_kept(kept);
        let take = TakeMessage { id: id.clone() };
        let turn = take.decide(&user_id("nobody"), &mut world.facts).expect("a turn").outcome;
        kept = world.facts.inbox.changed().next().expect("one").clone();
        assert!(kept.content.is_some() && kept.outcome.is_none() && kept.due_at.is_some());
        let is_read = matches!(turn, MessageTurn::Work { .. });
        let is_spoiled = matches!(turn, MessageTurn::Spoiled);
        let of_tomorrow = kept.content.as_ref().is_some_and(|it| it.contains("tomorrow"));
        assert_eq!((is_read, is_spoiled), (!of_tomorrow, of_tomorrow));
        world.facts.now += TimeDelta::hours(2);
    }
}
