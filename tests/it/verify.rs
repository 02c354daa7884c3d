//! `token-billing verify`: silent about sound books, precise about others, and it changes nothing. What
//! it finds in SQLite's file as such is tested in `verify_files`.

use tempfile::TempDir;

use crate::harness::{
    Engine, Finished, Home, Launch, Load, Server, closed, full, on_both_engines, on_postgres,
};

on_both_engines![
    sound_books_are_ok_with_the_service_stopped_and_running,
    a_new_database_is_ok,
    books_are_ok_at_every_moment_of_a_load,
    wrong_balances_are_found,
    wrong_given_credits_are_found,
    given_credits_that_come_back_wrongly_are_found,
    a_balance_without_any_transaction_is_found,
    negative_balances_are_found,
    sums_beyond_64_bits_are_found,
    transactions_without_a_balance_are_found,
    a_store_transaction_granted_twice_is_found,
    references_that_lead_nowhere_are_found,
    names_that_cannot_be_read_are_found,
    thousands_of_differences_are_counted,
    other_versions_are_refused,
];

on_postgres![
    a_server_that_takes_no_writes_can_be_verified,
    the_database_of_another_program_is_refused
];

/// Has the schema take anything.
const UNHINDERED_SQLITE: &str = "PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON;
    DROP TRIGGER transactions_never_change";
const UNHINDERED_POSTGRES: &str = "
    DO $$
    DECLARE found RECORD;
    BEGIN
        FOR found IN SELECT CAST(conrelid AS regclass) AS of_table, conname FROM pg_constraint
            WHERE contype IN ('c', 'f') AND connamespace = CAST('public' AS regnamespace)
        LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', found.of_table, found.conname);
        END LOOP;
    END $$;
    DROP TRIGGER transactions_never_change ON transactions";

/// Sums that a task may have made by now, or not: as if it had not.
const UNSUMMED: &str = "DELETE FROM summary_quarters; DELETE FROM summary_tokens; DELETE FROM summary_active;
    UPDATE summary_state SET version = version + 1, summed_until = 0, credits_sold = 0, credits_given = 0,
        credits_allocated = 0, credits_refunded = 0, tokens_consumed = 0, tokens_shortfall = 0;
    DELETE FROM usage_sums; DELETE FROM usage_state";

const RULES: [&str; 10] = [
    "balances are the sums of their changes, none negative: ",
    "given credits are the sums of their changes, within all credits: ",
    "every transaction belongs to a balance: ",
    "every change follows from its transaction: ",
    "every store transaction is granted once: ",
    "every settled hold has its consumption: ",
    "every confirmed purchase has its grant: ",
    "sums of the whole are those of all entries: ",
    "references lead somewhere: ",
    "names are free of control characters: ",
];
/// Further, of SQLite; a server looks after its files itself.
const FILE_RULE: &str = "the file is sound: ";
/// Further, of PostgreSQL; SQLite looks for the highest id by itself.
const IDS_RULE: &str = "ids to be given are new: ";

pub(crate) async fn verify(home: &Home) -> Finished {
    home.launch().finish(home.directory.path(), &["verify"]).await
}

/// Verifies what must be found sound; returns the lines printed.
pub(crate) async fn check_clean(home: &Home) -> Vec<String> {
    let finished = verify(home).await;
    check_is_clean(home.database.engine(), &finished);
    finished.stdout
}

pub(crate) fn check_is_clean(engine: Engine, finished: &Finished) {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stderr, Vec::<String>::new());
    let further = match engine {
        Engine::Sqlite => FILE_RULE,
        Engine::Postgres => IDS_RULE,
    };
    for rule in RULES.into_iter().chain([further]) {
        assert!(finished.stdout.contains(&format!("{rule}yes")), "{rule}: {finished:?}");
    }
    assert_eq!(finished.stdout.last().map(String::as_str), Some("ok"), "{finished:?}");
}

