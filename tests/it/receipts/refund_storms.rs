//! Everything at once: many purchases, a third of them refunded, all of it told twice by push and twice by the lists,
//! in any order, while the service is killed again and again. The books come out as a plain reckoning says.

use std::{
    collections::BTreeMap,
    env, iter,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    SMALL, bring,
    counter::{Counter, as_of, listed, now_ms, play_voided, push, refunded_as_of, tell},
    receipt,
};
use crate::{
    harness::{
        Client, Engine, Launch, Reply, Running,
        clock::Clock,
        eventually, on_both_engines, on_postgres,
        stores::{GooglePurchase, Market, Notification, pushes::play_purchase},
    },
    verify::check_clean,
};

on_both_engines![books_are_exact_after_a_storm_of_refunds_and_kills];
on_postgres![books_are_exact_after_a_storm_on_two_instances];

/// How many purchases and kills there are, and the number that the order is made from, unless the environment says
/// otherwise.
const PURCHASES: (&str, usize) = ("STORM_PURCHASES", 150);
const KILLS: (&str, usize) = ("STORM_KILLS", 4);
const SEED: (&str, usize) = ("STORM_SEED", 17);
/// Who does what is to be done at the same time.
const HANDS: usize = 8;
/// Users who never spend anything.
const SAVERS: usize = 12;
const MODEL: &str = "gemini-2.0-flash";
/// What some spend, and the tokens that are bought with it.
const SPENT: i64 = 150;
const BOUGHT: i64 = 2_000_000;
/// Longer than an instance that has died keeps others from its work, in seconds.
const A_WHILE: i64 = 60;
const HOUR_MS: u64 = 3_600_000;

fn set_to((name, usual): (&str, usize)) -> usize {
    env::var(name).map_or(usual, |value| value.parse().expect("a number"))
}

/// What its store gives back of a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    Nothing,
    Whole,
    /// Some of its three pieces.
    Pieces(u32),
    /// A third, in milliunits.
    Third,
    /// All of it, and then it was taken back.
    Reversed,
}

/// How much of it is used when that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spent {
    Nothing,
    HalfOfTokens,
    AllTokens,
}

struct Sale {
    user: String,
    /// What the user brings.
    token: String,
    /// What its store calls it.
    id: String,
    google: Option<GooglePurchase>,
    back: Back,
    spent: Spent,
    /// Whether it is brought before the storm.
    is_early: bool,
}

impl Sale {
    fn pieces(&self) -> u32 {
        if matches!(self.back, Back::Pieces(_) | Back::Third) { 3 } else { 1 }
    }

    fn credits(&self) -> i64 {
        300 * i64::from(self.pieces())
    }

    /// What is refunded of it in the end.
    fn target(&self) -> i64 {
        match self.back {
            Back::Nothing | Back::Reversed => 0,
            Back::Whole => self.credits(),
            Back::Pieces(pieces) => 300 * i64::from(pieces),
            // Of 900.
            Back::Third => 300,
        }
    }

    /// What of that could be taken: all that was not spent, and what is left of the tokens.
    fn taken(&self) -> i64 {
        let spent = match self.spent {
            Spent::Nothing => 0,
            Spent::HalfOfTokens => SPENT / 2,
            Spent::AllTokens => SPENT,
        };
        self.target().min(self.credits() - spent)
    }

    /// What its user has of it in the end.
    fn left(&self) -> i64 {
        let unspent = self.credits() - if self.spent == Spent::Nothing { 0 } else { SPENT };
        (unspent - self.target()).max(0)
    }
}

/// One thing that somebody does.
enum Deed {
    /// A user brings a purchase.
    Bring {
        user: String,
        token: String,
        may_be_refused: bool,
    },
    /// Google pushes a message.
    Push {
        id: String,
        told: Value,
    },
    /// Apple sends what it signed.
    Tell {
        signed: String,
    },
    /// A store's list tells of it.
    Void(Value),
    List(Notification),
}

/// Numbers without any order, but always the same ones.
fn scattered(seed: usize) -> impl FnMut(usize) -> usize {
    let mut state = u64::try_from(seed).expect("a small number") | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).expect("a number")).expect("below one")
    }
}

