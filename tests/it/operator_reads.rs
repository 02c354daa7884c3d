//! What an operator sees: the whole, users, what was not used, and the state of the books.

use chrono::{Days, NaiveDate, TimeDelta};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{
    Client, Engine, Launch, Reply, Server, clock::Clock, eventually, on_both_engines, on_postgres,
    token::SECRET,
};
use crate::verify::{check_clean, verify};

on_both_engines![
    the_whole_is_the_sum_of_all,
    days_and_who_was_active_are_those_of_the_time_zone,
    wrong_sums_of_the_whole_are_found,
    users_are_found_by_name_beginning_and_purchase,
    all_of_a_user_is_told,
    the_newest_lines_of_all_are_told,
    unused_balances_are_those_of_a_second_reading,
    a_day_that_is_not_over_has_no_report,
    the_books_are_looked_through_when_asked,
    for_all_others_nothing_is_there,
];

on_postgres![two_instances_sum_up_the_same_whole];

const FLASH: &str = "gemini-2.0-flash";
const PRO: &str = "gemini-2.5-pro";
const OPERATOR: &str = "operator-token-0123456789-abcdefg";
const BACKEND: &str = "backend-token-0123456789-abcdefgh";

/// In UTC.
#[expect(clippy::disallowed_methods, reason = "the service's time is the real clock's")]
fn today() -> NaiveDate {
    chrono::Utc::now().date_naive()
}

fn logins() -> Launch {
    [
        ("BILLING_AUTH", "jwt"),
        ("BILLING_JWT_SECRET", SECRET),
        ("BILLING_OPERATOR_TOKEN", OPERATOR),
        ("BILLING_BACKEND_TOKEN", BACKEND),
        ("BILLING_ALLOW_RESET", "true"),
    ]
    .into_iter()
    .fold(Launch::new(), |launch, (name, value)| launch.set(name, value))
}

fn start(engine: Engine) -> Server {
    Server::start_as(engine, logins())
}

async fn seen(client: &Client, path: &str) -> Reply {
    let path = format!("/api/billing/operator{path}");
    Reply::to(client.request(Method::GET, &path).bearer_auth(OPERATOR)).await
}

async fn backend(client: &Client, user: &str, path: &str, body: &Value) -> Value {
    let request = client.request(Method::POST, &format!("/api/billing{path}"));
    let request = request.bearer_auth(BACKEND).header("billing-user", user).json(body);
    Reply::to(request).await.ok()
}

/// A million tokens of a user's own.
async fn buy_tokens(client: &Client, user: &str) {
    client.of(user).add(75, &format!("GPA.{user}")).await.ok();
    client.of(user).allocate(&[(FLASH, 75)]).await.ok();
}

/// The whole, once nothing is left to be summed up.
async fn whole(server: &Server, query: &str) -> Value {
    eventually("all entries are in the sums", async || {
        let sql =
            "SELECT CAST((SELECT coalesce(max(id), 0) FROM transactions) - summed_until AS text)
            FROM summary_state";
        let told = seen(&server.client(), &format!("/summary{query}")).await.ok();
        (server.database().texts(sql).await[0] == "0").then_some(())?;
        drop(told);
        Some(seen(&server.client(), &format!("/summary{query}")).await.ok())
    })
    .await
}

