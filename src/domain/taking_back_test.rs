//! Random histories of allocations, consumptions, reversals, returns and refunds, against a second and simpler reading
//! of the rules: every token is counted off by itself, and what went back of an allocation is worked out anew each
//! time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    Account, Adjust, Adjustment, Category, Credits, Delta, Entry, EntryKind, EntryReason, Facts,
    Funds, GiveCredits, KeptEntry, Lot, Lots, Operation, Recorded, Refusal, ReturnTokens, Reverse,
    Tokens, UnusedAccount, UnusedBalance,
    samples::{Prices, allocate, bought, consume, credits, facts, model, tokens, user_id},
};

const MODELS: [&str; 3] = ["cheap", "even", "dear"];

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
    Allocate {
        model: &'static str,
        credits: i64,
    },
    Consume {
        model: &'static str,
        tokens: i64,
    },
    Reverse {
        consumption: usize,
        tokens: Option<i64>,
    },
    Return {
        model: &'static str,
    },
    /// So many credits' worth of tokens are taken back, as for a purchase whose money went back.
    Refund {
        credits: i64,
    },
    Give {
        credits: i64,
    },
    AdjustTokens {
        model: &'static str,
        delta: i64,
    },
    TakeCredits {
        credits: i64,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = || prop::sample::select(&MODELS[..]);
    let step = prop_oneof![
        4 => (name(), 1..120_i64).prop_map(|(model, credits)| Step::Allocate { model, credits }),
        4 => (name(), 0..150_i64).prop_map(|(model, tokens)| Step::Consume { model, tokens }),
        3 => (0..8_usize, prop::option::of(1..80_i64))
            .prop_map(|(consumption, tokens)| Step::Reverse { consumption, tokens }),
        3 => name().prop_map(|model| Step::Return { model }),
        1 => (1..80_i64).prop_map(|credits| Step::Refund { credits }),
        3 => (1..200_i64).prop_map(|credits| Step::Give { credits }),
        2 => (name(), prop_oneof![-120..0_i64, 1..120_i64])
            .prop_map(|(model, delta)| Step::AdjustTokens { model, delta }),
        1 => (1..2_500_i64).prop_map(|credits| Step::TakeCredits { credits }),
    ];
    prop::collection::vec(step, 1..60)
}

/// An allocation as the second reading knows it: what it bought is there or went back.
#[derive(Debug, Clone)]
struct Bought {
    model: &'static str,
    credits: i64,
    /// How many of the credits had been given.
    given: i64,
    tokens: i64,
    back: i64,
}

impl Bought {
    /// ⌊C × t ÷ T⌋, counted up credit by credit.
    fn worth_in_all(&self) -> i64 {
        (0..=self.credits)
            .rev()
            .find(|paid| paid * self.tokens <= self.credits * self.back)
            .expect("zero")
    }

    /// How many of those had been given: bought ones come back first.
    fn given_in_all(&self) -> i64 {
        let is_given = |credit: &i64| *credit >= self.credits - self.given;
        (0..self.worth_in_all()).filter(is_given).count().try_into().expect("few")
    }
}

#[derive(Debug, Clone)]
struct Used {
    id: i64,
    model: &'static str,
    left: i64,
}

/// The second reading.
#[derive(Debug, Clone, Default)]
struct Book {
    credits: i64,
    given: i64,
    balances: BTreeMap<&'static str, i64>,
    bought: Vec<Bought>,
    used: Vec<Used>,
}

impl Book {
    /// Gives one token after the other back, each to the newest allocation that has one left. Tells tokens, credits, and
    /// how many of those had been given.
    fn give_back(&mut self, model: &'static str) -> (i64, i64, i64) {
        let worth = |book: &Self| {
            let of_all = book.bought.iter();
            let of_all = of_all.map(|bought| (bought.worth_in_all(), bought.given_in_all()));
            of_all.fold((0, 0), |sum, of_one| (sum.0 + of_one.0, sum.1 + of_one.1))
        };
        let before = worth(self);
        let mut given = 0;
        while self.balances.get(model).is_some_and(|balance| *balance > 0) {
            let has_one =
                |bought: &&mut Bought| bought.model == model && bought.back < bought.tokens;
            let Some(newest) = self.bought.iter_mut().rev().find(has_one) else { break };
            newest.back += 1;
            given += 1;
            *self.balances.get_mut(model).expect("it has a balance") -= 1;
        }
        let after = worth(self);
        (given, after.0 - before.0, after.1 - before.1)
    }

