//! A small pool of connections to read on. Each was found to be alive when it is lent; where one is dead all are
//! thrown away, for they took the same way. What is read is not known here.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{Connection, PgConnection};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::session::Session;
use crate::database::DatabaseError;

/// Connections that are lent at the same time.
const CONNECTIONS: usize = 8;
/// How long to wait for one of them.
const LEND_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an idle one may take to say that it is alive.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// How long what a read left behind may take to arrive.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(3);

/// A pool of connections.
#[derive(Debug, Clone)]
pub(super) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    session: Session,
    room: Arc<Semaphore>,
    idle: Mutex<Vec<PgConnection>>,
}

impl Pool {
    /// An empty one.
    pub(super) fn new(session: Session) -> Self {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        Self(Arc::new(Shared { session, room, idle: Mutex::default() }))
    }

    pub(super) fn session(&self) -> &Session {
        &self.0.session
    }

    /// A connection, made anew where none is idle.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`] when there is none.
    pub(super) async fn lend(&self) -> Result<Lent, DatabaseError> {
        let unavailable = |reason: &str| DatabaseError::Unavailable(reason.to_owned());
        let room = timeout(LEND_TIMEOUT, Arc::clone(&self.0.room).acquire_owned()).await;
        let room = room
            .map_err(|_| unavailable("all connections to read on are in use"))?
            .map_err(|_| unavailable("the database is closed"))?;
        let connection = match self.alive().await {
            Some(connection) => connection,
            None => self.0.session.connect().await.map_err(|error| {
                DatabaseError::Unavailable(format!("the server can't be reached: {error}"))
            })?,
        };
        Ok(Lent { connection: Some(connection), room: Some(room), pool: self.clone() })
    }

    async fn alive(&self) -> Option<PgConnection> {
        loop {
            let mut connection = self.0.idle().pop()?;
            match timeout(PING_TIMEOUT, connection.ping()).await {
                Ok(Ok(())) => return Some(connection),
                Ok(Err(_)) => {}
                Err(_) => self.empty(),
            }
        }
    }

    /// Throws away what is idle.
    pub(super) fn empty(&self) {
        // Dropped after the lock.
        let _dead = mem::take(&mut *self.0.idle());
    }

    /// Lends no more, waits for those that are lent, and ends all.
    pub(super) async fn close(&self) {
        let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        let returned = self.0.room.acquire_many(all).await;
        self.0.room.close();
        drop(returned);
        let idle = mem::take(&mut *self.0.idle());
        for connection in idle {
            // The server finds out by itself, too.
            let _ = connection.close().await;
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        // Connections are put in and taken out whole.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of a pool, which goes back whatever becomes of the read.
#[derive(Debug)]
pub(super) struct Lent {
    /// Taken out only when it goes back.
    connection: Option<PgConnection>,
    room: Option<OwnedSemaphorePermit>,
    pool: Pool,
}

impl Lent {
    /// Makes room for another one at once.
    pub(super) fn throw_away(mut self) {
        self.connection = None;
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("it is lent")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is lent")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let (Some(mut connection), room) = (self.connection.take(), self.room.take()) else {
            return;
        };
        let pool = self.pool.clone();
        // What a read that was broken off left on it is waited for, and until then it is lent to nobody, so that
        // there are never more of them.
        tokio::spawn(async move {
            if let Ok(Ok(())) = timeout(SETTLE_TIMEOUT, connection.flush()).await {
                pool.0.idle().push(connection);
            }
            drop(room);
        });
    }
}
