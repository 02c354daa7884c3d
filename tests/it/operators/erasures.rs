//! Accounts that are erased: nothing is left of the name, all is left of the money, and whoever comes meanwhile waits.

use reqwest::Method;
use serde_json::{Value, json};

use super::{BACKEND, LOGINS, MODEL, OPERATOR, Service, code, new_key, operator};
use crate::{
    harness::{
        Client, Database, Engine, Home, Launch, Reply, Server,
        client::{consumption, purchase},
        eventually, on_both_engines, on_postgres,
        token::{claims, token},
    },
    verify::{check_clean, check_is_clean},
};

on_both_engines![
    nothing_is_left_of_a_name,
    what_was_paid_for_is_not_taken_unasked,
    a_large_account_is_erased_in_pieces,
    what_comes_meanwhile_is_not_lost,
    nobody_reaches_what_was_erased,
    entries_change_for_an_erasure_alone,
];

on_postgres![an_erasure_goes_on_where_its_database_moves, another_instance_goes_on,];

#[tokio::test]
async fn a_backup_holds_an_erasure_under_way() {
    let mut begun = Begun::new(Engine::Sqlite).await;
    let finished = Launch::new().finish(begun.server.directory(), &["backup", "copy.db"]).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    begun.server.kill();
    let home = Home::new(Engine::Sqlite);
    let copy = begun.server.directory().join("copy.db");
    std::fs::copy(copy, home.database.path()).expect("the copy is there");
    begun.go_on_at(home).await;
}

/// A name that nothing else has in it.
const NAME: &str = "zoë.unmistakable";
const LARGE: i64 = 30_000;
/// Within the year, long before any test.
const LONG_AGO: &str = "2026-01-01T00:00:00.000000Z";
const REPORT: [&str; 6] =
    ["report", "unused-balance", "--at", "2026-01-31", "--timezone", "Asia/Tokyo"];

fn path(act: &str) -> String {
    format!("/users/zo%C3%AB.unmistakable/{act}")
}

async fn erase(service: &Service, body: &Value) -> Reply {
    service.post(&path("erase"), body).await
}

fn erased(reply: &Reply) -> String {
    let body = reply.json();
    assert_eq!((reply.status, &body["success"]), (202, &json!(true)), "{reply:?}");
    let name = body["user_id"].as_str().expect("a name").to_owned();
    assert_eq!(name.strip_prefix("erased:").map(str::len), Some(32), "{name}");
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(2), "{body}");
    name
}

async fn is_under_way(database: &Database) -> bool {
    !database.texts("SELECT user_id FROM erasures").await.is_empty()
}

/// Every row of every table, as text.
async fn dump(database: &Database) -> Vec<String> {
    let tables = match database {
        Database::Sqlite(_) => {
            "SELECT 'SELECT ''' || tables.name || ' '' || ' || group_concat(
                 'coalesce(CAST(\"' || columns.name || '\" AS TEXT), ''-'')', ' || '' '' || ')
                 || ' FROM ' || tables.name
             FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
             WHERE tables.type = 'table' AND tables.name <> '_sqlx_migrations' GROUP BY tables.name"
        }
        Database::Postgres(_) => {
            "SELECT 'SELECT ''' || table_name || ' '' || CAST(found AS TEXT) FROM ' || table_name || ' AS found'
             FROM information_schema.tables
             WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations'"
        }
    };
    let mut rows = Vec::new();
    for sql in database.texts(tables).await {
        rows.append(&mut database.texts(&sql).await);
    }
    assert!(rows.len() > 10, "{rows:?}");
    rows
}

/// The rows that hold a text.
async fn with(database: &Database, text: &str) -> Vec<String> {
    let mut rows = dump(database).await;
    rows.retain(|row| row.contains(text));
    rows
}

