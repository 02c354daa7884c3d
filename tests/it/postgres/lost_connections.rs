//! A lane's connection that ends: at each step of a batch, during the commit, after it, and at any
//! moment under load; and those on which nothing comes any more. Whoever was answered with an error finds no
//! trace, but for a commit whose answer was lost; there, as always, the same key tells the truth.

use std::{cell::Cell, mem::take};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{
    Cluster, Database, Engine, Home, Launch, Load, Reply, Server, Sessions, begun,
    client::purchase, eventually, load::Journal, on_postgres, sessions::BLOCKED, settled,
};

on_postgres![
    before_the_commit_it_is_done_again,
    during_the_commit_nobody_is_told_that_it_was_done,
    after_the_commit_the_key_tells_that_it_was_done,
    a_commit_that_takes_too_long_is_settled_by_its_key,
    while_nothing_is_done_nobody_notices,
    a_read_on_which_nothing_comes_holds_up_no_other,
    reads_on_which_nothing_comes_leave_room_for_others,
    a_deadlock_is_done_again,
    at_any_moment_under_load,
];

/// What holds a batch up, in the order of its steps.
const STEPS: [&str; 4] = [
    "SELECT user_id FROM credits FOR UPDATE",
    "LOCK TABLE token_balances IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE",
    "LOCK TABLE transactions IN EXCLUSIVE MODE",
];
/// The first thing a reset writes, and what it is held up by.
const RESET_STEP: &str = "LOCK TABLE transactions IN ROW EXCLUSIVE MODE;
    SELECT id FROM transactions FOR UPDATE";
/// Has every commit of a transaction wait for [`COMMIT_STEP`].
const WAIT_IN_COMMIT: &str = "
    CREATE FUNCTION wait_in_commit() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER wait_in_commit AFTER INSERT ON transactions
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_in_commit()";
const COMMIT_STEP: &str = "SELECT CAST(pg_advisory_xact_lock(1) AS TEXT)";

/// A POST under a key.
struct Call {
    key: String,
    path: &'static str,
    body: Value,
}

impl Call {
    fn purchase(number: i64) -> Self {
        let body = purchase(number, &format!("GPA.{number}"));
        Self { key: format!("purchase-{number}"), path: "/credits/add", body }
    }

    async fn send(&self, server: &Server) -> Reply {
        server.client().post_keyed(&self.key, self.path, &self.body).await
    }

    /// Makes the call while `step` is held up, and has the server end the session that waits there. Returns whether
    /// it did: on a slow machine the call may have waited too long by then.
    async fn interrupted(&self, server: &Server, step: &str) -> (Reply, bool) {
        let mut sessions = Sessions::at(&server.database()).await;
        let mut holder = server.database().connect().await;
        holder.execute(&format!("BEGIN; {step}")).await;
        let over = Cell::new(false);
        let waiting_and_ended = async {
            sessions.reach_unless(|| over.get(), BLOCKED).await;
            let ended = sessions.terminate(BLOCKED).await;
            assert!(ended <= 1, "one lane waits");
            holder.execute("ROLLBACK").await;
            ended == 1
        };
        let (reply, ended) = tokio::join!(self.send_until(server, &over), waiting_and_ended);
        holder.close().await;
        sessions.close().await;
        (reply, ended)
    }

    /// Makes the call, and tells when it is over.
    async fn send_until(&self, server: &Server, over: &Cell<bool>) -> Reply {
        let reply = self.send(server).await;
        over.set(true);
        reply
    }

    /// Repeats the call, which must succeed; checks that it is a repetition if it was `done` before.
    async fn repeat(&self, server: &Server, done: bool) {
        let again = begun(|| self.send(server)).await;
        again.ok();
        assert_eq!(again.is_replayed(), done, "{}: {again:?}", self.key);
    }
}

/// Interrupts calls at `step` until one is carried out all the same. It is the first, but on a machine so
/// slow that it took too long; then it left no trace.
async fn check_done_again(server: &Server, step: &str, mut next: impl FnMut() -> Call) {
    eventually(&format!("a call interrupted at {step} is done again"), async || {
        let before = server.database().digest().await;
        let call = next();
        let (reply, ended) = call.interrupted(server, step).await;
        if reply.status != 200 {
            took_too_long(&reply);
            assert_eq!(server.database().digest().await, before, "{step}: {reply:?}");
        }
        call.repeat(server, reply.status == 200).await;
        (reply.status == 200 && ended).then_some(())
    })
    .await;
}

fn is_unavailable(reply: &Reply) {
    assert_eq!(code_of_refusal(reply), "database_unavailable", "{reply:?}");
}

/// What has to be done again is not begun again when it is late by then.
fn took_too_long(reply: &Reply) {
    let code = code_of_refusal(reply);
    assert!(["database_unavailable", "overloaded"].contains(&code.as_str()), "{reply:?}");
}

