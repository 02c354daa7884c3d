//! The database, opened beside the service: to look, to prepare, and to check the books.
//!
//! What is asked is SQL that both engines understand, but where a test is about one of them.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use sqlx::{
    Connection as _, migrate::Migrator, postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};
use url::form_urlencoded;

use super::{Cluster, Connection, Engine, PATIENCE, Sessions, cluster, eventually};

/// Queries that find nothing in a sound database.
const VIOLATIONS: [(&str, &str); 9] = [
    (
        "credits are the sum of their changes",
        "SELECT user_id || ': ' || credits FROM credits WHERE credits <> (
             SELECT COALESCE(SUM(credits_delta), 0) FROM transactions
             WHERE transactions.user_id = credits.user_id)",
    ),
    (
        "given credits are the sum of their changes, within all credits",
        "SELECT user_id || ': ' || bonus FROM credits WHERE bonus < 0 OR bonus > credits OR bonus <> (
             SELECT COALESCE(SUM(bonus_delta), 0) FROM transactions
             WHERE transactions.user_id = credits.user_id)",
    ),
    (
        "tokens are the sum of their changes",
        "SELECT user_id || ', ' || model_id || ': ' || allocated_tokens
         FROM token_balances AS balance WHERE allocated_tokens <> (
             SELECT COALESCE(SUM(tokens_delta), 0) FROM transactions
             WHERE user_id = balance.user_id AND model_id = balance.model_id)",
    ),
    (
        "every change belongs to a balance",
        "SELECT CAST(id AS TEXT) FROM transactions AS entry
         WHERE NOT EXISTS (SELECT * FROM credits WHERE user_id = entry.user_id)
            OR model_id IS NOT NULL AND NOT EXISTS (
                SELECT * FROM token_balances
                WHERE user_id = entry.user_id AND model_id = entry.model_id)",
    ),
    (
        "nothing is negative",
        "SELECT user_id FROM credits WHERE credits < 0
         UNION ALL SELECT model_id FROM token_balances WHERE allocated_tokens < 0",
    ),
    (
        "a store transaction is granted once",
        "SELECT transaction_id FROM transactions WHERE transaction_id IS NOT NULL
         GROUP BY transaction_id HAVING COUNT(*) > 1",
    ),
    (
        "a granted purchase has its entry",
        "SELECT key FROM purchases WHERE state = 'granted' AND NOT EXISTS (
             SELECT * FROM transactions AS entry
             WHERE entry.id = purchases.entry_id AND entry.type = 'purchase'
               AND entry.user_id = purchases.user_id
               AND entry.credits_delta = purchases.credits)",
    ),
    (
        "a purchase is known by its first key",
        "SELECT key FROM purchases WHERE NOT EXISTS (
             SELECT * FROM purchase_keys AS known
             WHERE known.key = purchases.key AND known.purchase_id = purchases.id)",
    ),
    (
        "an idempotency key is used once",
        "SELECT user_id || ': ' || key FROM idempotency_keys
         GROUP BY user_id, key HAVING COUNT(*) > 1",
    ),
];

/// Further ones, of which PostgreSQL makes sure by itself.
const SQLITE_VIOLATIONS: [(&str, &str); 2] = [
    ("references lead somewhere", "SELECT \"table\" FROM pragma_foreign_key_check"),
    (
        "the file is sound",
        "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
    ),
];

/// Every row of the tables that hold money, as what the engine calls a JSON array.
const ROWS: [&str; 6] = [
    "SELECT CAST(json_array('user', id, user_id, created_at) AS TEXT) FROM users ORDER BY id",
    "SELECT CAST(json_array('credits', user_id, credits, bonus, frozen, updated_at) AS TEXT)
     FROM credits ORDER BY user_id",
    "SELECT CAST(json_array('log', id, created_at, actor, action, account, before, after, reason, request_id)
         AS TEXT) FROM operator_log ORDER BY id",
    "SELECT CAST(json_array('key', user_id, key, fingerprint, created_at) AS TEXT)
     FROM idempotency_keys ORDER BY id",
    "SELECT CAST(json_array('tokens', id, user_id, model_id, allocated_tokens, updated_at) AS TEXT)
     FROM token_balances ORDER BY id",
    "SELECT CAST(json_array('transaction', id, user_id, type, amount, model_id, transaction_id,
         metadata, input_tokens, output_tokens, price_per_m_token, credits_delta, bonus_delta, tokens_delta,
         created_at) AS TEXT)
     FROM transactions ORDER BY id",
];