async fn the_whole_is_the_sum_of_all(engine: Engine) {
    let mut server = start(engine);
    let client = server.client();
    let [ann, bob, eve] = ["ann", "bob", "eve"].map(|user| client.of(user));
    ann.add(300, "GPA.1").await.ok();
    bob.add(500, "GPA.2").await.ok();
    eve.add(50, "GPA.3").await.ok();
    ann.allocate(&[(FLASH, 75), (PRO, 150)]).await.ok();
    bob.allocate(&[(FLASH, 150)]).await.ok();
    ann.consume(FLASH, 1_000, 500).await.ok();
    ann.consume(PRO, 300, 0).await.ok();
    bob.consume(FLASH, 7_000, 0).await.ok();
    let id = bob.get("/transactions?limit=1").await.ok()[0]["id"].clone();
    let body = json!({"transaction_id": id, "tokens": 400, "reason": "it broke off"});
    backend(&client, "bob", "/tokens/reverse", &body).await;
    let returned = ann.post("/credits/return", &json!({"model_id": PRO})).await.ok();
    let returned = returned["returned_credits"].as_i64().expect("a number");
    let told = whole(&server, "?days=2").await;
    let sums = json!({"sold": 850, "given": 0, "allocated": 375 - returned, "refunded": 0, "shortfall": 0});
    assert_eq!(
        (&told["credits"], &told["tokens"]),
        (&sums, &json!({"consumed": 8_800, "shortfall": 0}))
    );
    // With the one who is there from the start.
    let users = async || {
        let told = seen(&client, "/summary").await.ok();
        (told["users"] == 4).then_some(())
    };
    eventually("all users are counted", users).await;
    let days = told["days"].as_array().expect("a list");
    assert_eq!(days.len(), 2);
    let of_days =
        |name: &str| days.iter().map(|day| day[name].as_i64().expect("a number")).sum::<i64>();
    assert_eq!((of_days("credits_sold"), of_days("active_users")), (850, 2), "{told}");
    assert_eq!(days[1]["tokens"], json!({FLASH: 8_500, PRO: 300}), "unless it is midnight: {told}");
    assert_eq!((&told["version"], &told["verify"]["state"]), (&json!("0.1.0"), &json!("never")));
    assert_eq!(told["purchases"]["granted"], 0);
    assert!(told["database"]["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{told}");
    check_clean(server.home()).await;
    // What is forgotten is taken out, also after a restart, and what comes then is added.
    server.stop().await;
    server.start_again();
    let client = server.client();
    client.of("ann").post("/reset", &json!({})).await.ok();
    client.of("ann").add(9, "GPA.9").await.ok();
    client.of("bob").consume(FLASH, 1, 1).await.ok();
    let told = whole(&server, "?days=2").await;
    let sums = json!({"sold": 559, "given": 0, "allocated": 150, "refunded": 0, "shortfall": 0});
    assert_eq!((&told["credits"], &told["tokens"]["consumed"]), (&sums, &json!(7_002)));
    let days = told["days"].as_array().expect("a list");
    assert_eq!(
        days.iter().map(|day| day["active_users"].as_i64().expect("a number")).sum::<i64>(),
        1
    );
    check_clean(server.home()).await;
    // The last one is forgotten, so that the next entries begin below those that were summed up.
    client.of("bob").post("/reset", &json!({})).await.ok();
    server.stop().await;
    server.start_again();
    server.client().of("bob").add(11, "GPA.11").await.ok();
    assert_eq!(whole(&server, "").await["credits"]["sold"], 50 + 9 + 11);
    check_clean(server.home()).await;
}

/// Entries of a user in the past, in any order.
async fn write(server: &Server, entries: &[(&str, &str)]) {
    for (user, at) in entries {
        let sql = format!(
            "INSERT INTO transactions (user_id, type, amount, model_id, input_tokens, output_tokens,
                 price_per_m_token, credits_delta, tokens_delta, created_at)
             VALUES ('{user}', 'consumption', 10, '{FLASH}', 4, 6, 75, 0, -10, '{at}');
             UPDATE token_balances SET allocated_tokens = allocated_tokens - 10
             WHERE user_id = '{user}' AND model_id = '{FLASH}'"
        );
        server.database().execute(&sql).await;
    }
}

fn active(told: &Value, day: &str) -> i64 {
    let days = told["days"].as_array().expect("a list");
    let found =
        days.iter().find(|it| it["day"] == day).unwrap_or_else(|| panic!("no {day}: {told}"));
    found["active_users"].as_i64().expect("a number")
}