/// A sound database of a stopped service, with 100 credits, 1,000,000 tokens and 7 transactions.
pub(crate) async fn books(engine: Engine) -> Server {
    let mut server = Server::start(engine);
    let client = server.client();
    client.add(100, "GPA.1").await.ok();
    client.add(75, "GPA.2").await.ok();
    client.buy_tokens("gemini-2.5-pro", 750).await;
    client.allocate(&[("gemini-2.0-flash", 75)]).await.ok();
    let body = serde_json::json!({
        "model_id": "gemini-2.0-flash", "input_tokens": 5_000, "output_tokens": 2_000,
    });
    client.post_keyed("k-1", "/tokens/consume", &body).await.ok();
    client.consume("gemini-2.5-pro", 0, 0).await.ok();
    server.stop().await;
    server
}

/// A copy of `server`'s database after `sql`, which nothing in the schema may hinder.
pub(crate) async fn spoiled(server: &Server, sql: &str) -> Home {
    let spoiled = server.home().copy().await;
    let unhindered = match spoiled.database.engine() {
        Engine::Sqlite => UNHINDERED_SQLITE,
        Engine::Postgres => UNHINDERED_POSTGRES,
    };
    spoiled.database.execute(&format!("{unhindered}; {UNSUMMED}; {sql}")).await;
    spoiled
}

/// Spoils a copy with `sql` and looks for exactly these lines, `differences` of them.
pub(crate) async fn check_found(server: &Server, sql: &str, differences: usize, lines: &[&str]) {
    let finished = verify(&spoiled(server, sql).await).await;
    assert_eq!(finished.code, Some(1), "{sql}: {finished:?}");
    assert_eq!(finished.stderr.len(), 1, "{sql}: {finished:?}");
    for line in lines {
        assert!(finished.stdout.iter().any(|found| found == line), "{sql}: {line}: {finished:#?}");
    }
    let told = finished.stdout.iter().filter(|line| line.starts_with("difference: ")).count();
    assert_eq!(told, differences, "{sql}: {finished:#?}");
    let sum =
        if differences == 1 { "1 difference".into() } else { format!("{differences} differences") };
    assert_eq!(finished.stdout.last(), Some(&sum), "{finished:#?}");
}

async fn sound_books_are_ok_with_the_service_stopped_and_running(engine: Engine) {
    let mut server = books(engine).await;
    let counts = "looked at: 1 user, 3 balances, 7 transactions, 1 idempotency key";
    let printed = check_clean(server.home()).await;
    let name = match engine {
        Engine::Sqlite => "database: billing.db",
        Engine::Postgres => "database: postgres:///billing_",
    };
    assert!(printed[0].starts_with(name), "{printed:?}");
    assert_eq!(printed[1], counts);
    server.start_again();
    assert_eq!(check_clean(server.home()).await, printed);
    server.client().add(1, "GPA.3").await.ok();
    server.kill();
    if engine == Engine::Sqlite {
        assert!(server.database().wal_bytes() > 0, "a killed service leaves its log");
    }
    check_clean(server.home()).await;
}

async fn a_new_database_is_ok(engine: Engine) {
    let server = Server::start(engine);
    check_clean(server.home()).await;
}

async fn books_are_ok_at_every_moment_of_a_load(engine: Engine) {
    let mut server = Server::start_with(engine, &Load::SETTINGS);
    Load::prepare(&server.client()).await;
    let mut load = Load::start(&server.client());
    load.reach(300).await;
    for _ in 0..3 {
        check_clean(server.home()).await;
    }
    server.kill();
    load.journal().await;
}

