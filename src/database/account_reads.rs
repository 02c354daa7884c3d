//! Accounts that are asked for at the same time, read by one statement.
//!
//! A statement costs a trip to the database and back, which is far more than finding one account more.
//! While one is under way, whoever comes waits for the next; alone, nobody waits. What is told was read
//! after it was asked for, so it is never older than an answer the asker had before.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{DatabaseError, any_reader::AnyReader};
use crate::{
    caught::panic_message,
    domain::{Account, Facts, PriceList, UserId, Wanted},
};

/// Accounts in one statement, at most.
const ACCOUNTS_AT_ONCE: usize = 256;
/// How long one statement may take, the wait for a connection included. All wait for it, and a request
/// lasts long enough for two.
pub(super) const READ_LIMIT: Duration = Duration::from_secs(4);
/// Who may wait without waiting for room to wait.
pub(super) const WAITING_MAX: usize = 1_024;

/// Whether prices are to be read with an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prices {
    Wanted,
    NotWanted,
}

type Answer = Result<(Arc<Account>, PriceList), DatabaseError>;

#[derive(Debug)]
struct Asked {
    user: UserId,
    prices: Prices,
    /// By when its holds count, if they are wanted.
    holds_at: Option<DateTime<Utc>>,
    asker: oneshot::Sender<Answer>,
}

/// Where to ask for accounts.
#[derive(Debug, Clone)]
pub(super) struct AccountReads {
    asked: mpsc::Sender<Asked>,
}

impl AccountReads {
    /// Starts the task that reads, which ends when nobody can ask any more.
    pub(super) fn start(reader: AnyReader) -> Self {
        let (asked, mut waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let mut together = Vec::new();
            while waiting.recv_many(&mut together, ACCOUNTS_AT_ONCE).await > 0 {
                let reading = answer_all(&reader, std::mem::take(&mut together));
                // Whoever waited for it hears of it too.
                if let Err(panic) = AssertUnwindSafe(reading).catch_unwind().await {
                    tracing::error!(cause = panic_message(&*panic), "accounts were not read");
                }
            }
        });
        Self { asked }
    }

    /// The account of `user`, with the prices of the same moment if they are wanted, and with its holds that count at
    /// a time, if one is named.
    pub(super) async fn read(
        &self,
        user: &UserId,
        prices: Prices,
        holds_at: Option<DateTime<Utc>>,
    ) -> Answer {
        let (asker, answer) = oneshot::channel();
        let gone = || DatabaseError::Unavailable("accounts could not be read".to_owned());
        let asked = Asked { user: user.clone(), prices, holds_at, asker };
        self.asked.send(asked).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn answer_all(reader: &AnyReader, mut together: Vec<Asked>) {
    together.retain(|asked| !asked.asker.is_closed());
    if together.is_empty() {
        return;
    }
    match read(reader, &together).await {
        Ok(read) => {
            for asked in together {
                asked.answer(&read);
            }
        }
        // It may be one account that can't be read; the others can.
        Err(DatabaseError::Corrupt(_)) if together.len() > 1 => {
            for asked in together {
                match read(reader, std::slice::from_ref(&asked)).await {
                    Ok(read) => asked.answer(&read),
                    Err(error) => asked.fail(error),
                }
            }
        }
        Err(error) => {
            for asked in together {
                asked.fail(error.clone());
            }
        }
    }
}

/// What was read for all of them, to be shared where several ask for the same.
struct Read {
    accounts: HashMap<UserId, Arc<Account>>,
    prices: PriceList,
}

async fn read(reader: &AnyReader, together: &[Asked]) -> Result<Read, DatabaseError> {
    let wanted = wanted(together);
    // In a box: what reads from a server is thousands of bytes, and is moved several times.
    let reading = timeout(READ_LIMIT, Box::pin(reader.read(&wanted))).await;
    let Facts { accounts, prices, .. } = reading.unwrap_or_else(|_| Err(late()))?;
    let accounts = accounts.into_all().map(|account| (account.user().clone(), Arc::new(account)));
    Ok(Read { accounts: accounts.collect(), prices })
}

pub(super) fn late() -> DatabaseError {
    DatabaseError::Unavailable("nothing comes from it in time".to_owned())
}

fn wanted(together: &[Asked]) -> Wanted {
    let users = together.iter().map(|asked| asked.user.clone()).collect();
    let prices = together.iter().any(|asked| asked.prices == Prices::Wanted);
    // Whoever wants fewer sees to it itself.
    let holds_at = together.iter().filter_map(|asked| asked.holds_at).min();
    Wanted { users, prices, holds_at, ..Wanted::default() }.each_once()
}

impl Asked {
    fn answer(self, read: &Read) {
        let Self { user, prices, asker, .. } = self;
        let account = Arc::clone(read.accounts.get(&user).expect("its account was asked for"));
        let prices = match prices {
            Prices::Wanted => read.prices.clone(),
            Prices::NotWanted => PriceList::default(),
        };
        // Whoever hung up does not need an answer.
        let _ = asker.send(Ok((account, prices)));
    }

    fn fail(self, error: DatabaseError) {
        let _ = self.asker.send(Err(error));
    }
}
