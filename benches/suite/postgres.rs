//! `cargo bench -- postgres`: the service on PostgreSQL, against `pgbench` with the same rows on the same
//! server: on one account that everybody uses, and on many.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    CONNECTIONS, ROUNDS,
    client::{Pace, load},
    cluster::Cluster,
    limits::{Bound, Limits},
    requests::{Requests, WITH_TOKENS, token},
    runs::{amount, grouped, median, median_of, print, print_heading},
    server::{BINARY, start_service},
    service::new_folder,
};

const USERS: usize = 10_000;
/// The database that `pgbench` works on.
const BY_HAND: &str = "by_hand";

/// Rows as the service leaves them after purchases and allocations.
const ACCOUNTS: &str = "
    INSERT INTO users (user_id, created_at)
    SELECT 'user-' || n, now() FROM generate_series(1, 10000) AS n;
    INSERT INTO credits (user_id, credits, updated_at)
    SELECT 'user-' || n, 0, now() FROM generate_series(1, 10000) AS n;
    INSERT INTO transactions
        (user_id, type, amount, metadata, credits_delta, tokens_delta, created_at)
    SELECT user_id, 'purchase', 600000000, '{}', 600000000, 0, now() FROM users;
    INSERT INTO transactions
        (user_id, type, amount, model_id, price_per_m_token, credits_delta, tokens_delta, created_at)
    SELECT user_id, 'allocation', 600000000, 'gemini-2.0-flash', 75, -600000000, 8000000000000, now()
    FROM users;
    INSERT INTO token_balances (user_id, model_id, allocated_tokens, updated_at)
    SELECT user_id, 'gemini-2.0-flash', 8000000000000, now() FROM users;
    VACUUM ANALYZE";

/// The writes of a consumption, as a transaction of their own.
const CONSUME: &str = "BEGIN;
    UPDATE token_balances SET allocated_tokens = allocated_tokens - 7000, updated_at = now()
    WHERE user_id = USER AND model_id = 'gemini-2.0-flash' AND allocated_tokens >= 7000;
    INSERT INTO transactions (user_id, type, amount, model_id, input_tokens, output_tokens,
        credits_delta, tokens_delta, created_at)
    VALUES (USER, 'consumption', 7000, 'gemini-2.0-flash', 5000, 2000, 0, -7000, now());
    COMMIT;
";

pub(crate) async fn measure(duration: Duration) -> Result<()> {
    let cluster = Cluster::start().await?;
    let directory = new_folder()?;
    let (by_hand, served) = (cluster.database(BY_HAND).await?, cluster.database("served").await?);
    for url in [&by_hand, &served] {
        fill(url, directory.path()).await?;
    }
    let cases = [Case::one_account(directory.path())?, Case::many_accounts(directory.path())?];

    let settings = [&[("DATABASE_URL", &*served)], &WITH_TOKENS[..]].concat();
    let (server, _) = start_service(Path::new(BINARY), directory.path(), &settings).await?;
    let mut measured = [const { (Vec::new(), Vec::new()) }; 2];
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for (case, (runs, peer)) in cases.iter().zip(&mut measured) {
            let pace = Pace::AtOnce(duration);
            runs.push(load(server.address, CONNECTIONS, &case.requests, pace).await?);
            peer.push(cluster.pgbench(BY_HAND, CONNECTIONS, &case.script, duration)?);
        }
    }
    server.stop()?;
    let answered = measured.iter().flat_map(|(runs, _)| runs).map(|run| run.recorded).sum();
    ensure_recorded(&served, answered).await?;

    print_heading();
    let mut limits = Limits::default();
    for (case, (runs, peer)) in cases.iter().zip(measured) {
        let (figures, peer) = (median(&runs), median_of(peer));
        print(&format!("consume, {}", case.name), CONNECTIONS, &figures);
        println!("{:<44}{CONNECTIONS:>5}{:>12}", format!("pgbench, {}", case.name), grouped(peer));
        let ratio = figures.per_second / peer;
        limits.hold(&format!("consume / pgbench, {}", case.name), ratio, case.bound);
    }
    println!("\nconsumptions, every one found: {}", grouped(amount(answered)));
    limits.print();
    Ok(())
}

/// Who consumes, at the service and by hand.
struct Case {
    name: &'static str,
    requests: Requests,
    /// The same for `pgbench`.
    script: PathBuf,
    /// Of the ratio of the two.
    bound: Bound,
}

impl Case {
    fn one_account(directory: &Path) -> Result<Self> {
        let script = directory.join("one.sql");
        fs::write(&script, statements(&CONSUME.replace("USER", "'default_user'")))?;
        let requests = Requests::of(&[token("default_user")?]);
        Ok(Self { name: "one account", requests, script, bound: Bound::AtLeast(1.5) })
    }

    fn many_accounts(directory: &Path) -> Result<Self> {
        let script = directory.join("many.sql");
        let of_any_user = statements(&CONSUME.replace("USER", "'user-' || :n"));
        fs::write(&script, format!("\\set n random(1, {USERS})\n{of_any_user}"))?;
        let tokens: Result<Vec<String>> =
            (1..=USERS).map(|number| token(&format!("user-{number}"))).collect();
        let requests = Requests::of(&tokens?);
        Ok(Self { name: "10,000 accounts", requests, script, bound: Bound::AtLeast(0.5) })
    }
}

/// Has the service make the tables, and opens accounts.
async fn fill(url: &str, directory: &Path) -> Result<()> {
    let (server, _) = start_service(Path::new(BINARY), directory, &[("DATABASE_URL", url)]).await?;
    server.stop()?;
    let mut connection = PgConnection::connect(url).await?;
    for statement in ACCOUNTS.split(';') {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(())
}

async fn ensure_recorded(url: &str, answered: u64) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let count = "SELECT count(*) FROM transactions WHERE type = 'consumption'";
    let recorded: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await?;
    ensure!(
        u64::try_from(recorded)? == answered,
        "{answered} answered with success, but {recorded} in the database"
    );
    Ok(())
}

/// Each statement in a line, as `pgbench` wants them.
fn statements(script: &str) -> String {
    let words: Vec<&str> = script.split_whitespace().collect();
    words.join(" ").replace("; ", ";\n")
}