async fn nothing_is_left_of_a_name(engine: Engine) {
    let mut service = Service::start(engine);
    let app = service.app(NAME);
    let mut bought = purchase(300, "GPA.1");
    bought["purchase_record"]["buyer"] = json!(NAME);
    app.post_keyed("key-1", "/credits/add", &bought).await.ok();
    let long = "t".repeat(300);
    // A pending purchase, with its token for an id.
    bought["purchase_record"]["purchaseToken"] = json!(long);
    bought["purchase_record"]["transactionId"] = json!(long);
    app.post("/credits/add", &bought).await.ok();
    app.allocate(&[(MODEL, 75)]).await.ok();
    app.post_keyed("key-2", "/tokens/consume", &consumption(MODEL, 5, 6)).await.ok();
    let hold = json!({"model_id": MODEL, "tokens": 400_000});
    let [open, settled] =
        [app.post("/holds", &hold).await.ok(), app.post("/holds", &hold).await.ok()];
    let settle = format!("/holds/{}/settle", settled["hold_id"].as_str().expect("an id"));
    app.post(&settle, &json!({"input_tokens": 7, "output_tokens": 0})).await.ok();
    app.post("/consent", &json!({"apple_consumption": true})).await.ok();
    service.post(&path("grants"), &json!({"credits": 5, "reason": "a gift"})).await.ok();
    service.app("bob").post_keyed("key-1", "/credits/add", &purchase(1, "GPA.2")).await.ok();
    app.get("/usage?from=2026-01-01&to=2026-01-02").await.ok();
    let key = new_key();
    let request = || {
        let body = json!({"reason": "asked by mail", "forfeit": true});
        operator(&service.client, Method::POST, &path("erase"), &body)
            .header("idempotency-key", &key)
    };
    let reply = Reply::to(request()).await;
    let name = erased(&reply);
    assert!(!reply.is_replayed());
    let database = service.server.database();
    database.until_all_erased().await;
    let again = Reply::to(request()).await;
    assert_eq!((erased(&again), again.is_replayed()), (name.clone(), true));
    assert_eq!(with(&database, NAME).await, Vec::<String>::new());
    assert_eq!(with(&database, &long).await, Vec::<String>::new());
    // Who, what and why, by the account's number.
    let lines = service.log(&format!("?user_id={name}")).await;
    let line = &lines[0];
    let told = ["actor", "action", "reason", "user_id"].map(|field| line[field].as_str());
    assert_eq!(told, ["operator", "erase", "asked by mail", &name].map(Some));
    assert_eq!(line["before"]["credits"], 530, "{line}");
    assert_eq!(line["before"]["tokens"][MODEL], 999_982);
    assert_eq!(
        line["after"],
        json!({"credits": 0, "bonus": 0, "tokens": {MODEL: 0}, "erased": true})
    );
    let lines = service.log("?limit=50").await;
    assert_eq!(lines.iter().filter(|line| line["user_id"] == name.as_str()).count(), 2);
    // All entries, and nothing left.
    let seen = service.get(&format!("/users/{name}")).await.ok();
    assert_eq!(seen["wallet"]["credits"], json!({"total": 0, "bonus": 0}));
    assert_eq!(seen["holds"], json!([]));
    assert_eq!(seen["ledger"].as_array().map(Vec::len), Some(8), "{seen}");
    let holds =
        "SELECT status FROM holds WHERE user_id = '{}' ORDER BY hold_id".replace("{}", &name);
    assert_eq!(database.texts(&holds).await, ["released", "settled"], "{open}");
    // A new account of the same name, which begins empty.
    assert_eq!(app.balance().await, json!({"credits": 0, "allocated_tokens": {}}));
    assert_eq!(app.get("/transactions").await.ok(), json!([]));
    assert_eq!(code(&service.get(path("").trim_end_matches('/')).await).0, 404);
    for (body, whose) in [(purchase(300, "GPA.1"), &app), (bought, &service.app("bob"))] {
        // A store transaction is never granted again.
        let reply = whose.post_keyed("key-1a", "/credits/add", &body).await;
        assert_eq!(code(&reply), (409, "purchase_already_processed".to_owned()));
    }
    let new = app.post_keyed("key-1", "/credits/add", &purchase(40, "GPA.3")).await;
    new.is(200, &json!({"success": true, "new_balance": 40}));
    assert_eq!(app.get("/transactions").await.ok().as_array().map(Vec::len), Some(1));
    service.app("bob").post_keyed("key-1", "/credits/add", &purchase(1, "GPA.2")).await.ok();
    let users = service.get("/users").await.ok();
    let users: Vec<_> =
        users["items"].as_array().expect("items").iter().map(|it| &it["user_id"]).collect();
    assert!([NAME, &name].iter().all(|name| users.contains(&&json!(name))), "{users:?}");
    service.server.stop().await;
    check_clean(service.server.home()).await;
}

