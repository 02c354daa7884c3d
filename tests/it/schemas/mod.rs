//! The schemas of both engines: the same tables, columns and constraints, but for what is listed here.
//!
//! Constraints are compared by what they are on and by what they refuse, not by their text.

use std::{collections::BTreeSet, fs};

use sqlx::error::ErrorKind;

use samples::{SAMPLES, Sample};

use crate::harness::{Connection, Engine, Server, on_postgres};

mod samples;

on_postgres![
    tables_and_columns_are_the_same,
    keys_and_references_are_the_same,
    the_same_values_are_refused,
    new_databases_hold_the_same,
];

/// What only SQLite has: the index of idempotency keys that it fills later, and how far keys were looked through.
const ONLY_SQLITE: [&str; 6] = [
    "column erasures.swept_keys ",
    "column idempotency_index.",
    "column idempotency_indexed.",
    "column idempotency_keys.digest ",
    "primary key idempotency_index ",
    "primary key idempotency_indexed ",
];
/// What only PostgreSQL has: there it is an index like any other.
const ONLY_POSTGRES: [&str; 1] = ["unique idempotency_keys (user_id, key)"];
/// Columns which are text in SQLite, and the types that PostgreSQL has for what is in them.
const TYPES: [(&str, &str); 28] = [
    ("users.created_at", "timestamp with time zone"),
    ("credits.updated_at", "timestamp with time zone"),
    ("token_balances.updated_at", "timestamp with time zone"),
    ("token_pricing.updated_at", "timestamp with time zone"),
    ("transactions.created_at", "timestamp with time zone"),
    ("transactions.metadata", "json"),
    ("idempotency_keys.created_at", "timestamp with time zone"),
    ("idempotency_keys.outcome", "jsonb"),
    ("products.updated_at", "timestamp with time zone"),
    ("purchases.received_at", "timestamp with time zone"),
    ("purchases.purchased_at", "timestamp with time zone"),
    ("purchases.granted_at", "timestamp with time zone"),
    ("purchases.acknowledged_at", "timestamp with time zone"),
    ("purchases.consumed_at", "timestamp with time zone"),
    ("purchases.due_at", "timestamp with time zone"),
    ("purchases.unknown_since", "timestamp with time zone"),
    ("purchases.refund_told_at", "timestamp with time zone"),
    ("purchases.updated_at", "timestamp with time zone"),
    ("inbox.received_at", "timestamp with time zone"),
    ("inbox.due_at", "timestamp with time zone"),
    ("sweeps.done_until", "timestamp with time zone"),
    ("sweeps.due_at", "timestamp with time zone"),
    ("consents.updated_at", "timestamp with time zone"),
    ("holds.created_at", "timestamp with time zone"),
    ("holds.expires_at", "timestamp with time zone"),
    ("holds.closed_at", "timestamp with time zone"),
    ("operator_log.created_at", "timestamp with time zone"),
    ("price_history.changed_at", "timestamp with time zone"),
];
/// Columns of which each engine has its own type, or its own way to say the same default.
const DIFFERENT: [(&str, &str); 4] = [
    (
        "column credits.frozen bigint not null default 0",
        "column credits.frozen boolean not null default false",
    ),
    (
        "column consents.apple_consumption bigint not null",
        "column consents.apple_consumption boolean not null",
    ),
    (
        "column products.active bigint not null default 1",
        "column products.active boolean not null default true",
    ),
    (
        "column products.updated_at timestamp with time zone not null default \
         strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')",
        "column products.updated_at timestamp with time zone not null default now()",
    ),
];

const SQLITE_COLUMNS: &str = "
    SELECT 'column ' || tables.name || '.' || columns.name || ' '
        || CASE columns.type WHEN 'INTEGER' THEN 'bigint' ELSE lower(columns.type) END
        || CASE WHEN columns.\"notnull\" OR columns.pk THEN ' not null' ELSE '' END
        || coalesce(' default ' || columns.dflt_value, '')
    FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
    WHERE tables.type = 'table' AND tables.name <> '_sqlx_migrations'";
const POSTGRES_COLUMNS: &str = "
    SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type
        || CASE WHEN is_nullable = 'NO' THEN ' not null' ELSE '' END
        || coalesce(' default ' || column_default, '')
    FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations'";