async fn days_and_who_was_active_are_those_of_the_time_zone(engine: Engine) {
    let server = start(engine);
    let client = server.client();
    let date = today();
    let day = |ago: u64| date.checked_sub_days(Days::new(ago)).expect("a day").to_string();
    for user in ["ann", "bob"] {
        buy_tokens(&client, user).await;
    }
    let at = |ago, time: &str| format!("{}T{time}.000000Z", day(ago));
    let times = [at(10, "14:59:59"), at(10, "15:00:00"), at(9, "03:00:00"), at(10, "18:14:00")];
    write(&server, &[("ann", &times[1]), ("ann", &times[2]), ("bob", &times[3])]).await;
    whole(&server, "").await;
    // By a clock that was behind.
    write(&server, &[("ann", &times[0]), ("bob", &times[0])]).await;
    let utc = whole(&server, "").await;
    assert_eq!((active(&utc, &day(10)), active(&utc, &day(9)), active(&utc, &day(8))), (2, 1, 0));
    let tokyo = whole(&server, "?timezone=Asia/Tokyo").await;
    assert_eq!((active(&tokyo, &day(10)), active(&tokyo, &day(9))), (2, 2));
    let kathmandu = whole(&server, "?timezone=Asia/Kathmandu&days=40").await;
    assert_eq!((active(&kathmandu, &day(10)), active(&kathmandu, &day(9))), (2, 1));
    assert_eq!(kathmandu["days"].as_array().expect("a list").len(), 40);
    let newest = utc["days"].as_array().expect("a list").last().expect("today")["day"].clone();
    assert!([json!(date.to_string()), json!(today().to_string())].contains(&newest));
    check_clean(server.home()).await;
    for (query, place) in [("days=0", "days"), ("days=401", "days"), ("timezone=Mars", "timezone")]
    {
        let reply = seen(&client, &format!("/summary?{query}")).await;
        assert_eq!(
            (reply.status, &reply.json()["detail"][0]["loc"]),
            (422, &json!(["query", place]))
        );
    }
}

async fn wrong_sums_of_the_whole_are_found(engine: Engine) {
    let server = start(engine);
    let ann = server.client().of("ann");
    ann.buy_tokens(FLASH, 75).await;
    ann.consume(FLASH, 1, 1).await.ok();
    whole(&server, "").await;
    for (wrong, right, told) in [
        (
            "UPDATE summary_state SET credits_sold = credits_sold + 1",
            "UPDATE summary_state SET credits_sold = credits_sold - 1",
            "difference: expected all credits sold of 75, found 76",
        ),
        (
            "UPDATE summary_tokens SET tokens = tokens + 1",
            "UPDATE summary_tokens SET tokens = tokens - 1",
            " of 2, found 3",
        ),
        (
            "UPDATE summary_quarters SET credits_sold = credits_sold + 1",
            "UPDATE summary_quarters SET credits_sold = credits_sold - 1",
            " of 75 credits sold, users come [1], found 76 credits sold, users come [1]",
        ),
        (
            "UPDATE summary_quarters SET arrivals = '[2]' WHERE arrivals = '[1]'",
            "UPDATE summary_quarters SET arrivals = '[1]' WHERE arrivals = '[2]'",
            "found 75 credits sold, users come [2]",
        ),
        (
            "UPDATE summary_active SET user_number = user_number + 9",
            "UPDATE summary_active SET user_number = user_number - 9",
            "expected active days of user number ",
        ),
    ] {
        server.database().execute(wrong).await;
        let verified = verify(server.home()).await;
        assert_eq!(verified.code, Some(1), "{wrong}: {verified:?}");
        assert!(
            format!("{verified:?}").contains("sums of the whole are those of all entries: "),
            "{verified:?}"
        );
        assert!(verified.stdout.iter().any(|line| line.contains(told)), "{told}: {verified:?}");
        server.database().execute(right).await;
        check_clean(server.home()).await;
    }
}

fn names(users: &Value) -> Vec<&str> {
    let items = users["items"].as_array().expect("a list");
    items.iter().map(|item| item["user_id"].as_str().expect("a name")).collect()
}