async fn what_was_paid_for_is_not_taken_unasked(engine: Engine) {
    let service = Service::start(engine);
    let app = service.app(NAME);
    let asked = json!({"reason": "why"});
    assert_eq!(code(&erase(&service, &asked).await), (404, "user_not_found".to_owned()));
    app.add(100, "GPA.1").await.ok();
    app.allocate(&[(MODEL, 75)]).await.ok();
    app.consume(MODEL, 500_000, 0).await.ok();
    app.post("/holds", &json!({"model_id": MODEL, "tokens": 10_000})).await.ok();
    service.post(&path("grants"), &json!({"credits": 9, "reason": "a gift"})).await.ok();
    let database = service.server.database();
    let before = database.digest().await;
    for body in [asked.clone(), json!({"reason": "why", "forfeit": false})] {
        let reply = erase(&service, &body).await;
        assert_eq!(code(&reply), (400, "paid_balance_remains".to_owned()));
        let told = reply.json();
        assert_eq!((&told["credits"], &told["tokens_worth"]), (&json!(25), &json!(37)));
    }
    for body in [json!({}), json!({"forfeit": true}), json!({"reason": "r", "forfeit": "yes"})] {
        assert_eq!(erase(&service, &body).await.status, 422, "{body}");
    }
    assert_eq!(database.digest().await, before, "nothing was done");
    // What was given may go, and tokens that are worth nothing.
    let adjust = async |body| service.post(&path("adjustments"), &body).await.ok();
    adjust(json!({"credits_delta": -25, "reason": "used"})).await;
    adjust(json!({"model_id": MODEL, "tokens_delta": -490_000, "reason": "used"})).await;
    let name = erased(&erase(&service, &asked).await);
    database.until_all_erased().await;
    assert_eq!(with(&database, NAME).await, Vec::<String>::new());
    let zero = format!(
        "SELECT user_id FROM credits WHERE user_id = '{name}' AND credits = 0 AND bonus = 0"
    );
    assert_eq!(database.texts(&zero).await, [name]);
}

/// An account with many entries, of long ago.
async fn fill(database: &Database) {
    let left = 1_000_000 - LARGE;
    let sql = format!(
        "INSERT INTO users (user_id, created_at) VALUES ('{NAME}', '{LONG_AGO}');
         INSERT INTO credits (user_id, credits, updated_at) VALUES ('{NAME}', 25, '{LONG_AGO}');
         INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
         VALUES ('{NAME}', '{MODEL}', {left}, '{LONG_AGO}');
         INSERT INTO transactions (user_id, type, amount, transaction_id, metadata, credits_delta,
             tokens_delta, created_at)
         VALUES ('{NAME}', 'purchase', 100, 'GPA.old', '{{\"by\": \"{NAME}\", \"purchaseToken\": \"t.old\"}}',
             100, 0, '{LONG_AGO}');
         INSERT INTO purchase_names (name, user_id) VALUES ('GPA.old', '{NAME}'), ('t.old', '{NAME}');
         INSERT INTO transactions (user_id, type, amount, model_id, price_per_m_token, credits_delta,
             tokens_delta, created_at)
         VALUES ('{NAME}', 'allocation', 75, '{MODEL}', 75, -75, 1000000, '{LONG_AGO}');
         INSERT INTO transactions (user_id, type, amount, model_id, input_tokens, output_tokens,
             price_per_m_token, credits_delta, tokens_delta, created_at)
         WITH RECURSIVE numbers (n) AS (
             SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {LARGE})
         SELECT '{NAME}', 'consumption', 1, '{MODEL}', 1, 0, 75, 0, -1, '{LONG_AGO}' FROM numbers"
    );
    database.execute(&sql).await;
}

/// Keeps the erasure from its end, however long anybody takes: the last entry does not get its new name until
/// [`let_go`].
async fn hold_back(database: &Database) {
    let last = format!("SELECT CAST(max(id) AS TEXT) FROM transactions WHERE user_id = '{NAME}'");
    let last = database.texts(&last).await.concat();
    let sql = match database {
        Database::Sqlite(_) => format!(
            "CREATE TRIGGER held_back BEFORE UPDATE ON transactions WHEN old.id = {last}
             BEGIN SELECT RAISE(ABORT, 'it is held back'); END"
        ),
        Database::Postgres(_) => format!(
            "ALTER TABLE transactions ADD CONSTRAINT held_back
             CHECK (id <> {last} OR user_id = '{NAME}') NOT VALID"
        ),
    };
    database.execute(&sql).await;
}

