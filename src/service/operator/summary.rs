//! The whole: told at once from what is kept, and kept by a task in the background, after callers were answered. It
//! works out beside the ledger's lanes what new entries change, and has a lane write it. Of several instances that
//! do so one is first, and the others look again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono_tz::Tz;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{super::BillingService, Verification};
use crate::{
    database::{Chore, Reader},
    domain::{LedgerEnd, LedgerLine, Summary, SummaryCounts, last_days, told_by_day},
    ledger::Ledger,
    service::ServiceError,
};

/// How long until entries are looked for again that are in no sums yet.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// The same where somebody asked, and some were left.
const LOOK_SOON: Duration = Duration::from_millis(500);
/// How old counts may be before they are made again: so many times as old as it takes to make them, which is little
/// of a machine's time; at least, and at most.
const COUNT_SHARE: u32 = 100;
const COUNT_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How old they may be to be told; older ones are made again first.
const COUNTS_LAST: Duration = Duration::from_mins(1);

/// What the whole comes to, and what holds it.
#[derive(Debug, Clone)]
pub(crate) struct SummaryTold {
    pub summary: Summary,
    /// What the database's engine is called.
    pub engine: &'static str,
    /// What the database takes on disk.
    pub bytes: u64,
    pub verification: Verification,
}

impl BillingService {
    /// What the whole comes to, with the last `days` days of a zone, today's too. It may be some seconds behind.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read.
    pub(crate) async fn summary(&self, days: u16, zone: Tz) -> Result<SummaryTold, ServiceError> {
        let now = self.ledger.now();
        let periods = last_days(now, zone, days);
        let (kept, counts, size) = tokio::join!(
            self.reader.summary(periods.quarters()),
            self.summaries.counts(),
            self.reader.size(),
        );
        let (kept, counts) = (kept?, counts?);
        if kept.summed_before.is_some() {
            self.summaries.wake.notify_one();
        }
        let summary = Summary {
            as_of: kept.summed_before.unwrap_or(now).min(now),
            totals: kept.totals,
            counts,
            days: told_by_day(&kept, &periods),
        };
        let verification = self.verifications.last();
        Ok(SummaryTold {
            summary,
            engine: self.reports.engine(),
            bytes: size.file_bytes,
            verification,
        })
    }

    /// Gives the newest lines of all ledgers, or those before an id, to `take`, each with its user.
    ///
    /// # Errors
    /// [`ServiceError::Database`] when the database can't be read; some lines may have been given by then.
    pub(crate) async fn newest_lines(
        &self,
        limit: u16,
        before: Option<i64>,
        take: &mut (dyn FnMut(&str, &LedgerLine<'_>) + Send),
    ) -> Result<LedgerEnd, ServiceError> {
        Ok(self.reader.newest_lines(limit, before.unwrap_or(i64::MAX), take).await?)
    }
}

/// What was counted.
#[derive(Debug)]
struct Counted {
    began: Instant,
    /// How old it may be before it is made again.
    again: Duration,
    counts: SummaryCounts,
}

/// The sums of the whole, and what is counted beside them. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Summaries {
    ledger: Ledger,
    reader: Reader,
    wake: Arc<Notify>,
    counts: Arc<Mutex<Option<Counted>>>,
}

impl Summaries {
    /// Nothing runs yet.
    pub(crate) fn new(ledger: Ledger, reader: Reader) -> Self {
        let (wake, counts) = (Arc::default(), Arc::default());
        Self { ledger, reader, wake, counts }
    }

    /// Keeps them, for good.
    pub(crate) async fn run(self) {
        loop {
            if self.is_due()
                && let Err(error) = self.count().await
            {
                warn!(%error, "users and purchases were not counted");
            }
            if let Err(error) = self.sum_up().await {
                warn!(%error, "the whole was not summed up");
            }
            if timeout(LOOK_AGAIN, self.wake.notified()).await.is_ok() {
                sleep(LOOK_SOON).await;
            }
        }
    }

    /// Adds all entries to the sums that are in none yet. What comes meanwhile waits for the next time, so that a busy
    /// service writes few sums of many.
    async fn sum_up(&self) -> Result<(), ServiceError> {
        loop {
            let began = Instant::now();
            let Some(write) = self.reader.summary_write().await? else { return Ok(()) };
            let is_last = !write.is_full();
            self.ledger.chore(Chore::AddToSummary(Arc::new(write))).await?;
            if is_last {
                return Ok(());
            }
            // Where there is much to do, it is to slow nobody down.
            sleep(began.elapsed()).await;
        }
    }

    async fn count(&self) -> Result<SummaryCounts, ServiceError> {
        let began = Instant::now();
        let counts = self.reader.summary_counts().await?;
        let (least, most) = COUNT_AGAIN;
        let again = began.elapsed().saturating_mul(COUNT_SHARE).clamp(least, most);
        let mut known = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(Counted { began, again, counts: counts.clone() });
        drop(known);
        Ok(counts)
    }

    /// Whether counts are to be made again.
    fn is_due(&self) -> bool {
        let known = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().is_none_or(|counted| counted.began.elapsed() >= counted.again)
    }

    fn known_counts(&self) -> Option<SummaryCounts> {
        let known = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = known.as_ref().filter(|counted| counted.began.elapsed() < COUNTS_LAST)?;
        Some(counted.counts.clone())
    }

    /// Counts of the last minute.
    async fn counts(&self) -> Result<SummaryCounts, ServiceError> {
        match self.known_counts() {
            Some(counts) => {
                if self.is_due() {
                    self.wake.notify_one();
                }
                Ok(counts)
            }
            None => self.count().await,
        }
    }
}