async fn users_are_found_by_name_beginning_and_purchase(engine: Engine) {
    let server = start(engine);
    let client = server.client();
    for (place, user) in ["ann", "anna", "annabel", "bob", "50%_off"].iter().enumerate() {
        client.of(user).add(10, &format!("GPA.{place}")).await.ok();
    }
    let long = "x".repeat(100);
    client.of("eve").add(7, &long).await.ok();
    for (query, found) in [
        ("query=ann", vec!["ann", "annabel", "anna"]),
        ("query=anna", vec!["anna", "annabel"]),
        ("query=GPA.3", vec!["bob"]),
        (&format!("query={long}"), vec!["eve"]),
        ("query=50%25_o", vec!["50%_off"]),
        ("query=nobody", vec![]),
        ("", vec!["eve", "50%_off", "bob", "annabel", "anna", "ann", "default_user"]),
    ] {
        let users = seen(&client, &format!("/users?{query}")).await.ok();
        assert_eq!(names(&users), found, "{query}");
    }
    let users = seen(&client, "/users?query=GPA.3").await.ok();
    assert_eq!(
        (&users["items"][0]["credits"], &users["items"][0]["frozen"]),
        (&json!(10), &json!(false))
    );
    // Page by page each once.
    for (query, all) in [("query=ann&", 3), ("", 7)] {
        let (mut path, mut found) = (format!("/users?{query}limit=2"), Vec::new());
        loop {
            let page = seen(&client, &path).await;
            found.extend(names(&page.ok()).into_iter().map(str::to_owned));
            let Some(link) = page.header("link") else { break };
            let next = link.strip_prefix("</api/billing/operator").expect("a path");
            next.split('>').next().expect("an end").clone_into(&mut path);
        }
        let each = found.iter().collect::<std::collections::BTreeSet<_>>();
        assert_eq!((found.len(), each.len()), (all, all), "{found:?}");
    }
    for query in ["query=", "query=%00", "limit=0", "limit=201", "before=0"] {
        assert_eq!(seen(&client, &format!("/users?{query}")).await.status, 422, "{query}");
    }
}

async fn all_of_a_user_is_told(engine: Engine) {
    let server = start(engine);
    let client = server.client();
    let ann = client.of("ann b/c");
    ann.add(300, "GPA.1").await.ok();
    ann.allocate(&[(FLASH, 75)]).await.ok();
    ann.consume(FLASH, 100, 50).await.ok();
    let hold = ann.post("/holds", &json!({"model_id": FLASH, "tokens": 500})).await.ok();
    let told = seen(&client, "/users/ann%20b%2Fc").await.ok();
    assert_eq!((&told["user_id"], &told["frozen"]), (&json!("ann b/c"), &json!(false)));
    assert_eq!(told["wallet"], ann.get("/wallet").await.ok());
    assert_eq!(told["ledger"], ann.get("/ledger?limit=20").await.ok()["items"]);
    assert_eq!(told["holds"], json!([hold]));
    assert_eq!(told["purchases"], json!([]), "no store confirms them");
    assert_eq!(told["usage"][0]["total_tokens"], 150);
    assert_eq!(told["usage"].as_array().map(Vec::len), Some(1));
    for nobody in ["ann", "%00", &"x".repeat(200), "default_user2"] {
        let reply = seen(&client, &format!("/users/{nobody}")).await;
        assert_eq!(
            (reply.status, &reply.json()["code"]),
            (404, &json!("user_not_found")),
            "{nobody}"
        );
    }
}

async fn the_newest_lines_of_all_are_told(engine: Engine) {
    let server = start(engine);
    let client = server.client();
    assert_eq!(seen(&client, "/ledger").await.ok(), json!({"items": []}));
    for user in ["ann", "bob \"b\" 🐈"] {
        buy_tokens(&client, user).await;
        client.of(user).consume(FLASH, 100, 50).await.ok();
    }
    let mut expected = Vec::new();
    for user in ["bob \"b\" 🐈", "ann"] {
        let own = client.of(user).get("/ledger").await.ok();
        for line in own["items"].as_array().expect("items") {
            let mut line = line.clone();
            line["user_id"] = json!(user);
            expected.push(line);
        }
    }
    assert_eq!(seen(&client, "/ledger").await.ok()["items"], json!(expected));
    let page = seen(&client, "/ledger?limit=4").await;
    assert_eq!(page.ok()["items"], json!(expected[..4]));
    let link = format!(
        "</api/billing/operator/ledger?limit=4&before={}>; rel=\"next\"",
        expected[3]["id"]
    );
    assert_eq!(page.header("link"), Some(&*link));
    let rest = seen(&client, &format!("/ledger?limit=2&before={}", expected[3]["id"])).await;
    assert_eq!((&rest.ok()["items"], rest.header("link")), (&json!(expected[4..]), None));
    for query in ["limit=0", "limit=1001", "before=x"] {
        assert_eq!(seen(&client, &format!("/ledger?{query}")).await.status, 422, "{query}");
    }
}