/// Lets it come to its end, if a service looks after it. None may stand still in the middle of writing.
async fn let_go(database: &Database) {
    let sql = match database {
        Database::Sqlite(_) => "DROP TRIGGER IF EXISTS held_back",
        Database::Postgres(_) => "ALTER TABLE transactions DROP CONSTRAINT IF EXISTS held_back",
    };
    database.execute(sql).await;
}

/// A large account whose erasure is under way and held back, by a service that stands still.
struct Begun {
    server: Server,
    name: String,
    /// What was not used at the end of a day of long ago.
    report: Vec<String>,
}

impl Begun {
    async fn new(engine: Engine) -> Self {
        Self::of(Server::start_with(engine, &LOGINS)).await
    }

    async fn of(server: Server) -> Self {
        let database = server.database();
        fill(&database).await;
        server.client().of("bob").buy_tokens(MODEL, 75).await;
        // Summed up, as far as they are.
        let usage = "/usage?from=2025-12-31&to=2026-01-02";
        let usage = server.client().of(NAME).get(usage).await.ok();
        assert_eq!(usage["totals"]["total_tokens"], LARGE);
        let summed = format!("SELECT user_id FROM usage_state WHERE user_id = '{NAME}'");
        eventually("it is summed up", async || {
            (!database.texts(&summed).await.is_empty()).then_some(())
        })
        .await;
        hold_back(&database).await;
        let report = Self::report(&server).await;
        let unused = (1_000_000 - LARGE).to_string();
        assert!(report.concat().contains(&unused), "{report:?}");
        let body = json!({"reason": "asked by mail", "forfeit": true});
        let reply =
            Reply::to(operator(&server.client(), Method::POST, &path("erase"), &body)).await;
        server.pause();
        assert!(is_under_way(&database).await);
        Self { server, name: erased(&reply), report }
    }

    async fn report(server: &Server) -> Vec<String> {
        let finished = server.home().launch().finish(server.directory(), &REPORT).await;
        assert_eq!(finished.code, Some(0), "{finished:?}");
        finished.stdout
    }

    /// Looks whether all is as it must be at this moment.
    async fn check(&self) {
        check_clean(self.server.home()).await;
        assert_eq!(Self::report(&self.server).await, self.report);
    }

    /// Waits until nothing is left to do, and finds all as it must be.
    async fn ends(&self) {
        let database = self.server.database();
        database.until_all_erased().await;
        self.check().await;
        assert_eq!(with(&database, NAME).await, Vec::<String>::new());
        let moved = format!(
            "SELECT CAST(count(*) AS TEXT) FROM transactions
             WHERE user_id = '{}' AND type = 'consumption'",
            self.name
        );
        assert_eq!(database.texts(&moved).await, [LARGE.to_string()]);
    }

    /// The same with its database at another place.
    async fn go_on_at(&mut self, home: Home) {
        let finished = home.launch().finish(home.directory.path(), &["verify"]).await;
        check_is_clean(home.database.engine(), &finished);
        assert!(is_under_way(&home.database).await);
        let_go(&home.database).await;
        let launch = LOGINS.iter().fold(Launch::new(), |to, (name, value)| to.set(name, *value));
        let there = Server::start_at(home, launch);
        let mut here = std::mem::replace(&mut self.server, there);
        self.ends().await;
        // Where it came from it goes on as well.
        let_go(&here.database()).await;
        here.start_again();
        here.database().until_all_erased().await;
    }
}

async fn a_large_account_is_erased_in_pieces(engine: Engine) {
    let mut begun = Begun::new(engine).await;
    begun.check().await;
    for _ in 0..2 {
        // Between two pieces, or in one.
        begun.server.kill();
        assert!(is_under_way(&begun.server.database()).await);
        begun.check().await;
        begun.server.start_again();
        // Others are served meanwhile.
        let bob = begun.server.client().of("bob");
        for _ in 0..5 {
            bob.consume(MODEL, 1, 0).await.ok();
        }
        begun.server.pause();
        begun.check().await;
    }
    begun.server.resume();
    let_go(&begun.server.database()).await;
    begun.ends().await;
    let bob = begun.server.client().of("bob");
    assert_eq!(bob.balance().await["allocated_tokens"][MODEL], 1_000_000 - 10);
}

