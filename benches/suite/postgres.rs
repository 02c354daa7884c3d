//! `cargo bench -- postgres`: the service on PostgreSQL, against `pgbench` with the same rows on the same
//! server: on one account that everybody uses, and on many.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    CONNECTIONS, ROUNDS,
    client::{Pace, load},
    cluster::Cluster,
    limits::{Bound, Limits},
    requests::{Requests, WITH_TOKENS, token},
    runs::{amount, grouped, median, median_of, print, print_heading},
    server::start_service,
    service::new_folder,
};

const USERS: usize = 10_000;

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
    let by_hand = cluster.database("by_hand").await?;
    let served = cluster.database("served").await?;
    for url in [&by_hand, &served] {
        // The service makes the tables.
        let (server, _) = start_service(directory.path(), &[("DATABASE_URL", url)]).await?;
        server.stop()?;
        let mut connection = PgConnection::connect(url).await?;
        for statement in ACCOUNTS.split(';') {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
        }
        connection.close().await?;
    }
    let hot_script = directory.path().join("hot.sql");
    fs::write(&hot_script, statements(&CONSUME.replace("USER", "'default_user'")))?;
    let many_script = directory.path().join("many.sql");
    let any_user = format!(
        "\\set n random(1, {USERS})\n{}",
        statements(&CONSUME.replace("USER", "'user-' || :n"))
    );
    fs::write(&many_script, any_user)?;

    let settings = [&[("DATABASE_URL", &*served)], &WITH_TOKENS[..]].concat();
    let (server, _) = start_service(directory.path(), &settings).await?;
    let hot = Requests::of(&[token("default_user")?]);
    let tokens: Result<Vec<String>> =
        (1..=USERS).map(|number| token(&format!("user-{number}"))).collect();
    let many = Requests::of(&tokens?);

    let [mut hot_runs, mut many_runs] = [const { Vec::new() }; 2];
    let [mut hot_peer, mut many_peer] = [const { Vec::new() }; 2];
    let pace = Pace::AtOnce(duration);
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        hot_runs.push(load(server.address, CONNECTIONS, &hot, pace).await?);
        hot_peer.push(cluster.pgbench("by_hand", CONNECTIONS, &hot_script, duration)?);
        many_runs.push(load(server.address, CONNECTIONS, &many, pace).await?);
        many_peer.push(cluster.pgbench("by_hand", CONNECTIONS, &many_script, duration)?);
    }
    server.stop()?;
    let answered: u64 = hot_runs.iter().chain(&many_runs).map(|run| run.recorded).sum();
    let mut connection = PgConnection::connect(&served).await?;
    let count = "SELECT count(*) FROM transactions WHERE type = 'consumption'";
    let recorded: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await?;
    ensure!(
        u64::try_from(recorded)? == answered,
        "{answered} answered with success, but {recorded} in the database"
    );

    let (hot, many) = (median(&hot_runs), median(&many_runs));
    print_heading();
    print("consume, one account", CONNECTIONS, &hot);
    print("consume, 10,000 accounts", CONNECTIONS, &many);
    let (hot_peer, many_peer) = (median_of(hot_peer), median_of(many_peer));
    for (name, rate) in [("one account", hot_peer), ("10,000 accounts", many_peer)] {
        println!("{:<44}{CONNECTIONS:>5}{:>12}", format!("pgbench, {name}"), grouped(rate));
    }
    println!("\nconsumptions, every one found: {}", grouped(amount(answered)));
    let mut limits = Limits::default();
    let (hot, many) = (hot.per_second / hot_peer, many.per_second / many_peer);
    limits.hold("consume / pgbench, one account", hot, Bound::AtLeast(1.5));
    limits.hold("consume / pgbench, 10,000 accounts", many, Bound::AtLeast(0.5));
    limits.print();
    Ok(())
}

/// Each statement in a line, as `pgbench` wants them.
fn statements(script: &str) -> String {
    let words: Vec<&str> = script.split_whitespace().collect();
    words.join(" ").replace("; ", ";\n")
}
