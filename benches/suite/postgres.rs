//! `cargo bench -- postgres`: the service on PostgreSQL, against `pgbench` with the same rows on the same
//! server: on one account that everybody uses, and on many. Then against itself: with other numbers of lanes and of
//! instances, behind a pooler, and where the server counted rows at the worst moment.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use crate::{
    CONNECTIONS, ROUNDS,
    client::{Pace, load},
    cluster::Cluster,
    limits::{Bound, Limits},
    requests::{Requests, WITH_TOKENS, token},
    runs::{Figures, Run, amount, grouped, median, median_of, print, print_heading},
    server::{BINARY, Server, start_service},
    service::new_folder,
};

const USERS: usize = 10_000;
/// How often one and two instances have their turn: as often first as second.
const TURNS: usize = 14;
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

/// Rows are counted when we say so only.
const NEVER_COUNT_AGAIN: &str = "
    ALTER TABLE transactions SET (autovacuum_enabled = false);
    ALTER TABLE token_balances SET (autovacuum_enabled = false);
    ALTER TABLE credits SET (autovacuum_enabled = false);
    ALTER TABLE holds SET (autovacuum_enabled = false)";
/// Consumptions to be there before it is measured what counting too early costs.
const ROWS_BEFORE: u64 = 20_000;

/// Numbers of lanes to compare.
const LANES: [&str; 5] = ["1", "2", "4", "8", "16"];
const AT_LEAST_ONE: Bound = Bound::AtLeast(1.0);
/// Half of what it was before statements were planned once, 340 µs.
const SERVER_TIME: Bound = Bound::AtMost(170.0);

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
    let mut limits = Limits::default();
    print_heading();
    let mut bench = Bench { cluster, directory, duration, served: String::new(), answered: 0 };
    bench.served = bench.filled("served").await?;
    bench.beside_pgbench(&mut limits).await?;
    bench.lanes(&mut limits).await?;
    bench.instances(&mut limits).await?;
    bench.server_time(&mut limits).await?;
    bench.behind_a_pooler(&mut limits).await?;
    ensure_recorded(&bench.served, bench.answered).await?;
    println!("\nconsumptions, every one found: {}", grouped(amount(bench.answered)));
    bench.analyzed_too_early(&mut limits).await?;
    limits.print();
    Ok(())
}

/// A server with a database of many accounts, on which instances are measured.
struct Bench {
    cluster: Cluster,
    directory: TempDir,
    duration: Duration,
    /// The URL of the database.
    served: String,
    /// Consumptions in it that were acknowledged.
    answered: u64,
}

impl Bench {
    async fn filled(&self, name: &str) -> Result<String> {
        let url = self.cluster.database(name).await?;
        fill(&url, self.directory.path()).await?;
        Ok(url)
    }

    /// An instance at a database.
    async fn instance(&self, url: &str, settings: &[(&str, &str)]) -> Result<Server> {
        let settings = [&[("DATABASE_URL", url)], &WITH_TOKENS[..], settings].concat();
        Ok(start_service(Path::new(BINARY), self.directory.path(), &settings).await?.0)
    }

    async fn load(&mut self, servers: &[&Server], requests: &Requests) -> Result<Run> {
        let pace = Pace::AtOnce(self.duration);
        let connections = CONNECTIONS.checked_div(servers.len()).context("no instance")?;
        let run = load_all(servers, connections, requests, pace).await?;
        self.answered = self.answered.saturating_add(run.recorded);
        Ok(run)
    }

    async fn beside_pgbench(&mut self, limits: &mut Limits) -> Result<()> {
        self.filled(BY_HAND).await?;
        let directory = self.directory.path();
        let cases = [Case::one_account(directory)?, Case::many_accounts(directory)?];
        let server = self.instance(&self.served, &[]).await?;
        let mut measured = [const { (Vec::new(), Vec::new()) }; 2];
        for round in 1..=ROUNDS {
            eprintln!("beside pgbench, round {round} of {ROUNDS}");
            for (case, (runs, peer)) in cases.iter().zip(&mut measured) {
                runs.push(self.load(&[&server], &case.requests).await?);
                let by_hand =
                    self.cluster.pgbench(BY_HAND, CONNECTIONS, &case.script, self.duration);
                peer.push(by_hand?);
            }
        }
        server.stop()?;
        for (case, (runs, peer)) in cases.iter().zip(measured) {
            let (figures, peer) = (median(&runs), median_of(peer));
            print(&format!("consume, {}", case.name), CONNECTIONS, &figures);
            let name = format!("pgbench, {}", case.name);
            println!("{name:<44}{CONNECTIONS:>5}{:>12}", grouped(peer));
            let ratio = figures.per_second / peer;
            limits.hold(&format!("consume / pgbench, {}", case.name), ratio, case.bound);
        }
        Ok(())
    }