fn shuffle<T>(items: &mut [T], number_below: &mut impl FnMut(usize) -> usize) {
    for place in (1..items.len()).rev() {
        items.swap(place, number_below(place + 1));
    }
}

fn sales(counter: &Counter, count: usize) -> Vec<Sale> {
    let sale = |number: usize| {
        let is_google = number.is_multiple_of(2);
        let back = match (number.is_multiple_of(3), is_google, number / 6 % 3) {
            (false, ..) => Back::Nothing,
            (_, _, 0) => Back::Whole,
            (_, true, 1) => Back::Pieces(1),
            (_, true, _) => Back::Pieces(2),
            (_, false, 1) => Back::Third,
            (_, false, _) => Back::Reversed,
        };
        let spent = match (back, number / 18 % 3) {
            (Back::Nothing, _) | (_, 0) => Spent::Nothing,
            (Back::Reversed, _) | (_, 1) => Spent::AllTokens,
            _ => Spent::HalfOfTokens,
        };
        let user = match spent {
            Spent::Nothing => format!("saver-{}", number % SAVERS),
            _ => format!("spender-{number}"),
        };
        let is_early = spent != Spent::Nothing || (number / 2).is_multiple_of(2);
        let mut sale = Sale {
            user,
            token: String::new(),
            id: format!("{}", 2_000_000_000_000_000 + number),
            google: None,
            back,
            spent,
            is_early,
        };
        if is_google {
            let sold = counter.sell(&format!("storm-{number}"), SMALL, sale.pieces());
            sold.token().clone_into(&mut sale.token);
            sold.order().clone_into(&mut sale.id);
            sale.google = Some(sold);
        } else {
            sale.token = counter
                .shop
                .stores
                .apple
                .signed(&of_all_pieces(&sale, as_of(&sale.id, SMALL, -600, None)));
        }
        sale
    };
    (0..count).map(sale).collect()
}

/// What Apple says of one, of which there may be several pieces.
fn of_all_pieces(sale: &Sale, mut transaction: Value) -> Value {
    transaction["quantity"] = json!(sale.pieces());
    transaction
}

/// All that is to be done about a sale in the storm, each thing twice.
fn deeds(counter: &Counter, number: usize, sale: &Sale) -> Vec<Deed> {
    let mut deeds = Vec::new();
    for _ in 0..2 {
        let (user, token) = (sale.user.clone(), sale.token.clone());
        let may_be_refused = matches!(sale.back, Back::Whole | Back::Reversed);
        deeds.push(Deed::Bring { user, token, may_be_refused });
    }
    let mut pushed = |what: &str, told: Value| {
        let id = format!("{number}-{what}");
        deeds.extend((0..2).map(|_| Deed::Push { id: id.clone(), told: told.clone() }));
    };
    if let Some(sold) = &sale.google {
        pushed("bought", play_purchase(sold.token(), SMALL));
        let refunds = &counter.shop.stores.google;
        let at = |place: u64| now_ms() - HOUR_MS + place;
        let mut voids = Vec::new();
        match sale.back {
            Back::Whole => {
                refunds.sell(sold.clone().refunded(1));
                pushed("void", play_voided(sold.token(), sold.order(), true));
                voids.push(listed(sold, at(0), None));
            }
            Back::Pieces(pieces) => {
                refunds.sell(sold.clone().refunded(pieces));
                for piece in 0..pieces {
                    let told = play_voided(sold.token(), sold.order(), false);
                    pushed(&format!("void-{piece}"), told);
                    voids.push(listed(sold, at(piece.into()), Some(1)));
                }
            }
            _ => {}
        }
        deeds.extend(voids.iter().chain(&voids).cloned().map(Deed::Void));
        return deeds;
    }
    let bought = |seconds| as_of(&sale.id, SMALL, seconds, None);
    let mut told = vec![("ONE_TIME_CHARGE", bought(-500))];
    match sale.back {
        Back::Whole => told.push(("REFUND", refunded_as_of(&sale.id, SMALL, -400))),
        Back::Third => told.push(("REFUND", as_of(&sale.id, SMALL, -400, Some(33_333)))),
        Back::Reversed => {
            told.push(("REFUND", refunded_as_of(&sale.id, SMALL, -400)));
            told.push(("REFUND_REVERSED", bought(-300)));
        }
        _ => {}
    }
    for (kind, transaction) in told {
        let signed =
            counter.signed(kind, &format!("{number}-{kind}"), &of_all_pieces(sale, transaction));
        deeds.extend((0..2).map(|_| Deed::Tell { signed: signed.clone() }));
        if kind != "ONE_TIME_CHARGE" {
            let (sent_ms, missed) = (now_ms(), number % 4 == 1);
            let sent = Notification { kind, sent_ms, missed, signed };
            deeds.extend((0..2).map(|_| Deed::List(sent.clone())));
        }
    }
    deeds
}