    /// Takes one credit after the other, if they are there.
    fn take_credits(&mut self, credits: i64) {
        for _ in 0..credits {
            self.given -= i64::from(self.credits == self.given);
            self.credits -= 1;
        }
    }
}

/// What the rules make of it.
struct World {
    facts: Facts,
    book: Book,
}

impl World {
    fn new() -> Self {
        let ann = Account::loaded(user_id("ann"), bought(2_000), BTreeMap::new());
        let mut facts = facts(&prices(), [ann]);
        facts.accounts.of(&user_id("ann")).know_lots(Lots::default());
        Self { facts, book: Book { credits: 2_000, ..Book::default() } }
    }

    fn decide<O: Operation>(&mut self, operation: &O) -> Result<O::Outcome, Refusal> {
        operation.decide(&user_id("ann"), &mut self.facts).map(|applied| applied.outcome)
    }

    fn newest(&mut self) -> Recorded {
        self.facts.accounts.of(&user_id("ann")).entries().last().expect("an entry").clone()
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Allocate { model, credits } => {
                if self.decide(&allocate(&[(model, credits)])).is_ok() {
                    let tokens = self.newest().entry.tokens_delta();
                    let given = self.book.given.min(credits);
                    self.book.credits -= credits;
                    self.book.given -= given;
                    *self.book.balances.entry(model).or_default() += tokens;
                    self.book.bought.push(Bought { model, credits, given, tokens, back: 0 });
                }
            }
            Step::Consume { model: name, tokens } => {
                if self.decide(&consume(name, tokens, 0)).is_ok() {
                    let id = self.newest().id;
                    *self.book.balances.entry(name).or_default() -= tokens;
                    self.book.used.push(Used { id, model: name, left: tokens });
                    let kept = KeptEntry {
                        user: user_id("ann"),
                        kind: EntryKind::Consumption,
                        model: Some(model(name)),
                        amount: tokens,
                        reversed: 0,
                    };
                    self.facts.entries.insert(id, kept);
                }
            }
            Step::Reverse { consumption, tokens } => self.reverse(consumption, tokens),
            Step::Return { model } => self.give_back(model),
            Step::Refund { credits } => self.refund(credits),
            Step::Give { credits: amount } => {
                let reason = EntryReason::new("sorry").expect("a reason");
                let gift = GiveCredits { credits: credits(amount.into()), reason };
                self.book.credits += amount;
                self.book.given += amount;
                let given = self.decide(&gift).expect("there is room");
                assert_eq!(given.credits.get(), self.book.credits);
                assert_eq!(given.bonus.get(), self.book.given);
            }
            Step::AdjustTokens { model: name, delta } => {
                let balance = self.book.balances.get(name).copied();
                let by = Delta::new(delta).expect("not zero");
                let result = self.adjust(Adjustment::Tokens { model: model(name), delta: by });
                // Fewer than there are can't be taken; of those that were given only the balance tells.
                let after = balance.unwrap_or(0) + delta;
                assert_eq!(result.is_ok(), after >= 0);
                if after >= 0 {
                    self.book.balances.insert(name, after);
                }
            }
            Step::TakeCredits { credits } => {
                let by = Delta::new(-credits).expect("not zero");
                let result = self.adjust(Adjustment::Credits(by));
                assert_eq!(result.is_ok(), credits <= self.book.credits);
                if result.is_ok() {
                    self.book.take_credits(credits);
                }
            }
        }
    }

    fn adjust(&mut self, adjustment: Adjustment) -> Result<super::Wallet, Refusal> {
        let reason = EntryReason::new("wrong").expect("a reason");
        self.decide(&Adjust { adjustment, reason })
    }

    fn reverse(&mut self, place: usize, amount: Option<i64>) {
        let id = self.book.used.get(place).map_or(1_000_000, |used| used.id);
        let reason = EntryReason::new("wrong").expect("a reason");
        let asked = amount.map(|amount| tokens(amount.into()));
        let result = self.decide(&Reverse { consumption: id, tokens: asked, reason });
        let Some(used) = self.book.used.get_mut(place) else {
            return assert_eq!(result, Err(Refusal::TransactionNotFound));
        };
        let amount = amount.unwrap_or(used.left);
        if amount == 0 || amount > used.left {
            let reversible = tokens(used.left.into());
            return assert_eq!(result, Err(Refusal::AlreadyReversed { reversible }));
        }
        used.left -= amount;
        let balance = self.book.balances.get_mut(used.model).expect("it was used");
        *balance += amount;
        let reversed = result.expect("so much is left");
        assert_eq!(reversed.tokens.get(), amount);
        assert_eq!(reversed.reversible.get(), used.left);
        assert_eq!(reversed.remaining.get(), *balance);
    }

    fn give_back(&mut self, name: &'static str) {
        let (bought, balances) = (self.book.bought.clone(), self.book.balances.clone());
        let (given, worth, bonus) = self.book.give_back(name);
        let result = self.decide(&ReturnTokens { model: model(name) });
        if worth == 0 {
            (self.book.bought, self.book.balances) = (bought, balances);
            let refusal = if given == 0 {
                Refusal::InsufficientTokens { required: tokens(1), available: Tokens::ZERO }
            } else {
                Refusal::ReturnTooSmall { model: model(name) }
            };
            return assert_eq!(result, Err(refusal));
        }
        self.book.credits += worth;
        self.book.given += bonus;
        let returned = result.expect("it is worth something");
        assert_eq!((returned.tokens.get(), returned.credits.get()), (given, worth));
        assert_eq!(returned.balance.get(), self.book.credits);
        assert_eq!(returned.remaining.get(), self.book.balances[name]);
    }

    /// Taken as a refund takes; which tokens those are has a test of its own, so the book follows.
    fn refund(&mut self, amount: i64) {
        let now = self.facts.now;
        let ann = self.facts.accounts.of(&user_id("ann"));
        let parts =
            ann.lots().worth_up_to(credits(amount.into()), |model| ann.available(model, now));
        for (model, part) in parts {
            let taken = Entry::TokensRefund {
                credits: part.credits,
                purchase: 1,
                allocation: part.allocation,
                model: model.clone(),
                tokens: part.tokens,
            };
            let allocations = self.facts.accounts.of(&user_id("ann")).entries().iter();
            let mut allocations = allocations.filter(|it| it.entry.kind() == EntryKind::Allocation);
            let place = allocations.position(|it| it.id == part.allocation).expect("a lot");
            self.facts.accounts.record(&user_id("ann"), taken);
            let bought = &mut self.book.bought[place];
            let before = (bought.worth_in_all(), bought.given_in_all());
            bought.back += part.tokens.get();
            assert_eq!(bought.worth_in_all() - before.0, part.credits.get());
            assert_eq!(bought.given_in_all() - before.1, part.bonus.get());
            *self.book.balances.get_mut(bought.model).expect("it holds some") -= part.tokens.get();
        }
    }

    fn check(&mut self) {
        let ann = self.facts.accounts.of(&user_id("ann"));
        let book = [self.book.credits, self.book.given].map(|amount| credits(amount.into()));
        assert_eq!(Some(ann.funds()), Funds::new(book[0], book[1]));
        let held = ann.tokens().iter().map(|(model, held)| (model.as_str(), held.get()));
        assert_eq!(held.collect::<BTreeMap<_, _>>(), self.book.balances);
        assert!(self.book.bought.iter().all(|bought| bought.back <= bought.tokens));
        self.check_unused();
    }

    /// What was not used is what returning all of it would give, worked out from the entries alone.
    fn check_unused(&mut self) {
        let mut unused = UnusedBalance::default();
        unused.add(self.account());
        let (all, given) = (unused.credits.paid + unused.credits.bonus, unused.credits.bonus);
        assert_eq!((all, given), (self.book.credits.into(), self.book.given.into()));
        for name in MODELS {
            let mut book = self.book.clone();
            let (tokens, worth, bonus) = book.give_back(name);
            let found = unused.tokens.get(&model(name)).copied().unwrap_or_default();
            let found = (found.tokens, found.worth.paid + found.worth.bonus, found.worth.bonus);
            assert_eq!(found, (tokens.into(), worth.into(), bonus.into()), "{name}");
        }
    }

    /// The entries as they are read, the newest first: their order does not matter.
    fn account(&mut self) -> UnusedAccount {
        let mut account = UnusedAccount::default();
        // Nobody remembers how these came.
        account.change_credits(2_000, 0);
        for Recorded { id, entry, .. } in
            self.facts.accounts.of(&user_id("ann")).entries().iter().rev()
        {
            account.change_credits(entry.credits_delta(), entry.bonus_delta());
            let Some(model) = entry.model() else { continue };
            account.change_tokens(model.clone(), entry.tokens_delta());
            if let Entry::Allocation { model, credits, bonus, tokens, .. } = entry {
                account.add_lot(Lot {
                    allocation: *id,
                    model: model.clone(),
                    credits: *credits,
                    bonus: *bonus,
                    tokens: *tokens,
                    tokens_back: Tokens::ZERO,
                });
            }
            if let Some(allocation) = entry.allocation() {
                account.take_back(allocation, tokens((-entry.tokens_delta()).into()));
            }
        }
        account
    }
}