async fn wrong_balances_are_found(engine: Engine) {
    let server = books(engine).await;
    let credits = "difference: user \"default_user\", expected 100 credits, found";
    let tokens = "difference: user \"default_user\", model \"gemini-2.0-flash\", \
                  expected 993000 tokens, found";
    let entry = "INSERT INTO transactions (user_id, type, amount, metadata, credits_delta,
        tokens_delta, created_at) VALUES ('default_user', 'purchase',";
    for (sql, line) in [
        ("UPDATE credits SET credits = 101", format!("{credits} 101")),
        ("UPDATE credits SET credits = 4294967396", format!("{credits} 4294967396")),
        (
            "UPDATE token_balances SET allocated_tokens = 0 WHERE model_id = 'gemini-2.0-flash'",
            format!("{tokens} 0"),
        ),
        (&format!("{entry} 5, '{{}}', 5, 0, CURRENT_TIMESTAMP)"), {
            "difference: user \"default_user\", expected 105 credits, found 100".to_owned()
        }),
    ] {
        check_found(&server, sql, 1, &[&line]).await;
    }
    let gone = "DELETE FROM transactions WHERE transaction_id = 'GPA.1'";
    let known = ["GPA.1", "a-secret-token of GPA.1"].map(|name| {
        format!(
            "difference: user \"default_user\", expected a purchase known by \"{name}\", found none"
        )
    });
    let credits = "difference: user \"default_user\", expected 0 credits, found 100";
    check_found(&server, gone, 3, &[credits, &known[0], &known[1]]).await;
}

async fn wrong_given_credits_are_found(engine: Engine) {
    let server = books(engine).await;
    server.database().give("default_user", 30).await;
    check_clean(server.home()).await;
    let expected = "difference: user \"default_user\", expected 30 given credits, found";
    for (sql, found) in [
        ("UPDATE credits SET bonus = 0", "0"),
        ("UPDATE credits SET bonus = 31", "31"),
        ("UPDATE credits SET bonus = 4294967326", "4294967326"),
        ("UPDATE credits SET bonus = -30", "-30"),
    ] {
        check_found(&server, sql, 1, &[&format!("{expected} {found}")]).await;
    }
    // More of an allocation than it spent, which leaves more than there are.
    let sql = "UPDATE credits SET bonus = 131;
        UPDATE transactions SET bonus_delta = 101 WHERE type = 'allocation' AND amount = 75";
    let lines = [
        "difference: user \"default_user\", expected no fewer than 0 given credits, and no more than \
         credits, found 131",
        "difference: user \"default_user\", model \"gemini-2.0-flash\", expected what a \
         \"allocation\" of 75 changes by transaction 5, found -75 credits (101 of them given), \
         1000000 tokens",
    ];
    check_found(&server, sql, 2, &lines).await;
}

async fn given_credits_that_come_back_wrongly_are_found(engine: Engine) {
    let mut server = Server::start(engine);
    let client = server.client();
    client.add(40, "GPA.1").await.ok();
    server.database().give("default_user", 60).await;
    client.allocate(&[("gemini-2.0-flash", 100)]).await.ok();
    client.consume("gemini-2.0-flash", 666_666, 0).await.ok();
    let unused = serde_json::json!({"model_id": "gemini-2.0-flash"});
    client.post("/credits/return", &unused).await.ok();
    server.stop().await;
    // ⌊100 × 666,667 ÷ 1,333,333⌋: 40 bought and 10 given ones.
    for given in [9, 11] {
        let sql = format!(
            "UPDATE credits SET bonus = {given};
             UPDATE transactions SET bonus_delta = {given} WHERE type = 'return'"
        );
        let line = "difference: user \"default_user\", model \"gemini-2.0-flash\", expected tokens \
                    back, and credits at what was paid of transaction 3, found others";
        check_found(&server, &sql, 1, &[line]).await;
    }
}

async fn a_balance_without_any_transaction_is_found(engine: Engine) {
    let server = books(engine).await;
    let sql = "INSERT INTO users (user_id, created_at) VALUES ('bob', CURRENT_TIMESTAMP);
        INSERT INTO credits (user_id, credits, updated_at) VALUES ('bob', 9, CURRENT_TIMESTAMP);
        INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
        VALUES ('bob', 'm', 8, CURRENT_TIMESTAMP), ('bob', 'empty', 0, CURRENT_TIMESTAMP)";
    let lines = [
        r#"difference: user "bob", expected 0 credits, found 9"#,
        r#"difference: user "bob", model "m", expected 0 tokens, found 8"#,
    ];
    check_found(&server, sql, 2, &lines).await;
}