/// An allocation as the second reading knows it.
struct Bought {
    id: i64,
    model: String,
    credits: i64,
    given: i64,
    tokens: i64,
    back: i64,
}

impl Bought {
    /// All that is back, and how much of it had been given.
    fn worth(&self) -> (i64, i64) {
        let all = self.credits * self.back / self.tokens;
        (all, (all - (self.credits - self.given)).max(0))
    }
}

/// A model, its tokens, what they are worth, and how much of that had been given.
type Unused = (String, i64, i64, i64);

/// What of an account was not used: credits and given ones, and of each model tokens and what they are worth, one
/// token after the other.
fn unused(ledger: &[Value]) -> (i64, i64, Vec<Unused>) {
    let number = |item: &Value, name: &str| item[name].as_i64().expect("a number");
    let (mut credits, mut given) = (0, 0);
    let mut balances = std::collections::BTreeMap::<String, i64>::new();
    let mut bought: Vec<Bought> = Vec::new();
    for item in ledger.iter().rev() {
        credits += number(item, "credits_delta");
        given += number(item, "bonus_delta");
        let Some(model) = item["model_id"].as_str() else { continue };
        *balances.entry(model.to_owned()).or_default() += number(item, "tokens_delta");
        if item["type"] == "allocation" {
            bought.push(Bought {
                id: number(item, "id"),
                model: model.to_owned(),
                credits: number(item, "amount"),
                given: -number(item, "bonus_delta"),
                tokens: number(item, "tokens_delta"),
                back: 0,
            });
        }
        if let Some(id) = item["allocation_id"].as_i64() {
            let lot = bought.iter_mut().find(|lot| lot.id == id).expect("it was bought");
            lot.back -= number(item, "tokens_delta");
        }
    }
    let all = |bought: &[Bought], model: &str| {
        let of_model = bought.iter().filter(|lot| lot.model == model).map(Bought::worth);
        of_model.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    let mut models = Vec::new();
    for (model, balance) in balances {
        let before = all(&bought, &model);
        let mut tokens = 0;
        while tokens < balance {
            let newest =
                bought.iter_mut().rev().find(|lot| lot.model == model && lot.back < lot.tokens);
            let Some(newest) = newest else { break };
            newest.back += 1;
            tokens += 1;
        }
        let after = all(&bought, &model);
        if tokens > 0 {
            models.push((model, tokens, after.0 - before.0, after.1 - before.1));
        }
    }
    (credits, given, models)
}

/// A history that a seed makes: purchases, gifts, allocations, consumptions, reversals, returns.
async fn live(server: &Server, users: &[&str], steps: u64, seed: u64) {
    let client = server.client();
    let mut state = seed;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from((state >> 33) % below).expect("it fits")
    };
    for step in 0..steps {
        let user = users[usize::try_from(random(3)).expect("a place")];
        let model = [FLASH, PRO][usize::try_from(random(2)).expect("a place")];
        let account = client.of(user);
        let amount = 1 + random(90);
        // Some are refused, which is as well.
        match random(7) {
            0 => drop(account.add(amount, &format!("GPA.{seed}.{step}")).await.ok()),
            1 => give(server, user, amount).await,
            2 | 3 => drop(account.allocate(&[(model, amount)]).await),
            4 => drop(account.consume(model, amount, 0).await),
            5 => drop(account.post("/credits/return", &json!({"model_id": model})).await),
            _ => {
                let newest = account.get("/transactions?type=consumption&limit=1").await.ok();
                let body = json!({
                    "transaction_id": newest[0]["id"].as_i64().unwrap_or(1), "reason": "wrong",
                });
                let request = client.request(Method::POST, "/api/billing/tokens/reverse");
                let request = request.bearer_auth(BACKEND).header("billing-user", user).json(&body);
                drop(Reply::to(request).await);
            }
        }
    }
}

