//! The lists in which the stores tell what was missed: read to their end, kept message by message, and only then the
//! time until which they were read is moved.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Notifications, nobody};
use crate::{
    domain::{EndSweep, Environment, Message, SandboxRule, Sweep, SweepTurn, TakeSweep, Way},
    ledger::LedgerError,
    stores::{StoreError, apple},
};

/// How long until it is looked again whether a list is due: at least, and at most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// How long a list waits whose turn can't be written down.
const WAITS: TimeDelta = TimeDelta::minutes(1);
/// Most pages of one list at a time. Google lets 6,000 be read a day.
const PAGES_MAX: usize = 500;

/// Why a list was not read to its end.
#[derive(Debug, Error)]
enum Unread {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    NotKept(#[from] LedgerError),
    #[error("it has more than {PAGES_MAX} pages")]
    TooLong,
}

/// What is read.
struct Asked {
    sweep: Sweep,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    /// Whether it could be read before.
    was_read: bool,
}

impl Notifications {
    /// Reads all lists, soon after the start and whenever one is due, for good.
    pub(super) async fn read_lists(self: &Arc<Self>) {
        let mut since_start = BTreeSet::new();
        loop {
            let mut next = None;
            for list in self.lists() {
                let due_at = self.read_if_due(list, !since_start.contains(&list)).await;
                if due_at.is_none() {
                    since_start.insert(list);
                }
                next = next.into_iter().chain(due_at).min();
            }
            let (least, most) = LOOK_AGAIN;
            let until = next.map(|due_at| due_at.signed_duration_since(self.now()));
            let until = until.map(|until| until.to_std().unwrap_or(least));
            sleep(until.unwrap_or(most).clamp(least, most)).await;
        }
    }

    /// Those that can be read with the settings.
    fn lists(&self) -> Vec<Sweep> {
        let mut lists = Vec::new();
        if self.stores.has_google() {
            lists.push(Sweep::GoogleVoided);
        }
        if self.stores.has_apple_key() {
            let mut environments = vec![Environment::Production];
            if self.sandbox != SandboxRule::Refuse {
                environments.push(Environment::Sandbox);
            }
            for environment in environments {
                lists.push(Sweep::AppleFailures(environment));
                lists.push(Sweep::AppleRefunds(environment));
                lists.push(Sweep::AppleReversals(environment));
            }
        }
        lists
    }

    /// Reads it, or tells when it is due.
    async fn read_if_due(&self, sweep: Sweep, at_start: bool) -> Option<DateTime<Utc>> {
        let list = sweep.name();
        let turn = match self.apply(&nobody(), TakeSweep { sweep, at_start }).await {
            Ok(applied) => applied.outcome,
            Err(error) => {
                warn!(list, %error, "a list has to wait");
                return self.now().checked_add_signed(WAITS);
            }
        };
        let (asked, until) = match turn {
            SweepTurn::NotBefore(due_at) => return Some(due_at),
            SweepTurn::Read { from, until, was_read } => {
                (Asked { sweep, from, until, was_read }, until)
            }
        };
        let read = self.read(&asked).await;
        match &read {
            Ok(0) => {}
            Ok(messages) => info!(list, messages, "a list told of what was missed"),
            Err(Unread::Store(error @ StoreError::Unreleased)) => {
                info!(list, %error, "a list can't be read yet");
            }
            Err(error) => warn!(list, %error, "a list was not read to its end; it is read again"),
        }
        let until = read.is_ok().then_some(until);
        if let Err(error) = self.apply(&nobody(), EndSweep { sweep, until }).await {
            warn!(list, %error, "how far a list was read is not noted; it is read again");
        }
        None
    }

    /// Reads a list to its end; tells how many of its messages were not known.
    async fn read(&self, asked: &Asked) -> Result<usize, Unread> {
        let (mut page, mut new, mut unproven) = (None, 0_usize, None);
        for _ in 0..PAGES_MAX {
            let (messages, next) = self.page(asked, page).await?;
            for message in messages {
                match message {
                    Ok(message) => {
                        let is_new = self.keep(message, Way::List).await?;
                        new = new.saturating_add(usize::from(is_new));
                    }
                    // One that can't be judged now holds up none of the others.
                    Err(error) => unproven = unproven.or(Some(error)),
                }
            }
            page = next;
            if page.is_none() {
                return unproven.map_or(Ok(new), |error| Err(error.into()));
            }
        }
        Err(Unread::TooLong)
    }

    async fn page(
        &self,
        asked: &Asked,
        page: Option<String>,
    ) -> Result<(Vec<Result<Message, StoreError>>, Option<String>), StoreError> {
        let Asked { sweep, from, until: to, was_read } = *asked;
        let (environment, which) = match sweep {
            Sweep::GoogleVoided => {
                let page = self.stores.voided_page(from, page, was_read).await?;
                return Ok((page.messages.into_iter().map(Ok).collect(), page.next));
            }
            Sweep::AppleFailures(environment) => (environment, apple::Sweep::Missed),
            Sweep::AppleRefunds(environment) => (environment, apple::Sweep::Refunds),
            Sweep::AppleReversals(environment) => (environment, apple::Sweep::Reversals),
        };
        let span = apple::Span { from, to, which };
        let found = self.stores.apple_history_page(environment, &span, page, was_read).await?;
        let messages = found.payloads.iter().filter_map(|payload| {
            match self.stores.apple_message(payload, self.now()) {
                Ok(Ok(message)) => Some(Ok(message)),
                Ok(Err(passed_over)) => {
                    passed_over.tell();
                    None
                }
                Err(error) => Some(Err(error)),
            }
        });
        Ok((messages.collect(), found.next))
    }
}