proptest! {
    #[test]
    fn what_comes_back_is_what_a_second_reading_says(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.take(&step);
            world.check();
        }
    }

    #[test]
    fn nobody_gains_by_splitting_and_nothing_is_lost_at_once(
        paid in 1..2_000_i64, parts in prop::collection::vec(0..200_i64, 0..8),
    ) {
        let mut world = World::new();
        world.take(&Step::Allocate { model: "cheap", credits: paid });
        for tokens in parts {
            // What is used and comes back in between changes nothing in the end.
            world.take(&Step::Consume { model: "cheap", tokens });
            world.take(&Step::Return { model: "cheap" });
            let place = world.book.used.len().saturating_sub(1);
            world.take(&Step::Reverse { consumption: place, tokens: None });
        }
        world.take(&Step::Return { model: "cheap" });
        world.check();
        prop_assert!(world.book.credits <= 2_000);
        let all_back = world.book.bought.iter().all(|bought| bought.back == bought.tokens);
        prop_assert!(!all_back || world.book.credits == 2_000);
    }
}

#[test]
fn given_tokens_count_as_used_first_and_are_not_returned() {
    let mut world = World::new();
    world.take(&Step::Allocate { model: "even", credits: 100 });
    world.take(&Step::AdjustTokens { model: "even", delta: 30 });
    world.take(&Step::Consume { model: "even", tokens: 20 });
    let returned = world.decide(&ReturnTokens { model: model("even") }).expect("all bought ones");
    let told = [returned.tokens.get(), returned.credits.get(), returned.remaining.get()];
    assert_eq!(told, [100, 100, 10]);
    let refusal = Refusal::InsufficientTokens { required: tokens(1), available: Tokens::ZERO };
    assert_eq!(world.decide(&ReturnTokens { model: model("even") }), Err(refusal));
}

