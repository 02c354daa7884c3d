//! Which engine a database is on, chosen by its URL; everything it is asked is passed on to that one.

use super::{
    Audit, BelievedPurchase, Check, Chore, DatabaseError, DatabaseSize, DuePurchase, HopedNew,
    Lane, MessageCounts, OpenError, Progress, PurchaseAskedFor, PurchaseCounts, Transaction,
    account_reads::{AccountReads, Prices},
    any_reader::AnyReader,
    postgres::{PostgresDatabase, PostgresLane, PostgresTransaction},
    sqlite::{SqliteDatabase, SqliteLane, SqliteTransaction},
};
use chrono::{DateTime, Utc};

use crate::domain::{
    Account, Facts, FreshUsage, HistoryFilter, HistoryPage, HoldId, LedgerEnd, LedgerLine,
    LogFilter, LogPage, MessageId, ModelId, PriceList, PricePage, ProductList, PurchaseKey,
    PurchaseName, PurchaseState, Quarters, TrackedPurchase, UsagePart, UserId, Wanted,
};

/// A database that may not exist yet.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    /// A file on this machine.
    Sqlite(SqliteDatabase),
    /// On a server that several instances of the service may share.
    Postgres(PostgresDatabase),
}

/// What only one of the engines cares about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EngineSettings {
    /// Most bytes of an SQLite file.
    pub max_bytes: Option<u64>,
    /// Connections that write to a PostgreSQL database at the same time.
    pub postgres_lanes: u16,
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What is written in. Operations of one user must all go to the same lane.
    pub lanes: Vec<AnyLane>,
    /// What reads from it.
    pub reader: Reader,
}

impl Database {
    /// The database a URL such as `sqlite://billing.db` or `postgres://billing@localhost/billing` names.
    /// Nothing is opened yet.
    ///
    /// # Errors
    /// [`OpenError::Url`] when it names none.
    pub(crate) fn from_url(url: &str, settings: EngineSettings) -> Result<Self, OpenError> {
        if url.starts_with("sqlite:") {
            SqliteDatabase::from_url(url, settings.max_bytes).map(Self::Sqlite)
        } else if PostgresDatabase::is_named_by(url) {
            PostgresDatabase::from_url(url, settings.postgres_lanes).map(Self::Postgres)
        } else {
            Err(OpenError::Url("must begin with sqlite:// or postgres://".to_owned()))
        }
    }

    /// What people call it; no password is in it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Sqlite(database) => database.name(),
            Self::Postgres(database) => database.name(),
        }
    }

    /// Opens the database, making and migrating it where needed.
    ///
    /// # Errors
    /// [`OpenError`]; a database that is not ours, or newer than we are, is left untouched.
    pub(crate) async fn open(&self) -> Result<Opened, OpenError> {
        match self {
            Self::Sqlite(database) => {
                let (lane, reader) = database.open().await?;
                let lanes = vec![AnyLane::Sqlite(Box::new(lane))];
                Ok(Opened { lanes, reader: Reader::start(AnyReader::Sqlite(reader)) })
            }
            Self::Postgres(database) => {
                let (lanes, reader) = database.open().await?;
                let lanes = lanes.into_iter().map(|lane| AnyLane::Postgres(Box::new(lane)));
                let reader = Reader::start(AnyReader::Postgres(reader));
                Ok(Opened { lanes: lanes.collect(), reader })
            }
        }
    }

    /// Looks whether everything in the database is as it must be, at one moment, without writing to it.
    /// `progress` is told what is looked at next.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be read.
    pub(crate) async fn audit(&self, progress: impl FnMut(Check)) -> Result<Audit, OpenError> {
        match self {
            Self::Sqlite(database) => database.audit(progress).await,
            Self::Postgres(database) => database.audit(progress).await,
        }
    }
}

/// What reads from a database: accounts, prices and pages of the history.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    engine: AnyReader,
    accounts: AccountReads,
}

