//! A list that is the same for everybody, such as the prices, read once for all who ask for it at the same time. As
//! with accounts in `account_reads`, what is told was read after it was asked for.

use std::{mem, panic::AssertUnwindSafe};

use futures_util::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    DatabaseError,
    account_reads::{READ_LIMIT, WAITING_MAX, late},
};
use crate::caught::panic_message;

type Asker<T> = oneshot::Sender<Result<T, DatabaseError>>;

/// Where to ask for a list.
#[derive(Debug, Clone)]
pub(super) struct ListReads<T> {
    asked: mpsc::Sender<Asker<T>>,
}

impl<T: Clone + Send + 'static> ListReads<T> {
    /// Starts the task that reads, which ends when nobody can ask any more. `what` is for the log.
    pub(super) fn start<R>(what: &'static str, read: impl Fn() -> R + Send + 'static) -> Self
    where
        R: Future<Output = Result<T, DatabaseError>> + Send,
    {
        let (asked, mut waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let mut together = Vec::new();
            while waiting.recv_many(&mut together, WAITING_MAX).await > 0 {
                let reading = AssertUnwindSafe(answer_all(mem::take(&mut together), read()));
                // Whoever waited for it hears of it too.
                if let Err(panic) = reading.catch_unwind().await {
                    tracing::error!(cause = panic_message(&*panic), "{what} were not read");
                }
            }
        });
        Self { asked }
    }

    /// The list as it is now.
    pub(super) async fn read(&self) -> Result<T, DatabaseError> {
        let (asker, answer) = oneshot::channel();
        let gone = || DatabaseError::Unavailable("a list could not be read".to_owned());
        self.asked.send(asker).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn answer_all<T: Clone>(
    mut together: Vec<Asker<T>>,
    reading: impl Future<Output = Result<T, DatabaseError>>,
) {
    together.retain(|asker| !asker.is_closed());
    if together.is_empty() {
        return;
    }
    let read = timeout(READ_LIMIT, Box::pin(reading)).await.unwrap_or_else(|_| Err(late()));
    for asker in together {
        // Whoever hung up does not need an answer.
        let _ = asker.send(read.clone());
    }
}