/// Whether a call was put off until the account is erased.
fn has_to_wait(reply: &Reply) -> bool {
    if reply.status == 503 {
        assert_eq!(code(reply).1, "account_erasing", "{reply:?}");
        assert_eq!(reply.header("retry-after"), Some("30"));
    }
    reply.status == 503
}

/// A call until it is carried out.
async fn when_done(call: impl AsyncFn() -> Reply) -> Reply {
    eventually("it is carried out", async || {
        let reply = call().await;
        (!has_to_wait(&reply)).then_some(reply)
    })
    .await
}

async fn what_comes_meanwhile_is_not_lost(engine: Engine) {
    let begun = Begun::new(engine).await;
    begun.server.resume();
    let client = begun.server.client();
    let app = client.of(NAME);
    // Reads show what there will be.
    assert_eq!(app.balance().await, json!({"credits": 0, "allocated_tokens": {}}));
    assert_eq!(app.get("/transactions").await.ok(), json!([]));
    assert_eq!(app.get("/ledger").await.ok()["items"], json!([]));
    let usage = app.get("/usage?from=2025-12-31&to=2026-01-02").await.ok();
    assert_eq!(usage["items"], json!([]));
    for (path, body) in [
        ("/tokens/consume", consumption(MODEL, 1, 0)),
        ("/holds", json!({"model_id": MODEL, "tokens": 1})),
        ("/credits/allocate", json!({"allocations": [{"model_id": MODEL, "credits": 1}]})),
        ("/consent", json!({"apple_consumption": true})),
        ("/reset", json!({})),
        // Bought before, by the old account and nobody since.
        ("/credits/add", purchase(100, "GPA.old")),
    ] {
        let refused = (503, "account_erasing".to_owned());
        assert_eq!(code(&app.post(path, &body).await), refused, "{path}");
    }
    let acts = [
        ("erase", json!({"reason": "again", "forfeit": true})),
        ("grants", json!({"credits": 1, "reason": "why"})),
        ("freeze", json!({"reason": "why"})),
    ];
    for (act, body) in acts {
        let reply = Reply::to(operator(&client, Method::POST, &path(act), &body)).await;
        assert_eq!(code(&reply), (503, "account_erasing".to_owned()), "{act}");
    }
    let buy = async || app.post_keyed("once", "/credits/add", &purchase(60, "GPA.new")).await;
    assert!(has_to_wait(&buy().await));
    let_go(&begun.server.database()).await;
    when_done(buy).await.is(200, &json!({"success": true, "new_balance": 60}));
    assert!(!is_under_way(&begun.server.database()).await);
    app.allocate(&[(MODEL, 60)]).await.ok();
    app.consume(MODEL, 1, 1).await.ok();
    assert_eq!(app.get("/transactions").await.ok().as_array().map(Vec::len), Some(3));
    let reply = app.add(100, "GPA.old").await;
    assert_eq!(code(&reply), (409, "purchase_already_processed".to_owned()));
    begun.check().await;
}