#[test]
fn of_an_allocation_the_bought_credits_come_back_first() {
    let mut world = World::new();
    world.take(&Step::Give { credits: 60 });
    world.take(&Step::Allocate { model: "even", credits: 100 });
    let bonus_of_newest = |world: &mut World| world.newest().entry.bonus_delta();
    assert_eq!(bonus_of_newest(&mut world), -60);
    // The 50 that are left are worth the 40 bought ones and 10 given ones.
    world.take(&Step::Consume { model: "even", tokens: 50 });
    world.take(&Step::Return { model: "even" });
    assert_eq!(bonus_of_newest(&mut world), 10);
    world.take(&Step::Reverse { consumption: 0, tokens: None });
    world.take(&Step::Return { model: "even" });
    assert_eq!(bonus_of_newest(&mut world), 50);
    world.check();
}

#[test]
fn a_reset_forgets_what_could_come_back() {
    let mut world = World::new();
    world.take(&Step::Allocate { model: "even", credits: 100 });
    world.take(&Step::Consume { model: "even", tokens: 10 });
    world.decide(&super::Reset).expect("a reset");
    let reason = EntryReason::new("wrong").expect("a reason");
    let reverse = Reverse { consumption: world.book.used[0].id, tokens: None, reason };
    assert_eq!(world.decide(&reverse), Err(Refusal::TransactionNotFound));
    let refusal = Refusal::InsufficientTokens { required: tokens(1), available: Tokens::ZERO };
    assert_eq!(world.decide(&ReturnTokens { model: model("even") }), Err(refusal));
}

#[test]
fn what_would_pass_every_amount_is_refused() {
    let mut world = World::new();
    world.take(&Step::Allocate { model: "even", credits: 100 });
    let ann = Account::loaded(
        user_id("ann"),
        bought(Credits::MAX.get()),
        BTreeMap::from([(model("even"), Tokens::MAX)]),
    );
    let lots = world.facts.accounts.of(&user_id("ann")).lots().clone();
    world.facts.accounts = [ann].into_iter().collect();
    world.facts.accounts.of(&user_id("ann")).know_lots(lots);
    let refusal = world.decide(&ReturnTokens { model: model("even") });
    assert_eq!(refusal, Err(Refusal::BalanceOverflow));
    let kept = KeptEntry {
        user: user_id("ann"),
        kind: EntryKind::Consumption,
        model: Some(model("even")),
        amount: 1,
        reversed: 0,
    };
    world.facts.entries.insert(7, kept);
    let reason = EntryReason::new("wrong").expect("a reason");
    let refusal = world.decide(&Reverse { consumption: 7, tokens: None, reason });
    assert_eq!(refusal, Err(Refusal::BalanceOverflow));
}