const SQLITE_KEYS: &str = "
    SELECT 'primary key ' || tables.name || ' (' || group_concat(columns.name, ', ' ORDER BY columns.pk)
        || ')'
    FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
    WHERE tables.type = 'table' AND tables.name <> '_sqlx_migrations' AND columns.pk
    GROUP BY tables.name
    UNION ALL
    SELECT 'unique ' || tables.name || ' (' || group_concat(columns.name, ', ' ORDER BY columns.seqno)
        || ')' || coalesce(substr(made.sql, instr(made.sql, ' WHERE ')), '')
    FROM sqlite_schema AS tables, pragma_index_list(tables.name) AS indexes,
        pragma_index_info(indexes.name) AS columns
        LEFT JOIN sqlite_schema AS made ON made.name = indexes.name
    WHERE tables.type = 'table' AND tables.name <> '_sqlx_migrations'
        AND indexes.\"unique\" AND indexes.origin <> 'pk'
    GROUP BY indexes.name
    UNION ALL
    SELECT 'reference ' || tables.name || '.' || \"from\" || ' to ' || keys.\"table\" || '.' || keys.\"to\"
        || CASE WHEN keys.on_delete || keys.on_update = 'NO ACTIONNO ACTION' THEN '' ELSE ' acts' END
    FROM sqlite_schema AS tables, pragma_foreign_key_list(tables.name) AS keys
    WHERE tables.type = 'table'
    UNION ALL
    SELECT 'index ' || name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL
    UNION ALL
    SELECT 'trigger ' || name FROM sqlite_schema WHERE type = 'trigger'";
const POSTGRES_KEYS: &str = "
    SELECT CASE WHEN indisprimary THEN 'primary key ' ELSE 'unique ' END || relname || ' (' || (
            SELECT string_agg(attname, ', ' ORDER BY place)
            FROM unnest(indkey) WITH ORDINALITY AS columns (number, place)
            JOIN pg_attribute ON attrelid = indrelid AND attnum = number
        ) || ')' || coalesce(' WHERE ' || trim(BOTH '()' FROM pg_get_expr(indpred, indrelid)), '')
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE relnamespace = CAST(current_schema() AS regnamespace) AND relname <> '_sqlx_migrations'
        AND indisunique
    UNION ALL
    SELECT 'reference ' || origin.relname || '.' || attname || ' to ' || target.relname || '.' || (
            SELECT attname FROM pg_attribute WHERE attrelid = confrelid AND attnum = confkey[1]
        ) || CASE WHEN confdeltype = 'a' AND confupdtype = 'a' THEN '' ELSE ' acts' END
    FROM pg_constraint
    JOIN pg_class AS origin ON origin.oid = conrelid JOIN pg_class AS target ON target.oid = confrelid
    JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE contype = 'f' AND cardinality(conkey) = 1
    UNION ALL
    SELECT 'index ' || relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE relnamespace = CAST(current_schema() AS regnamespace)
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    UNION ALL
    SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal";

/// How many conditions each table has.
const SQLITE_CHECKS: &str = "
    SELECT name || ' ' || ((length(sql) - length(replace(sql, 'CHECK (', ''))) / length('CHECK ('))
    FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%CHECK (%' AND name <> 'idempotency_indexed'";
const POSTGRES_CHECKS: &str = "
    SELECT relname || ' ' || count(*) FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
    WHERE contype = 'c' AND connamespace = CAST(current_schema() AS regnamespace) GROUP BY relname";

/// Both databases as a service makes them.
struct Schemas {
    sqlite: Server,
    postgres: Server,
}

impl Schemas {
    fn new() -> Self {
        let (sqlite, postgres) = (Server::start(Engine::Sqlite), Server::start(Engine::Postgres));
        Self { sqlite, postgres }
    }

    /// What a query about each one's schema finds.
    async fn find(&self, of_sqlite: &str, of_postgres: &str) -> [BTreeSet<String>; 2] {
        let sqlite = self.sqlite.database().texts(of_sqlite).await;
        let postgres = self.postgres.database().texts(of_postgres).await;
        [sqlite.into_iter().collect(), postgres.into_iter().collect()]
    }
}

/// Those lines of a schema that do not start with any of the `exceptions`, each of which has to be there.
fn without(mut lines: BTreeSet<String>, exceptions: &[&str]) -> BTreeSet<String> {
    for exception in exceptions {
        let before = lines.len();
        lines.retain(|line| !line.starts_with(exception));
        assert!(lines.len() < before, "{exception} is no exception any more");
    }
    lines
}

fn of_kind<'a>(exceptions: &[&'a str], kinds: &[&str]) -> Vec<&'a str> {
    let is_one = |exception: &&str| kinds.iter().any(|kind| exception.starts_with(kind));
    exceptions.iter().copied().filter(is_one).collect()
}