async fn negative_balances_are_found(engine: Engine) {
    let server = books(engine).await;
    let sql = "UPDATE credits SET credits = -1;
        UPDATE transactions SET credits_delta = -26 WHERE transaction_id = 'GPA.2'";
    let lines = [
        "difference: user \"default_user\", expected no fewer than 0 credits, found -1",
        "difference: user \"default_user\", expected what a \"purchase\" of 75 changes by \
         transaction 2, found -26 credits, 0 tokens",
    ];
    check_found(&server, sql, 2, &lines).await;
}

async fn sums_beyond_64_bits_are_found(engine: Engine) {
    let server = books(engine).await;
    let sql =
        "UPDATE transactions SET credits_delta = 9223372036854775807, amount = 9223372036854775807
               WHERE type = 'purchase'";
    // 3 purchases of 2^63 - 1 credits, of which 825 were spent.
    let line =
        "difference: user \"default_user\", expected 27670116110564326596 credits, found 100";
    check_found(&server, sql, 1, &[line]).await;
}

async fn transactions_without_a_balance_are_found(engine: Engine) {
    let server = books(engine).await;
    let tokens = "difference: user \"default_user\", model \"gemini-2.5-pro\", \
                  expected a balance of 1000000 tokens, found none for 2 transactions";
    let sql = "DELETE FROM token_balances WHERE model_id = 'gemini-2.5-pro'";
    check_found(&server, sql, 1, &[tokens]).await;
    let credits = "difference: user \"default_user\", expected a balance of 100 credits, \
                   found none for 7 transactions";
    check_found(&server, "DELETE FROM credits", 1, &[credits]).await;
}

async fn a_store_transaction_granted_twice_is_found(engine: Engine) {
    let server = books(engine).await;
    let sql = "INSERT INTO users (user_id, created_at) VALUES ('bob', CURRENT_TIMESTAMP);
        INSERT INTO credits (user_id, credits, updated_at) VALUES ('bob', 75, CURRENT_TIMESTAMP);
        INSERT INTO transactions (user_id, type, amount, transaction_id, metadata, credits_delta,
            tokens_delta, created_at) VALUES ('bob', 'purchase', 75, 'GPA.2', '{}', 75, 0, CURRENT_TIMESTAMP)";
    let line = "difference: user \"bob\", expected \"GPA.2\" as a name of purchase 8 alone, found \
                another user's";
    check_found(&server, sql, 1, &[line]).await;
}

async fn references_that_lead_nowhere_are_found(engine: Engine) {
    let server = books(engine).await;
    let sql = "INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
        VALUES ('ghost', 'm', 0, CURRENT_TIMESTAMP)";
    let line = "difference: user \"ghost\", model \"m\", expected a row in users for one in \
                token_balances, found none";
    check_found(&server, sql, 1, &[line]).await;
}

