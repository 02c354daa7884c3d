//! How sessions at the server begin: on which host, and with which limits. On those that serve requests no statement,
//! lock or idle transaction lasts longer than a request may take, and a commit is on disk when it is reported.
//!
//! Limits are set in a session once it is there, never at its startup: poolers refuse those parameters, or drop them.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row, SqlSafeStr, SqlStr,
    postgres::PgConnectOptions,
};
use tokio::time::timeout;

use super::{address::Address, plans::PLANS};

/// How long it may take to connect, to all hosts together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a statement may take. Well below the deadline of a request, so that whoever asked still gets
/// an answer.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_millis(2_500);
/// How long a statement waits for the locks of other writers.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// After how long the server ends a transaction in which nothing happens any more, and frees its locks:
/// that of an instance which lost its network, say.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);
/// After how long the server gives up what it sent to an instance that does not confirm it.
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// What has no end where work may take as long as it needs; as `pg_dump` has it. Older servers lack some.
const WITHOUT_LIMITS: &str = "SET LOCAL statement_timeout = 0; SELECT set_config(name, '0', true)
    FROM pg_settings WHERE name IN ('lock_timeout', 'transaction_timeout', 'idle_session_timeout',
    'idle_in_transaction_session_timeout')";
/// A server that is set up to report commits before they are on disk is told not to.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', ###)
    WHERE current_setting('synchronous_commit') = 'off'";
/// A database may have another default, but a locked row must be seen as it is then. Where the default is
/// to write nothing, that is somebody's wish.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// One transaction, so that all that is read is of one moment.
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// What an earlier transaction left in a session that is not ours alone: our statements have the same names.
const FORGET_STATEMENTS: &str = "DEALLOCATE ALL";

/// Marks a session, and looks for the mark.
const MARK: &str = "SELECT set_config('token_billing.mark', 'yes', false)";
const IS_MARKED: &str = "SELECT coalesce(current_setting('token_billing.mark', true), '')";

/// What stands between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooler {
    /// Nothing, or what gives each connection a session of its own.
    None,
    /// What gives a session for a transaction at a time, such as `PgBouncer` with `pool_mode = transaction`.
    Transaction,
}

/// How to begin sessions and transactions. Clones know of each other which host was the last that took us.
#[derive(Clone)]
pub(super) struct Session {
    hosts: Arc<Hosts>,
    pooler: Pooler,
    /// The schema that holds the tables, quoted, once it is known.
    schema: Option<String>,
    /// What a session that serves is told first.
    first: SqlStr,
    begin: SqlStr,
}

