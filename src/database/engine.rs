//! Which engine a database is on, chosen by its URL; everything it is asked is passed on to that one.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Audit, BelievedPurchase, Check, Chore, DatabaseError, DatabaseSize, DuePurchase, HopedNew,
    Lane, MessageCounts, OpenError, Priority, Progress, PurchaseAskedFor, PurchaseCounts,
    SummaryWrite, Transaction,
    account_reads::{AccountReads, Prices},
    any_reader::AnyReader,
    beside::beside,
    list_reads::ListReads,
    postgres::{Pooler, PostgresDatabase, PostgresLane, PostgresTransaction},
    sqlite::{SqliteDatabase, SqliteLane, SqliteTransaction},
    users::Names,
};

use crate::domain::{
    Account, Facts, FoundUser, FreshUsage, HistoryFilter, HistoryPage, HoldId, KeptSums, LedgerEnd,
    LedgerLine, LogFilter, LogPage, MessageId, ModelId, PriceList, PricePage, ProductList,
    PurchaseKey, PurchaseLine, PurchaseName, PurchaseState, Quarters, SummaryCounts,
    TrackedPurchase, UnusedBalance, UsagePart, UserFilter, UserId, UserPage, Wanted,
};

/// Most users who are told of because they, or their purchases, are called as it was asked. It is one, nearly always.
const CALLED_MAX: i64 = 8;

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
pub(crate) struct EngineSettings<'a> {
    /// Most bytes of an SQLite file.
    pub max_bytes: Option<u64>,
    /// Connections that write to a PostgreSQL database at the same time.
    pub postgres_lanes: u16,
    /// What stands between the service and a PostgreSQL server.
    pub postgres_pooler: Pooler,
    /// Where else a PostgreSQL database can be reached to be migrated.
    pub postgres_migration_url: Option<&'a str>,
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What is written in. Lanes at work on the same user wait for each other.
    pub lanes: Vec<AnyLane>,
    /// What reads from it.
    pub reader: Reader,
}