/// Gives credits, as an operator does, at the time of the newest entry.
async fn give(server: &Server, user: &str, credits: i64) {
    let sql = format!(
        "INSERT INTO transactions (user_id, type, amount, reason, credits_delta, bonus_delta, tokens_delta,
             created_at, actor)
         SELECT '{user}', 'grant', {credits}, 'welcome', {credits}, {credits}, 0, max(created_at), 'operator'
         FROM transactions;
         UPDATE credits SET credits = credits + {credits}, bonus = bonus + {credits} WHERE user_id = '{user}'"
    );
    server.database().execute(&sql).await;
}

async fn unused_balances_are_those_of_a_second_reading(engine: Engine) {
    let clock = Clock::new();
    clock.shift(-TimeDelta::days(30).num_seconds());
    let mut server = Server::start_as(engine, clock.given_to(logins()));
    // Few tokens, so that each can be counted off.
    server.database().execute("UPDATE token_pricing SET price_per_m_token = 333333").await;
    let users = ["ann", "bob", "eve"];
    for user in users {
        server.client().of(user).add(200, &format!("GPA.{user}")).await.ok();
    }
    live(&server, &users, 120, 7).await;
    // Held ones count too.
    let hold = json!({"model_id": FLASH, "tokens": 1_000_000, "min_tokens": 1});
    drop(server.client().of("ann").post("/holds", &hold).await);
    let (mut credits, mut given) = (0, 0);
    let mut models = std::collections::BTreeMap::<String, (i64, i64, i64)>::new();
    for user in users {
        let ledger = server.client().of(user).get("/ledger?limit=1000").await.ok();
        let (of_user, given_to_user, of_models) =
            unused(ledger["items"].as_array().expect("a list"));
        credits += of_user;
        given += given_to_user;
        for (model, tokens, worth, bonus) in of_models {
            let sum = models.entry(model).or_default();
            *sum = (sum.0 + tokens, sum.1 + worth, sum.2 + bonus);
        }
    }
    assert!(!models.is_empty() && given > 0, "much was left: {credits} {given} {models:?}");
    // What comes later is not in it.
    clock.shift(0);
    server.stop().await;
    server.start_again();
    // Gifts are as old as the newest entry.
    server.client().of("ann").add(1, "GPA.later").await.ok();
    live(&server, &users, 40, 8).await;
    let at = today() - Days::new(28);
    let query = format!("at={at}&timezone=Pacific/Auckland");
    let told = seen(&server.client(), &format!("/reports/unused-balance?{query}")).await.ok();
    let mut items = vec![json!({
        "kind": "credits", "model_id": null, "tokens": null, "paid_credits": credits - given,
        "bonus_credits": given,
    })];
    let (mut paid, mut bonus_of_all) = (credits - given, given);
    for (model, (tokens, worth, bonus)) in models {
        items.push(json!({
            "kind": "tokens", "model_id": model, "tokens": tokens, "paid_credits": worth - bonus,
            "bonus_credits": bonus,
        }));
        paid += worth - bonus;
        bonus_of_all += bonus;
    }
    let expected = json!({
        "at": at.to_string(), "timezone": "Pacific/Auckland", "items": items,
        "totals": {"paid_credits": paid, "bonus_credits": bonus_of_all},
    });
    assert_eq!(told, expected);
    let none = seen(&server.client(), "/reports/unused-balance?at=2020-03-31").await.ok();
    assert_eq!(none["totals"], json!({"paid_credits": 0, "bonus_credits": 0}));
    // The command tells the same while the service runs.
    let date = at.to_string();
    let arguments = ["report", "unused-balance", "--at", &date, "--timezone", "Pacific/Auckland"];
    let printed = server.home().launch().finish(server.directory(), &arguments).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let printed: Value = serde_json::from_str(&printed.stdout.join("\n")).expect("JSON");
    assert_eq!(printed, expected);
    let arguments = [&arguments[..], &["--format", "csv"]].concat();
    let printed = server.home().launch().finish(server.directory(), &arguments).await;
    assert_eq!(printed.stdout[0], "kind,model_id,tokens,paid_credits,bonus_credits");
    assert_eq!(printed.stdout[1], format!("credits,,,{},{given}", credits - given));
    assert_eq!(printed.stdout.last(), Some(&format!("total,,,{paid},{bonus_of_all}")));
}

