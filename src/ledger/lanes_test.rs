//! What the ledger relies on in a lane, whatever it writes to: one suite, run on SQLite, on PostgreSQL and on the fake
//! that the ledger's other tests use, which are worth no more than the fake is like the real ones.

use std::sync::{Arc, Mutex};

use chrono::DateTime;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use super::fault_test::{Disk, FakeLane, model, user};
use crate::{
    database::{Database, DatabaseError, EngineSettings, HopedNew, Lane, Pooler, Transaction},
    domain::{
        Account, Allocate, Allocation, Applied, CapacityLimits, Credits, Facts, Operation,
        Purchase, PurchaseRecord, Refusal, Reset, StoreTransactionId, Tokens, UserId, Wanted,
    },
};

#[path = "../../tests/cluster/mod.rs"]
mod cluster;

/// A database that lanes lead to, one after the other.
trait Books {
    /// Another lane; the one before is closed.
    async fn lane(&self) -> impl Lane;
}

struct Fake(Arc<Mutex<Disk>>);

impl Books for Fake {
    async fn lane(&self) -> impl Lane {
        FakeLane { disk: Arc::clone(&self.0), gate: None }
    }
}

struct Real {
    database: Database,
    _directory: TempDir,
}

impl Real {
    fn at(url: &str, directory: TempDir) -> Self {
        let settings =
            EngineSettings { max_bytes: None, postgres_lanes: 1, postgres_pooler: Pooler::None };
        let database = Database::from_url(url, settings).expect("a database's URL");
        Self { database, _directory: directory }
    }
}

impl Books for Real {
    async fn lane(&self) -> impl Lane {
        let mut opened = self.database.open().await.expect("it can be opened");
        opened.lanes.pop().expect("there is one")
    }
}

fn sqlite() -> Real {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let url = format!("sqlite://{}", directory.path().join("billing.db").display());
    Real::at(&url, directory)
}

async fn postgres() -> Real {
    let (server, name) = (cluster::Cluster::shared(), cluster::new_name());
    let folder = server.directory.display();
    let url = |user, name| format!("postgres://{user}@localhost/{name}?host={folder}");
    let owner = PgConnection::connect(&url(cluster::OWNER, cluster::OWNER));
    let mut owner = owner.await.expect("the server runs");
    let create = format!("CREATE DATABASE {name} OWNER {}", cluster::USER);
    sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut owner).await.expect("it can be made");
    owner.close().await.expect("it is there");
    Real::at(&url(cluster::USER, &name), TempDir::new().expect("a temporary directory"))
}

/// Makes a test on each of every `async fn name(books: &impl Books)` listed.
macro_rules! on_every_lane {
    ($($test:ident),+ $(,)?) => {
        $(mod $test {
            use super::*;

            #[tokio::test]
            async fn fake() {
                Box::pin(super::$test(&Fake(Arc::default()))).await;
            }

            #[tokio::test]
            async fn sqlite() {
                Box::pin(super::$test(&super::sqlite())).await;
            }

            #[tokio::test]
            async fn postgres() {
                if cluster::is_here() {
                    Box::pin(super::$test(&super::postgres().await)).await;
                }
            }
        })+
    };
}

on_every_lane![
    of_a_new_user_there_is_nothing,
    what_is_saved_is_found_by_the_next_transaction_and_the_next_lane,
    what_is_dropped_leaves_nothing,
    a_purchase_is_known_by_whoever_was_granted_it,
    a_batch_is_saved_whole,
    what_is_forgotten_is_gone,
];

fn purchase(id: &str, credits: i64) -> Purchase {
    Purchase {
        credits: Credits::new(credits).expect("an amount"),
        store_transaction_id: Some(StoreTransactionId::new(id).expect("an id")),
        token: None,
        record: PurchaseRecord::new("{}".to_owned()),
    }
}

fn allocation(credits: i64) -> Allocate {
    let credits = Credits::new(credits).expect("an amount");
    Allocate { items: vec![Allocation { model: model(), credits }] }
}

/// Facts and their transaction, for operations of these users.
async fn begun<'lane, L: Lane>(
    lane: &'lane mut L,
    users: &[&UserId],
    operations: &[&dyn Asks],
) -> (Facts, L::Transaction<'lane>) {
    let now = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
    let users = users.iter().map(|user| (*user).clone()).collect();
    let mut wanted = Wanted { users, holds_at: Some(now), ..Wanted::default() };
    for operation in operations {
        operation.ask(&mut wanted);
    }
    let (facts, transaction) = lane.begin(&wanted.each_once()).await.expect("it can be read");
    let limits = CapacityLimits { quick: Tokens::MAX, think: Tokens::MAX };
    (Facts { limits, now, ..facts }, transaction)
}

/// What an operation of any outcome must know.
trait Asks {
    fn ask(&self, wanted: &mut Wanted);
}

impl<O: Operation> Asks for O {
    fn ask(&self, wanted: &mut Wanted) {
        wanted.entries += self.entries();
        self.asks(wanted);
    }
}

