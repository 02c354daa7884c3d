//! Databases as years of work would have left them: made with the service's own migrations, filled by SQL,
//! and such that `token-billing verify` finds nothing wrong.

use std::path::Path;

use anyhow::{Result, ensure};
use sqlx::{
    AssertSqlSafe, Connection, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::{guard::guarded, server::BINARY};

/// Where the service's migrations are.
pub(crate) const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite");

/// What is in it. Transactions come in blocks: a purchase, an allocation of all of it to one model, and
/// consumptions of that model. Users take turns with blocks, and after each turn it is the next model's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Books {
    pub(crate) owners: Owners,
    pub(crate) models: u64,
    pub(crate) blocks: u64,
    pub(crate) block_length: u64,
    /// Idempotency keys, all in their index.
    pub(crate) keys: u64,
}

/// Whose accounts they are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owners {
    /// Whoever asks without a token.
    DefaultUser,
    /// So many, named as `numbered_user` says.
    Numbered(u64),
}

/// Number `n`, at place `p` of its block.
const TRANSACTIONS: &str = "
    WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < $COUNT),
        rows AS (
            SELECT n, n % $LENGTH AS p, $OWNER AS user, 'model-' || (n / $LENGTH / $USERS % $MODELS) AS model
            FROM numbers
        )
    INSERT INTO transactions (id, user_id, type, amount, model_id, metadata, input_tokens,
        output_tokens, price_per_m_token, credits_delta, tokens_delta, created_at)
    SELECT n + 1, user,
        CASE p WHEN 0 THEN 'purchase' WHEN 1 THEN 'allocation' ELSE 'consumption' END,
        CASE WHEN p < 2 THEN 1000000 ELSE 7000 END,
        CASE WHEN p > 0 THEN model END,
        CASE p WHEN 0 THEN '{}' END,
        CASE WHEN p > 1 THEN 5000 END,
        CASE WHEN p > 1 THEN 2000 END,
        CASE p WHEN 1 THEN 100 END,
        CASE p WHEN 0 THEN 1000000 WHEN 1 THEN -1000000 ELSE 0 END,
        CASE p WHEN 0 THEN 0 WHEN 1 THEN 10000000000 ELSE -7000 END,
        strftime('%Y-%m-%dT%H:%M:%S.000000Z', $START + n * $MONTH / $COUNT, 'unixepoch')
    FROM rows";

/// The days over which transactions are spread; when that begins, and how long it is, in seconds.
pub(crate) const BOOKS_MONTH: (&str, &str) = ("2026-10-01", "2026-10-31");
const START: u32 = 1_790_812_800;
const MONTH: u32 = 31 * 24 * 60 * 60;

const USERS: &str = "
    WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < $USERS)
    INSERT OR IGNORE INTO users (user_id, created_at)
    SELECT $OWNER, $NOW FROM (SELECT n * $LENGTH AS n FROM numbers)";

const PRICES: &str = "
    WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < $MODELS)
    INSERT INTO token_pricing
        (model_id, price_per_m_token, category, exchange_rate, margin_percent, updated_at)
    SELECT 'model-' || n, 100, 'quick', 150, 20, $NOW FROM numbers";

const CREDITS: &str = "
    INSERT OR REPLACE INTO credits (user_id, credits, updated_at)
    SELECT user_id, sum(credits_delta), $NOW FROM transactions GROUP BY user_id";

const BALANCES: &str = "
    INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
    SELECT user_id, model_id, sum(tokens_delta), $NOW FROM transactions
    WHERE model_id IS NOT NULL GROUP BY user_id, model_id ORDER BY user_id, model_id";

/// Young enough to be remembered.
const KEYS: &str = "
    WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < $KEYS)
    INSERT INTO idempotency_keys (id, digest, user_id, key, fingerprint, outcome, created_at)
    SELECT n + 1, random(), $OWNER, hex(randomblob(18)), random(), '7000',
        strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')
    FROM numbers WHERE $KEYS > 0";

const KEY_INDEX: &str = "
    INSERT INTO idempotency_index (digest, id)
    SELECT digest, id FROM idempotency_keys ORDER BY digest";

const KEYS_INDEXED: &str = "UPDATE idempotency_indexed SET id = $KEYS";

impl Books {
    pub(crate) const fn transactions(&self) -> u64 {
        self.blocks.saturating_mul(self.block_length)
    }

    const fn users(&self) -> u64 {
        match self.owners {
            Owners::DefaultUser => 1,
            Owners::Numbered(users) => users,
        }
    }

    /// Puts a statement's numbers in.
    fn fill_in(&self, sql: &str) -> String {
        let owner = match self.owners {
            Owners::DefaultUser => "'default_user'",
            Owners::Numbered(_) => "printf('user-%07d', n / $LENGTH % $USERS)",
        };
        // The owner first: it holds other places.
        sql.replace("$OWNER", owner)
            .replace("$USERS", &self.users().to_string())
            .replace("$COUNT", &self.transactions().to_string())
            .replace("$LENGTH", &self.block_length.to_string())
            .replace("$KEYS", &self.keys.to_string())
            .replace("$MODELS", &self.models.to_string())
            .replace("$START", &START.to_string())
            .replace("$MONTH", &MONTH.to_string())
            .replace("$NOW", "'2026-11-24T10:34:57.699913Z'")
    }

    /// Makes the database.
    pub(crate) async fn write(&self, database: &Path) -> Result<()> {
        let options = SqliteConnectOptions::new()
            .filename(database)
            .create_if_missing(true)
            // Nothing of it has to outlive a crash yet.
            .journal_mode(SqliteJournalMode::Off)
            .synchronous(SqliteSynchronous::Off)
            .foreign_keys(false)
            .pragma("cache_size", "-1000000");
        let mut connection = SqliteConnection::connect_with(&options).await?;
        Migrator::new(Path::new(MIGRATIONS)).await?.run(&mut connection).await?;
        for sql in [USERS, PRICES, TRANSACTIONS, CREDITS, BALANCES, KEYS, KEY_INDEX, KEYS_INDEXED] {
            let sql = AssertSqlSafe(self.fill_in(sql));
            sqlx::raw_sql(sql).execute(&mut connection).await?;
        }
        connection.close().await?;
        Ok(())
    }
}

/// Has the service's own audit look through a database.
pub(crate) fn verify(database: &Path) -> Result<()> {
    let url = format!("sqlite://{}", database.display());
    let output = guarded(BINARY)?.env("DATABASE_URL", url).arg("verify").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{} is not sound: {text}", database.display());
    Ok(())
}