async fn names_that_cannot_be_read_are_found(engine: Engine) {
    let server = books(engine).await;
    let controls = [
        (0, r"\0"),
        (1, r"\u{1}"),
        (10, r"\n"),
        (31, r"\u{1f}"),
        (127, r"\u{7f}"),
        (159, r"\u{9f}"),
    ];
    let (character, controls) = match engine {
        Engine::Sqlite => ("char", &controls[..]),
        // It has no NUL in a text.
        Engine::Postgres => ("chr", &controls[1..]),
    };
    for (code, shown) in controls {
        // The user in front has none.
        let sql = format!(
            "INSERT INTO users (user_id, created_at)
                 VALUES (' ~é' || {character}(160), CURRENT_TIMESTAMP);
             INSERT INTO users (user_id, created_at)
                 VALUES ('u' || {character}({code}), CURRENT_TIMESTAMP);
             INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
                 VALUES ('default_user', {character}({code}) || 'm', 0, CURRENT_TIMESTAMP)"
        );
        let expected = "expected a name free of control characters, found one with some";
        let lines = [
            format!(r#"difference: user "u{shown}", {expected}"#),
            format!(r#"difference: user "default_user", model "{shown}m", {expected}"#),
        ];
        check_found(&server, &sql, 2, &lines.each_ref().map(String::as_str)).await;
    }
}

async fn thousands_of_differences_are_counted(engine: Engine) {
    let server = books(engine).await;
    let sql = "WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 3000)
        INSERT INTO users (user_id, created_at) SELECT 'u' || n, CURRENT_TIMESTAMP FROM n;
        INSERT INTO credits (user_id, credits, updated_at)
        SELECT user_id, 1, CURRENT_TIMESTAMP FROM users WHERE user_id <> 'default_user'";
    let finished = verify(&spoiled(&server, sql).await).await;
    assert_eq!(finished.code, Some(1));
    let told = finished.stdout.iter().filter(|line| line.starts_with("difference: ")).count();
    let end = &finished.stdout[finished.stdout.len() - 2..];
    assert_eq!(
        (told, end),
        (100, &["and 2900 more".to_owned(), "3000 differences".to_owned()][..])
    );
}

/// Verifies a database, which must fail with one line that gives this reason, and leave it as it is.
async fn check_refused(home: &Home, reason: &str) {
    let finished = verify(home).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(3), 1), "{finished:?}");
    assert!(finished.stderr[0].contains("billing"), "it names the database: {finished:?}");
    assert!(finished.stderr[0].contains(reason), "{finished:?}");
    assert_eq!(finished.stdout, Vec::<String>::new());
}

async fn other_versions_are_refused(engine: Engine) {
    let server = books(engine).await;
    let digest = server.database().digest().await;
    for (sql, reason) in [
        ("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1", "newer"),
        ("DELETE FROM _sqlx_migrations WHERE version > 1", "older"),
    ] {
        let other = server.home().copy().await;
        other.database.execute(sql).await;
        check_refused(&other, reason).await;
        assert_eq!(other.database.digest().await, digest);
    }
}

async fn a_server_that_takes_no_writes_can_be_verified() {
    let server = books(Engine::Postgres).await;
    server.database().set_read_only(true).await;
    check_clean(server.home()).await;
}

async fn the_database_of_another_program_is_refused() {
    let home = Home::new(Engine::Postgres);
    check_refused(&home, "it holds no tables").await;
    home.database.execute("CREATE TABLE users (name TEXT)").await;
    check_refused(&home, "another program").await;
}

#[tokio::test]
async fn bad_settings_are_refused() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    let launch = Launch::new().set("DATABASE_URL", "mysql://localhost/billing");
    for arguments in [&["verify"][..], &["backup", "new.db"]] {
        let finished = launch.finish(directory.path(), arguments).await;
        assert_eq!((finished.code, finished.stderr.len()), (Some(2), 1), "{finished:?}");
        assert!(finished.stderr[0].contains("DATABASE_URL"), "{finished:?}");
    }
    let finished = Launch::new().finish(directory.path(), &["verfy"]).await;
    assert_eq!((finished.code, finished.stderr.len()), (Some(2), 1), "{finished:?}");
}

#[tokio::test]
async fn a_result_that_cannot_be_printed_is_no_difference() {
    let server = books(Engine::Sqlite).await;
    for nobody in [full(), closed()] {
        let mut command = Launch::new().command(server.directory());
        let output = command.arg("verify").stdout(nobody).output().expect("the binary starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), errors.lines().count()), (Some(3), 1), "{errors}");
    }
}

#[tokio::test]
async fn help_that_nobody_reads_to_its_end_is_no_failure() {
    let directory = TempDir::new().expect("a temporary directory can be made");
    for (nobody, code) in [(closed(), 0), (full(), 3)] {
        let mut command = Launch::new().command(directory.path());
        let output = command.arg("--help").stdout(nobody).output().expect("the binary starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}