async fn nobody_reaches_what_was_erased(engine: Engine) {
    let service = Service::start(engine);
    // The newest of all keys.
    service.app(NAME).post_keyed("key", "/credits/add", &purchase(5, "GPA.1")).await.ok();
    let name = erased(&erase(&service, &json!({"reason": "why", "forfeit": true})).await);
    let database = service.server.database();
    database.until_all_erased().await;
    assert_eq!(with(&database, NAME).await, Vec::<String>::new());
    let new = service.app(NAME).post_keyed("key", "/credits/add", &purchase(5, "GPA.2")).await;
    assert!(new.status == 200 && !new.is_replayed(), "{new:?}");
    let before = database.digest().await;
    let scoped = |user: &str, scope: &str| {
        let mut claims = claims(user);
        claims["scope"] = scope.into();
        token(&claims)
    };
    let ask = async |method: Method, bearer: &str, named: Option<&str>, path: &str| {
        let path = format!("/api/billing{path}");
        let request = service.client.request(method.clone(), &path).bearer_auth(bearer);
        let request = named.into_iter().fold(request, |it, name| it.header("billing-user", name));
        let body = consumption(MODEL, 0, 0);
        Reply::to(if method == Method::POST { request.json(&body) } else { request }).await
    };
    let paths = [(Method::GET, "/balance"), (Method::POST, "/tokens/consume")];
    for (method, path) in &paths {
        for bearer in [token(&claims(&name)), scoped(&name, "billing:backend")] {
            let reply = ask(method.clone(), &bearer, None, path).await;
            assert_eq!(code(&reply), (403, "forbidden".to_owned()), "{path}");
        }
        for bearer in [BACKEND.to_owned(), scoped(&name, ""), token(&claims("bob"))] {
            let reply = ask(method.clone(), &bearer, Some(&name), path).await;
            assert_eq!(reply.status, 422, "{path} {reply:?}");
            assert_eq!(reply.json()["detail"][0]["loc"], json!(["header", "billing-user"]));
        }
    }
    // Operators look at it, and that is all.
    ask(Method::GET, OPERATOR, Some(&name), "/ledger").await.ok();
    assert_eq!(ask(Method::POST, OPERATOR, Some(&name), "/tokens/consume").await.status, 422);
    service.get(&format!("/users/{name}")).await.ok();
    for (user, act, body) in [
        (name.as_str(), "erase", json!({"reason": "again", "forfeit": true})),
        (&name, "grants", json!({"credits": 1, "reason": "why"})),
        ("erased:0", "grants", json!({"credits": 1, "reason": "why"})),
        ("erased:0", "freeze", json!({"reason": "why"})),
    ] {
        let reply = service.post(&format!("/users/{user}/{act}"), &body).await;
        assert_eq!(code(&reply), (404, "user_not_found".to_owned()), "{user} {act}");
    }
    assert_eq!(database.digest().await, before, "nothing was done");
}

async fn entries_change_for_an_erasure_alone(engine: Engine) {
    let mut begun = Begun::new(engine).await;
    begun.server.kill();
    // What follows is to be refused for what it is.
    let_go(&begun.server.database()).await;
    let name = &begun.name;
    let mut connection = begun.server.database().connect().await;
    let newest = format!("id = (SELECT max(id) FROM transactions WHERE user_id = '{NAME}')");
    for change in [
        format!("UPDATE transactions SET user_id = 'erased:0' WHERE {newest}"),
        format!("UPDATE transactions SET user_id = 'bob' WHERE {newest}"),
        format!("UPDATE transactions SET user_id = '{name}', amount = 2 WHERE {newest}"),
        format!(
            "UPDATE transactions SET user_id = '{name}', created_at = '{LONG_AGO}', price_per_m_token = 76 WHERE {newest}"
        ),
        format!("UPDATE transactions SET user_id = '{name}', reason = 'why' WHERE {newest}"),
        format!("UPDATE transactions SET user_id = '{name}' WHERE user_id = 'bob'"),
        "UPDATE transactions SET user_id = user_id WHERE user_id = 'bob'".to_owned(),
        "UPDATE transactions SET metadata = '{}' WHERE user_id = 'bob'".to_owned(),
    ] {
        connection.execute("BEGIN").await;
        assert!(connection.refusal(&change).await.is_some(), "it can be done: {change}");
        connection.execute("ROLLBACK").await;
    }
    connection.close().await;
    begun.server.start_again();
    begun.ends().await;
}

async fn an_erasure_goes_on_where_its_database_moves() {
    let mut begun = Begun::new(Engine::Sqlite).await;
    begun.server.kill();
    let home = Home::new(Engine::Postgres);
    let to = ["migrate-to", &home.database.url()];
    let finished = Launch::new().finish(begun.server.directory(), &to).await;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    begun.go_on_at(home).await;
}

async fn another_instance_goes_on() {
    let begun = Begun::new(Engine::Postgres).await;
    let_go(&begun.server.database()).await;
    let mut other = begun.server.launch().start(begun.server.directory());
    let app = Client::new(other.address).of(NAME);
    let bought = when_done(async || app.add(60, "GPA.new").await).await;
    bought.is(200, &json!({"success": true, "new_balance": 60}));
    begun.server.resume();
    begun.check().await;
    other.terminate();
    assert_eq!(other.wait().await.code(), Some(0));
}