/// The instances, and how much is done.
struct Storm<'a> {
    counter: &'a Counter,
    launch: Launch,
    instances: Mutex<Vec<Running>>,
    clients: Mutex<Vec<Client>>,
    done: AtomicUsize,
}

impl Storm<'_> {
    fn start(&self) -> Running {
        self.launch.start(self.counter.shop.server.directory())
    }

    /// Kills an instance, and starts it again.
    fn kill(&self, number: usize) {
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        let place = number % instances.len();
        instances[place].kill();
        instances[place] = self.start();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients[place] = Client::new(instances[place].address);
    }

    fn client(&self, number: usize) -> Client {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients[number % clients.len()].clone()
    }

    /// Does it until it is done. Whoever hears nothing, or that it may pass, comes again.
    async fn carry_out(&self, number: usize, deed: &Deed) {
        eventually("a deed is done", async || {
            let client = self.client(number);
            let reply = match deed {
                Deed::Bring { user, token, .. } => {
                    let request = client.of(user);
                    let request =
                        request.request(reqwest::Method::POST, "/api/billing/credits/add");
                    Reply::try_to(request.json(&receipt(token))).await
                }
                Deed::Push { id, told } => push(&client, id, told).await,
                Deed::Tell { signed } => tell(&client, signed).await,
                Deed::Void(entry) => {
                    self.counter.shop.stores.google.refunds.void(entry);
                    return Some(());
                }
                Deed::List(sent) => {
                    self.counter.shop.stores.apple.refunds.list(Market::Sandbox, sent.clone());
                    return Some(());
                }
            };
            let reply = reply.ok().filter(|reply| reply.status != 503)?;
            let is_refused =
                matches!(deed, Deed::Bring { may_be_refused: true, .. }) && reply.status == 400;
            assert!(is_refused || matches!(reply.status, 200 | 204), "{reply:?}");
            Some(())
        })
        .await;
        self.done.fetch_add(1, Ordering::SeqCst);
    }

    /// Does everything, and kills meanwhile.
    async fn rage(&self, deeds: &[Deed], kills: usize) {
        let next = AtomicUsize::new(0);
        let hand = async |_| {
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                let Some(deed) = deeds.get(number) else { return };
                self.carry_out(number, deed).await;
            }
        };
        let killing = async {
            for number in 1..=kills {
                let enough = deeds.len() * number / (kills + 1);
                while self.done.load(Ordering::SeqCst) < enough {
                    tokio::task::yield_now().await;
                }
                self.kill(number);
            }
        };
        tokio::join!(join_all((0..HANDS).map(hand)), killing);
    }
}

/// Before the storm some is bought and spent.
async fn before(counter: &Counter, sales: &[Sale]) {
    for sale in sales.iter().filter(|sale| sale.is_early) {
        let user = counter.user(&sale.user);
        bring(&user, &sale.token).await.ok();
        if sale.spent != Spent::Nothing {
            user.allocate(&[(MODEL, SPENT)]).await.ok();
            let used = if sale.spent == Spent::AllTokens { BOUGHT } else { BOUGHT / 2 };
            user.consume(MODEL, used, 0).await.ok();
        }
    }
}