async fn a_day_that_is_not_over_has_no_report(engine: Engine) {
    let server = start(engine);
    let today = today();
    // It is the last zone to end a day.
    let query = format!("at={today}&timezone=Etc/GMT%2B12");
    let reply = seen(&server.client(), &format!("/reports/unused-balance?{query}")).await;
    assert_eq!((reply.status, &reply.json()["detail"][0]["loc"]), (422, &json!(["query", "at"])));
    for query in ["", "at=2026-02-30", "at=2026-02-28&timezone=Mars"] {
        let reply = seen(&server.client(), &format!("/reports/unused-balance?{query}")).await;
        assert_eq!(reply.status, 422, "{query}");
    }
    let date = today.to_string();
    let arguments = ["report", "unused-balance", "--at", &date, "--timezone", "Etc/GMT+12"];
    let printed = server.home().launch().finish(server.directory(), &arguments).await;
    assert_eq!((printed.code, printed.stderr.len()), (Some(2), 1), "{printed:?}");
    assert!(printed.stderr[0].contains("is not over"), "{printed:?}");
}

async fn the_books_are_looked_through_when_asked(engine: Engine) {
    let server = start(engine);
    let client = server.client();
    client.of("ann").add(10, "GPA.1").await.ok();
    let told = seen(&client, "/verify").await.ok();
    let never = json!({
        "state": "never", "ok": null, "started_at": null, "ended_at": null, "differences": [],
    });
    assert_eq!(told, never);
    let ask = async || {
        let request = client.request(Method::POST, "/api/billing/operator/verify");
        let body = json!({"reason": "the end of the month"});
        let reply = Reply::to(request.bearer_auth(OPERATOR).json(&body)).await;
        assert_eq!(reply.status, 202);
        eventually("it was looked through", async || {
            let told = seen(&client, "/verify").await.ok();
            (told["state"] == "done").then_some(told)
        })
        .await
    };
    let told = ask().await;
    assert_eq!((&told["ok"], &told["differences"]), (&json!(true), &json!([])), "{told}");
    server.database().execute("UPDATE credits SET credits = 11 WHERE user_id = 'ann'").await;
    let told = ask().await;
    assert_eq!(told["ok"], false);
    assert_eq!(seen(&client, "/summary").await.ok()["verify"], told);
    assert!(told["differences"][0].as_str().is_some_and(|text| text.contains("ann")), "{told}");
    server.database().execute("UPDATE credits SET credits = 10 WHERE user_id = 'ann'").await;
}

async fn for_all_others_nothing_is_there(engine: Engine) {
    let server = start(engine);
    let client = server.client();
    client.of("ann").add(10, "GPA.1").await.ok();
    let nothing = client.get("/nothing").await;
    for path in
        ["/summary", "/users", "/users/ann", "/reports/unused-balance?at=2026-01-01", "/verify"]
    {
        let path = format!("/api/billing/operator{path}");
        for reply in [
            Reply::to(client.request(Method::GET, &path)).await,
            Reply::to(client.of("ann").request(Method::GET, &path)).await,
            Reply::to(client.request(Method::GET, &path).bearer_auth(BACKEND)).await,
        ] {
            reply.is(nothing.status, &nothing.json());
        }
    }
}

async fn two_instances_sum_up_the_same_whole() {
    let server = start(Engine::Postgres);
    let other = server.launch().start(server.directory());
    let clients = [server.client(), Client::new(other.address)];
    for user in ["ann", "bob", "eve"] {
        buy_tokens(&clients[0], user).await;
    }
    let calls = (0..120).map(|call| {
        let client = clients[call % 2].of(["ann", "bob", "eve"][call % 3]);
        async move { drop(client.consume(FLASH, 1, 2).await.ok()) }
    });
    futures_util::future::join_all(calls).await;
    clients[1].of("eve").post("/reset", &json!({})).await.ok();
    let told = whole(&server, "").await;
    assert_eq!((&told["tokens"]["consumed"], &told["credits"]["sold"]), (&json!(240), &json!(150)));
    let days = told["days"].as_array().expect("a list");
    assert_eq!(
        days.iter().map(|day| day["active_users"].as_i64().expect("a number")).sum::<i64>(),
        2
    );
    check_clean(server.home()).await;
}