async fn tables_and_columns_are_the_same() {
    let [sqlite, postgres] = Schemas::new().find(SQLITE_COLUMNS, POSTGRES_COLUMNS).await;
    let mut sqlite = without(sqlite, &of_kind(&ONLY_SQLITE, &["column"]));
    for (column, postgres_type) in TYPES {
        let text = format!("column {column} text");
        let line = sqlite.iter().find(|line| line.starts_with(&text)).expect(column).clone();
        sqlite.remove(&line);
        sqlite.insert(line.replace(" text", &format!(" {postgres_type}")));
    }
    for (of_sqlite, of_postgres) in DIFFERENT {
        assert!(sqlite.remove(of_sqlite), "{of_sqlite} in {sqlite:#?}");
        sqlite.insert(of_postgres.to_owned());
    }
    assert_eq!(postgres, sqlite);
    assert!(sqlite.len() > 30, "{sqlite:?}");
}

async fn keys_and_references_are_the_same() {
    let [sqlite, postgres] = Schemas::new().find(SQLITE_KEYS, POSTGRES_KEYS).await;
    let keys = ["primary key", "unique"];
    let sqlite = without(sqlite, &of_kind(&ONLY_SQLITE, &keys));
    assert_eq!(without(postgres, &of_kind(&ONLY_POSTGRES, &keys)), sqlite);
    for kind in ["primary key", "unique", "reference", "index", "trigger"] {
        assert!(sqlite.iter().any(|line| line.starts_with(kind)), "{kind}: {sqlite:?}");
    }
}

/// Every column but those.
const SAMPLED: &str = "
    SELECT table_name || '.' || column_name FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations'
        AND column_name <> 'id'";
/// There before each row is.
const BEFORE: &str = "BEGIN;
    INSERT INTO users (user_id, created_at) VALUES ('ann', CURRENT_TIMESTAMP);
    INSERT INTO purchases (id, key, store, state, user_id, received_at, updated_at)
    VALUES (9007199254740991, 'another', 'apple', 'received', 'ann', CURRENT_TIMESTAMP, CURRENT_TIMESTAMP)";

const NUMERIC: [&str; 27] = [
    "account",
    "credits",
    "allocated_tokens",
    "price_per_m_token",
    "exchange_rate",
    "margin_percent",
    "amount",
    "input_tokens",
    "output_tokens",
    "credits_delta",
    "tokens_delta",
    "fingerprint",
    "bonus_delta",
    "bonus",
    "shortfall_tokens",
    "reverses",
    "allocation_id",
    "last_id",
    "quantity",
    "price_milliunits",
    "entry_id",
    "attempts",
    "refund_store",
    "refund_operator",
    "taken_credits",
    "shortfall_credits",
    "purchase_id",
];
/// What a column is set to in turn; what is no constraint's business is the same on both.
const NUMBERS: [&str; 10] = [
    "NULL",
    "-9007199254740992",
    "-5",
    "-1",
    "0",
    "1",
    "5",
    "7",
    "9007199254740991",
    "9007199254740992",
];
const WORDS: [&str; 27] = [
    "NULL",
    "''",
    "'ann'",
    "'quick'",
    "'think'",
    "'purchase'",
    "'allocation'",
    "'consumption'",
    "'refund'",
    "'reversal'",
    "'return'",
    "'grant'",
    "'adjustment'",
    "'backend'",
    "'operator'",
    "'store'",
    "'google'",
    "'apple'",
    "'production'",
    "'sandbox'",
    "'received'",
    "'granted'",
    "'refused'",
    "'unclaimed'",
    "'refunded'",
    "'push'",
    "'list'",
];
/// Lengths of texts, in characters of two bytes.
const LENGTHS: [usize; 14] = [1, 8, 9, 35, 36, 128, 129, 200, 201, 255, 256, 257, 2_048, 2_049];

/// Which of them a column can have that has `value` in a sample.
fn values(column: &str, value: &str) -> Vec<String> {
    if NUMERIC.contains(&column) {
        return NUMBERS.map(str::to_owned).to_vec();
    }
    match column {
        "metadata" | "outcome" => {
            vec!["NULL".to_owned(), if value == "NULL" { "'{}'" } else { value }.to_owned()]
        }
        "active" | "apple_consumption" | "frozen" => {
            ["NULL", "true", "false"].map(str::to_owned).to_vec()
        }
        time if time.ends_with("_at") || ["unknown_since", "done_until"].contains(&time) => {
            ["NULL", "CURRENT_TIMESTAMP"].map(str::to_owned).to_vec()
        }
        _ => {
            let long = LENGTHS.map(|length| format!("'{}'", "é".repeat(length)));
            WORDS.iter().map(|word| (*word).to_owned()).chain(long).collect()
        }
    }
}

