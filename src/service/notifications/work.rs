//! The task that works on messages that were kept: as soon as one comes, and again in growing pauses until it is done
//! with. What is due is in the database, so a stop loses nothing, and of several instances one works on each.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use super::{super::at_work::AtWork, Notifications, nobody, short_hash};
use crate::{
    database::Chore,
    domain::{EndTurn, Ended, Message, MessageId, MessageTurn, NOTED, StoreEvent, TakeMessage},
};

/// How long until it is looked again whether something is due.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Messages at work at the same time.
const AT_ONCE: u16 = 16;
/// How long work on one may take, at its store too. Somebody else may have it when its lease of 30 s has ended.
const WORK_LIMIT: Duration = Duration::from_secs(20);
/// How long messages are known by their ids.
const KEPT_FOR: TimeDelta = TimeDelta::days(90);
/// How often those that are older are forgotten.
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// What became of a message that was due.
#[derive(Debug)]
enum Took {
    /// It was worked on.
    Turn,
    /// Somebody else has it, or that it is taken could not be written.
    Nothing,
}

impl Notifications {
    /// Works on what comes, and reads the stores' lists, for good.
    pub(crate) async fn run(self: Arc<Self>) {
        tokio::join!(self.work(), self.read_lists(), self.forget());
    }

    async fn work(self: &Arc<Self>) {
        let mut at_work = AtWork::new();
        loop {
            at_work.clear();
            self.tell_untold();
            let room = usize::from(AT_ONCE).saturating_sub(at_work.len());
            let mut begins = false;
            if room > 0 {
                match self.reader.due_messages(self.now(), AT_ONCE).await {
                    Ok(due) => {
                        let due = due.into_iter().filter(|id| !at_work.has(id));
                        for id in due.take(room).collect::<Vec<_>>() {
                            at_work.begin(id.clone(), Arc::clone(self).work_on(id));
                            begins = true;
                        }
                    }
                    Err(error) => warn!(%error, "it can't be seen which messages are due"),
                }
            }
            if !begins {
                let _ = timeout(LOOK_AGAIN, self.came.notified()).await;
            } else if matches!(timeout(LOOK_AGAIN, at_work.next()).await, Ok(Some(Took::Nothing))) {
                // It is still due: at once it would be tried again and again.
                sleep(LOOK_AGAIN).await;
            }
            // There may be more.
        }
    }

    async fn work_on(self: Arc<Self>, id: MessageId) -> Took {
        let turn = match self.apply(&nobody(), TakeMessage { id: id.clone() }).await {
            Ok(applied) => applied.outcome,
            Err(error) => {
                warn!(id = id.as_str(), %error, "a message has to wait");
                return Took::Nothing;
            }
        };
        let (message, received_at) = match turn {
            MessageTurn::Work { message, received_at } => (message, received_at),
            MessageTurn::Spoiled => {
                error!(id = id.as_str(), "what is kept of a message can't be read; it stays");
                return Took::Turn;
            }
            MessageTurn::NotDue => return Took::Nothing,
        };
        let purchase = short_hash(&message.event);
        let deadline = Instant::now().checked_add(WORK_LIMIT);
        let working = self.come_to(&message, received_at);
        let how = match deadline {
            Some(_) => timeout(WORK_LIMIT, working).await.unwrap_or(Ended::Again),
            None => working.await,
        };
        match how {
            Ended::Done(outcome) => info!(id = id.as_str(), purchase, outcome, "a message is done"),
            Ended::Over => {
                info!(id = id.as_str(), purchase, outcome = NOTED, "a message is done");
                return Took::Turn;
            }
            Ended::Again => warn!(id = id.as_str(), purchase, "a message is tried again later"),
        }
        if let Err(error) = self.apply(&nobody(), EndTurn { id: id.clone(), how }).await {
            warn!(id = id.as_str(), %error, "what became of a message is not noted; it is tried again");
        }
        Took::Turn
    }

    /// What a message comes to.
    async fn come_to(&self, message: &Message, received_at: DateTime<Utc>) -> Ended {
        let id = &message.id;
        match &message.event {
            StoreEvent::GoogleChange { token, product } => {
                self.google_changed(id, token, product.as_ref()).await
            }
            StoreEvent::GoogleVoid { token, order, refund } => {
                self.google_voided(id, token, order.as_deref(), refund).await
            }
            StoreEvent::GoogleReview { order, pending_refund_token, asked_at } => {
                let asked_at = earlier(*asked_at, received_at);
                self.answer_google(order, pending_refund_token, asked_at).await
            }
            StoreEvent::AppleTransaction(told) => self.apple_told(told, Some(id)).await,
            StoreEvent::AppleConsumption(told) => {
                let heard = self.apple_told(told, None).await;
                match heard {
                    Ended::Done(_) | Ended::Over => {
                        let asked_at = earlier(told.notified_at, received_at);
                        self.answer_apple(told, asked_at).await
                    }
                    Ended::Again => Ended::Again,
                }
            }
        }
    }

    /// Forgets what is long done with.
    async fn forget(&self) {
        loop {
            if let Some(before) = self.now().checked_sub_signed(KEPT_FOR)
                && let Err(error) = self.ledger.chore(Chore::ForgetMessages { before }).await
            {
                warn!(%error, "old messages are not forgotten now");
            }
            sleep(FORGET_EVERY).await;
        }
    }
}

/// When a store asked, by its word, or by when that came: its clock may be ahead.
fn earlier(told_at: Option<DateTime<Utc>>, received_at: DateTime<Utc>) -> DateTime<Utc> {
    told_at.map_or(received_at, |told_at| told_at.min(received_at))
}