/// Without the options: they hold the password.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("pooler", &self.pooler).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(address: &Address, pooler: Pooler) -> Self {
        let hosts = address.hosts.iter().cloned().map(|host| match pooler {
            Pooler::None => host,
            Pooler::Transaction => host.statement_cache_capacity(0),
        });
        let hosts = Hosts {
            all: hosts.collect(),
            must_take_writes: address.must_take_writes,
            next: AtomicUsize::new(0),
        };
        Self::at(Arc::new(hosts), pooler, None)
    }

    /// The same for tables that are in this schema, whatever others come.
    pub(super) fn in_schema(&self, quoted: &str) -> Self {
        Self::at(Arc::clone(&self.hosts), self.pooler, Some(quoted.to_owned()))
    }

    /// The same for tables that are where another has them.
    pub(super) fn in_schema_of(&self, other: &Self) -> Self {
        Self::at(Arc::clone(&self.hosts), self.pooler, other.schema.clone())
    }

    fn at(hosts: Arc<Hosts>, pooler: Pooler, schema: Option<String>) -> Self {
        let first = SqlStr::from_static("");
        let mut session = Self { hosts, pooler, schema, begin: first.clone(), first };
        session.first = owned(&session.limits(Lasting::Session));
        session.begin = session.beginning(BEGIN, &session.limits(Lasting::Transaction), "");
        session
    }

    /// A connection that serves requests.
    pub(super) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        match self.pooler {
            Pooler::None => self.hosts.connect(Some(&self.first)).await,
            Pooler::Transaction => self.hosts.connect(None).await,
        }
    }

    /// A connection whose statements may take as long as they need, in transactions that begin with
    /// [`Self::begin_work`] or [`Self::begin_snapshot`].
    pub(super) async fn connect_to_work(&self) -> Result<PgConnection, sqlx::Error> {
        self.hosts.connect(None).await
    }

    /// Whether a session keeps what it is set to. It does not where a pooler gives it to somebody else between
    /// transactions, unless we know of that: another connection is likely to be given the session that this one
    /// just left, and the next one that it gets has not been set.
    pub(super) async fn keeps_settings(
        &self,
        connection: &mut PgConnection,
    ) -> Result<bool, sqlx::Error> {
        if self.pooler == Pooler::Transaction {
            return Ok(true);
        }
        sqlx::raw_sql(MARK).execute(&mut *connection).await?;
        let mut other = self.hosts.connect(None).await?;
        let taken = timeout(CONNECT_TIMEOUT, sqlx::raw_sql(BEGIN).execute(&mut other)).await;
        let is_marked = sqlx::raw_sql(IS_MARKED).fetch_one(connection);
        // A pooler with one session for both would have us wait.
        let marked = match (taken, timeout(CONNECT_TIMEOUT, is_marked).await) {
            (Ok(taken), Ok(row)) => taken.and(row)?.try_get::<&str, _>(0)? == "yes",
            _ => false,
        };
        // The server finds out by itself, too.
        let _ = other.close().await;
        Ok(marked)
    }

    /// Whether statements that a session was told to remember are there the next time.
    pub(super) fn keeps_statements(&self) -> bool {
        self.pooler == Pooler::None
    }

    /// The trip that begins a transaction on a connection that serves, with all the limits it needs.
    pub(super) fn begin(&self) -> SqlStr {
        self.begin.clone()
    }

    /// The trip that begins a read, where a read has to be a transaction.
    pub(super) fn begin_read(&self) -> Option<SqlStr> {
        (self.pooler == Pooler::Transaction).then(|| self.begin())
    }

    /// The trip that begins a transaction which takes as long as it needs, but waits for a lock only so long.
    pub(super) fn begin_work(&self, lock_timeout: Duration) -> SqlStr {
        let limit = format!("SET LOCAL lock_timeout = {}", lock_timeout.as_millis());
        self.beginning(BEGIN, &self.without_limits(), &limit)
    }

    /// The trip that begins to read everything as of one moment, however long that takes.
    pub(super) fn begin_snapshot(&self) -> SqlStr {
        self.beginning(BEGIN_SNAPSHOT, &self.without_limits(), "")
    }

    fn beginning(&self, begin: &str, settings: &str, more: &str) -> SqlStr {
        let text = match self.pooler {
            // The session that serves has its limits already.
            Pooler::None if begin == BEGIN && more.is_empty() => begin.to_owned(),
            Pooler::None => [begin, settings, more].join(";"),
            Pooler::Transaction => [begin, FORGET_STATEMENTS, settings, more].join(";"),
        };
        owned(&text)
    }

    fn limits(&self, lasting: Lasting) -> String {
        let limits = [
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", IDLE_TRANSACTION_TIMEOUT),
        ];
        let set = lasting.keyword();
        let mut all: Vec<_> = limits
            .map(|(name, limit)| format!("{set} {name} = {}", limit.as_millis()))
            .into_iter()
            .collect();
        if lasting == Lasting::Session {
            // Of the connection to the pooler's machine, where there is one.
            all.push(format!("{set} tcp_user_timeout = {}", USER_TIMEOUT.as_millis()));
        }
        // Where statements are sent whole, a NULL in a list is written so.
        all.push(format!("{set} array_nulls = on"));
        all.extend(PLANS.map(|(name, value)| format!("{set} {name} = {value}")));
        all.push(lasting.config(DURABLE));
        self.common(lasting, all)
    }

    fn without_limits(&self) -> String {
        let local = Lasting::Transaction;
        self.common(local, vec![WITHOUT_LIMITS.to_owned()])
    }

    /// With what every session of ours is told.
    fn common(&self, lasting: Lasting, mut settings: Vec<String>) -> String {
        let set = lasting.keyword();
        // What the server tells of a start is no news.
        settings.push(format!("{set} client_min_messages = warning"));
        settings.extend(self.schema.iter().map(|it| format!("{set} search_path = {it}")));
        settings.join(";")
    }
}

/// For how long a setting lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasting {
    Session,
    Transaction,
}

impl Lasting {
    fn keyword(self) -> &'static str {
        match self {
            Self::Session => "SET",
            Self::Transaction => "SET LOCAL",
        }
    }

    /// A call of `set_config` that says so.
    fn config(self, call: &str) -> String {
        call.replace("###", if self == Self::Transaction { "true" } else { "false" })
    }
}

fn owned(text: &str) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

/// The hosts of a database.
struct Hosts {
    all: Vec<PgConnectOptions>,
    must_take_writes: bool,
    /// The place of the one to try first.
    next: AtomicUsize,
}

impl Hosts {
    /// A connection to the first that takes us, beginning with the last that did. It is told `first`.
    async fn connect(&self, first: Option<&SqlStr>) -> Result<PgConnection, sqlx::Error> {
        let count = self.all.len();
        let limit = u32::try_from(count).ok().and_then(|count| CONNECT_TIMEOUT.checked_div(count));
        let start = self.next.load(Ordering::Relaxed);
        let mut failure = late();
        for (place, host) in self.all.iter().enumerate().cycle().skip(start).take(count) {
            // Whoever is given up while it waits here goes on with the next.
            let next = place.saturating_add(1).checked_rem(count).unwrap_or_default();
            self.next.store(next, Ordering::Relaxed);
            match within(limit.unwrap_or(CONNECT_TIMEOUT), self.try_host(host, first)).await {
                Ok(connection) => {
                    self.next.store(place, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn try_host(
        &self,
        host: &PgConnectOptions,
        first: Option<&SqlStr>,
    ) -> Result<PgConnection, sqlx::Error> {
        let mut connection = host.connect().await?;
        if self.must_take_writes {
            let query = sqlx::raw_sql("SELECT current_setting('transaction_read_only')");
            let row = query.fetch_one(&mut connection).await?;
            if row.try_get::<&str, _>(0)? != "off" {
                return Err(sqlx::Error::Io(io::Error::other("no host takes writes")));
            }
        }
        if let Some(first) = first {
            sqlx::raw_sql(first.clone()).execute(&mut connection).await?;
        }
        Ok(connection)
    }
}

fn late() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "it takes too long"))
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}