fn code_of_refusal(reply: &Reply) -> String {
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    reply.json()["code"].as_str().expect("a code").to_owned()
}

async fn before_the_commit_it_is_done_again() {
    // Of several lanes another may wait, with what its first batch left it to do.
    let settings = [("BILLING_ALLOW_RESET", "true"), ("BILLING_PG_LANES", "1")];
    let server = Server::start_with(Engine::Postgres, &settings);
    let mut number = 0;
    let mut next = || {
        number += 1;
        Call::purchase(number)
    };
    // Before the second one the lane has done that.
    for _ in 0..2 {
        next().repeat(&server, false).await;
    }
    for step in STEPS {
        check_done_again(&server, step, &mut next).await;
    }
    let bought: i64 = (1..=number).sum();
    assert_eq!(server.client().balance().await["credits"], bought);
    let mut resets = 0;
    let next = || {
        resets += 1;
        Call { key: format!("reset-{resets}"), path: "/reset", body: json!({}) }
    };
    check_done_again(&server, RESET_STEP, next).await;
    assert_eq!(server.client().balance().await["credits"], 0);
}

async fn during_the_commit_nobody_is_told_that_it_was_done() {
    let server = Server::start(Engine::Postgres);
    server.database().execute(WAIT_IN_COMMIT).await;
    let mut number = 0;
    for _ in 0..3 {
        eventually("a commit is ended while it waits", async || {
            number += 1;
            let before = server.database().digest().await;
            let call = Call::purchase(number);
            let (reply, ended) = call.interrupted(&server, COMMIT_STEP).await;
            took_too_long(&reply);
            if !ended {
                settled(async || call.send(&server).await).await.ok();
                return None;
            }
            is_unavailable(&reply);
            assert_eq!(server.database().digest().await, before);
            call.repeat(&server, false).await;
            Some(())
        })
        .await;
    }
    let bought: i64 = (1..=number).sum();
    assert_eq!(server.client().balance().await["credits"], bought);
}

async fn after_the_commit_the_key_tells_that_it_was_done() {
    // Whoever commits waits for a standby that never comes, when asked to.
    let options = ["synchronous_standby_names=nobody", "synchronous_commit=local"];
    let cluster = Cluster::start_with(&options);
    let server = Server::start_at(Home::at(&cluster), Launch::new());
    let database = server.database();
    let mut sessions = Sessions::at(&database).await;
    for number in 1..=3 {
        sessions.close().await;
        database.set("synchronous_commit = on").await;
        sessions = Sessions::at(&database).await;
        let call = Call::purchase(number);
        let committed_and_ended = async {
            sessions.reach("wait_event = 'SyncRep'").await;
            // A chore of another lane may wait there as well.
            assert!(sessions.terminate("wait_event = 'SyncRep'").await > 0);
        };
        let (reply, ()) = tokio::join!(call.send(&server), committed_and_ended);
        is_unavailable(&reply);
        sessions.close().await;
        database.set("synchronous_commit = local").await;
        sessions = Sessions::at(&database).await;
        call.repeat(&server, true).await;
    }
    sessions.close().await;
    assert_eq!(server.client().balance().await["credits"], 1 + 2 + 3);
}

async fn a_commit_that_takes_too_long_is_settled_by_its_key() {
    let server = Server::start(Engine::Postgres);
    server.database().execute(WAIT_IN_COMMIT).await;
    let mut sessions = Sessions::at(&server.database()).await;
    let mut holder = server.database().connect().await;
    holder.execute(&format!("BEGIN; {COMMIT_STEP}")).await;
    let before = server.database().digest().await;
    let call = Call::purchase(1);
    let waiting_and_hanging = async {
        sessions.reach(BLOCKED).await;
        let hanging = sessions.hang(BLOCKED).await;
        holder.execute("ROLLBACK").await;
        hanging
    };
    let (reply, hanging) = tokio::join!(call.send(&server), waiting_and_hanging);
    is_unavailable(&reply);
    // It still has the account, so nobody can say.
    assert_eq!(call.send(&server).await.status, 503);
    assert_eq!(server.database().digest().await, before);
    sessions.go_on(hanging).await;
    let done = server.database().digest().await != before;
    call.repeat(&server, done).await;
    assert_eq!(server.client().balance().await["credits"], 1);
    holder.close().await;
    sessions.close().await;
}

async fn while_nothing_is_done_nobody_notices() {
    let server = Server::start(Engine::Postgres);
    let mut sessions = Sessions::at(&server.database()).await;
    for number in 1..=5 {
        server.client().balance().await;
        assert!(sessions.terminate("true").await > 1, "lanes and readers");
        server.client().add(1, &format!("GPA.{number}")).await.ok();
        assert_eq!(server.client().balance().await["credits"], number);
    }
    sessions.close().await;
}