impl Database {
    /// The database a URL such as `sqlite://billing.db` or `postgres://billing@localhost/billing` names.
    /// Nothing is opened yet.
    ///
    /// # Errors
    /// [`OpenError::Url`] when it names none, [`OpenError::MigrationUrl`] when that for migrations does not.
    pub(crate) fn from_url(url: &str, settings: EngineSettings<'_>) -> Result<Self, OpenError> {
        if url.starts_with("sqlite:") {
            SqliteDatabase::from_url(url, settings.max_bytes).map(Self::Sqlite)
        } else if PostgresDatabase::is_named_by(url) {
            let (lanes, pooler) = (settings.postgres_lanes, settings.postgres_pooler);
            let database = PostgresDatabase::from_url(url, lanes, pooler)?;
            match settings.postgres_migration_url {
                Some(over) => database.migrated_over(over, pooler),
                None => Ok(database),
            }
            .map(Self::Postgres)
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
    pub(crate) async fn audit(
        &self,
        priority: Priority,
        progress: impl FnMut(Check),
    ) -> Result<Audit, OpenError> {
        match self {
            Self::Sqlite(database) => database.audit(priority, progress).await,
            // The server's work has no priority.
            Self::Postgres(database) => database.audit(progress).await,
        }
    }

    /// What was bought and not used by a moment, also while a service has the database open. It gives way to that one
    /// where it can.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be read.
    pub(crate) async fn unused_balance(
        &self,
        ended: DateTime<Utc>,
    ) -> Result<UnusedBalance, OpenError> {
        match self {
            Self::Sqlite(database) => database.unused_balance(ended).await,
            Self::Postgres(database) => database.unused_balance(ended).await,
        }
    }

    /// The same as [`Self::audit`] beside a service: it takes what of the machine that one leaves, and is given up when
    /// this is dropped.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be read.
    pub(crate) async fn audit_beside(&self) -> Result<Audit, OpenError> {
        let database = self.clone();
        let audit = beside(async move || database.audit(Priority::Low, |_| {}).await).await;
        audit.unwrap_or_else(|error| Err(self.unreadable(&error)))
    }

    /// The same as [`Self::unused_balance`] beside a service.
    ///
    /// # Errors
    /// [`OpenError`] when it can't be read.
    pub(crate) async fn unused_balance_beside(
        &self,
        ended: DateTime<Utc>,
    ) -> Result<UnusedBalance, OpenError> {
        let database = self.clone();
        let balance = beside(async move || database.unused_balance(ended).await).await;
        balance.unwrap_or_else(|error| Err(self.unreadable(&error)))
    }

    fn unreadable(&self, error: &std::io::Error) -> OpenError {
        OpenError::Unreadable { database: self.name().to_owned(), reason: error.to_string() }
    }

    /// What the engine is called.
    pub(crate) const fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// What reads from a database: accounts, prices and pages of the history.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    engine: AnyReader,
    accounts: AccountReads,
    prices: ListReads<PriceList>,
    products: ListReads<ProductList>,
}

impl Reader {
    /// Has to be called in a runtime, which reads accounts and lists from then on.
    fn start(engine: AnyReader) -> Self {
        let accounts = AccountReads::start(engine.clone());
        let reader = engine.clone();
        let prices = ListReads::start("prices", move || {
            let reader = reader.clone();
            async move {
                let wanted = Wanted { prices: true, ..Wanted::default() };
                Ok(reader.read(&wanted).await?.prices)
            }
        });
        let reader = engine.clone();
        let products = ListReads::start("products", move || {
            let reader = reader.clone();
            async move { reader.products().await }
        });
        Self { engine, accounts, prices, products }
    }

    /// The user's account.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn account(&self, user: &UserId) -> Result<Arc<Account>, DatabaseError> {
        Ok(self.accounts.read(user, Prices::NotWanted, None).await?.0)
    }

    /// The user's account and the current prices, of one moment.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn account_and_prices(
        &self,
        user: &UserId,
    ) -> Result<(Arc<Account>, PriceList), DatabaseError> {
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
    ) -> Result<(Arc<Account>, PriceList), DatabaseError> {
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
        self.prices.read().await
    }

    /// What is sold, and what of it is not offered any more.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn products(&self) -> Result<ProductList, DatabaseError> {
        self.products.read().await
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