async fn storm(engine: Engine, instances: usize) {
    let (count, kills) = (set_to(PURCHASES), set_to(KILLS));
    let clock = Clock::new();
    let mut counter = Counter::open_with(engine, |launch| clock.given_to(launch));
    counter.shop.stores.google.refunds.a_page_holds(30);
    let sales = sales(&counter, count);
    before(&counter, &sales).await;
    counter.shop.server.kill();
    let mut number_below = scattered(set_to(SEED));
    let mut all: Vec<Deed> =
        sales.iter().enumerate().flat_map(|(number, sale)| deeds(&counter, number, sale)).collect();
    shuffle(&mut all, &mut number_below);
    let storm = Storm {
        counter: &counter,
        launch: counter.shop.server.launch().clone(),
        instances: Mutex::default(),
        clients: Mutex::default(),
        done: AtomicUsize::new(0),
    };
    let running: Vec<_> = iter::repeat_with(|| storm.start()).take(instances).collect();
    *storm.clients.lock().expect("nobody else") =
        running.iter().map(|running| Client::new(running.address)).collect();
    *storm.instances.lock().expect("nobody else") = running;
    storm.rage(&all, kills).await;
    drop(storm);
    counter.shop.server.database().left_by_all().await;
    // Nobody has anything in hand any more, and all lists tell all there is.
    clock.shift(A_WHILE);
    counter.shop.stores.shift(A_WHILE);
    let read = counter.last_list().count();
    counter.shop.server.start_again();
    counter.lists_read(read).await;
    counter.all_done().await;
    let waiting = "SELECT key FROM purchases WHERE user_id IS NOT NULL AND due_at IS NOT NULL
        AND state IN ('received', 'pending')";
    counter.shop.until_none(waiting).await;
    check(&counter, &sales).await;
    eprintln!("{count} purchases, {} deeds, {kills} kills, {instances} instances", all.len());
}

/// Compares with the reckoning.
async fn check(counter: &Counter, sales: &[Sale]) {
    let mut balances: BTreeMap<&str, i64> = BTreeMap::new();
    for sale in sales {
        *balances.entry(&sale.user).or_default() += sale.left();
    }
    for (user, credits) in balances {
        assert_eq!(counter.user(user).balance().await["credits"], credits, "{user}");
    }
    let sql = "SELECT store_id || ' ' || CAST(credits AS TEXT) || ' '
            || CAST(taken_credits AS TEXT) || ' ' || CAST(shortfall_credits AS TEXT)
        FROM purchases WHERE granted_at IS NOT NULL ORDER BY store_id";
    let found = counter.shop.server.database().texts(sql).await;
    let line = |sale: &Sale| {
        let (taken, missing) = (sale.taken(), sale.target() - sale.taken());
        format!("{} {} {taken} {missing}", sale.id, sale.credits())
    };
    // What was refunded whole may have been brought too late.
    let is_certain = |sale: &&Sale| sale.is_early || sale.back != Back::Whole;
    let mut expected: Vec<_> = sales.iter().filter(is_certain).map(line).collect();
    let possible: Vec<_> = sales.iter().map(line).collect();
    expected.sort();
    let certain: Vec<_> =
        found.iter().filter(|line| expected.binary_search(line).is_ok()).cloned().collect();
    let mut sorted = certain;
    sorted.sort();
    assert_eq!(sorted, expected);
    let strange: Vec<_> = found.iter().filter(|line| !possible.contains(line)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    check_clean(counter.shop.server.home()).await;
    let sum = |column: &str| format!("SELECT CAST(sum({column}) AS TEXT) FROM purchases");
    let database = counter.shop.server.database();
    let taken = database.texts(&sum("taken_credits")).await.concat();
    let missing = database.texts(&sum("shortfall_credits")).await.concat();
    eprintln!("granted {}, taken {taken}, missing {missing} credits", found.len());
}

async fn books_are_exact_after_a_storm_of_refunds_and_kills(engine: Engine) {
    storm(engine, 1).await;
}

async fn books_are_exact_after_a_storm_on_two_instances() {
    storm(Engine::Postgres, 2).await;
}