/// The lane waits for us, and we for it. The server ends whoever finds out.
async fn a_read_on_which_nothing_comes_holds_up_no_other() {
    let mut server = Server::start(Engine::Postgres);
    let client = server.client();
    client.add(1, "GPA.1").await.ok();
    let mut sessions = Sessions::at(&server.database()).await;
    let mut holder = server.database().connect().await;
    holder.execute("BEGIN; LOCK TABLE credits IN ACCESS EXCLUSIVE MODE").await;
    let waiting_and_hanging = async {
        sessions.reach(BLOCKED).await;
        let hanging = sessions.hang(BLOCKED).await;
        holder.execute("ROLLBACK").await;
        hanging
    };
    let (reply, hanging) = tokio::join!(client.get("/balance"), waiting_and_hanging);
    is_unavailable(&reply);
    assert_eq!(client.balance().await["credits"], 1);
    server.stop().await;
    assert_eq!(sessions.terminate(BLOCKED).await, 1, "it hung all the while");
    sessions.go_on(hanging).await;
    holder.close().await;
    sessions.close().await;
}

/// As many as the service has connections to read on.
async fn reads_on_which_nothing_comes_leave_room_for_others() {
    let mut server = Server::start(Engine::Postgres);
    let client = server.client();
    client.add(1, "GPA.1").await.ok();
    let mut sessions = Sessions::at(&server.database()).await;
    let mut holder = server.database().connect().await;
    // None has to be connected while the first ones wait already.
    join_all((0..8).map(|_| client.get("/transactions"))).await;
    holder.execute("BEGIN; LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE").await;
    let all_hanging = async {
        let hanging = sessions.hang_all(8, BLOCKED).await;
        holder.execute("ROLLBACK").await;
        hanging
    };
    let reads = join_all((0..8).map(|_| client.get("/transactions")));
    let (replies, all_hanging) = tokio::join!(reads, all_hanging);
    for reply in &replies {
        is_unavailable(reply);
    }
    assert_eq!(client.get("/transactions").await.ok().as_array().map(Vec::len), Some(1));
    server.stop().await;
    for hanging in all_hanging {
        sessions.go_on(hanging).await;
    }
    holder.close().await;
    sessions.close().await;
}

async fn a_deadlock_is_done_again() {
    let server = Server::start(Engine::Postgres);
    let mut sessions = Sessions::at(&server.database()).await;
    let mut number = 0;
    eventually("a deadlock is done again", async || {
        number += 1;
        let before = deadlocks(&server.database()).await;
        let mut holder = server.database().connect_as_owner().await;
        // We don't find out.
        holder.execute("SET deadlock_timeout = '1min'").await;
        holder.execute("BEGIN; LOCK TABLE transactions IN EXCLUSIVE MODE").await;
        let over = Cell::new(false);
        let deadlock = async {
            sessions.reach_unless(|| over.get(), BLOCKED).await;
            holder.execute("SELECT user_id FROM credits FOR UPDATE").await;
            holder.execute("COMMIT").await;
        };
        let call = Call::purchase(number);
        let (reply, ()) = tokio::join!(call.send_until(&server, &over), deadlock);
        holder.close().await;
        if reply.status != 200 {
            took_too_long(&reply);
            settled(async || call.send(&server).await).await.ok();
            return None;
        }
        call.repeat(&server, true).await;
        // The server looks for one only once, which may have been before there was one.
        let found = deadlocks(&server.database()).await - before;
        (found > 0).then_some(())
    })
    .await;
    sessions.close().await;
    let bought: i64 = (1..=number).sum();
    assert_eq!(server.client().balance().await["credits"], bought);
}

/// How many the server has seen in the database.
async fn deadlocks(database: &Database) -> i64 {
    let count = "SELECT CAST(deadlocks AS TEXT) FROM pg_stat_database
        WHERE datname = current_database()";
    database.texts(count).await[0].parse().expect("a number")
}

/// Clients give up when they are refused, and the end of a commit takes all of its batch with it. So others
/// take over until enough was ended.
async fn at_any_moment_under_load() {
    let server = Server::start_with(Engine::Postgres, &Load::SETTINGS);
    Load::prepare(&server.client()).await;
    let mut journal = Journal::default();
    let mut ended = 0;
    eventually("more than ten sessions were ended at work", async || {
        let mut sessions = Sessions::at(&server.database()).await;
        let mut load = Load::go_on(&server.client(), take(&mut journal));
        while load.goes_on(10).await {
            ended += sessions.terminate("state <> 'idle'").await;
        }
        sessions.close().await;
        journal = load.journal().await;
        journal.compare(&server.database()).await;
        journal.settle(&server.client(), &server.database()).await;
        assert_eq!(journal.unsettled(), 0);
        (ended > 10).then_some(())
    })
    .await;
}