    async fn lanes(&mut self, limits: &mut Limits) -> Result<()> {
        let requests = requests_of_many()?;
        let mut servers = Vec::new();
        for lanes in LANES {
            servers.push(self.instance(&self.served, &[("BILLING_PG_LANES", lanes)]).await?);
        }
        let groups: Vec<(String, Vec<&Server>)> = LANES
            .iter()
            .zip(&servers)
            .map(|(lanes, server)| (format!("consume, {lanes} lanes"), vec![server]))
            .collect();
        let mut measured: Vec<Vec<Run>> = groups.iter().map(|_| Vec::new()).collect();
        for round in 1..=ROUNDS {
            eprintln!("lanes, round {round} of {ROUNDS}");
            for ((_, servers), runs) in groups.iter().zip(&mut measured) {
                runs.push(self.load(servers, &requests).await?);
            }
        }
        let figures: Vec<Figures> = measured.iter().map(|runs| median(runs)).collect();
        for ((name, _), figures) in groups.iter().zip(&figures) {
            print(name, CONNECTIONS, figures);
        }
        let best = figures.iter().map(|figures| figures.per_second).fold(0.0, f64::max);
        let most = figures.last().map_or(0.0, |figures| figures.per_second);
        limits.hold("consume, 16 lanes / the best number", most / best, Bound::AtLeast(0.8));
        for server in servers {
            server.stop()?;
        }
        Ok(())
    }

    /// One and two in turn. The ratio is that of each turn: a machine may do twice as much in one second as in the
    /// next.
    async fn instances(&mut self, limits: &mut Limits) -> Result<()> {
        let requests = requests_of_many()?;
        let first = self.instance(&self.served, &[]).await?;
        let second = self.instance(&self.served, &[]).await?;
        let (mut alone, mut together, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 1..=TURNS {
            eprintln!("instances, turn {turn} of {TURNS}");
            let (one, both) = if turn.is_multiple_of(2) {
                let one = self.load(&[&first], &requests).await?;
                (one, self.load(&[&first, &second], &requests).await?)
            } else {
                let both = self.load(&[&first, &second], &requests).await?;
                (self.load(&[&first], &requests).await?, both)
            };
            ratios.push(both.figures.per_second / one.figures.per_second);
            alone.push(one);
            together.push(both);
        }
        print("consume, an instance", CONNECTIONS, &median(&alone));
        print("consume, two instances", CONNECTIONS, &median(&together));
        limits.hold("consume, two instances / one", median_of(ratios), AT_LEAST_ONE);
        first.stop()?;
        second.stop()
    }

    /// What a consumption and what a commit takes of the database server's processors, from loads with few and with
    /// many operations in a batch.
    async fn server_time(&mut self, limits: &mut Limits) -> Result<()> {
        let requests = requests_of_many()?;
        let server = self.instance(&self.served, &[("BILLING_PG_LANES", "1")]).await?;
        let (mut each, mut commit) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            eprintln!("server time, round {round} of {ROUNDS}");
            let mut equations = [[0.0; 3]; 2];
            for (connections, equation) in [2, CONNECTIONS].into_iter().zip(&mut equations) {
                let before = self.cluster.work_of_service(&self.served).await?;
                let pace = Pace::AtOnce(self.duration);
                let run = load(server.address, connections, &requests, pace).await?;
                self.answered = self.answered.saturating_add(run.recorded);
                let after = self.cluster.work_of_service(&self.served).await?;
                let commits = after.transactions.saturating_sub(before.transactions);
                let spent = after.on_processor.saturating_sub(before.on_processor);
                *equation = [amount(run.recorded), amount(commits), spent.as_secs_f64() * 1e6];
            }
            let [[n, commits, spent], [many, their_commits, their_spent]] = equations;
            let determinant = n * their_commits - many * commits;
            each.push((spent * their_commits - their_spent * commits) / determinant);
            commit.push((n * their_spent - many * spent) / determinant);
        }
        server.stop()?;
        let (each, commit) = (median_of(each), median_of(commit));
        println!("\nserver time: {each:.0} µs per consumption and {commit:.0} µs per commit");
        limits.hold(
            "µs of the server / consumption, batches of 8",
            each + commit / 8.0,
            SERVER_TIME,
        );
        Ok(())
    }