impl Reader {
    /// Has to be called in a runtime, which reads accounts from then on.
    fn start(engine: AnyReader) -> Self {
        Self { accounts: AccountReads::start(engine.clone()), engine }
    }

    /// The user's account.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn account(&self, user: &UserId) -> Result<Account, DatabaseError> {
        Ok(self.accounts.read(user, Prices::NotWanted, None).await?.0)
    }

    /// The user's account and the current prices, of one moment.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn account_and_prices(
        &self,
        user: &UserId,
    ) -> Result<(Account, PriceList), DatabaseError> {
        self.accounts.read(user, Prices::Wanted, None).await
    }

    /// The same with the holds that count at a time.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn account_prices_and_holds(
        &self,
        user: &UserId,
        at: DateTime<Utc>,
    ) -> Result<(Account, PriceList), DatabaseError> {
        self.accounts.read(user, Prices::Wanted, Some(at)).await
    }

    /// The user's account with its holds that count at a time, and one that may not, if there is one called so.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn account_with_holds(
        &self,
        user: &UserId,
        at: DateTime<Utc>,
        hold: Option<HoldId>,
    ) -> Result<Account, DatabaseError> {
        let wanted = Wanted {
            users: vec![user.clone()],
            holds: hold.into_iter().map(|hold| (user.clone(), hold)).collect(),
            holds_at: Some(at),
            ..Wanted::default()
        };
        let facts = self.engine.read(&wanted).await?;
        Ok(facts.accounts.get(user).expect("its account was asked for").clone())
    }

    /// The current prices.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn prices(&self) -> Result<PriceList, DatabaseError> {
        let wanted = Wanted { prices: true, ..Wanted::default() };
        Ok(self.engine.read(&wanted).await?.prices)
    }

    /// What is sold, and what of it is not offered any more.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn products(&self) -> Result<ProductList, DatabaseError> {
        let products = match &self.engine {
            AnyReader::Sqlite(reader) => reader.products().await,
            AnyReader::Postgres(reader) => reader.products().await,
        };
        products.map_err(DatabaseError::of_read)
    }

    /// Purchases whose store is to be asked or told by now, at most `limit`, the longest due first.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn due_purchases(
        &self,
        now: DateTime<Utc>,
        limit: u16,
    ) -> Result<Vec<DuePurchase>, DatabaseError> {
        let due = match &self.engine {
            AnyReader::Sqlite(reader) => reader.due_purchases(now, limit).await,
            AnyReader::Postgres(reader) => reader.due_purchases(now, limit).await,
        };
        due.map_err(DatabaseError::of_read)
    }

    /// How many purchases there are that the stores confirm.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn purchase_counts(&self) -> Result<PurchaseCounts, DatabaseError> {
        let counts = match &self.engine {
            AnyReader::Sqlite(reader) => reader.purchase_counts().await,
            AnyReader::Postgres(reader) => reader.purchase_counts().await,
        };
        counts.map_err(DatabaseError::of_read)
    }

    /// Messages of the stores that are to be worked on by now, at most `limit`, the longest due first.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn due_messages(
        &self,
        now: DateTime<Utc>,
        limit: u16,
    ) -> Result<Vec<MessageId>, DatabaseError> {
        let due = match &self.engine {
            AnyReader::Sqlite(reader) => reader.due_messages(now, limit).await,
            AnyReader::Postgres(reader) => reader.due_messages(now, limit).await,
        };
        due.map_err(DatabaseError::of_read)
    }

    /// What waits of each store's messages.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn message_counts(&self) -> Result<Vec<MessageCounts>, DatabaseError> {
        let counts = match &self.engine {
            AnyReader::Sqlite(reader) => reader.message_counts().await,
            AnyReader::Postgres(reader) => reader.message_counts().await,
        };
        counts.map_err(DatabaseError::of_read)
    }

    /// What was granted on a client's word for a purchase that has one of these names.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn believed_purchase(
        &self,
        names: &[PurchaseName],
    ) -> Result<Option<BelievedPurchase>, DatabaseError> {
        let found = match &self.engine {
            AnyReader::Sqlite(reader) => reader.believed_purchase(names).await,
            AnyReader::Postgres(reader) => reader.believed_purchase(names).await,
        };
        found.map_err(DatabaseError::of_read)
    }

    /// What there is to tell of a purchase that its store asks about, if it is known.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn purchase_asked_for(
        &self,
        key: &PurchaseKey,
    ) -> Result<Option<PurchaseAskedFor>, DatabaseError> {
        let found = match &self.engine {
            AnyReader::Sqlite(reader) => reader.purchase_asked_for(key).await,
            AnyReader::Postgres(reader) => reader.purchase_asked_for(key).await,
        };
        found.map_err(DatabaseError::of_read)
    }

    /// A page of the user's history, newest first.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn history(
        &self,
        user: &UserId,
        filter: &HistoryFilter,
    ) -> Result<HistoryPage, DatabaseError> {
        let page = match &self.engine {
            AnyReader::Sqlite(reader) => reader.history(user, filter).await,
            AnyReader::Postgres(reader) => reader.history(user, filter).await,
        };
        page.map_err(DatabaseError::of_read)
    }

    /// Gives lines of the user's ledger to `take`, newest first.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`]; some lines may have been given by then.
    pub(crate) async fn ledger(
        &self,
        user: &UserId,
        filter: &HistoryFilter,
        take: &mut (dyn FnMut(&LedgerLine<'_>) + Send),
    ) -> Result<LedgerEnd, DatabaseError> {
        let end = match &self.engine {
            AnyReader::Sqlite(reader) => reader.ledger(user, filter, take).await,
            AnyReader::Postgres(reader) => reader.ledger(user, filter, take).await,
        };
        end.map_err(DatabaseError::of_read)
    }

    /// What the user used in these stretches of time, part by part.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn usage(
        &self,
        user: &UserId,
        stretches: &[Quarters],
    ) -> Result<Vec<UsagePart>, DatabaseError> {
        let parts = match &self.engine {
            AnyReader::Sqlite(reader) => reader.usage(user, stretches).await,
            AnyReader::Postgres(reader) => reader.usage(user, stretches).await,
        };
        parts.map_err(DatabaseError::of_read)
    }

    /// A page of the operators' log, newest first.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn operator_log(&self, filter: &LogFilter) -> Result<LogPage, DatabaseError> {
        let page = match &self.engine {
            AnyReader::Sqlite(reader) => reader.operator_log(filter).await,
            AnyReader::Postgres(reader) => reader.operator_log(filter).await,
        };
        page.map_err(DatabaseError::of_read)
    }

    /// A page of the changes of a model's price, newest first: at most `limit`, with ids below `before`.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn price_history(
        &self,
        model: &ModelId,
        limit: u16,
        before: Option<i64>,
    ) -> Result<PricePage, DatabaseError> {
        let page = match &self.engine {
            AnyReader::Sqlite(reader) => reader.price_history(model, limit, before).await,
            AnyReader::Postgres(reader) => reader.price_history(model, limit, before).await,
        };
        page.map_err(DatabaseError::of_read)
    }

    /// Purchases, the newest first: at most `limit`, with ids below `before`, in a state if one is told.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn purchases(
        &self,
        state: Option<PurchaseState>,
        limit: u16,
        before: Option<i64>,
    ) -> Result<Vec<TrackedPurchase>, DatabaseError> {
        let found = match &self.engine {
            AnyReader::Sqlite(reader) => reader.purchases(state, limit, before).await,
            AnyReader::Postgres(reader) => reader.purchases(state, limit, before).await,
        };
        found.map_err(DatabaseError::of_read)
    }

    /// A purchase, if there is one of this id.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn purchase(&self, id: i64) -> Result<Option<TrackedPurchase>, DatabaseError> {
        let found = match &self.engine {
            AnyReader::Sqlite(reader) => reader.purchase(id).await,
            AnyReader::Postgres(reader) => reader.purchase(id).await,
        };
        found.map_err(DatabaseError::of_read)
    }

    /// Whether somebody has seen this user.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn knows(&self, user: &UserId) -> Result<bool, DatabaseError> {
        let known = match &self.engine {
            AnyReader::Sqlite(reader) => reader.knows(user).await,
            AnyReader::Postgres(reader) => reader.knows(user).await,
        };
        known.map_err(DatabaseError::of_read)
    }

    /// Finds that the database can be read, and that nothing which can be seen without writing forbids to
    /// write.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] when it is not so.
    pub(crate) async fn ping(&self) -> Result<(), DatabaseError> {
        let found = match &self.engine {
            AnyReader::Sqlite(reader) => reader.ping().await,
            AnyReader::Postgres(reader) => reader.ping().await,
        };
        found.map_err(DatabaseError::of_read)
    }

    /// How much room the database takes now; zero where that can't be known.
    pub(crate) async fn size(&self) -> DatabaseSize {
        match &self.engine {
            AnyReader::Sqlite(reader) => reader.size(),
            AnyReader::Postgres(reader) => reader.size().await,
        }
    }

    /// Ends all connections.
    pub(crate) async fn close(&self) {
        match &self.engine {
            AnyReader::Sqlite(reader) => reader.close().await,
            AnyReader::Postgres(reader) => reader.close().await,
        }
    }
}