/// An INSERT of a sample, with one value changed.
fn insert((table, row): Sample, changed: &str, value: &str, engine: Engine) -> String {
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for (column, sample) in row {
        columns.push(*column);
        values.push(if *column == changed { value } else { sample });
    }
    if engine == Engine::Sqlite && table == "idempotency_keys" {
        columns.push("digest");
        values.push("1");
    }
    format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), values.join(", "))
}

/// Why an engine refuses a row, once or as the second one of its kind.
async fn refusals(connection: &mut Connection, sql: &str) -> [Option<ErrorKind>; 2] {
    connection.execute(BEFORE).await;
    let once = connection.refusal(sql).await;
    let twice = match once {
        None => connection.refusal(sql).await,
        Some(_) => None,
    };
    connection.execute("ROLLBACK").await;
    [once, twice]
}

async fn the_same_values_are_refused() {
    let schemas = Schemas::new();
    let [of_sqlite, of_postgres] = schemas.find(SQLITE_CHECKS, POSTGRES_CHECKS).await;
    assert_eq!(of_postgres, of_sqlite, "tables have as many conditions");
    let columns = |(table, row): &Sample| {
        let table = *table;
        row.iter().map(move |(column, _)| format!("{table}.{column}"))
    };
    let sampled: BTreeSet<String> = SAMPLES.iter().flat_map(columns).collect();
    let all = schemas.postgres.database().texts(SAMPLED).await;
    assert_eq!(sampled, all.into_iter().collect(), "there is a sample of everything");
    let mut sqlite = schemas.sqlite.database().connect().await;
    let mut postgres = schemas.postgres.database().connect().await;
    let (mut taken, mut refused) = (0, 0);
    for sample in SAMPLES {
        let of_sample = insert(sample, "", "", Engine::Sqlite);
        assert_eq!(refusals(&mut sqlite, &of_sample).await[0], None, "{of_sample}");
        for (column, value) in sample.1 {
            for value in values(column, value) {
                let sql = insert(sample, column, &value, Engine::Sqlite);
                let [once, twice] = refusals(&mut sqlite, &sql).await;
                let sql = insert(sample, column, &value, Engine::Postgres);
                let [once_there, twice_there] = refusals(&mut postgres, &sql).await;
                assert_eq!(once_there, once, "{sql}");
                // Of a key that is repeated SQLite's service makes sure.
                if sample.0 != "idempotency_keys" {
                    assert_eq!(twice_there, twice, "twice: {sql}");
                }
                *if once.is_none() { &mut taken } else { &mut refused } += 1;
            }
        }
    }
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
    for connection in [&mut sqlite, &mut postgres] {
        connection.execute(BEFORE).await;
        connection.execute(&insert(SAMPLES[4], "", "", Engine::Postgres)).await;
        let log = SAMPLES.iter().find(|(table, _)| *table == "operator_log").expect("a sample");
        connection.execute(&insert(*log, "", "", Engine::Postgres)).await;
        for change in [
            "UPDATE transactions SET created_at = created_at",
            "UPDATE operator_log SET reason = reason",
            "DELETE FROM operator_log",
        ] {
            connection.execute("SAVEPOINT change").await;
            assert!(connection.refusal(change).await.is_some(), "it can be done: {change}");
            connection.execute("ROLLBACK TO change").await;
        }
        connection.execute("ROLLBACK").await;
    }
    sqlite.close().await;
    postgres.close().await;
}

/// Everything but times.
const SEEDS: [&str; 4] = [
    "SELECT CAST(id AS TEXT) || ' ' || user_id FROM users",
    "SELECT user_id || ' ' || CAST(credits AS TEXT) FROM credits",
    "SELECT model_id || ' ' || CAST(price_per_m_token AS TEXT) || ' ' || category || ' '
        || CAST(exchange_rate AS TEXT) || ' ' || CAST(margin_percent AS TEXT)
     FROM token_pricing ORDER BY model_id",
    "SELECT product_id || ' ' || CAST(credits AS TEXT) FROM products WHERE active ORDER BY product_id",
];

async fn new_databases_hold_the_same() {
    let schemas = Schemas::new();
    for sql in SEEDS {
        let [sqlite, postgres] = schemas.find(sql, sql).await;
        assert_eq!(postgres, sqlite);
        assert!(!sqlite.is_empty(), "{sql}");
    }
}

#[test]
fn migrations_have_the_same_numbers_and_names() {
    let names = |engine: &str| -> BTreeSet<String> {
        let path = format!("{}/migrations/{engine}", env!("CARGO_MANIFEST_DIR"));
        let files = fs::read_dir(path).expect("the migrations are there");
        files
            .map(|file| file.expect("a file").file_name().into_string().expect("a UTF-8 name"))
            .collect()
    };
    assert_eq!(names("postgres"), names("sqlite"));
    assert!(!names("sqlite").is_empty());
}