    /// The same of one that this entry granted on a client's word.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn believed_asked_for(
        &self,
        entry: i64,
    ) -> Result<Option<PurchaseAskedFor>, DatabaseError> {
        let found = match &self.engine {
            AnyReader::Sqlite(reader) => reader.believed_asked_for(entry).await,
            AnyReader::Postgres(reader) => reader.believed_asked_for(entry).await,
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

    /// Gives lines of all accounts with ids below one to `take`, newest first, each with its user.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`]; some lines may have been given by then.
    pub(crate) async fn newest_lines(
        &self,
        limit: u16,
        before: i64,
        take: &mut (dyn FnMut(&str, &LedgerLine<'_>) + Send),
    ) -> Result<LedgerEnd, DatabaseError> {
        let end = match &self.engine {
            AnyReader::Sqlite(reader) => reader.newest_lines(limit, before, take).await,
            AnyReader::Postgres(reader) => reader.newest_lines(limit, before, take).await,
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

    /// Users, those first that are called as it was asked, or whose purchase is; then the newest first.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn users(&self, filter: &UserFilter) -> Result<UserPage, DatabaseError> {
        let names = filter.query.as_deref().map(Names::of);
        let called = match &names {
            Some(names) => self.users_called(names).await?,
            None => Vec::new(),
        };
        // One more than asked for, and than are told besides, tells whether there are more.
        let limit = usize::from(filter.limit);
        let read = limit.saturating_add(called.len()).saturating_add(1);
        let read = i64::try_from(read).unwrap_or(i64::MAX);
        let before = filter.before.unwrap_or(i64::MAX);
        let page = match &self.engine {
            AnyReader::Sqlite(reader) => reader.users(names.as_ref(), before, read).await,
            AnyReader::Postgres(reader) => reader.users(names.as_ref(), before, read).await,
        };
        let page = page.map_err(DatabaseError::of_read)?;
        Ok(UserPage::of(called, page, filter))
    }

    async fn users_called(&self, names: &Names) -> Result<Vec<FoundUser>, DatabaseError> {
        let users = match &self.engine {
            AnyReader::Sqlite(reader) => reader.users_called(names, CALLED_MAX).await,
            AnyReader::Postgres(reader) => reader.users_called(names, CALLED_MAX).await,
        };
        users.map_err(DatabaseError::of_read)
    }

    /// The user called so, if there is one.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn user(&self, user: &UserId) -> Result<Option<FoundUser>, DatabaseError> {
        let called = self.users_called(&Names::of(user.as_str())).await?;
        Ok(called.into_iter().find(|found| found.user == *user))
    }

    /// The newest purchases of a user that their stores confirm.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn purchases_of(
        &self,
        user: &UserId,
        limit: u16,
    ) -> Result<Vec<PurchaseLine>, DatabaseError> {
        let purchases = match &self.engine {
            AnyReader::Sqlite(reader) => reader.purchases_of(user, limit.into()).await,
            AnyReader::Postgres(reader) => reader.purchases_of(user, limit.into()).await,
        };
        purchases.map_err(DatabaseError::of_read)
    }

    /// What is kept about the whole, and about these stretches of time.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn summary(&self, stretches: &[Quarters]) -> Result<KeptSums, DatabaseError> {
        let kept = match &self.engine {
            AnyReader::Sqlite(reader) => reader.summary(stretches).await,
            AnyReader::Postgres(reader) => reader.summary(stretches).await,
        };
        kept.map_err(DatabaseError::of_read)
    }

    /// What the oldest entries that are in no sums yet change in the sums of the whole; nothing if there are none.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn summary_write(&self) -> Result<Option<SummaryWrite>, DatabaseError> {
        let write = match &self.engine {
            AnyReader::Sqlite(reader) => reader.summary_write().await,
            AnyReader::Postgres(reader) => reader.summary_write().await,
        };
        let write = write.map_err(DatabaseError::of_read)?;
        Ok((!write.is_empty()).then_some(write))
    }

    /// Counts users and purchases, which takes longer the more there are.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn summary_counts(&self) -> Result<SummaryCounts, DatabaseError> {
        let purchases = self.purchase_counts().await?;
        let counted = match &self.engine {
            AnyReader::Sqlite(reader) => reader.counted().await,
            AnyReader::Postgres(reader) => reader.counted().await,
        };
        let counted = counted.map_err(DatabaseError::of_read)?;
        let by_state = PurchaseState::ALL.map(|state| {
            let of_state = purchases.by_state.iter().filter(|(_, other, _)| *other == state);
            (state, of_state.fold(0_u64, |sum, (.., count)| sum.saturating_add(*count)))
        });
        Ok(SummaryCounts {
            users: counted.users.unsigned_abs(),
            purchases: by_state.into_iter().filter(|(_, count)| *count > 0).collect(),
            oldest_waiting_at: purchases.oldest_waiting,
            acknowledgements_due: purchases.unacknowledged,
            oldest_acknowledgement_at: purchases.oldest_unacknowledged,
            unconfirmed: purchases.unconfirmed,
            credits_shortfall: counted.shortfall,
        })
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

    /// Whether an account is being erased.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] or [`DatabaseError::Corrupt`].
    pub(crate) async fn erases(&self) -> Result<bool, DatabaseError> {
        let any = match &self.engine {
            AnyReader::Sqlite(reader) => reader.erases().await,
            AnyReader::Postgres(reader) => reader.erases().await,
        };
        any.map_err(DatabaseError::of_read)
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