/// A lane of either engine.
#[derive(Debug)]
pub(crate) enum AnyLane {
    /// To a file.
    Sqlite(Box<SqliteLane>),
    /// To a server.
    Postgres(Box<PostgresLane>),
}

/// A transaction of either engine.
#[derive(Debug)]
pub(crate) enum AnyTransaction<'lane> {
    Sqlite(SqliteTransaction<'lane>),
    Postgres(Box<PostgresTransaction<'lane>>),
}

impl Transaction for AnyTransaction<'_> {
    async fn save(self, facts: Facts, hoped_new: HopedNew) -> Result<(), DatabaseError> {
        match self {
            Self::Sqlite(transaction) => transaction.save(facts, hoped_new).await,
            Self::Postgres(transaction) => transaction.save(facts, hoped_new).await,
        }
    }
}

impl Lane for AnyLane {
    type Transaction<'lane> = AnyTransaction<'lane>;

    async fn begin(
        &mut self,
        wanted: &Wanted,
    ) -> Result<(Facts, AnyTransaction<'_>), DatabaseError> {
        match self {
            Self::Sqlite(lane) => {
                let (facts, transaction) = lane.begin(wanted).await?;
                Ok((facts, AnyTransaction::Sqlite(transaction)))
            }
            Self::Postgres(lane) => {
                let (facts, transaction) = lane.begin(wanted).await?;
                Ok((facts, AnyTransaction::Postgres(Box::new(transaction))))
            }
        }
    }

    async fn slice(&mut self, chore: &Chore) -> Result<Progress, DatabaseError> {
        match self {
            Self::Sqlite(lane) => lane.slice(chore).await,
            Self::Postgres(lane) => lane.slice(chore).await,
        }
    }

    async fn sum_usage(
        &mut self,
        user: &UserId,
        known: &FreshUsage,
    ) -> Result<Progress, DatabaseError> {
        match self {
            Self::Sqlite(lane) => lane.sum_usage(user, known).await,
            Self::Postgres(lane) => lane.sum_usage(user, known).await,
        }
    }

    async fn close(self) {
        match self {
            Self::Sqlite(lane) => lane.close().await,
            Self::Postgres(lane) => lane.close().await,
        }
    }
}