    /// Beside the same without it. Left out where there is no `PgBouncer`.
    async fn behind_a_pooler(&mut self, limits: &mut Limits) -> Result<()> {
        let Some(pooler) = self.cluster.pooler().await? else {
            println!("\nbehind PgBouncer: not measured, it is not installed");
            return Ok(());
        };
        let pooled = pooler.url("served");
        let Ok(behind) = self.instance(&pooled, &[("BILLING_PG_POOLER", "transaction")]).await
        else {
            println!("\nbehind PgBouncer: not measured, the service does not start");
            return Ok(());
        };
        let requests = requests_of_many()?;
        let direct = self.instance(&self.served, &[]).await?;
        let (mut directly, mut pooled) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            eprintln!("behind PgBouncer, round {round} of {ROUNDS}");
            directly.push(self.load(&[&direct], &requests).await?);
            pooled.push(self.load(&[&behind], &requests).await?);
        }
        behind.stop()?;
        direct.stop()?;
        let (directly, pooled) = (median(&directly), median(&pooled));
        print("consume, direct", CONNECTIONS, &directly);
        print("consume, behind PgBouncer", CONNECTIONS, &pooled);
        let ratio = pooled.per_second / directly.per_second;
        limits.hold("consume, behind PgBouncer / direct", ratio, Bound::AtLeast(0.7));
        Ok(())
    }

    /// On a database whose rows were counted before the first consumption, beside one where they were counted after.
    async fn analyzed_too_early(&mut self, limits: &mut Limits) -> Result<()> {
        let requests = requests_of_many()?;
        let mut measured = Vec::new();
        for name in ["early", "late"] {
            let url = self.filled(name).await?;
            execute(&url, NEVER_COUNT_AGAIN).await?;
            let server = self.instance(&url, &[]).await?;
            let pace = Pace::Exactly(ROWS_BEFORE);
            load(server.address, CONNECTIONS, &requests, pace).await?;
            if name == "late" {
                execute(&url, "VACUUM ANALYZE").await?;
            }
            measured.push((server, Vec::new()));
        }
        for round in 1..=ROUNDS {
            eprintln!("counted too early, round {round} of {ROUNDS}");
            for (server, runs) in &mut measured {
                let pace = Pace::AtOnce(self.duration);
                runs.push(load(server.address, CONNECTIONS, &requests, pace).await?);
            }
        }
        let mut rates = Vec::new();
        for ((server, runs), name) in measured.into_iter().zip(["before", "after"]) {
            server.stop()?;
            let figures = median(&runs);
            print(&format!("consume, counted {name} the first"), CONNECTIONS, &figures);
            rates.push(figures.per_second);
        }
        let [early, late] = rates[..] else { bail!("nothing was measured") };
        limits.hold("consume, counted too early / in time", early / late, Bound::AtLeast(0.9));
        Ok(())
    }
}

/// Loads instances at once, each over so many connections.
async fn load_all(
    servers: &[&Server],
    connections: usize,
    requests: &Requests,
    pace: Pace,
) -> Result<Run> {
    let loads = servers.iter().map(|server| load(server.address, connections, requests, pace));
    let runs: Vec<Run> = futures_util::future::try_join_all(loads).await?;
    let mut all = median(&runs);
    all.per_second = runs.iter().map(|run| run.figures.per_second).sum();
    Ok(Run { figures: all, recorded: runs.iter().map(|run| run.recorded).sum() })
}

fn requests_of_many() -> Result<Requests> {
    let tokens: Result<Vec<String>> =
        (1..=USERS).map(|number| token(&format!("user-{number}"))).collect();
    Ok(Requests::of(&tokens?))
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
        Ok(Self { name: "one account", requests, script, bound: Bound::AtLeast(12.0) })
    }

    fn many_accounts(directory: &Path) -> Result<Self> {
        let script = directory.join("many.sql");
        let of_any_user = statements(&CONSUME.replace("USER", "'user-' || :n"));
        fs::write(&script, format!("\\set n random(1, {USERS})\n{of_any_user}"))?;
        let requests = requests_of_many()?;
        Ok(Self { name: "10,000 accounts", requests, script, bound: Bound::AtLeast(3.0) })
    }
}

/// Has the service make the tables, and opens accounts.
async fn fill(url: &str, directory: &Path) -> Result<()> {
    let (server, _) = start_service(Path::new(BINARY), directory, &[("DATABASE_URL", url)]).await?;
    server.stop()?;
    execute(url, ACCOUNTS).await
}

/// Runs statements, each on its own.
async fn execute(url: &str, statements: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    for statement in statements.split(';') {
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