/// Decides an operation alone and saves what it came to; the account as it must be found from then on.
async fn done<L: Lane, O: Operation>(
    lane: &mut L,
    user: &UserId,
    operation: &O,
) -> (Result<Applied<O::Outcome>, Refusal>, Balances) {
    // What was only remembered may have to be read first.
    for _ in 0..3 {
        let (mut facts, transaction) = begun(lane, &[user], &[operation]).await;
        let decided = operation.decide(user, &mut facts);
        let balances = balances(&mut facts, user);
        let is_new = decided.as_ref().is_ok_and(|applied| !applied.replayed);
        let hoped = if is_new { HopedNew::AllSaved } else { HopedNew::SomeRefused };
        match transaction.save(facts, hoped).await {
            Ok(()) => return (decided, balances),
            Err(DatabaseError::Retry(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it is never written");
}

/// Credits, and tokens of the model.
type Balances = (i64, i64);

fn balances(facts: &mut Facts, user: &UserId) -> Balances {
    let account: &Account = facts.accounts.of(user);
    (account.credits().get(), account.tokens().get(&model()).map_or(0, |tokens| tokens.get()))
}

async fn found<L: Lane>(lane: &mut L, user: &UserId) -> Balances {
    let (mut facts, _) = begun(lane, &[user], &[]).await;
    balances(&mut facts, user)
}

async fn of_a_new_user_there_is_nothing(books: &impl Books) {
    let mut lane = books.lane().await;
    assert_eq!(found(&mut lane, &user("ann")).await, (0, 0));
    lane.close().await;
}

async fn what_is_saved_is_found_by_the_next_transaction_and_the_next_lane(books: &impl Books) {
    let (ann, bob) = (user("ann"), user("bob"));
    let mut lane = books.lane().await;
    assert_eq!(done(&mut lane, &ann, &purchase("1", 300)).await.1, (300, 0));
    assert_eq!(done(&mut lane, &bob, &purchase("2", 7)).await.1, (7, 0));
    assert_eq!(found(&mut lane, &ann).await, (300, 0));
    let (decided, allocated) = done(&mut lane, &ann, &allocation(75)).await;
    assert!(decided.is_ok(), "{decided:?}");
    assert_eq!(allocated.0, 225);
    assert!(allocated.1 > 0, "{allocated:?}");
    for _ in 0..2 {
        assert_eq!(found(&mut lane, &ann).await, allocated);
        assert_eq!(found(&mut lane, &bob).await, (7, 0));
        lane.close().await;
        lane = books.lane().await;
    }
    lane.close().await;
}

async fn what_is_dropped_leaves_nothing(books: &impl Books) {
    let ann = user("ann");
    let mut lane = books.lane().await;
    done(&mut lane, &ann, &purchase("1", 300)).await.0.expect("it is new");
    for id in ["2", "3"] {
        let purchase = purchase(id, 50);
        let (mut facts, transaction) = begun(&mut lane, &[&ann], &[&purchase]).await;
        purchase.decide(&ann, &mut facts).expect("it is new");
        assert_eq!(balances(&mut facts, &ann), (350, 0));
        drop((facts, transaction));
        assert_eq!(found(&mut lane, &ann).await, (300, 0));
    }
    let (decided, after) = done(&mut lane, &ann, &purchase("2", 50)).await;
    assert!(!decided.expect("nobody was granted it").replayed);
    assert_eq!(after, (350, 0));
    lane.close().await;
}

async fn a_purchase_is_known_by_whoever_was_granted_it(books: &impl Books) {
    let (ann, bob) = (user("ann"), user("bob"));
    let mut lane = books.lane().await;
    assert!(!done(&mut lane, &ann, &purchase("1", 300)).await.0.expect("it is new").replayed);
    for _ in 0..2 {
        let (decided, after) = done(&mut lane, &ann, &purchase("1", 300)).await;
        assert!(decided.expect("it is her own").replayed);
        assert_eq!(after, (300, 0));
        let (decided, after) = done(&mut lane, &bob, &purchase("1", 300)).await;
        assert_eq!(decided.expect_err("it is hers").code(), "purchase_already_processed");
        assert_eq!(after, (0, 0));
        lane.close().await;
        lane = books.lane().await;
    }
    lane.close().await;
}

async fn a_batch_is_saved_whole(books: &impl Books) {
    let users = ["ann", "bob", "cid"].map(user);
    let purchases = ["1", "2", "3"].map(|id| purchase(id, 10));
    let allocation = allocation(4);
    let mut lane = books.lane().await;
    let mut operations: Vec<&dyn Asks> = vec![&allocation];
    for purchase in &purchases {
        operations.push(purchase);
    }
    let all: Vec<&UserId> = users.iter().collect();
    let mut expected = Vec::new();
    for is_saved in [false, true] {
        let (mut facts, transaction) = begun(&mut lane, &all, &operations).await;
        for (user, purchase) in users.iter().zip(&purchases) {
            assert!(!purchase.decide(user, &mut facts).expect("it is new").replayed);
        }
        allocation.decide(&users[1], &mut facts).expect("there are credits");
        expected = users.iter().map(|user| balances(&mut facts, user)).collect();
        if is_saved {
            transaction.save(facts, HopedNew::AllSaved).await.expect("it can be written");
        }
    }
    for (user, expected) in users.iter().zip(&expected) {
        assert_eq!(found(&mut lane, user).await, *expected, "{user:?}");
    }
    lane.close().await;
}

async fn what_is_forgotten_is_gone(books: &impl Books) {
    let (ann, bob) = (user("ann"), user("bob"));
    let mut lane = books.lane().await;
    for (user, id) in [(&ann, "1"), (&bob, "2")] {
        done(&mut lane, user, &purchase(id, 300)).await.0.expect("it is new");
        done(&mut lane, user, &allocation(75)).await.0.expect("there are credits");
    }
    let before = found(&mut lane, &bob).await;
    assert_eq!(done(&mut lane, &ann, &Reset).await.1, (0, 0));
    lane.close().await;
    let mut lane = books.lane().await;
    assert_eq!(found(&mut lane, &ann).await, (0, 0));
    assert_eq!(found(&mut lane, &bob).await, before);
    let (decided, after) = done(&mut lane, &ann, &purchase("1", 300)).await;
    assert!(!decided.expect("nobody knows it any more").replayed);
    assert_eq!(after, (300, 0));
    lane.close().await;
}