/// What has to be locked in PostgreSQL so that nobody else can write. Reading goes on.
const TABLES: &str = "users, credits, token_balances, transactions, idempotency_keys";

/// A database, which the service may have open.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// One of a server's.
    Postgres(Box<PgConnectOptions>),
}

impl Database {
    /// An SQLite file.
    pub(crate) fn at(path: &Path) -> Self {
        Self::Sqlite(path.to_owned())
    }

    /// What it is on.
    pub(crate) fn engine(&self) -> Engine {
        match self {
            Self::Sqlite(_) => Engine::Sqlite,
            Self::Postgres(_) => Engine::Postgres,
        }
    }

    /// What the service is told to find it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
            Self::Postgres(options) => {
                let directory = options.get_socket().expect("it is on this machine");
                self.url_at(directory.to_str().expect("a UTF-8 path"), 5432)
            }
        }
    }

    /// The same at other hosts; only a server has any.
    pub(crate) fn url_at(&self, hosts: &str, port: u16) -> String {
        let Self::Postgres(options) = self else { panic!("SQLite has no hosts") };
        let user = match options.get_username() {
            cluster::SECURED => format!("{}:{}", cluster::SECURED, cluster::PASSWORD),
            user => user.to_owned(),
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("host", hosts);
        if port != 5432 {
            query.append_pair("port", &port.to_string());
        }
        format!("postgres://{user}@localhost/{}?{}", name(options), query.finish())
    }

    /// The one of the same name at another server.
    pub(crate) fn on(&self, cluster: &Cluster) -> Self {
        let Self::Postgres(options) = self else { panic!("SQLite has no servers") };
        Self::Postgres(Box::new(options.as_ref().clone().socket(cluster.directory())))
    }

    /// What it is called; only a server's databases are called something.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Sqlite(_) => panic!("SQLite's are files"),
            Self::Postgres(options) => name(options),
        }
    }

    /// The file; only SQLite has one.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Sqlite(path) => path,
            Self::Postgres(_) => panic!("PostgreSQL's files are not looked at"),
        }
    }

    /// The size of SQLite's write-ahead log, in bytes; zero when there is none.
    pub(crate) fn wal_bytes(&self) -> u64 {
        let wal = self.path().with_extension("db-wal");
        std::fs::metadata(wal).map_or(0, |metadata| metadata.len())
    }

    /// A connection of a test's own.
    pub(crate) async fn connect(&self) -> Connection {
        match self {
            Self::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path);
                Connection::to_sqlite(options.busy_timeout(PATIENCE)).await
            }
            Self::Postgres(options) => Connection::to_postgres(options).await,
        }
    }

    /// The same with all rights; only PostgreSQL has users.
    pub(crate) async fn connect_as_owner(&self) -> Connection {
        match self {
            Self::Sqlite(_) => panic!("SQLite has no users"),
            Self::Postgres(options) => {
                Connection::to_postgres(&options.clone().username(cluster::OWNER)).await
            }
        }
    }

    /// In this database, with all rights; only PostgreSQL has users.
    pub(crate) async fn connect_as_superuser(&self) -> Connection {
        match self {
            Self::Sqlite(_) => panic!("SQLite has no users"),
            Self::Postgres(options) => {
                let options = as_owner(options).database(name(options));
                Connection::to_postgres(&options).await
            }
        }
    }

    /// The same database, to which the user says a password; only PostgreSQL asks for one.
    pub(super) fn with_password(&self) -> Self {
        match self {
            Self::Sqlite(_) => panic!("SQLite asks for no password"),
            Self::Postgres(options) => Self::Postgres(Box::new(
                options.clone().username(cluster::SECURED).password(cluster::PASSWORD),
            )),
        }
    }

    /// Gives a user credits, as the operator does.
    pub(crate) async fn give(&self, user: &str, credits: i64) {
        let sql = format!(
            "BEGIN;
             INSERT INTO transactions (user_id, type, amount, reason, actor, credits_delta, bonus_delta,
                 tokens_delta, created_at)
             VALUES ('{user}', 'grant', {credits}, 'sorry', 'operator', {credits}, {credits}, 0,
                 '2026-01-01T00:00:00.000000Z');
             UPDATE credits SET credits = credits + {credits}, bonus = bonus + {credits}
             WHERE user_id = '{user}';
             COMMIT"
        );
        self.execute(&sql).await;
    }

    /// Gives the sessions of a PostgreSQL database a setting, and ends those that have another.
    pub(crate) async fn set(&self, setting: &str) {
        match self {
            Self::Sqlite(_) => panic!("SQLite has no sessions"),
            Self::Postgres(options) => self.alter(options, &format!("SET {setting}")).await,
        }
    }

    fn make_file(&self) {
        if let Self::Sqlite(path) = self
            && !path.exists()
        {
            std::fs::write(path, "").expect("the file can be made");
        }
    }

    /// Runs statements; makes SQLite's file where there is none.
    pub(crate) async fn execute(&self, sql: &str) {
        self.make_file();
        let mut connection = self.connect().await;
        connection.execute(sql).await;
        connection.close().await;
    }

    /// The first column of a query, which must be text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let mut connection = self.connect().await;
        let texts = connection.texts(sql).await;
        connection.close().await;
        texts
    }

    /// Everything the service knows about money. Equal digests: nothing has changed.
    pub(crate) async fn digest(&self) -> Vec<String> {
        let mut connection = self.connect().await;
        let mut rows = Vec::new();
        for sql in ROWS {
            let sql = match self {
                Self::Sqlite(_) => sql.to_owned(),
                Self::Postgres(_) => sql.replace("json_array(", "json_build_array("),
            };
            rows.append(&mut connection.texts(&sql).await);
        }
        connection.close().await;
        rows
    }

    /// Keeps everybody else from writing, as a stuck process would, until the lock is released.
    pub(crate) async fn lock(&self) -> Lock {
        let mut connection = self.connect().await;
        match self {
            Self::Sqlite(_) => connection.execute("BEGIN IMMEDIATE").await,
            Self::Postgres(_) => {
                let lock = format!("BEGIN; LOCK TABLE {TABLES} IN EXCLUSIVE MODE");
                connection.execute(&lock).await;
            }
        }
        Lock(connection)
    }

    /// A copy: SQLite's file at `path`, or another database of the server's.
    pub(super) async fn copy_to(&self, path: &Path) -> Self {
        match self {
            Self::Sqlite(original) => {
                std::fs::copy(original, path).expect("the database can be copied");
                Self::at(path)
            }
            Self::Postgres(options) => {
                self.left_by_all().await;
                let copy = cluster::new_name();
                let sql = format!(
                    "CREATE DATABASE {copy} OWNER {} TEMPLATE {}",
                    options.get_username(),
                    name(options)
                );
                let mut connection = Connection::to_postgres(&as_owner(options)).await;
                connection.execute(&sql).await;
                connection.close().await;
                Self::Postgres(Box::new(options.clone().database(&copy)))
            }
        }
    }

    /// Takes it away, until [`Self::give_back`]: SQLite's file is moved; PostgreSQL ends its connections and
    /// takes no further ones.
    pub(crate) async fn take_away(&self) {
        match self {
            Self::Sqlite(path) => {
                std::fs::rename(path, away(path)).expect("the file can be moved");
            }
            Self::Postgres(options) => {
                self.alter(options, "ALLOW_CONNECTIONS false").await;
            }
        }
    }

    /// Gives it back.
    pub(crate) async fn give_back(&self) {
        match self {
            Self::Sqlite(path) => {
                std::fs::rename(away(path), path).expect("the file can be moved");
            }
            Self::Postgres(options) => self.alter(options, "ALLOW_CONNECTIONS true").await,
        }
    }

    /// Lets everybody only read it, or write again.
    pub(crate) async fn set_read_only(&self, read_only: bool) {
        match self {
            Self::Sqlite(path) => {
                let mode = if read_only { 0o444 } else { 0o644 };
                let permissions = std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(path, permissions).expect("our own file");
            }
            Self::Postgres(_) => {
                self.set(&format!("default_transaction_read_only = {read_only}")).await;
            }
        }
    }

    /// Makes the tables as an earlier version did, which knew the migrations up to `version`.
    pub(crate) async fn make_as_of(&self, version: i64) {
        let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let migrations = |engine| Migrator::new(migrations.join(engine));
        let expected = "the migrations fit an empty database";
        self.make_file();
        match self.connect().await {
            Connection::Sqlite(mut connection) => {
                let migrations = migrations("sqlite").await.expect("migrations");
                migrations.run_direct(Some(version), &mut connection, false).await.expect(expected);
                connection.close().await.expect("the file can be closed");
            }
            Connection::Postgres(mut connection) => {
                let migrations = migrations("postgres").await.expect("migrations");
                migrations.run_direct(Some(version), &mut connection, false).await.expect(expected);
                connection.close().await.expect("the server is there");
            }
        }
    }

    /// Changes a PostgreSQL database for all connections, those there are included: they are ended.
    async fn alter(&self, options: &PgConnectOptions, change: &str) {
        let name = name(options);
        let mut connection = Connection::to_postgres(&as_owner(options)).await;
        connection.execute(&format!("ALTER DATABASE {name} {change}")).await;
        let end = format!(
            "SELECT CAST(pg_terminate_backend(pid) AS TEXT) FROM pg_stat_activity
             WHERE datname = '{name}'"
        );
        eventually("nobody is connected", async || {
            connection.texts(&end).await.is_empty().then_some(())
        })
        .await;
        connection.close().await;
    }

    /// Removes what lies on a server; SQLite's file goes with its directory.
    pub(super) async fn remove(&self) {
        if let Self::Postgres(options) = self {
            let mut connection = Connection::to_postgres(&as_owner(options)).await;
            connection.execute(&format!("DROP DATABASE {} WITH (FORCE)", name(options))).await;
            connection.close().await;
        }
    }

    /// Waits until no account is being erased. Meanwhile an account and its entries have different names.
    pub(crate) async fn until_all_erased(&self) {
        eventually("all is erased", async || {
            self.texts("SELECT user_id FROM erasures").await.is_empty().then_some(())
        })
        .await;
    }

    /// Checks that the books balance.
    pub(crate) async fn check_invariants(&self) {
        let further = match self {
            Self::Sqlite(_) => &SQLITE_VIOLATIONS[..],
            Self::Postgres(_) => &[],
        };
        let mut connection = self.connect().await;
        for (rule, sql) in VIOLATIONS.iter().chain(further) {
            assert_eq!(connection.texts(sql).await, Vec::<String>::new(), "{rule}");
        }
        connection.close().await;
    }

    /// Checks that services which were stopped left it in good order.
    pub(crate) async fn check_left_in_order(&self) {
        match self {
            Self::Sqlite(_) => assert_eq!(self.wal_bytes(), 0, "the write-ahead log was taken in"),
            Self::Postgres(_) => self.left_by_all().await,
        }
    }

    /// Waits until no session of a service is left. A PostgreSQL server carries out what a process has
    /// sent it, even if that process is dead by then.
    pub(crate) async fn left_by_all(&self) {
        if let Self::Postgres(_) = self {
            let mut sessions = Sessions::at(self).await;
            sessions.all_end().await;
            sessions.close().await;
        }
    }
}

/// What a PostgreSQL database is called.
fn name(options: &PgConnectOptions) -> &str {
    options.get_database().expect("it has a name")
}

/// How to connect to the same server as who owns everything.
fn as_owner(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().username(cluster::OWNER).database(cluster::OWNER)
}

/// Where SQLite's file is while it is away.
fn away(path: &Path) -> PathBuf {
    path.with_extension("away")
}

/// The right to write, held by a test.
#[derive(Debug)]
pub(crate) struct Lock(Connection);

impl Lock {
    pub(crate) async fn release(mut self) {
        self.0.execute("ROLLBACK").await;
        self.0.close().await;
    }
}
